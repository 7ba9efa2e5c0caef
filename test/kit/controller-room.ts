import { readFile } from "node:fs/promises";
import { createServer, type Server } from "node:https";
import type { AddressInfo } from "node:net";
import type { Controller } from "@kube-connector/controller";
import { loadController, readConfig } from "@kube-connector/controller";
import {
  type ApiServer,
  apiVersion,
  type Clock,
  type Connector,
  createJsonLog,
  customResourceDefinitions,
  Fault,
  type KubeObject,
  openApiServer,
  Secret,
  systemClock,
} from "@kube-connector/core";
import { parseAllDocuments } from "yaml";
import { createTestCa, type TestCa } from "./certificates.ts";
import { type ControlPlane, ensureNamespace, ensureServiceAccount, startControlPlane } from "./control-plane.ts";

// The controller against a real API server. Targets are real TLS servers on loopback. There is no kubelet and no
// deployment controller: `keepDeploymentsAvailable` sets the status of Deployments as they would.

export interface ControllerRoom {
  plane: ControlPlane;
  api: ApiServer;
  /** All log lines of all replicas, at debug level. */
  lines: string[];
  /** Starts a replica; undone by `stop`. */
  start(options?: StartOptions): Promise<Controller>;
  /** Whether Deployments become available by themselves; true unless set. */
  deploymentsWork: boolean;
  stop(): Promise<void>;
}

export interface StartOptions {
  flags?: string[];
  clock?: Clock;
  lease?: { duration: number; renewDeadline: number; retry: number };
  /** Another API than that of the ServiceAccount with the rights of deploy/install.yaml. */
  api?: ApiServer;
}

export async function startControllerRoom(): Promise<ControllerRoom> {
  const plane = await startControlPlane();
  const api = plane.admin;
  for (const definition of customResourceDefinitions()) {
    await api.request("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", { body: definition });
  }
  for (const name of ["kube-connector", "kube-connector-proxy", "kube-connector-shared", "team-a", "team-b"]) {
    await ensureNamespace(api, name);
  }
  await eventually("the CRDs are served", async () => {
    await api.request("GET", `/apis/${apiVersion}/connectors`);
    await api.request("GET", `/apis/${apiVersion}/connectorclasses`);
  });
  await grantInstalledRights(api);
  const tokenPath = "/api/v1/namespaces/kube-connector/serviceaccounts/controller/token";
  const issued = await api.request<{ status: { token: string } }>("POST", tokenPath, { body: { spec: {} } });
  const token = new Secret(issued.status.token);
  const running: Controller[] = [];
  const lines: string[] = [];
  const { startController } = await loadController();
  const opened: ApiServer[] = [];
  const room: ControllerRoom = {
    plane,
    api,
    lines,
    deploymentsWork: true,
    async start(options = {}) {
      const own = options.api ?? openApiServer({ url: plane.url, ca: plane.ca, token: () => Promise.resolve(token) });
      if (options.api === undefined) opened.push(own);
      const flags = ["--proxy-image=proxy:test", "--private-address=127.0.0.1:0", ...(options.flags ?? [])];
      const controller = await startController({
        config: readConfig(flags, {}),
        api: own,
        clock: options.clock ?? systemClock,
        log: createJsonLog("debug", { room: "controller" }, { write: (line) => lines.push(line) }),
        allowLoopback: true,
        ...(options.lease === undefined ? {} : { lease: options.lease }),
      });
      controller.done.catch(() => undefined);
      running.push(controller);
      return controller;
    },
    async stop() {
      clearInterval(timer);
      await Promise.all(running.map((one) => one.stop().catch(() => undefined)));
      await Promise.all(opened.map((one) => one.stop()));
      await plane.stop();
    },
  };
  const timer = setInterval(() => {
    if (room.deploymentsWork) keepDeploymentsAvailable(api).catch(() => undefined);
  }, 200);
  return room;
}

