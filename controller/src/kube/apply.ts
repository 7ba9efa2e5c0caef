import { createHash } from "node:crypto";
import { type ApiServer, Fault, group, type KubeObject, labels } from "@kube-connector/core";

// Children: what we want, what we saw, and how the one becomes the other.

export const childKinds = {
  ServiceAccount: { apiVersion: "v1", plural: "serviceaccounts" },
  Role: { apiVersion: "rbac.authorization.k8s.io/v1", plural: "roles" },
  RoleBinding: { apiVersion: "rbac.authorization.k8s.io/v1", plural: "rolebindings" },
  Secret: { apiVersion: "v1", plural: "secrets" },
  Service: { apiVersion: "v1", plural: "services" },
  Deployment: { apiVersion: "apps/v1", plural: "deployments" },
} as const;
export type ChildKind = keyof typeof childKinds;

export const fieldManager = "kube-connector";
export const classLabel = `${group}/connector-class`;
const appliedAnnotation = `${group}/applied`;

/** A child as we want it. */
export interface Child {
  kind: ChildKind;
  namespace: string;
  name: string;
  /** The whole object, for when it is absent; without apiVersion, kind, namespace and name. */
  object: { metadata: { labels: Record<string, string>; [field: string]: unknown }; [field: string]: unknown };
  /** What to patch when it is there, if not all of `object`. A null removes an entry. */
  change?: Record<string, unknown>;
  /** Digest of the fields that are compared; `digestOf(kind, object)` unless the caller knows better. */
  digest?: string;
}

/** What the cache keeps of a child. */
export interface ObservedChild {
  kind: ChildKind;
  namespace: string;
  name: string;
  uid: string;
  resourceVersion: string;
  digest: string;
  /** From the labels: `namespace/name` of the Connector, and its uid. */
  connector: string | undefined;
  connectorUid: string | undefined;
  /** From the labels: the class, on the children of a Shared proxy. */
  class: string | undefined;
}

export function pathOf(kind: ChildKind, namespace: string, name?: string): string {
  const { apiVersion, plural } = childKinds[kind];
  const root = apiVersion === "v1" ? "/api/v1" : `/apis/${apiVersion}`;
  return `${root}/namespaces/${namespace}/${plural}${name === undefined ? "" : `/${name}`}`;
}

export function childKey(of: { kind: ChildKind; namespace: string; name: string }): string {
  return `${of.kind}/${of.namespace}/${of.name}`;
}

/** The same text for the same value, whatever the order of its fields. */
export function canonical(value: unknown): string {
  return JSON.stringify(value, (_, inner: unknown) =>
    inner !== null && typeof inner === "object" && !Array.isArray(inner)
      ? Object.fromEntries(Object.entries(inner).toSorted(([a], [b]) => (a < b ? -1 : 1)))
      : inner,
  );
}

export function digest(value: unknown): string {
  return createHash("sha256")
    .update(typeof value === "string" ? value : canonical(value))
    .digest("base64url");
}

type Fields = Record<string, unknown>;
const at = (value: unknown, ...path: string[]): unknown => {
  let here = value;
  for (const name of path) here = here === null || typeof here !== "object" ? undefined : (here as Fields)[name];
  return here;
};
const pick = (value: unknown, ...names: string[]): Fields =>
  Object.fromEntries(names.map((name) => [name, at(value, name)]).filter(([, inner]) => inner !== undefined));
const each = (value: unknown, ...names: string[]): Fields[] =>
  Array.isArray(value) ? value.map((item) => pick(item, ...names)) : [];

// The fields of ours that a stranger might change and that the API server does not rewrite. Quantities and defaulted
// fields are left out; the annotation with the digest of the whole object stands for those.
const compared: Record<ChildKind, (object: KubeObject) => unknown> = {
  ServiceAccount: () => null,
  Role: (object) => object.rules,
  RoleBinding: (object) => [object.roleRef, each(object.subjects, "kind", "namespace", "name")],
  Service: ({ spec }) => [
    pick(spec, "type", "externalName", "selector"),
    each(at(spec, "ports"), "name", "port", "targetPort"),
  ],
  Deployment: ({ spec }) => [
    pick(spec, "replicas"),
    pick(at(spec, "template", "spec"), "serviceAccountName"),
    each(at(spec, "template", "spec", "containers"), "name", "image", "args"),
  ],
  Secret: ({ data }) => Object.entries((data ?? {}) as Fields).map(([name, value]) => [name, digest(value)]),
};

