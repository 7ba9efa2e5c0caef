import type { PolicyRule } from "@kube-connector/core";

// From what was asked to what must be allowed: audit events → the least rules that would have let them pass. Pure.

/** The part of an audit.k8s.io/v1 Event that is looked at. Our own lines say more in annotations. */
export interface AuditEvent {
  verb?: unknown;
  requestURI?: unknown;
  objectRef?: { [key: string]: unknown };
  responseStatus?: { code?: unknown };
  annotations?: { [key: string]: unknown };
}

export interface Suggestion {
  /** `namespace/name`; "" for a log that names no connector. */
  connector: string;
  rules: PolicyRule[];
  /** Events that the rules are made from, and those left aside because they were refused. */
  used: number;
  refused: number;
}

export interface SuggestOptions {
  /** Only this connector, as `namespace/name`. */
  connector?: string | undefined;
  /** Requests that were refused count too. */
  denied: boolean;
  /** Name the objects that were asked for. */
  names: boolean;
}

const own = "proxy.connectors.cpaas.io/";
/** As in the proxy's policy: these need create, whatever the method. */
const opening = new Set(["exec", "attach", "portforward"]);
/** Paths by which clients find their way; they differ from cluster to cluster, so the whole family is suggested. */
const families = ["/api", "/apis", "/openapi", "/version", "/healthz", "/livez", "/readyz"];

/** One thing that was asked for. */
interface Use {
  connector: string;
  verbs: string[];
  /** Undefined for what is no resource. */
  resource: { group: string; name: string; namespace: string; object: string } | undefined;
  path: string;
}

/** Events → a suggestion for each connector, by name. Lines that tell of no request (tunnels) are left aside. */
export function suggestRules(events: Iterable<AuditEvent>, options: SuggestOptions): Suggestion[] {
  const found = new Map<string, { uses: Map<string, Use>; used: number; refused: number }>();
  for (const event of events) {
    const use = useOf(event);
    if (use === undefined || (options.connector !== undefined && use.connector !== options.connector)) continue;
    const one = found.get(use.connector) ?? { uses: new Map<string, Use>(), used: 0, refused: 0 };
    found.set(use.connector, one);
    if (!options.denied && wasRefused(event)) one.refused += 1;
    else {
      one.used += 1;
      one.uses.set(JSON.stringify(use), use);
    }
  }
  return [...found]
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([connector, { uses, used, refused }]) => ({
      connector,
      rules: [...resourceRules([...uses.values()], options.names), ...pathRules([...uses.values()])],
      used,
      refused,
    }));
}

function useOf(event: AuditEvent): Use | undefined {
  const note = (name: string) => textOf(event.annotations?.[own + name]);
  const verb = textOf(event.verb);
  const path = textOf(event.requestURI).split("?", 1)[0] ?? "";
  if (note("method") === "CONNECT" || verb === "" || !path.startsWith("/")) return undefined;
  const connector = note("connector.name") === "" ? "" : `${note("connector.namespace")}/${note("connector.name")}`;
  const { objectRef } = event;
  if (objectRef === undefined) return { connector, verbs: [verb], resource: undefined, path };
  const subresource = textOf(objectRef.subresource);
  const isUpgraded = note("upgrade") !== "" || event.responseStatus?.code === 101;
  const needsCreate = isUpgraded && verb !== "watch" && subresource !== "log" && verb !== "create";
  return {
    connector,
    verbs: opening.has(subresource) ? ["create"] : needsCreate ? [verb, "create"] : [verb],
    resource: {
      group: textOf(objectRef.apiGroup),
      name: subresource === "" ? textOf(objectRef.resource) : `${textOf(objectRef.resource)}/${subresource}`,
      namespace: textOf(objectRef.namespace),
      object: textOf(objectRef.name),
    },
    path,
  };
}

/** Whether the proxy said no; what the target said is for the stored token's rights. */
function wasRefused(event: AuditEvent): boolean {
  const decision = event.annotations?.[`${own}decision`];
  return decision !== undefined && decision !== "allow";
}

/** For each resource and verb the namespaces; then what has the same verbs, namespaces and names stands in one rule. */
function resourceRules(uses: readonly Use[], withNames: boolean): PolicyRule[] {
  const places = new Map<string, Set<string>>();
  const objects = new Map<string, Set<string>>();
  for (const { resource, verbs } of uses) {
    if (resource === undefined) continue;
    for (const verb of verbs) {
      const key = JSON.stringify([resource.group, resource.name, verb]);
      add(places, key, resource.namespace);
      add(objects, key, resource.object);
    }
  }
  // By group, resource, namespaces and names: the verbs.
  const byScope = new Map<string, Set<string>>();
  for (const [key, namespaces] of places) {
    const [group, resource, verb] = JSON.parse(key) as [string, string, string];
    const names = objects.get(key) ?? new Set();
    // Together with names, namespaces would allow each name in each of them.
    const isNamed = withNames && !names.has("") && namespaces.size === 1;
    const scope = [group, resource, listOf(namespaces), isNamed ? listOf(names) : []];
    add(byScope, JSON.stringify(scope), verb);
  }
  const rules = new Map<string, Set<string>>();
  for (const [scope, verbs] of byScope) {
    const [group, resource, namespaces, names] = JSON.parse(scope) as [string, string, string[], string[]];
    add(rules, JSON.stringify([group, namespaces, names, [...verbs].sort()]), resource);
  }
  const made = [...rules].map(([rule, found]) => {
    const [group, namespaces, resourceNames, verbs] = JSON.parse(rule) as [string, string[], string[], string[]];
    const resources = [...found].sort();
    const value: PolicyRule = {
      apiGroups: [group],
      resources,
      ...(resourceNames.length === 0 ? {} : { resourceNames }),
      ...(namespaces.length === 0 ? {} : { namespaces }),
      verbs,
    };
    return [[group, ...resources, ...verbs, ...namespaces].join(" "), value] as [string, PolicyRule];
  });
  return made.sort(byText).map(([, rule]) => rule);
}

function pathRules(uses: readonly Use[]): PolicyRule[] {
  const byVerb = new Map<string, Set<string>>();
  for (const { resource, verbs, path } of uses) {
    if (resource !== undefined) continue;
    const family = families.find((one) => path === one || path.startsWith(`${one}/`));
    for (const verb of verbs) {
      add(byVerb, verb, family ?? path);
      if (family !== undefined && path !== family) add(byVerb, verb, `${family}/*`);
    }
  }
  const byPaths = new Map<string, Set<string>>();
  for (const [verb, paths] of byVerb) add(byPaths, JSON.stringify([...paths].sort()), verb);
  return [...byPaths].sort(byText).map(([paths, verbs]) => ({
    nonResourceURLs: JSON.parse(paths) as string[],
    verbs: [...verbs].sort(),
  }));
}

/** Sorted; empty when any namespace (or none at all) was asked for. */
function listOf(values: ReadonlySet<string>): string[] {
  return values.has("") ? [] : [...values].sort();
}

function add(sets: Map<string, Set<string>>, key: string, value: string): void {
  const set = sets.get(key) ?? new Set<string>();
  sets.set(key, set.add(value));
}

const byText = ([a]: [string, unknown], [b]: [string, unknown]) => (a < b ? -1 : 1);

const textOf = (value: unknown) => (typeof value === "string" ? value : "");