/** The ServiceAccount and the rights that install.yaml gives the controller, and nothing else. */
async function grantInstalledRights(api: ApiServer): Promise<void> {
  await ensureServiceAccount(api, "kube-connector", "controller");
  const text = await readFile(new URL("../../deploy/install.yaml", import.meta.url), "utf8");
  const documents = parseAllDocuments(text).map((document) => document.toJS() as KubeObject | null);
  const plurals: Record<string, string> = {
    ClusterRole: "clusterroles",
    ClusterRoleBinding: "clusterrolebindings",
    Role: "roles",
    RoleBinding: "rolebindings",
  };
  for (const object of documents) {
    const plural = plurals[String(object?.kind)];
    if (object === null || plural === undefined) continue;
    const { namespace } = object.metadata;
    const folder = namespace === undefined ? "" : `/namespaces/${namespace}`;
    const path = `/apis/rbac.authorization.k8s.io/v1${folder}/${plural}`;
    await api.request("POST", path, { body: object }).catch((error: unknown) => {
      // Roles of other rooms, in namespaces that this test does not make.
      if (!(error instanceof Fault && error.answer?.status === 404)) throw error;
    });
  }
}

/** What a kubelet and the deployment controller would do, once for all Deployments. */
export async function keepDeploymentsAvailable(api: ApiServer): Promise<void> {
  for (const namespace of ["kube-connector-proxy", "kube-connector-shared"]) {
    const path = `/apis/apps/v1/namespaces/${namespace}/deployments`;
    const { items } = await api.request<{ items: KubeObject[] }>("GET", path);
    for (const one of items) {
      const { replicas } = one.spec as { replicas: number };
      if ((one.status as { availableReplicas?: number } | undefined)?.availableReplicas === replicas) continue;
      await setAvailable(api, namespace, one.metadata.name, replicas);
    }
  }
}

export async function setAvailable(
  api: ApiServer,
  namespace: string,
  name: string,
  available: number,
  conditions: unknown[] = [],
): Promise<void> {
  await api.request("PATCH", `/apis/apps/v1/namespaces/${namespace}/deployments/${name}/status`, {
    contentType: "application/merge-patch+json",
    body: {
      status: {
        replicas: available,
        readyReplicas: available,
        availableReplicas: available,
        updatedReplicas: available,
        conditions,
      },
    },
  });
}

export interface ProbedTarget {
  ca: TestCa;
  port: number;
  /** https://127.0.0.1:port */
  address: string;
  /** The tokens that it knows. */
  tokens: Set<string>;
  /** Answers that differ from the usual ones, by path. */
  answers: Map<string, { status: number; headers?: Record<string, string>; body?: string }>;
  /** The path and the Authorization header of each request. */
  requests: { path: string; authorization: string | undefined }[];
  connections: number;
  stop(): Promise<void>;
}

