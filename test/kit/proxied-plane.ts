import {
  type Log,
  openApiServer,
  renderKubeconfig,
  resolvedSecretType,
  type Secret,
  silentLog,
  systemClock,
  tunnelUrl,
} from "@kube-connector/core";
import type { Timeouts } from "@kube-connector/proxy";
// oxlint-disable-next-line import/no-relative-packages -- the process is no part of the proxy's index
import { type RunningProcess, startProxyProcess } from "../../proxy/src/process.ts";
import { createTestCa } from "./certificates.ts";
import {
  type ControlPlane,
  createPod,
  ensureServiceAccount,
  requestToken,
  startControlPlane,
} from "./control-plane.ts";
import { openRaw, openSecure, type RawAnswer, type RawClient } from "./raw-client.ts";
import { type DescribedParts, resolvedParts } from "./resolved.ts";
import { type OnTargetConnection, startRawTarget } from "./servers.ts";

// A real API server, a proxy process that works with it by a ServiceAccount with a proxy's rights, a target that echoes,
// and clients that say what they like: for tests about who may come in.

const system = "kube-connector-proxy";

/** Both tokens of a pod, as its volume would have them. */
export interface PodTokens {
  tunnel: Secret;
  request: Secret;
}

/** A connection inside the forward door, or how CONNECT was refused. */
export type Entered = { client: RawClient } | { refused: RawAnswer };

export interface ProxiedPlaneOptions {
  /** What the target does; it echoes each head unless told. */
  onConnection?: OnTargetConnection;
  timeouts?: Partial<Timeouts>;
  /** A file for its audit log. */
  audit?: { file: string };
  log?: Log;
}

export interface ProxiedPlane {
  plane: ControlPlane;
  proxy: RunningProcess;
  /** Writes a resolved connector and waits until it is served; its target is the one that echoes unless told. */
  serve(parts: DescribedParts): Promise<void>;
  /** The private port's answer. */
  read(path: string): Promise<string>;
  /** Gives the proxy a new token of its own, as the kubelet does in time. */
  renewToken(): Promise<void>;
  /** A new pod with its two tokens. */
  pod(namespace: string, name: string): Promise<PodTokens>;
  /** The target that echoes, host:port. */
  authority: string;
  /** The CA of the connectors' leaves, PEM. */
  ca: string;
  /** A connection through the forward door. */
  open(tokens: PodTokens, connector?: string): Promise<Entered>;
  /** One request through the forward door on a connection of its own; a refused CONNECT is the answer too. */
  get(tokens: PodTokens, connector?: string): Promise<RawAnswer>;
  /** A connection through the reverse door, for requests one after the other. */
  direct(connector?: string): Promise<RawClient>;
  /** TokenReviews and SubjectAccessReviews that the API server has answered. */
  reviews(): Promise<{ tokens: number; accesses: number }>;
  /** The kubeconfig of a pod's volume. */
  kubeconfig(tokens: PodTokens, connector: { namespace: string; name: string; address: string }): Secret;
  /** Everything that reached the target. */
  reached(): string;
  stop(): Promise<void>;
}

