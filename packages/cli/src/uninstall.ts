import {
  type ApiServer,
  type Clock,
  Fault,
  group,
  type KubeObject,
  labels,
  sleep,
  version,
} from "@kube-connector/core";
import type { Say } from "./terminal.ts";

export interface UninstallOptions {
  api: ApiServer;
  clock: Clock;
  say: Say;
  /** Says what would be done, and does nothing. */
  dryRun: boolean;
  /** Asks the person; undefined: nothing to ask, go on. */
  confirm: ((question: string) => Promise<boolean>) | undefined;
  signal: AbortSignal;
  /** Milliseconds to wait for the controller to clean up, and then for namespaces to go; 60,000 unless told. */
  patience?: number;
}

/** The name of our CSIDriver, which an inline volume of a pod names. */
const driverName = "connectors-csi";
/** The label of our namespaces and of what runs in them. */
const partOf = "app.kubernetes.io/part-of=kube-connector";

interface Listed {
  /** Of the collection, for all namespaces: `/apis/apps/v1/daemonsets`. */
  path: string;
  /** For people: `daemonset`. */
  kind: string;
  /** Those that are ours by their name; what carries our label is ours anyway. */
  names?: readonly string[];
}

const kind = (groupPath: string, resource: string, names?: readonly string[]): Listed => ({
  path: `${groupPath}/${resource}`,
  kind: resource.replace(/(ie)?s$/, (end) => (end === "ies" ? "y" : "")),
  ...(names === undefined ? {} : { names }),
});
const rbac = "/apis/rbac.authorization.k8s.io/v1";
const admission = "/apis/admissionregistration.k8s.io/v1";
const connectors = kind(`/apis/${group}/${version}`, "connectors");
const accounts = ["kube-connector-controller", "kube-connector-proxy", "kube-connector-csi-driver"];
const roles = ["kube-connector-proxy-children", "kube-connector-view", "kube-connector-edit", "kube-connector-grant"];
/**
 * What install.yaml and crd/ make, in the order in which it goes: what acts first, then what it needs. All else of
 * install.yaml is in the namespaces, or is an object of a kind that goes with its definition.
 */
export const installed: readonly Listed[] = [
  kind("/apis/apps/v1", "daemonsets"),
  kind("/apis/apps/v1", "deployments"),
  kind("/apis/storage.k8s.io/v1", "csidrivers", [driverName]),
  kind(admission, "validatingadmissionpolicybindings", ["kube-connector-secret-access"]),
  kind(admission, "validatingadmissionpolicies", ["kube-connector-secret-access"]),
  kind("/apis/apiextensions.k8s.io/v1", "customresourcedefinitions", [
    `connectors.${group}`,
    `connectorclasses.${group}`,
  ]),
  kind(rbac, "clusterrolebindings", accounts),
  kind(rbac, "clusterroles", [...accounts, ...roles]),
  kind("/api/v1", "namespaces"),
];
/** Their deletion takes a while. */
const slowKinds = ["customresourcedefinition", "namespace"];
/** What the controller makes for a Connector outside of our own namespaces. */
const children = kind("/api/v1", "services");

/**
 * Takes kube-connector out of a cluster: Connectors, their children, then what install.yaml made. While a pod holds a
 * volume nothing is removed: without the driver such a pod could never end.
 */
export async function uninstall(options: UninstallOptions): Promise<void> {
  const { api, say, dryRun, confirm } = options;
  await refuseWhileMounted(api, "Nothing was deleted.");
  const found = await list(api, connectors);
  const rest = await listInstalled(api);
  if (found.length === 0 && rest.length === 0) {
    say("Nothing of kube-connector is installed here.");
    return;
  }
  for (const object of [...found.map((object) => ({ of: connectors, object })), ...rest]) {
    say(`${dryRun ? "would delete" : "to delete:"} ${object.of.kind} ${nameOf(object.object)}`);
  }
  if (dryRun) return;
  const question = `Delete these ${found.length + rest.length} objects?`;
  if (confirm !== undefined && !(await confirm(question))) {
    throw new Fault("invalid_argument", "Nothing was deleted; answer yes, or give --yes");
  }
  for (const object of found) await remove(options, connectors, object);
  await awaitChildren(options);
  // A pod may have come while the Connectors went.
  await refuseWhileMounted(api, "The Connectors are deleted, the driver stays until then.");
  for (const { of, object } of rest) await remove(options, of, object);
  await awaitGone(options, rest);
  say("kube-connector is uninstalled.");
}

