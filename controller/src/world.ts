import {
  type ApiServer,
  bearerTokenSecretType,
  type Clock,
  type Connector,
  type ConnectorClass,
  type KubeObject,
  keyOf,
  labels,
  type Log,
  type Reflector,
  resolvedEntries,
  type Running,
  serviceAccountSecretType,
  startReflector,
  stopAll,
} from "@kube-connector/core";
import { classLabelValue, sharedProxyName } from "./connector/children.ts";
import {
  type AuthorityState,
  certificateWithKey,
  type LeafState,
  readAuthority,
  secretEntries,
} from "./connector/authority.ts";
import { canonical, type ChildKind, childKey, childKinds, digest, type ObservedChild, observe } from "./kube/apply.ts";

// What the controller knows of the cluster: a copy of Connectors and classes, and facts about everything else. No token
// and no key is kept: source Secrets are watched as metadata, children as digests and public certificates.

/** What is kept of a child, by kind. */
export interface KnownChild extends ObservedChild {
  /** Of a Deployment. */
  deployment?: { available: number; problem: string | undefined };
  /** Of a resolved Secret: digests of what it says, and its leaf. */
  resolved?: { described: string; token: string | undefined; proxy: string | undefined; leaf: LeafState };
  /** Of a CA Secret. */
  authority?: AuthorityState;
}

export interface World extends Running {
  synced: Promise<void>;
  isSynced(): boolean;
  connector(key: string): Connector | undefined;
  connectors(): IterableIterator<[string, Connector]>;
  connectorClass(name: string): ConnectorClass | undefined;
  classes(): IterableIterator<[string, ConnectorClass]>;
  connectorsOfClass(name: string): Iterable<string>;
  child(of: { kind: ChildKind; namespace: string; name: string }): KnownChild | undefined;
  children(): Iterable<KnownChild>;
  childrenOf(connector: string): KnownChild[];
  /** By the value of the class label. */
  childrenOfClass(label: string): KnownChild[];
  /** Whether a resolved Secret is there for that Deployment. */
  serves(proxy: string): boolean;
  /** Takes the answer to a write of ours, until the watch has told it too. */
  wrote(kind: ChildKind, object: KubeObject): void;
  wroteConnector(object: KubeObject): void;
  /** Forgets a child that we have deleted. */
  deleted(of: { kind: ChildKind; namespace: string; name: string }): void;
  /** Whether Secrets of that type are watched, so that a change is noticed at once. */
  watches(secretType: string): boolean;
}

export interface WorldOptions {
  api: ApiServer;
  clock: Clock;
  log: Log;
  config: { namespace: string; proxyNamespace: string; sharedNamespace: string; namespaces?: string[] };
  /** `namespace/name`. */
  onConnector: (key: string) => void;
  onClass: (name: string) => void;
}

const metadataOnly = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";
const metadataList = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";

