import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type ApiServer, openApiServer, readKubeconfig, Secret } from "@kube-connector/core";
import type { ConnectorConfig, Jobs, RunRecord } from "@kube-connector/jobs";
import { connectorYaml, secretYaml } from "../kit/connector-files.ts";
import { serveConnectors, type Started, startModule, type StartOptions } from "../kit/jobs-room.ts";
import { target } from "./cluster.ts";
import { apply, eventually, getJson, kubectl, kubectlOk } from "./kubectl.ts";

// The jobs module before the target cluster, whose kubelet is real, by a Connector that standalone serves. Between module
// and standalone is a relay, whose connections a test can cut.

export const connector = "team-a/prod";
/** sh and busybox's programs; on the node already. */
export const image = "localhost/tools:1";

export interface JobsCluster {
  /** The target's API as admin. */
  admin: ApiServer;
  config: ConnectorConfig;
  /** A new folder for history and logs. */
  folder(): Promise<string>;
  /** The module with a history in that folder; a second one on the same folder goes on with its runs. */
  start(folder: string, options?: StartOptions): Promise<Started>;
  /** kubectl as the target's admin; its standard output. */
  kubectl(...args: string[]): Promise<string>;
  apply(...objects: object[]): Promise<void>;
  /** Tries that command of kubectl without effect until it is refused so: the API server takes a moment to go by a new rule. */
  untilRefused(words: string, ...args: string[]): Promise<void>;
  /** The name of a run's pod; waits until there is one. */
  pod(namespace: string, run: string): Promise<string>;
  /** Ends every connection between module and proxy now. */
  cut(): void;
  /** Gives the Connector a new token, and ends the old one. */
  rotate(): Promise<void>;
  /** Takes those verbs from the rights of the module in the target; none: gives them back. */
  withhold(...verbs: string[]): Promise<void>;
  stop(): Promise<void>;
}

/** With these namespaces in the target. */
export async function startJobsCluster(...namespaces: string[]): Promise<JobsCluster> {
  const at = target("global");
  const kubeconfig = at.kubeconfig;
  const folders: string[] = [];
  const newFolder = async () => {
    const folder = await mkdtemp(join(tmpdir(), "jobs-e2e-"));
    folders.push(folder);
    return folder;
  };
  const admin = openApiServer(await readKubeconfig(kubeconfig));
  await apply(
    [...rights(), ...namespaces.map((name) => ({ apiVersion: "v1", kind: "Namespace", metadata: { name } }))],
    {
      kubeconfig,
    },
  );
  const directory = await newFolder();
  let generation = 0;
  const giveToken = async () => {
    generation += 1;
    const token = await createToken(`jobs-${generation}`, kubeconfig);
    await writeFile(join(directory, "secret.yaml"), secretYaml("prod", token, { namespace: "team-a" }));
  };
  await giveToken();
  const limits = "  limits: {requestsPerSecond: 2000, burst: 4000, streams: 1000}\n";
  const file = connectorYaml("prod", { url: at.address, ca: at.ca }, { namespace: "team-a" }) + limits;
  await writeFile(join(directory, "connector.yaml"), file);
  const standalone = await serveConnectors(directory, await newFolder());
  const relay = await startRelay(standalone.forwardPort);
  const own = join(await newFolder(), "kubeconfig");
  const text = await readFile(standalone.kubeconfigs[0]?.kubeconfig ?? "", "utf8");
  await writeFile(own, text.replaceAll(`:${standalone.forwardPort}`, `:${relay.port}`));
  const config: ConnectorConfig = { name: connector, kubeconfig: own, defaultNamespace: namespaces[0] };
  return {
    admin,
    config,
    folder: newFolder,
    start: (folder, options) => startModule(config, folder, { leaseSeconds: 2, ...options }),
    kubectl: (...args) => kubectlOk(args, { kubeconfig }),
    apply: (...objects) => apply(objects, { kubeconfig }),
    untilRefused: (words, ...args) =>
      eventually(async () => {
        const { stderr } = await kubectl([...args, "--dry-run=server"], { kubeconfig });
        if (!stderr.includes(words)) throw new Error(`kubectl ${args.join(" ")} is not refused: ${stderr}`);
      }),
    pod: (namespace, run) =>
      eventually(async () => {
        const label = `connectors.cpaas.io/run-id=${run}`;
        const args = ["-n", namespace, "get", "pods", "-l", label, "-o", "name"];
        const [name = ""] = (await kubectlOk(args, { kubeconfig })).split("\n");
        if (name === "") throw new Error(`run ${run} has no pod yet`);
        return name.replace("pod/", "");
      }),
    cut: relay.cut,
    async rotate() {
      const old = `jobs-${generation}`;
      await giveToken();
      await kubectlOk(["-n", "jobs-access", "delete", "secret", old], { kubeconfig });
    },
    withhold: (...verbs) => apply(rights(verbs), { kubeconfig }),
    async stop() {
      await relay.stop();
      await standalone.stop();
      await admin.stop();
      for (const name of namespaces) {
        await kubectlOk(["delete", "namespace", name, "--wait=false"], { kubeconfig });
      }
      for (const folder of folders) await rm(folder, { recursive: true, force: true });
    },
  };
}