/** Digest of our fields in an object, ours or one that was read. */
export function digestOf(kind: ChildKind, object: KubeObject): string {
  const found = (object.metadata.labels ?? {}) as Record<string, string>;
  const ours = Object.entries(found).filter(([name]) => name.startsWith(group) || name === labels.managedBy);
  return digest([
    Object.fromEntries(ours),
    at(object.metadata.annotations, appliedAnnotation) ?? "",
    compared[kind](object),
  ]);
}

/** What is kept of a child that was read or written. */
export function observe(kind: ChildKind, object: KubeObject): ObservedChild {
  const found = (object.metadata.labels ?? {}) as Record<string, string>;
  const namespace = found[labels.connectorNamespace];
  const name = found[labels.connectorName];
  return {
    kind,
    namespace: object.metadata.namespace ?? "",
    name: object.metadata.name,
    uid: object.metadata.uid ?? "",
    resourceVersion: object.metadata.resourceVersion ?? "",
    digest: digestOf(kind, object),
    connector: namespace === undefined || name === undefined ? undefined : `${namespace}/${name}`,
    connectorUid: found[labels.connectorUid],
    class: found[classLabel],
  };
}

/** The object to send: with its kind, its name, and the digest of itself. */
export function fullObject(child: Child): KubeObject {
  const { metadata, ...rest } = child.object;
  const annotations = {
    ...((metadata.annotations ?? {}) as Fields),
    ...(child.kind === "Secret" ? {} : { [appliedAnnotation]: digest(child.object) }),
  };
  return {
    apiVersion: childKinds[child.kind].apiVersion,
    kind: child.kind,
    metadata: { ...metadata, name: child.name, namespace: child.namespace, annotations },
    ...rest,
  };
}

export type Applied =
  | { result: "unchanged" }
  | { result: "created" | "changed"; object: KubeObject }
  /** Somebody else's object has the name. */
  | { result: "taken"; object: KubeObject };

/**
 * Makes it so with at most one write: POST when absent, else a merge patch with the uid that was seen, so that an object
 * of a stranger under the same name is never overwritten. A merge patch and no server-side apply: what a POST set is
 * owned by the POST for ever, and an apply that leaves it out does not remove it; a token must go when it is to go.
 */
export async function applyChild(api: ApiServer, child: Child, seen: ObservedChild | undefined): Promise<Applied> {
  const object = fullObject(child);
  const wanted = child.digest ?? digestOf(child.kind, object);
  if (seen !== undefined && seen.digest === wanted) return { result: "unchanged" };
  const query = { fieldManager };
  if (seen === undefined) {
    try {
      const created = await api.request<KubeObject>("POST", pathOf(child.kind, child.namespace), {
        query,
        body: object,
      });
      return { result: "created", object: created };
    } catch (error) {
      if (!(error instanceof Fault && error.answer?.reason === "AlreadyExists")) throw error;
    }
    // The cache is behind, or it is a stranger's.
    const live = await api.request<KubeObject>("GET", pathOf(child.kind, child.namespace, child.name));
    const observed = observe(child.kind, live);
    if (!isOurs(observed, child)) return { result: "taken", object: live };
    if (observed.digest === wanted) return { result: "changed", object: live };
    return await applyChild(api, child, observed);
  }
  const { metadata, apiVersion: _, kind: __, ...rest } = object;
  const body = { ...(child.change ?? rest), metadata: { ...metadata, uid: seen.uid } };
  const changed = await api.request<KubeObject>("PATCH", pathOf(child.kind, child.namespace, child.name), {
    query,
    body,
    contentType: "application/merge-patch+json",
  });
  return { result: "changed", object: changed };
}

/** Whether an object that was found carries the labels that we would give it. */
export function isOurs(observed: ObservedChild, child: Child): boolean {
  const wanted = child.object.metadata.labels;
  return (
    observed.connectorUid === wanted[labels.connectorUid] &&
    observed.class === wanted[classLabel] &&
    (observed.connectorUid ?? observed.class) !== undefined
  );
}

/** Deletes exactly that object; fine when it is gone or another by now. */
export async function deleteChild(
  api: ApiServer,
  of: { kind: ChildKind; namespace: string; name: string; uid: string },
): Promise<void> {
  try {
    await api.request("DELETE", pathOf(of.kind, of.namespace, of.name), {
      body: {
        apiVersion: "v1",
        kind: "DeleteOptions",
        preconditions: { uid: of.uid },
        propagationPolicy: "Background",
      },
    });
  } catch (error) {
    const status = error instanceof Fault ? error.answer?.status : undefined;
    if (status !== 404 && status !== 409) throw error;
  }
}
