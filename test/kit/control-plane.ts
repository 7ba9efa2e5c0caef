import { execFile, spawn } from "node:child_process";
import { readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { type ApiServer, openApiServer, readKubeconfig, readLines, Secret } from "@kube-connector/core";

// A real kube-apiserver and etcd on loopback, from test/cluster/control-plane.sh: no root, about four seconds. It signs
// service account tokens and answers reviews like any cluster; there are no pods that run, because there is no kubelet.

const folder = fileURLToPath(new URL("../cluster", import.meta.url));

export interface ControlPlane {
  /** https://127.0.0.1:port */
  url: string;
  /** PEM. */
  ca: string;
  /** A kubeconfig file of the cluster's admin. */
  kubeconfig: string;
  /** The API as admin. */
  admin: ApiServer;
  /** The PKCS#1 or PKCS#8 PEM key that the cluster signs service account tokens with. */
  tokenKey: string;
  /** The folder with kubectl and the other programs. */
  bin: string;
  /** The folder of this control plane; gone after stop. */
  folder: string;
  /** The API as somebody else. */
  as(token: Secret): ApiServer;
  /** stop, start, restart, kill, pause or resume `apiserver`, `etcd` or `controllers`. */
  control(verb: "stop" | "start" | "restart" | "kill" | "pause" | "resume", component: string): Promise<void>;
  /** The requests that the API server has answered so far, from its audit log. */
  audited(): Promise<AuditEvent[]>;
  stop(): Promise<void>;
}

/** The part of an audit.k8s.io/v1 Event that tests look at. */
export interface AuditEvent {
  auditID: string;
  verb: string;
  /** Absent for what is no resource. */
  objectRef?: Record<string, string>;
  requestURI: string;
  user: { username: string };
  responseStatus?: { code: number };
  requestReceivedTimestamp: string;
}

/**
 * Starts one; ends with the test process too, even when that is killed. `controllers` adds the controller manager, with
 * these flags besides its own.
 */
export async function startControlPlane(
  options: { controllers?: boolean | readonly string[] } = {},
): Promise<ControlPlane> {
  const { controllers = false } = options;
  const flags = Array.isArray(controllers) ? controllers.join(" ") : "";
  const child = spawn(`${folder}/control-plane.sh`, controllers === false ? [] : ["--controllers"], {
    stdio: ["pipe", "pipe", "pipe"],
    env: { ...process.env, CLUSTER_CONTROLLERS_FLAGS: flags },
  });
  const ended = new Promise<void>((resolve) => child.once("close", () => resolve()));
  const said: Buffer[] = [];
  child.stderr.on("data", (chunk: Buffer) => said.push(chunk));
  child.stdin.on("error", () => undefined);
  const failed = new Promise<never>((_, reject) => {
    const why = (more: string) => new Error(`control-plane.sh ${more}: ${Buffer.concat(said).toString()}`);
    child.once("error", reject);
    child.once("close", (code) => reject(why(`ended with status ${code}`)));
  });
  failed.catch(() => undefined);
  const first = async () => {
    for await (const line of readLines(child.stdout)) return line;
    return await failed;
  };
  const parts = JSON.parse(await Promise.race([first(), failed])) as Record<string, string>;
  const part = (name: string) => parts[name] ?? "";
  const ca = await readFile(part("HOST_CA"), "utf8");
  const admin = openApiServer(await readKubeconfig(part("KUBECONFIG")));
  const opened = [admin];
  return {
    url: part("HOST_ADDRESS"),
    ca,
    kubeconfig: part("KUBECONFIG"),
    admin,
    tokenKey: await readFile(part("CLUSTER_SA_KEY"), "utf8"),
    bin: part("CLUSTER_BIN"),
    folder: part("CLUSTER"),
    as(token) {
      const api = openApiServer({ url: part("HOST_ADDRESS"), ca, token: () => Promise.resolve(token) });
      opened.push(api);
      return api;
    },
    async control(verb, component) {
      const env = { ...process.env, CLUSTER: part("CLUSTER"), CLUSTER_BIN: part("CLUSTER_BIN") };
      await promisify(execFile)(`${folder}/cluster-ctl`, [verb, component], { env });
    },
    async audited() {
      const lines = (await readFile(part("CLUSTER_AUDIT_LOG"), "utf8")).split("\n");
      return lines.slice(0, -1).map((line) => JSON.parse(line) as AuditEvent);
    },
    async stop() {
      await Promise.all(opened.map((api) => api.stop()));
      child.stdin.end();
      await ended;
    },
  };
}

/** Makes a namespace; fine when it is there. */
export async function ensureNamespace(api: ApiServer, name: string): Promise<void> {
  await unlessThere(api.request("POST", "/api/v1/namespaces", { body: { metadata: { name } } }));
}

/** Makes a ServiceAccount and its namespace; fine when they are there. Without --controllers there is no `default` one. */
export async function ensureServiceAccount(api: ApiServer, namespace: string, name: string): Promise<void> {
  await ensureNamespace(api, namespace);
  const path = `/api/v1/namespaces/${namespace}/serviceaccounts`;
  await unlessThere(api.request("POST", path, { body: { metadata: { name } } }));
}

/** Makes a pod that nobody runs, for tokens to be bound to. Answers with its uid. */
export async function createPod(
  api: ApiServer,
  namespace: string,
  name: string,
  serviceAccount = "default",
): Promise<string> {
  await ensureServiceAccount(api, namespace, serviceAccount);
  const pod = await api.request<{ metadata: { uid: string } }>("POST", `/api/v1/namespaces/${namespace}/pods`, {
    body: {
      metadata: { name },
      spec: { serviceAccountName: serviceAccount, containers: [{ name: "main", image: "none" }] },
    },
  });
  return pod.metadata.uid;
}

/** What the kubelet would ask for: a token of that audience, bound to that pod when one is named. */
export async function requestToken(
  api: ApiServer,
  of: { namespace: string; serviceAccount?: string; audience: string; pod?: { name: string; uid: string } },
): Promise<Secret> {
  const path = `/api/v1/namespaces/${of.namespace}/serviceaccounts/${of.serviceAccount ?? "default"}/token`;
  const bound = of.pod && { boundObjectRef: { kind: "Pod", apiVersion: "v1", name: of.pod.name, uid: of.pod.uid } };
  const answer = await api.request<{ status: { token: string } }>("POST", path, {
    body: { spec: { audiences: [of.audience], expirationSeconds: 3600, ...bound } },
  });
  return new Secret(answer.status.token);
}

/** A token of that ServiceAccount, which may do everything: what a Connector to this cluster would have stored. */
export async function requestAdminToken(api: ApiServer, namespace = "target-system", name = "admin"): Promise<Secret> {
  await ensureServiceAccount(api, namespace, name);
  await api.request("POST", "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", {
    body: {
      metadata: { name: `${namespace}-${name}` },
      roleRef: { apiGroup: "rbac.authorization.k8s.io", kind: "ClusterRole", name: "cluster-admin" },
      subjects: [{ kind: "ServiceAccount", name, namespace }],
    },
  });
  const audience = "https://kubernetes.default.svc.cluster.local";
  return await requestToken(api, { namespace, serviceAccount: name, audience });
}

async function unlessThere(creating: Promise<unknown>): Promise<void> {
  await creating.catch((error: unknown) => {
    if (!(error instanceof Error && "code" in error && error.code === "conflict")) throw error;
  });
}