const account = { kind: "ServiceAccount", name: "jobs", namespace: "jobs-access" };

/** The rights that packages/jobs/README.md asks for, with the optional ones and without those verbs, in all namespaces. */
function rights(without: readonly string[] = []): object[] {
  const rule = (group: string, resources: string[], verbs: string[]) => ({
    apiGroups: [group],
    resources,
    verbs: verbs.filter((verb) => !without.includes(verb)),
  });
  return [
    { apiVersion: "v1", kind: "Namespace", metadata: { name: account.namespace } },
    { apiVersion: "v1", kind: "ServiceAccount", metadata: { name: account.name, namespace: account.namespace } },
    {
      apiVersion: "rbac.authorization.k8s.io/v1",
      kind: "ClusterRole",
      metadata: { name: "jobs-access" },
      rules: [
        rule("batch", ["jobs"], ["create", "get", "list", "watch", "patch", "delete"]),
        rule("batch", ["cronjobs"], ["get", "list"]),
        rule("", ["pods"], ["get", "list", "watch", "delete"]),
        rule("", ["pods/log"], ["get"]),
        rule("", ["events"], ["list"]),
        rule("", ["secrets"], ["create", "list", "patch", "delete"]),
        rule("kueue.x-k8s.io", ["workloads"], ["get", "list"]),
      ],
    },
    {
      apiVersion: "rbac.authorization.k8s.io/v1",
      kind: "ClusterRoleBinding",
      metadata: { name: "jobs-access" },
      roleRef: { apiGroup: "rbac.authorization.k8s.io", kind: "ClusterRole", name: "jobs-access" },
      subjects: [account],
    },
  ];
}

/** A token that lives as long as its Secret in the target. */
async function createToken(secret: string, kubeconfig: string): Promise<Secret> {
  await apply(
    [
      {
        apiVersion: "v1",
        kind: "Secret",
        type: "kubernetes.io/service-account-token",
        metadata: {
          name: secret,
          namespace: "jobs-access",
          annotations: { "kubernetes.io/service-account.name": "jobs" },
        },
      },
    ],
    { kubeconfig },
  );
  return eventually(async () => {
    const { data } = await getJson<{ data?: { token?: string } }>(["-n", "jobs-access", "secret", secret], {
      kubeconfig,
    });
    if (!data?.token) throw new Error(`${secret} has no token yet`);
    return new Secret(Buffer.from(data.token, "base64").toString());
  });
}

/** Passes connections on to a port of loopback. */
async function startRelay(to: number): Promise<{ port: number; cut: () => void; stop: () => Promise<void> }> {
  const sockets = new Set<Socket>();
  const server = createServer({ noDelay: true }, (from) => {
    const onward = connect({ port: to, host: "127.0.0.1", noDelay: true });
    for (const [socket, other] of [
      [from, onward],
      [onward, from],
    ] as const) {
      sockets.add(socket);
      socket.on("error", () => undefined);
      socket.once("close", () => {
        sockets.delete(socket);
        other.destroy();
      });
      socket.pipe(other);
    }
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const cut = () => {
    for (const socket of sockets) socket.resetAndDestroy();
  };
  return {
    port: (server.address() as AddressInfo).port,
    cut,
    async stop() {
      cut();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

/** A definition whose container runs that script. */
export const script = (text: string, more: object = {}) => ({
  connector,
  image,
  command: ["sh", "-c", text],
  patch: { spec: { template: { spec: { terminationGracePeriodSeconds: 1 } } } },
  ...more,
});

/** Ends well when it is told to, and not before. */
export const stay = "trap 'exit 0' TERM; echo begun; sleep 600 & wait";

/** The run once that is so of it. */
export async function untilRun(
  jobs: Jobs,
  id: string,
  isSo: (run: RunRecord) => boolean,
  seconds = 90,
): Promise<RunRecord> {
  for (const end = performance.now() + seconds * 1000; ; ) {
    const run = await jobs.get(id);
    if (isSo(run)) return run;
    if (performance.now() > end) {
      const { state, reason, message, diagnosis, progress } = run;
      throw new Error(`never so: ${JSON.stringify({ id, state, reason, message, diagnosis, progress })}`);
    }
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}
