import { Refusal } from "../answers.ts";

// JSON values → the part of them that may leave. Everything is built anew from a closed list of fields: what is not known
// does not pass, and what is no metadata at all is refused.

type Json = { readonly [key: string]: unknown };

/** All of ObjectMeta but managedFields, which names the fields of the content. */
const metadataFields = [
  "name",
  "generateName",
  "namespace",
  "selfLink",
  "uid",
  "resourceVersion",
  "generation",
  "creationTimestamp",
  "deletionTimestamp",
  "deletionGracePeriodSeconds",
  "labels",
  "ownerReferences",
  "finalizers",
];
const listFields = ["resourceVersion", "continue", "remainingItemCount", "selfLink"];
const statusFields = ["kind", "apiVersion", "status", "message", "reason", "details", "code"];

/** Annotations in which tools keep a copy of the whole object: kubectl, kapp, Rancher, banzaicloud. */
const copies = /(^|\/)(last-applied(-configuration)?|original|original-diff|applied)$/;

/** A PartialObjectMetadata, reduced. Refusal when it is anything else. */
export function reduceObject(value: unknown): Json {
  const object = objectOf(value);
  if (object.kind !== "PartialObjectMetadata" || !isMeta(object.apiVersion)) throw notMetadata(object.kind);
  const extra = Object.keys(object).find((key) => !["kind", "apiVersion", "metadata"].includes(key));
  if (extra !== undefined) throw notMetadata("an object with content");
  const metadata = objectOf(object.metadata);
  const kept = pick(metadata, metadataFields);
  if (metadata.annotations !== undefined && metadata.annotations !== null) {
    const annotations = Object.entries(objectOf(metadata.annotations)).filter(([name]) => !copies.test(name));
    if (annotations.length > 0) kept.annotations = Object.fromEntries(annotations);
  }
  return { kind: object.kind, apiVersion: object.apiVersion, metadata: kept };
}

/** What surrounds the items of a PartialObjectMetadataList. Refusal when it is anything else. */
export function reduceList(value: unknown): Json {
  const list = objectOf(value);
  if (list.kind !== "PartialObjectMetadataList" || !isMeta(list.apiVersion)) throw notMetadata(list.kind);
  const extra = Object.keys(list).find((key) => !["kind", "apiVersion", "metadata", "items"].includes(key));
  if (extra !== undefined) throw notMetadata("a list with content");
  return { kind: list.kind, apiVersion: list.apiVersion, metadata: pick(objectOf(list.metadata), listFields) };
}

/** One event of a watch, its object in that shape. Refusal when its object is neither metadata nor the Status of an error. */
export function reduceEvent(value: unknown, shape: (object: Json) => Json): Json {
  const { type, object } = objectOf(value);
  if (type === "ERROR") return { type, object: reduceStatus(object) };
  if (type !== "ADDED" && type !== "MODIFIED" && type !== "DELETED" && type !== "BOOKMARK") {
    throw notMetadata("an event of an unknown type");
  }
  return { type, object: shape(reduceObject(object)) };
}

/** A metav1.Status that tells of a failure. Refusal when it is anything else. */
export function reduceStatus(value: unknown): Json {
  const status = objectOf(value);
  if (status.kind !== "Status" || status.apiVersion !== "v1" || status.status !== "Failure")
    throw notMetadata(status.kind);
  return { ...pick(status, statusFields), metadata: {} };
}

export function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw notMetadata("no JSON");
  }
}

const isMeta = (apiVersion: unknown) => apiVersion === "meta.k8s.io/v1" || apiVersion === "meta.k8s.io/v1beta1";

function objectOf(value: unknown): Json {
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw notMetadata("no object");
  return value as Json;
}

function pick(object: Json, fields: readonly string[]): Record<string, unknown> {
  return Object.fromEntries(
    fields.filter((field) => object[field] !== undefined).map((field) => [field, object[field]]),
  );
}

function notMetadata(what: unknown): Refusal {
  const kind = typeof what === "string" && /^[A-Za-z ]{1,60}$/.test(what) ? what : "something else";
  return new Refusal(502, `Of this resource the connector's policy shows only metadata, and the target sent ${kind}`);
}
