import { randomUUID } from "node:crypto";
import type { KubeObject } from "@kube-connector/core";
import { notFound, Refusal } from "./refusal.ts";
import type { Kind } from "./kinds.ts";

/** One change of an object. */
export interface StoreEvent {
  type: "ADDED" | "MODIFIED" | "DELETED";
  resource: string;
  version: number;
  object: KubeObject;
}

/** The objects in memory, with resource versions and a log of changes for watches to go on from. */
export interface Store {
  version(): number;
  list(kind: Kind, namespace: string | undefined): KubeObject[];
  /** Throws 404. */
  get(kind: Kind, namespace: string | undefined, name: string): KubeObject;
  /** Throws 409 when it is there. */
  create(kind: Kind, object: KubeObject): KubeObject;
  /** Throws 404, and 409 when `object` carries a resourceVersion that is no longer the object's. */
  replace(kind: Kind, object: KubeObject): KubeObject;
  remove(kind: Kind, namespace: string | undefined, name: string): KubeObject;
  /** The changes after a version; undefined when they are no longer known (410). */
  since(version: number): StoreEvent[] | undefined;
  /** The answer ends the subscription. */
  subscribe(listener: (event: StoreEvent) => void): () => void;
}

const rememberedEvents = 1000;

export function createStore(): Store {
  const objects = new Map<string, Map<string, KubeObject>>();
  const listeners = new Set<(event: StoreEvent) => void>();
  let events: StoreEvent[] = [];
  let version = 1;

  const keyOf = (namespace: string | undefined, name: string) => `${namespace ?? ""}/${name}`;
  const all = (kind: Kind) => {
    const found = objects.get(kind.resource) ?? new Map<string, KubeObject>();
    objects.set(kind.resource, found);
    return found;
  };
  const tell = (type: StoreEvent["type"], kind: Kind, object: KubeObject) => {
    const event = { type, resource: kind.resource, version, object };
    events.push(event);
    if (events.length > rememberedEvents) events = events.slice(-rememberedEvents / 2);
    for (const listener of listeners) listener(event);
  };
  const stamped = (kind: Kind, object: KubeObject, metadata: Partial<KubeObject["metadata"]>): KubeObject => ({
    ...object,
    apiVersion: "v1",
    kind: kind.kind,
    metadata: { ...object.metadata, ...metadata, resourceVersion: String(version) },
  });

  const store: Store = {
    version: () => version,
    list: (kind, namespace) =>
      [...all(kind).values()].filter((one) => namespace === undefined || one.metadata.namespace === namespace),
    get(kind, namespace, name) {
      const found = all(kind).get(keyOf(namespace, name));
      if (found === undefined) throw notFound(kind.resource, name);
      return found;
    },
    create(kind, object) {
      const key = keyOf(object.metadata.namespace, object.metadata.name);
      if (all(kind).has(key)) {
        throw new Refusal(409, "AlreadyExists", `${kind.resource} "${object.metadata.name}" already exists`);
      }
      version += 1;
      const creationTimestamp = object.metadata.creationTimestamp ?? timestamp();
      const created = stamped(kind, object, { uid: randomUUID(), creationTimestamp });
      all(kind).set(key, created);
      tell("ADDED", kind, created);
      return created;
    },
    replace(kind, object) {
      const { namespace, name, resourceVersion } = object.metadata;
      const before = store.get(kind, namespace, name);
      if (resourceVersion !== undefined && resourceVersion !== before.metadata.resourceVersion) {
        const text = `Operation cannot be fulfilled on ${kind.resource} "${name}": the object has been modified; please apply your changes to the latest version and try again`;
        throw new Refusal(409, "Conflict", text);
      }
      const { uid, creationTimestamp } = before.metadata;
      const after = stamped(kind, object, { ...(uid === undefined ? {} : { uid }), creationTimestamp });
      after.metadata.resourceVersion = before.metadata.resourceVersion ?? "";
      if (JSON.stringify(after) === JSON.stringify(before)) return before;
      version += 1;
      const stored = stamped(kind, after, {});
      all(kind).set(keyOf(namespace, name), stored);
      tell("MODIFIED", kind, stored);
      return stored;
    },
    remove(kind, namespace, name) {
      const before = store.get(kind, namespace, name);
      version += 1;
      const gone = stamped(kind, before, {});
      all(kind).delete(keyOf(namespace, name));
      tell("DELETED", kind, gone);
      return gone;
    },
    since(from) {
      const oldest = events[0]?.version ?? version + 1;
      if (from < oldest - 1 && from < version) return undefined;
      return events.filter((event) => event.version > from);
    },
    subscribe(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
  };
  return store;
}

/** Now, as metav1.Time writes it. */
export function timestamp(milliseconds = Date.now()): string {
  return new Date(milliseconds).toISOString().replace(/\.\d+Z$/, "Z");
}
