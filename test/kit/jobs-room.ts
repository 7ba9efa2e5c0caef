import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Clock, type Log, Secret, silentLog, systemClock } from "@kube-connector/core";
import {
  type ConnectorConfig,
  type Jobs,
  type JobsCounts,
  openStore,
  type Profile,
  startJobs,
  type Store,
  type LogFiles,
} from "@kube-connector/jobs";
// oxlint-disable-next-line import/no-relative-packages -- standalone is no part of the command's index
import { type Standalone, startStandalone } from "../../packages/cli/src/standalone.ts";
import { parseAllDocuments } from "yaml";
import { type ApiRelay, startApiRelay } from "./api-relay.ts";
import { connectorYaml, secretYaml } from "./connector-files.ts";
import { type ControlPlane, ensureServiceAccount, requestToken, startControlPlane } from "./control-plane.ts";
import { type StandInKubelet, startStandInKubelet } from "./stand-in-kubelet.ts";

// A real control plane with its controllers, a stand-in for the kubelet, a real Connector served by standalone, and the jobs
// module in front of it. What the module may do in the cluster is a role, not everything.

export const connector = "team-a/prod";
export const namespace = "batch";

export interface JobsRoom {
  plane: ControlPlane;
  kubelet: StandInKubelet;
  config: ConnectorConfig;
  /** Connectors beside the first one, each to the same cluster through a relay of its own. */
  relayed: { config: ConnectorConfig; relay: ApiRelay }[];
  /** The Connector and its Secret as files, for standalone. */
  directory: string;
  /** A new folder for history and logs. */
  folder(): Promise<string>;
  /** The module with a history in that folder; a second one on the same folder goes on with its runs. */
  start(folder: string, options?: StartOptions): Promise<Started>;
  /** Writes that token for all Connectors, or a new one of the jobs' own ServiceAccount. */
  setToken(token?: Secret): Promise<void>;
  stop(): Promise<void>;
}

export interface StartOptions {
  profiles?: Record<string, Profile>;
  clock?: Clock;
  log?: Log;
  /** Another Connector than the first. */
  config?: ConnectorConfig;
  /** 30 unless told. */
  leaseSeconds?: number;
  counts?: JobsCounts;
  /** What stands between the module and its history, and between its logs and the disk. */
  wrap?: (store: Store) => Store;
  files?: LogFiles;
  /** Another history than SQLite in the folder. */
  history?: Secret;
}

export interface Started {
  jobs: Jobs;
  store: Store;
  stop(): Promise<void>;
}

/** `controllers`: flags of the controller manager besides its own. */
export async function startJobsRoom(
  options: { controllers?: readonly string[]; relays?: number } = {},
): Promise<JobsRoom> {
  const folders: string[] = [];
  const newFolder = async () => {
    const folder = await mkdtemp(join(tmpdir(), "jobs-test-"));
    folders.push(folder);
    return folder;
  };
  const plane = await startControlPlane({ controllers: options.controllers ?? true });
  const kubelet = await startStandInKubelet(plane.admin);
  await ensureServiceAccount(plane.admin, namespace, "default");
  await ensureServiceAccount(plane.admin, namespace, "jobs");
  await grantJobsRights(plane);
  const audience = "https://kubernetes.default.svc.cluster.local";
  const mint = () => requestToken(plane.admin, { namespace, serviceAccount: "jobs", audience });
  const directory = await newFolder();
  const relays = await Promise.all(Array.from({ length: options.relays ?? 0 }, () => startApiRelay(plane)));
  const targets = [plane, ...relays].map((target, at) => ({ target, name: at === 0 ? "prod" : `prod-${at}` }));
  const setToken = async (given?: Secret) => {
    const token = given ?? (await mint());
    const secrets = targets.map(({ name }) => secretYaml(name, token, { namespace: "team-a" }));
    await writeFile(join(directory, "secret.yaml"), secrets.join("---\n"));
  };
  // The module is one caller with a thousand streams.
  const limits = "  limits: {requestsPerSecond: 5000, burst: 10000, streams: 4000}\n";
  const connectors = targets.map(({ target, name }) => connectorYaml(name, target, { namespace: "team-a" }) + limits);
  await writeFile(join(directory, "connector.yaml"), connectors.join("---\n"));
  await setToken();
  const standalone = await serveConnectors(directory, await newFolder());
  const configOf = (name: string): ConnectorConfig => ({
    name: `team-a/${name}`,
    kubeconfig: standalone.kubeconfigs.find(({ connector: of }) => of === `team-a/${name}`)?.kubeconfig ?? "",
    defaultNamespace: namespace,
  });
  const first = configOf("prod");
  return {
    plane,
    kubelet,
    config: first,
    relayed: relays.map((relay, at) => ({ relay, config: configOf(`prod-${at + 1}`) })),
    setToken,
    directory,
    folder: newFolder,
    start: (folder, asked) => startModule(first, folder, asked),
    async stop() {
      await standalone.stop();
      for (const relay of relays) await relay.stop();
      await kubelet.stop();
      await plane.stop();
      for (const folder of folders) await rm(folder, { recursive: true, force: true });
    },
  };
}

/** Serves the Connector files of that directory, in this process; `temporary` is for its kubeconfigs. */
export function serveConnectors(directory: string, temporary: string): Promise<Standalone> {
  return startStandalone({
    directory,
    forwardPort: 0,
    reversePort: 0,
    kubeconfigs: { output: undefined, temporary, process: { id: process.pid, isAlive: () => true } },
    audit: undefined,
    clock: systemClock,
    log: silentLog,
    say: () => undefined,
  });
}

/** The module on a folder, with that connector unless `asked` names another. */
export async function startModule(
  connectorConfig: ConnectorConfig,
  folder: string,
  asked: StartOptions = {},
): Promise<Started> {
  const { profiles = {}, clock = systemClock, log = silentLog, config = connectorConfig, leaseSeconds = 30 } = asked;
  const store = await openStore(asked.history ?? new Secret(join(folder, "jobs.db")), { log });
  const jobs = await startJobs({
    connectors: [config],
    profiles,
    store: asked.wrap?.(store) ?? store,
    logs: join(folder, "logs"),
    clock,
    log,
    leaseSeconds,
    ...(asked.counts === undefined ? {} : { counts: asked.counts }),
    ...(asked.files === undefined ? {} : { files: asked.files }),
  });
  return {
    jobs,
    store,
    async stop() {
      await jobs.stop();
      await store.stop();
    },
  };
}

/** The rights of deploy/examples/jobs-target.yaml, for this account. */
async function grantJobsRights({ admin }: ControlPlane): Promise<void> {
  const file = new URL("../../deploy/examples/jobs-target.yaml", import.meta.url);
  const objects = parseAllDocuments(await readFile(file, "utf8")).map(
    (document) => document.toJS() as { kind: string; metadata: { name: string; namespace?: string } },
  );
  for (const [kind, resource] of [
    ["Role", "roles"],
    ["RoleBinding", "rolebindings"],
  ] as const) {
    const object = objects.find((one) => one.kind === kind && one.metadata.namespace === namespace);
    const subjects = [{ kind: "ServiceAccount", name: "jobs", namespace }];
    await admin.request("POST", `/apis/rbac.authorization.k8s.io/v1/namespaces/${namespace}/${resource}`, {
      body: kind === "Role" ? object : { ...object, subjects },
    });
  }
}