export async function startProxiedPlane(options: ProxiedPlaneOptions = {}): Promise<ProxiedPlane> {
  const plane = await startControlPlane();
  const targetCa = await createTestCa("target");
  const connectorCa = await createTestCa("connectors");
  const target = await startRawTarget(await targetCa.leaf(["127.0.0.1"]), options.onConnection);
  await grantProxyRights(plane);
  const audience = "https://kubernetes.default.svc.cluster.local";
  const mint = () => requestToken(plane.admin, { namespace: system, serviceAccount: "proxy", audience });
  let own = await mint();
  const proxy = await startProxyProcess({
    config: {
      source: { namespace: system, select: { labelSelector: "served=true" } },
      forwardAddress: { host: "127.0.0.1", port: 0 },
      reverseAddress: { host: "127.0.0.1", port: 0 },
      privateAddress: { host: "127.0.0.1", port: 0 },
      issuer: undefined,
      kubeconfig: undefined,
      reviewsPerSecond: 500,
      connections: 20_000,
      connectionsPerAddress: 20_000,
      audit: options.audit ?? "off",
      drainDelay: 0,
      drainGrace: 0,
      http2: "own",
      logLevel: "info",
    },
    api: openApiServer({ url: plane.url, ca: plane.ca, token: () => Promise.resolve(own) }),
    clock: systemClock,
    log: options.log ?? silentLog,
    allowLoopbackTargets: true,
    timeouts: options.timeouts ?? {},
  });
  const address = `https://127.0.0.1:${target.port}`;
  const ca = connectorCa.certificate;
  const clients = new Set<RawClient>();
  const keep = <C extends RawClient>(client: C): C => {
    clients.add(client);
    client.socket.once("close", () => clients.delete(client));
    return client;
  };
  const read = async (path: string) => (await fetch(`http://127.0.0.1:${proxy.privatePort}${path}`)).text();
  const authority = `127.0.0.1:${target.port}`;
  async function enter(tokens: PodTokens, connector = "team-a/prod"): Promise<Entered> {
    const tunnel = keep(await openRaw(proxy.forwardPort));
    const basic = Buffer.from(`${connector}:${tokens.tunnel.reveal()}`).toString("base64");
    tunnel.send(`CONNECT ${authority} HTTP/1.1\r\nHost: ${authority}\r\nProxy-Authorization: Basic ${basic}\r\n\r\n`);
    const head = await tunnel.until("\r\n\r\n");
    if (!head.startsWith("HTTP/1.1 200 ")) {
      tunnel.socket.destroy();
      return { refused: { status: Number(head.slice(9, 12)), head, body: "" } };
    }
    tunnel.socket.removeAllListeners("data");
    return { client: keep(await openSecure({ socket: tunnel.socket }, { ca })) };
  }
  return {
    plane,
    proxy,
    authority,
    ca,
    read,
    async renewToken() {
      own = await mint();
    },
    async serve(parts) {
      const entries = await resolvedParts({
        address,
        tls: { caBundle: targetCa.certificate },
        ca: connectorCa,
        ...parts,
      });
      const data = Object.entries(entries).map(([key, one]) => [key, Buffer.from(one.reveal()).toString("base64")]);
      const name = `${parts.namespace ?? "team-a"}-${parts.name}`;
      await plane.admin.request("PATCH", `/api/v1/namespaces/${system}/secrets/${name}`, {
        body: {
          apiVersion: "v1",
          kind: "Secret",
          metadata: { name, labels: { served: "true" } },
          type: resolvedSecretType,
          data: Object.fromEntries(data) as Record<string, string>,
        },
        contentType: "application/apply-patch+yaml",
        query: { fieldManager: "test", force: true },
      });
      await until(async () => (await read("/readyz")) === "ok\n");
      const served = `connector="${parts.namespace ?? "team-a"}/${parts.name}"`;
      await until(async () => (await read("/metrics")).includes(served));
    },
    async pod(namespace, name) {
      const pod = { name, uid: await createPod(plane.admin, namespace, name) };
      const [tunnel, request] = await Promise.all(
        ["kube-connector-tunnel", "kube-connector"].map((audience) =>
          requestToken(plane.admin, { namespace, audience, pod }),
        ),
      );
      if (tunnel === undefined || request === undefined) throw new Error("no token");
      return { tunnel, request };
    },
    open: enter,
    async get(tokens, connector) {
      const entered = await enter(tokens, connector);
      if ("refused" in entered) return entered.refused;
      const answer = await entered.client.ask(requestText(authority, tokens.request));
      entered.client.socket.destroy();
      return answer;
    },
    async direct(connector = "team-a/prod") {
      const [namespace, name] = connector.split("/");
      const servername = `c-${name}.${namespace}.svc.cluster.local`;
      return keep(await openSecure({ port: proxy.reversePort }, { ca, servername }));
    },
    async reviews() {
      const events = await plane.audited();
      const count = (resource: string) =>
        events.filter(({ verb, requestURI }) => verb === "create" && requestURI.endsWith(resource)).length;
      return { tokens: count("/tokenreviews"), accesses: count("/subjectaccessreviews") };
    },
    kubeconfig: (tokens, connector) =>
      renderKubeconfig({
        server: connector.address,
        proxyUrl: tunnelUrl(`http://127.0.0.1:${proxy.forwardPort}`, connector, tokens.tunnel),
        ca,
        token: tokens.request,
      }),
    reached: () => target.everything(),
    async stop() {
      for (const client of clients) client.socket.destroy();
      await proxy.stop();
      await target[Symbol.asyncDispose]();
      await plane.stop();
    },
  };
}

async function until(holds: () => Promise<boolean>): Promise<void> {
  const end = performance.now() + 10_000;
  while (!(await holds())) {
    if (performance.now() > end) throw new Error("the proxy is not ready after 10 s");
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

/** A GET with that request token. */
export function requestText(host: string, token: Secret): string {
  return `GET /api/v1/pods HTTP/1.1\r\nHost: ${host}\r\nAuthorization: Bearer ${token.reveal()}\r\n\r\n`;
}

/** The rights of the proxies' ServiceAccounts, as in deploy/install.yaml. */
async function grantProxyRights(plane: ControlPlane): Promise<void> {
  await ensureServiceAccount(plane.admin, system, "proxy");
  const rbac = "/apis/rbac.authorization.k8s.io/v1";
  const subjects = [{ kind: "ServiceAccount", name: "proxy", namespace: system }];
  const roleRef = (kind: string) => ({ apiGroup: "rbac.authorization.k8s.io", kind, name: "proxy" });
  const metadata = { name: "proxy" };
  await plane.admin.request("POST", `${rbac}/clusterroles`, {
    body: {
      metadata,
      rules: [
        { apiGroups: ["authentication.k8s.io"], resources: ["tokenreviews"], verbs: ["create"] },
        { apiGroups: ["authorization.k8s.io"], resources: ["subjectaccessreviews"], verbs: ["create"] },
      ],
    },
  });
  await plane.admin.request("POST", `${rbac}/clusterrolebindings`, {
    body: { metadata, subjects, roleRef: roleRef("ClusterRole") },
  });
  await plane.admin.request("POST", `${rbac}/namespaces/${system}/roles`, {
    body: { metadata, rules: [{ apiGroups: [""], resources: ["secrets"], verbs: ["get", "list", "watch"] }] },
  });
  await plane.admin.request("POST", `${rbac}/namespaces/${system}/rolebindings`, {
    body: { metadata, subjects, roleRef: roleRef("Role") },
  });
}
