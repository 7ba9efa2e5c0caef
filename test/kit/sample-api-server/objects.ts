import type { IncomingMessage, ServerResponse } from "node:http";
import type { KubeObject } from "@kube-connector/core";
import { answerJson, readObject } from "./answers.ts";
import { badRequest, noSuchPath, Refusal } from "./refusal.ts";
import { fieldsOf, type Kind, kindOf, kinds, tableOf } from "./kinds.ts";
import { applyPatch } from "./patch.ts";
import type { Pods } from "./pods.ts";
import { createSelector } from "./selectors.ts";
import { type Store, timestamp } from "./store.ts";
import { answerWatch, type View, wantsObject } from "./watch.ts";

/** What a path of the core group means. */
export interface ObjectPath {
  kind: Kind;
  namespace: string | undefined;
  name: string | undefined;
  subresource: string | undefined;
}

/** `/api/v1/namespaces/default/pods/web/log` → its parts; undefined when no known kind is named. */
export function parseObjectPath(path: string): ObjectPath | undefined {
  const parts = path.split("/").slice(1).map(decodeURIComponent);
  if (parts[0] !== "api" || parts[1] !== "v1") return undefined;
  const inNamespace = parts[2] === "namespaces" && parts.length > 4;
  const [resource = "", name, subresource, ...more] = parts.slice(inNamespace ? 4 : 2);
  const kind = kindOf(resource);
  if (kind === undefined || more.length > 0 || (inNamespace && !kind.namespaced)) return undefined;
  return { kind, namespace: inNamespace ? parts[3] : undefined, name, subresource };
}

export interface ObjectsOptions {
  store: Store;
  pods: Pods;
  bookmarkInterval: number;
}

interface ObjectsRequest extends ObjectsOptions {
  path: ObjectPath;
  query: URLSearchParams;
}

/** Answers list, watch, get, create, update, patch and delete. Throws a Refusal. */
export async function answerObjects(
  request: IncomingMessage,
  response: ServerResponse,
  asked: ObjectsRequest,
): Promise<void> {
  const { path, query, store, bookmarkInterval } = asked;
  const { kind, namespace, name, subresource } = path;
  if (subresource !== undefined && subresource !== "status") throw noSuchPath();
  const view: View = /as=Table;v=v1[;,]/.test(request.headers.accept ?? "") ? "table" : "objects";
  if (name === undefined && request.method === "GET" && isTrue(query.get("watch"))) {
    answerWatch(request, response, { store, watch: { kind, namespace, query, view }, bookmarkInterval });
    return;
  }
  const { status, objects } = name === undefined ? await doAll(request, asked) : await doOne(request, asked, name);
  const [first] = objects;
  const isList = name === undefined && request.method !== "POST";
  const metadata = { resourceVersion: String(store.version()) };
  if (view === "table") answerJson(response, status, table(objects, query, kind, store));
  else if (isList)
    answerJson(response, status, { kind: `${kind.kind}List`, apiVersion: "v1", metadata, items: objects });
  else answerJson(response, status, first);
}

interface Outcome {
  status: number;
  objects: KubeObject[];
}

const wrongMethod = () =>
  new Refusal(405, "MethodNotAllowed", "the server does not allow this method on the requested resource");

/** list, create and deletecollection. */
async function doAll(request: IncomingMessage, { path, query, store, pods }: ObjectsRequest): Promise<Outcome> {
  const { kind, namespace } = path;
  const dryRun = query.get("dryRun") === "All";
  if (request.method === "POST") {
    const object = checked(kind, namespace, await readObject(request));
    if (kind.namespaced) store.get(namespaceKind, undefined, object.metadata.namespace ?? "");
    const created = dryRun ? object : store.create(kind, object);
    if (kind.kind === "Pod" && !dryRun) pods.began(created);
    return { status: 201, objects: [created] };
  }
  const objects = store.list(kind, namespace).filter(createSelector(query));
  if (request.method === "DELETE") {
    if (!dryRun) for (const object of objects) removeObject(kind, object, store, pods);
  } else if (request.method !== "GET") throw wrongMethod();
  return { status: 200, objects };
}

/** get, update, patch and delete. */
async function doOne(request: IncomingMessage, asked: ObjectsRequest, name: string): Promise<Outcome> {
  const { path, query, store, pods } = asked;
  const { kind, namespace } = path;
  const dryRun = query.get("dryRun") === "All";
  if (request.method === "GET") return { status: 200, objects: [store.get(kind, namespace, name)] };
  if (request.method === "PUT") {
    const object = checked(kind, namespace, await readObject(request));
    if (object.metadata.name !== name) throw badRequest("the name of the object does not match the name on the URL");
    return { status: 200, objects: [dryRun ? object : store.replace(kind, object)] };
  }
  if (request.method === "PATCH") {
    const { status, object } = await patchObject(request, { path, query, store, dryRun });
    if (status === 201 && kind.kind === "Pod" && !dryRun) pods.began(object);
    return { status, objects: [object] };
  }
  if (request.method !== "DELETE") throw wrongMethod();
  const object = store.get(kind, namespace, name);
  const options = fieldsOf(await readObject(request));
  const { uid } = fieldsOf(options.preconditions);
  if (uid !== undefined && uid !== object.metadata.uid) {
    throw new Refusal(409, "Conflict", "the UID in the precondition is not the object's");
  }
  return { status: 200, objects: [dryRun ? object : removeObject(kind, object, store, pods)] };
}