/** Throws a Fault that names the pods which hold a volume of ours. */
async function refuseWhileMounted(api: ApiServer, sofar: string): Promise<void> {
  const pods = await list(api, kind("/api/v1", "pods"));
  const names = pods.filter(holdsVolume).map(nameOf);
  if (names.length === 0) return;
  const shown = names.slice(0, 50).join("\n  ");
  const more = names.length > 50 ? `\n  and ${names.length - 50} more` : "";
  const subject = names.length === 1 ? "A pod still holds" : `${names.length} pods still hold`;
  throw new Fault(
    "conflict",
    `${subject} a volume of ${driverName}; delete what runs them, then run this again. ${sofar}\n  ${shown}${more}`,
  );
}

/** Whether a pod has a volume of ours mounted: the kubelet takes volumes away when a pod has run to its end. */
export function holdsVolume(pod: KubeObject): boolean {
  const { volumes } = (pod.spec ?? {}) as { volumes?: { csi?: { driver?: string } }[] };
  const { phase } = (pod.status ?? {}) as { phase?: string };
  const ended = phase === "Succeeded" || phase === "Failed";
  return !ended && (volumes ?? []).some((volume) => volume.csi?.driver === driverName);
}

async function listInstalled(api: ApiServer): Promise<{ of: Listed; object: KubeObject }[]> {
  const all: { of: Listed; object: KubeObject }[] = [];
  for (const of of installed) {
    const labelled = await list(api, of, partOf);
    const named = of.names === undefined ? [] : await list(api, of);
    const ours = [...labelled, ...named.filter((object) => of.names?.includes(object.metadata.name))];
    const both = new Map(ours.map((object) => [nameOf(object), object]));
    all.push(...[...both.values()].map((object) => ({ of, object })));
  }
  return all;
}

async function list(api: ApiServer, of: Listed, labelSelector?: string): Promise<KubeObject[]> {
  const objects: KubeObject[] = [];
  let next: string | undefined;
  do {
    let page: { items?: KubeObject[]; metadata?: { continue?: string } };
    try {
      page = await api.request("GET", of.path, {
        query: { limit: 500, continue: next, labelSelector },
        timeout: 60_000,
      });
    } catch (error) {
      // A kind that the cluster does not know has no objects.
      if (error instanceof Fault && error.code === "not_found") return [];
      throw error;
    }
    objects.push(...(page.items ?? []));
    next = page.metadata?.continue === "" ? undefined : page.metadata?.continue;
  } while (next !== undefined);
  return objects;
}

async function remove({ api, say }: UninstallOptions, of: Listed, object: KubeObject): Promise<void> {
  try {
    const { uid } = object.metadata;
    const body = { kind: "DeleteOptions", apiVersion: "v1", propagationPolicy: "Background", preconditions: { uid } };
    await api.request("DELETE", pathOf(of, object), { body, timeout: 30_000 });
    say(`deleted ${of.kind} ${nameOf(object)}`);
  } catch (error) {
    if (!(error instanceof Fault && error.code === "not_found")) throw error;
  }
}

/** Waits for the controller to take away what it had made; what is still there after that goes by our hand. */
async function awaitChildren(options: UninstallOptions): Promise<void> {
  const left = () => list(options.api, children, labels.connectorUid);
  await waitUntil(options, async () => (await left()).length === 0);
  for (const service of await left()) await remove(options, children, service);
}

async function awaitGone(options: UninstallOptions, removed: readonly { of: Listed; object: KubeObject }[]) {
  const slow = removed.filter(({ of }) => slowKinds.includes(of.kind));
  let waitingFor = "";
  const gone = await waitUntil(options, async () => {
    for (const { of, object } of slow) {
      const left = (await list(options.api, of)).some((one) => one.metadata.uid === object.metadata.uid);
      waitingFor = `${of.kind} ${nameOf(object)}`;
      if (left) return false;
    }
    return true;
  });
  if (!gone) {
    const what = `${waitingFor} is not gone yet`;
    throw new Fault("deadline_exceeded", `${what}; look at its status for what holds it, and run this again`);
  }
}

async function waitUntil(options: UninstallOptions, check: () => Promise<boolean>): Promise<boolean> {
  const { clock, signal, patience = 60_000 } = options;
  const end = clock.monotonic() + patience;
  while (!(await check())) {
    if (signal.aborted) throw new Fault("deadline_exceeded", "Stopped before all was deleted; run this again");
    if (clock.monotonic() > end) return false;
    await sleep(clock, 500, signal);
  }
  return true;
}

function nameOf({ metadata }: KubeObject): string {
  return metadata.namespace === undefined ? metadata.name : `${metadata.namespace}/${metadata.name}`;
}

function pathOf(of: Listed, { metadata }: KubeObject): string {
  if (metadata.namespace === undefined) return `${of.path}/${metadata.name}`;
  const cut = of.path.lastIndexOf("/");
  return `${of.path.slice(0, cut)}/namespaces/${metadata.namespace}${of.path.slice(cut)}/${metadata.name}`;
}
