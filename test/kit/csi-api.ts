import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo, Socket } from "node:net";

// A stand-in for the API server, with what the csi-driver asks of one: list and watch Connectors, review access.

export interface StandInApi {
  url: string;
  /** What was asked, for example `POST /apis/authorization.k8s.io/v1/subjectaccessreviews`; watches too. */
  requests: string[];
  /** Bodies of the reviews that were asked for. */
  reviews: { user: string; groups: string[]; resourceAttributes: Record<string, string> }[];
  /** `system:serviceaccount:ns:name namespace/connector` for each grant. */
  grants: Set<string>;
  /** Creates or changes a Connector and tells the watches. */
  put(connector: TestConnector): void;
  remove(namespace: string, name: string): void;
  /** Cuts all connections and refuses new ones, until called with false. */
  setDown(down: boolean): void;
  stop(): Promise<void>;
}

export interface TestConnector {
  metadata: { namespace: string; name: string; uid: string };
  spec: Record<string, unknown>;
  status?: Record<string, unknown>;
}

const testCa = "-----BEGIN CERTIFICATE-----\nMIIBtest\n-----END CERTIFICATE-----\n";

/** A Connector as the controller leaves it when all is well; `more` goes over spec and status. */
export function testConnector(
  namespace: string,
  name: string,
  more: { uid?: string; spec?: Record<string, unknown>; status?: Record<string, unknown>; ca?: string } = {},
): TestConnector {
  const host = `c-${name}.${namespace}.svc.cluster.local`;
  return {
    metadata: { namespace, name, uid: more.uid ?? `uid-of-${namespace}-${name}` },
    spec: {
      connectorClassName: "k8s",
      address: "https://API.Prod.example:6443/kubernetes/global/",
      auth: { name: "bearerTokenAuth", secretRef: { name: "token" } },
      ...more.spec,
    },
    status: {
      proxy: {
        httpAddress: { url: `http://${host}` },
        httpsAddress: { url: `https://${host}` },
        caBundle: Buffer.from(more.ca ?? testCa).toString("base64"),
      },
      ...more.status,
    },
  };
}

const listPath = "/apis/connectors.cpaas.io/v1alpha1/connectors";
const reviewPath = "/apis/authorization.k8s.io/v1/subjectaccessreviews";

export async function startStandInApi(): Promise<StandInApi> {
  const connectors = new Map<string, TestConnector & { metadata: { resourceVersion: string } }>();
  const events: { version: number; line: string }[] = [];
  const watches = new Set<ServerResponse>();
  const sockets = new Set<Socket>();
  let version = 1;
  let isDown = false;
  const tell = (type: string, object: object) => {
    const line = `${JSON.stringify({ type, object })}\n`;
    events.push({ version, line });
    for (const watch of watches) watch.write(line);
  };
  const api: Omit<StandInApi, "url" | "stop"> = {
    requests: [],
    reviews: [],
    grants: new Set(),
    put(connector) {
      version += 1;
      const key = `${connector.metadata.namespace}/${connector.metadata.name}`;
      const object = { ...connector, metadata: { ...connector.metadata, resourceVersion: String(version) } };
      const type = connectors.has(key) ? "MODIFIED" : "ADDED";
      connectors.set(key, object);
      tell(type, object);
    },
    remove(namespace, name) {
      version += 1;
      const object = connectors.get(`${namespace}/${name}`);
      connectors.delete(`${namespace}/${name}`);
      if (object !== undefined) tell("DELETED", object);
    },
    setDown(down) {
      isDown = down;
      if (down) for (const socket of sockets) socket.destroy();
    },
  };
  const server = createServer((request, response) => {
    const url = new URL(request.url ?? "/", "http://api");
    api.requests.push(`${request.method ?? ""} ${url.pathname}${url.searchParams.has("watch") ? "?watch" : ""}`);
    if (url.pathname === reviewPath) void review(api, request, response);
    else if (url.pathname !== listPath) response.writeHead(404).end("{}");
    else if (url.searchParams.has("watch")) {
      response.writeHead(200, { "content-type": "application/json" });
      response.flushHeaders();
      const from = Number(url.searchParams.get("resourceVersion"));
      for (const event of events) if (event.version > from) response.write(event.line);
      watches.add(response);
      response.on("close", () => watches.delete(response));
    } else {
      const body = { metadata: { resourceVersion: String(version) }, items: [...connectors.values()] };
      response.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify(body));
    }
  });
  server.on("connection", (socket) => {
    socket.on("error", () => undefined);
    if (isDown) {
      socket.destroy();
      return;
    }
    sockets.add(socket);
    socket.on("close", () => sockets.delete(socket));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return Object.assign(api, {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    async stop() {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  });
}

async function review(
  api: Pick<StandInApi, "reviews" | "grants">,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  const { spec } = JSON.parse(Buffer.concat(chunks).toString("utf8")) as { spec: StandInApi["reviews"][number] };
  api.reviews.push(spec);
  const { namespace, name } = spec.resourceAttributes;
  const allowed = api.grants.has(`${spec.user} ${namespace ?? ""}/${name ?? ""}`);
  response.writeHead(201, { "content-type": "application/json" }).end(JSON.stringify({ status: { allowed } }));
}