async function patchObject(
  request: IncomingMessage,
  options: { path: ObjectPath; query: URLSearchParams; store: Store; dryRun: boolean },
): Promise<{ status: number; object: KubeObject }> {
  const { path, query, store, dryRun } = options;
  const { kind, namespace, name = "" } = path;
  const contentType = (request.headers["content-type"] ?? "").split(";")[0]?.trim() ?? "";
  const patch: unknown = await readObject(request);
  const isApply = contentType === "application/apply-patch+yaml";
  const before = store.list(kind, namespace).find((object) => object.metadata.name === name);
  if (before === undefined && !isApply) store.get(kind, namespace, name);
  const start: KubeObject = before ?? { metadata: { name, ...(namespace === undefined ? {} : { namespace }) } };
  const patched = applyPatch(start, contentType, patch);
  if (isApply) {
    const manager = query.get("fieldManager") ?? "unknown";
    const mine = {
      manager,
      operation: "Apply",
      apiVersion: "v1",
      time: timestamp(),
      fieldsType: "FieldsV1",
      fieldsV1: {},
    };
    const others = Array.isArray(start.metadata.managedFields) ? (start.metadata.managedFields as unknown[]) : [];
    const managedFields = [...others.filter((entry) => fieldsOf(entry).manager !== manager), mine];
    patched.metadata = { ...fieldsOf(patched.metadata), managedFields };
  }
  const object = checked(kind, namespace, patched);
  if (dryRun) return { status: before === undefined ? 201 : 200, object };
  if (before === undefined) return { status: 201, object: store.create(kind, object) };
  // An apply or merge patch without a resourceVersion is done on what is there now.
  return { status: 200, object: store.replace(kind, object) };
}

const namespaceKind = kindOf("namespaces") as Kind;

function removeObject(kind: Kind, object: KubeObject, store: Store, pods: Pods): KubeObject {
  const { namespace, name } = object.metadata;
  if (kind.kind === "Pod") return pods.end(object);
  if (kind.kind === "Namespace") {
    for (const one of kinds.filter((each) => each.namespaced)) {
      for (const item of store.list(one, name)) store.remove(one, name, item.metadata.name);
    }
  }
  return store.remove(kind, namespace, name);
}

const dnsName = /^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$/;

/** What a client sent as an object of that kind; throws 400 or 422. */
function checked(kind: Kind, namespace: string | undefined, sent: unknown): KubeObject {
  const object = fieldsOf(sent);
  const metadata = { ...fieldsOf(object.metadata) };
  const invalid = (text: string) =>
    new Refusal(422, "Invalid", `${kind.kind} "${metadata.name as string}" is invalid: ${text}`);
  if (object.kind !== undefined && object.kind !== kind.kind) {
    throw badRequest(`the object is a ${object.kind as string}, the path is for a ${kind.kind}`);
  }
  if (metadata.name === undefined && typeof metadata.generateName === "string") {
    metadata.name = `${metadata.generateName}${Math.random().toString(36).slice(2, 7)}`;
  }
  if (typeof metadata.name !== "string")
    throw invalid("metadata.name: Required value: name or generateName is required");
  if (!dnsName.test(metadata.name)) {
    throw invalid(`metadata.name: Invalid value: "${metadata.name}": lower case letters, digits, "-" and "." only`);
  }
  if (kind.namespaced) {
    if (metadata.namespace !== undefined && metadata.namespace !== namespace) {
      throw badRequest("the namespace of the provided object does not match the namespace sent on the request");
    }
    metadata.namespace = namespace ?? "default";
  }
  const containers = fieldsOf(object.spec).containers;
  if (kind.kind === "Pod" && !(Array.isArray(containers) && containers.length > 0)) {
    throw invalid("spec.containers: Required value");
  }
  const texts = Object.entries(kind.kind === "ConfigMap" ? fieldsOf(object.data) : {});
  const noText = texts.find(([, value]) => typeof value !== "string")?.[0];
  if (noText !== undefined) throw badRequest(`ConfigMap data.${noText} should be a string; put it in quotes`);
  return completed(kind, { ...object, metadata: metadata as KubeObject["metadata"] });
}

/** The defaults that an API server fills in. */
function completed(kind: Kind, object: KubeObject): KubeObject {
  if (kind.kind === "Pod") return { ...object, status: object.status ?? { phase: "Pending" } };
  if (kind.kind === "Namespace") return { ...object, status: { phase: "Active" } };
  if (kind.kind !== "Secret") return object;
  const { stringData, ...rest } = object;
  const encoded = Object.entries(fieldsOf(stringData)).map(([key, text]) => [
    key,
    Buffer.from(String(text)).toString("base64"),
  ]);
  return { ...rest, type: object.type ?? "Opaque", data: { ...fieldsOf(object.data), ...Object.fromEntries(encoded) } };
}

function table(objects: readonly KubeObject[], query: URLSearchParams, kind: Kind, store: Store): unknown {
  const resourceVersion = String(store.version());
  return tableOf(kind, objects, {
    resourceVersion,
    withColumns: true,
    withObject: wantsObject(query),
    now: Date.now(),
  });
}

const isTrue = (text: string | null): boolean => text !== null && text !== "0" && text.toLowerCase() !== "false";