export function startWorld(options: WorldOptions): World {
  const { api, clock, log, config, onConnector, onClass } = options;
  const reflectors: Reflector<unknown>[] = [];
  const bySecret = createIndex();
  const byClass = createIndex();
  const byConnector = createIndex();
  const byClassLabel = createIndex();
  const byProxy = createIndex();
  const scopes = config.namespaces?.map((namespace) => `/namespaces/${namespace}`) ?? [""];

  const reflect = <T>(one: Omit<Parameters<typeof startReflector<T>>[0], "api" | "clock" | "log">): Reflector<T> => {
    const reflector = startReflector<T>({ api, clock, log, ...one });
    reflectors.push(reflector);
    return reflector;
  };

  const ownConnectors = new Map<string, Connector>();
  const connectors = scopes.map((scope) =>
    reflect<Connector>({
      path: `/apis/connectors.cpaas.io/v1alpha1${scope}/connectors`,
      keep: keepConnector,
      onChange: (key, { before, after }) => {
        const own = ownConnectors.get(key)?.metadata.resourceVersion;
        if (after === undefined || newer(after.metadata.resourceVersion, own)) ownConnectors.delete(key);
        bySecret.move(key, before && secretKey(before), after && secretKey(after));
        byClass.move(key, before?.spec.connectorClassName, after?.spec.connectorClassName);
        const ourWrite = own !== undefined && own === after?.metadata.resourceVersion;
        if (ourWrite || connectorFacts(before) === connectorFacts(after)) return;
        onConnector(key);
        const name = (after ?? before)?.spec.connectorClassName;
        if (name !== undefined && (before === undefined || after === undefined)) onClass(name);
      },
    }),
  );
  const classes = reflect<ConnectorClass>({
    path: "/apis/connectors.cpaas.io/v1alpha1/connectorclasses",
    keep: (object) => withoutBallast(object) as unknown as ConnectorClass,
    onChange: (name, { before, after }) => {
      if (canonical(before?.spec) === canonical(after?.spec) && before?.metadata.uid === after?.metadata.uid) return;
      onClass(name);
      for (const key of byClass.of(name)) onConnector(key);
    },
  });
  const watchedTypes = [bearerTokenSecretType, serviceAccountSecretType];
  for (const scope of scopes) {
    for (const type of watchedTypes) {
      reflect<string>({
        path: `/api/v1${scope}/secrets`,
        query: { fieldSelector: `type=${type}` },
        accept: { list: metadataList, watch: metadataOnly },
        keep: ({ metadata }) => `${metadata.uid}/${metadata.resourceVersion}`,
        onChange: (key, { before, after }) => {
          if (before !== after) for (const connector of bySecret.of(key)) onConnector(connector);
        },
      });
    }
  }

  const ownChildren = new Map<string, KnownChild>();
  const childCaches = new Map<string, Reflector<KnownChild>>();
  const onChild = (before: KnownChild | undefined, after: KnownChild | undefined) => {
    const child = after ?? before;
    if (child === undefined) return;
    const key = childKey(child);
    const own = ownChildren.get(key);
    const gone = after === undefined && own?.uid === child.uid;
    if (gone || newer(after?.resourceVersion, own?.resourceVersion)) ownChildren.delete(key);
    byConnector.move(key, before?.connector, after?.connector);
    byClassLabel.move(key, before?.class, after?.class);
    byProxy.move(key, before?.resolved?.proxy, after?.resolved?.proxy);
    const ourWrite = own !== undefined && own.resourceVersion === after?.resourceVersion;
    if (ourWrite || childFacts(before) === childFacts(after)) return;
    if (child.connector !== undefined) onConnector(child.connector);
    // The last one that a Shared proxy served.
    if (after === undefined && child.resolved !== undefined) {
      for (const [name, one] of classes.entries()) if (sharedProxyName(one) === child.resolved.proxy) onClass(name);
    }
    if (child.class === undefined) return;
    for (const name of byClass.names()) {
      if (classLabelValue(name) !== child.class) continue;
      onClass(name);
      if (before?.deployment?.available === after?.deployment?.available) continue;
      for (const connector of byClass.of(name)) onConnector(connector);
    }
  };
  const reflectChildren = (kind: ChildKind, scope: string) => {
    const { apiVersion, plural } = childKinds[kind];
    const root = apiVersion === "v1" ? "/api/v1" : `/apis/${apiVersion}`;
    const reflector = reflect<KnownChild>({
      path: `${root}${scope}/${plural}`,
      query: { labelSelector: `${labels.managedBy}=kube-connector` },
      keep: (object) => (isInPlace(object, config) ? keepChild(kind, object, config.namespace) : undefined),
      onChange: (_, change) => onChild(change.before, change.after),
    });
    childCaches.set(`${kind}${scope}`, reflector);
  };
  const proxies = [config.proxyNamespace, config.sharedNamespace];
  for (const namespace of proxies) {
    for (const kind of ["ServiceAccount", "Role", "RoleBinding", "Deployment", "Secret"] as const) {
      reflectChildren(kind, `/namespaces/${namespace}`);
    }
  }
  reflectChildren("Secret", `/namespaces/${config.namespace}`);
  for (const scope of config.namespaces === undefined
    ? [""]
    : [...new Set([...config.namespaces, ...proxies])].map((one) => `/namespaces/${one}`)) {
    reflectChildren("Service", scope);
  }

  function* allChildren(): Iterable<KnownChild> {
    const seen = new Set<string>();
    for (const cache of childCaches.values()) {
      for (const [, child] of cache.entries()) {
        const key = childKey(child);
        seen.add(key);
        yield ownChildren.get(key) ?? child;
      }
    }
    for (const [key, child] of ownChildren) if (!seen.has(key)) yield child;
  }
  const childByKey = (of: { kind: ChildKind; namespace: string; name: string }) => {
    const own = ownChildren.get(childKey(of));
    if (own !== undefined) return own;
    const cache = childCaches.get(`${of.kind}/namespaces/${of.namespace}`) ?? childCaches.get(of.kind);
    return cache?.get(`${of.namespace}/${of.name}`);
  };

  /** The indexed children, and those that we wrote and the watch has not told yet. */
  const collect = (keys: Iterable<string>, wanted: (child: KnownChild) => boolean) => {
    const all = [...keys, ...ownChildren.keys()].map((key) => {
      const [kind, namespace, name] = key.split("/") as [ChildKind, string, string];
      return childByKey({ kind, namespace, name });
    });
    return [...new Set(all.filter((child) => child !== undefined))].filter(wanted);
  };

  return {
    synced: Promise.all(reflectors.map((one) => one.synced)).then(() => undefined),
    isSynced: () => reflectors.every((one) => one.isSynced()),
    connector: (key) => {
      const cached = connectors.map((one) => one.get(key)).find((one) => one !== undefined);
      return cached === undefined ? undefined : (ownConnectors.get(key) ?? cached);
    },
    *connectors() {
      for (const one of connectors) yield* one.entries();
    },
    connectorClass: (name) => classes.get(name),
    classes: () => classes.entries(),
    connectorsOfClass: (name) => byClass.of(name),
    child: childByKey,
    children: allChildren,
    childrenOf: (connector) => collect(byConnector.of(connector), (child) => child.connector === connector),
    childrenOfClass: (label) => collect(byClassLabel.of(label), (child) => child.class === label),
    serves: (proxy) => [...byProxy.of(proxy)].length > 0,
    wrote(kind, object) {
      const kept = keepChild(kind, object, config.namespace);
      const key = childKey(kept);
      if (!newer(childByKey(kept)?.resourceVersion, kept.resourceVersion)) ownChildren.set(key, kept);
    },
    wroteConnector(object) {
      const kept = keepConnector(object);
      const key = keyOf(object);
      const cached = connectors.map((one) => one.get(key)).find((one) => one !== undefined);
      if (!newer(cached?.metadata.resourceVersion, kept.metadata.resourceVersion)) ownConnectors.set(key, kept);
    },
    deleted: (of) => void ownChildren.delete(childKey(of)),
    watches: (type) => watchedTypes.includes(type),
    done: Promise.all(reflectors.map((one) => one.done)).then(() => undefined),
    stop: () => stopAll(reflectors),
  };
}