/** A target that answers /livez, /api and /version under a prefix as an API server does. */
export async function startProbedTarget(
  options: { prefix?: string; ca?: TestCa; hosts?: string[]; port?: number; notAfter?: number } = {},
): Promise<ProbedTarget> {
  const ca = options.ca ?? (await createTestCa("target CA"));
  const leaf = await ca.leaf(
    options.hosts ?? ["127.0.0.1", "localhost"],
    options.notAfter === undefined ? {} : { notAfter: options.notAfter, notBefore: options.notAfter - 86_400_000 },
  );
  const prefix = options.prefix ?? "";
  const server: Server = createServer({ cert: leaf.certificate, key: leaf.key }, (request, response) => {
    const path = request.url ?? "";
    const { authorization } = request.headers;
    target.requests.push({ path, authorization });
    const special = target.answers.get(path);
    const known = target.tokens.has((authorization ?? "").replace("Bearer ", ""));
    const usual: Record<string, { status: number; body: string }> = {
      [`${prefix}/livez`]: { status: 200, body: "ok" },
      [`${prefix}/api`]: { status: known ? 200 : 401, body: "{}" },
      [`${prefix}/version`]: { status: 200, body: '{"gitVersion":"v1.35.4"}' },
    };
    const answer: { status: number; headers?: Record<string, string>; body?: string } = special ??
      usual[path] ?? { status: 404, body: "" };
    response.writeHead(answer.status, answer.headers).end(answer.body);
  });
  server.on("connection", (socket) => {
    target.connections += 1;
    socket.on("error", () => undefined);
  });
  server.on("tlsClientError", () => undefined);
  await new Promise<void>((resolve) => server.listen(options.port ?? 0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  const target: ProbedTarget = {
    ca,
    port,
    address: `https://127.0.0.1:${port}${prefix}`,
    tokens: new Set(),
    answers: new Map(),
    requests: [],
    connections: 0,
    async stop() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
  return target;
}

/** Makes a class; `interval` is that of the probes. */
export async function createClass(
  api: ApiServer,
  name: string,
  spec: { placement?: "Dedicated" | "Shared"; interval?: string; secretType?: string; proxy?: object } = {},
): Promise<void> {
  await api.request("POST", `/apis/${apiVersion}/connectorclasses`, {
    body: {
      apiVersion,
      kind: "ConnectorClass",
      metadata: { name },
      spec: {
        type: "Kubernetes",
        auth: [{ name: "bearerTokenAuth", secretType: spec.secretType ?? "connectors.cpaas.io/bearer-token" }],
        probes: { interval: spec.interval ?? "1s", timeout: "2s" },
        proxy: { ...(spec.placement === undefined ? {} : { placement: spec.placement }), ...spec.proxy },
      },
    },
  });
}

export async function createSecret(
  api: ApiServer,
  namespace: string,
  name: string,
  stringData: Record<string, string>,
  type = "connectors.cpaas.io/bearer-token",
): Promise<void> {
  await api.request("POST", `/api/v1/namespaces/${namespace}/secrets`, {
    body: { metadata: { name }, type, stringData },
  });
}

export async function createConnector(
  api: ApiServer,
  namespace: string,
  name: string,
  spec: { address: string; class?: string; secret?: string; tls?: object; access?: object },
): Promise<Connector> {
  return await api.request<Connector>("POST", `/apis/${apiVersion}/namespaces/${namespace}/connectors`, {
    body: {
      apiVersion,
      kind: "Connector",
      metadata: { name },
      spec: {
        connectorClassName: spec.class ?? "k8s",
        address: spec.address,
        auth: { name: "bearerTokenAuth", secretRef: { name: spec.secret ?? `${name}-token` } },
        ...(spec.tls === undefined ? {} : { tls: spec.tls }),
        ...(spec.access === undefined ? {} : { access: spec.access }),
      },
    },
  });
}

export async function patchConnector(api: ApiServer, namespace: string, name: string, spec: object): Promise<void> {
  await api.request("PATCH", `/apis/${apiVersion}/namespaces/${namespace}/connectors/${name}`, {
    contentType: "application/merge-patch+json",
    body: { spec },
  });
}

export async function readConnector(api: ApiServer, namespace: string, name: string): Promise<Connector> {
  return await api.request<Connector>("GET", `/apis/${apiVersion}/namespaces/${namespace}/connectors/${name}`);
}

/** The conditions as `Type=Status/Reason`, in their order. */
export function shown(connector: Connector): string[] {
  return (connector.status?.conditions ?? []).map(({ type, status, reason }) => `${type}=${status}/${reason}`);
}

/** Waits until what is checked no longer throws, 15 s unless told; then throws what it threw last. */
export async function eventually<T>(what: string, check: () => Promise<T>, within = 15_000): Promise<T> {
  const end = Date.now() + within;
  for (;;) {
    try {
      return await check();
    } catch (error) {
      if (Date.now() > end) throw new Error(`In ${within} ms it did not happen that ${what}`, { cause: error });
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }
}

/** Waits for a condition's status and reason; answers with the Connector. */
export async function untilCondition(
  api: ApiServer,
  namespace: string,
  name: string,
  wanted: string,
  within?: number,
): Promise<Connector> {
  return await eventually(
    `${namespace}/${name} has ${wanted}`,
    async () => {
      const connector = await readConnector(api, namespace, name);
      if (!shown(connector).includes(wanted)) throw new Error(shown(connector).join(" "));
      return connector;
    },
    within,
  );
}