/** The caches and indices that keep which keys belong to which name. */
function createIndex() {
  const sets = new Map<string, Set<string>>();
  return {
    of: (name: string): Iterable<string> => sets.get(name) ?? [],
    names: () => sets.keys(),
    move(key: string, before: string | undefined, after: string | undefined) {
      if (before === after) return;
      if (before !== undefined) {
        const set = sets.get(before);
        set?.delete(key);
        if (set?.size === 0) sets.delete(before);
      }
      if (after !== undefined) sets.set(after, (sets.get(after) ?? new Set()).add(key));
    },
  };
}

/** Whether a resourceVersion is at least as new as another. They are numbers since Kubernetes 1.35, and were before. */
function newer(version: string | undefined, than: string | undefined): boolean {
  if (version === undefined || than === undefined) return false;
  if (!/^\d{1,20}$/.test(version) || !/^\d{1,20}$/.test(than)) return version !== than;
  return BigInt(version) >= BigInt(than);
}

function withoutBallast(object: KubeObject): KubeObject {
  const { managedFields: _, annotations: __, ...metadata } = object.metadata;
  return { ...object, metadata };
}

function keepConnector(object: KubeObject): Connector {
  return withoutBallast(object) as unknown as Connector;
}

const secretKey = (connector: Connector) => `${connector.metadata.namespace}/${connector.spec.auth.secretRef.name}`;

/** What makes a Connector worth another look; not its resourceVersion. */
function connectorFacts(connector: Connector | undefined): string {
  if (connector === undefined) return "";
  const { uid, generation, deletionTimestamp } = connector.metadata;
  return canonical([uid, generation, deletionTimestamp, connector.status]);
}

function childFacts(child: KnownChild | undefined): string {
  if (child === undefined) return "";
  const { resourceVersion, ...facts } = child;
  return child.kind === "Secret" ? `${child.uid}/${resourceVersion}` : canonical(facts);
}

/** Labels alone make no child: in a namespace that is not ours, only the Service of a Connector of that namespace is one. */
function isInPlace(object: KubeObject, config: WorldOptions["config"]): boolean {
  const { namespace = "" } = object.metadata;
  if ([config.namespace, config.proxyNamespace, config.sharedNamespace].includes(namespace)) return true;
  const { connector, class: ofClass } = observe("Service", object);
  return connector?.startsWith(`${namespace}/`) === true && ofClass === undefined;
}

function keepChild(kind: ChildKind, object: KubeObject, authorityNamespace: string): KnownChild {
  const child: KnownChild = observe(kind, object);
  if (kind === "Deployment") return { ...child, deployment: deploymentFacts(object) };
  if (kind !== "Secret") return child;
  if (child.namespace === authorityNamespace) return { ...child, digest: "", authority: readAuthority(object) };
  const entries = secretEntries(object);
  const found = (object.metadata.labels ?? {}) as Record<string, string>;
  const token = entries[resolvedEntries.token];
  return {
    ...child,
    digest: "",
    resolved: {
      described: digest(entries[resolvedEntries.connector]?.reveal() ?? ""),
      token: token === undefined ? undefined : digest(token.reveal()),
      proxy: found[labels.proxy],
      leaf: certificateWithKey(entries[resolvedEntries.certificate], entries[resolvedEntries.key]),
    },
  };
}

function deploymentFacts(object: KubeObject): { available: number; problem: string | undefined } {
  const status = (object.status ?? {}) as {
    availableReplicas?: number;
    conditions?: { type: string; status: string; message?: string }[];
  };
  const failed = (status.conditions ?? []).find(
    (one) =>
      (one.type === "ReplicaFailure" && one.status === "True") ||
      (one.type === "Progressing" && one.status === "False"),
  );
  return { available: status.availableReplicas ?? 0, problem: failed?.message?.slice(0, 300) };
}
