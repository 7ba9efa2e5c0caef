import { createServer, request as forward, Agent } from "node:https";
import type { IncomingMessage, ServerResponse } from "node:http";
import type { AddressInfo, Socket } from "node:net";
import { createTestCa } from "./certificates.ts";

// Between a Connector and its API server: passes all requests on, but for those that a test has another fate for.

/** A request as a fate is chosen for it. */
export interface RelayedRequest {
  method: string;
  /** Without the query. */
  path: string;
  query: URLSearchParams;
  body: string;
  /** The header. */
  authorization: string;
}

/**
 * undefined: passed on, with its answer. refuse: the connection is closed instead; lose: the request is passed on, and its answer is
 * not; hang: there is no answer; or that answer instead of the API server's.
 */
export type Fate = "refuse" | "lose" | "hang" | RelayAnswer | undefined;

export interface RelayAnswer {
  status: number;
  reason: string;
  message: string;
  headers?: Record<string, string>;
}

export interface ApiRelay {
  url: string;
  /** PEM. */
  ca: string;
  /** Chooses; a promise lets the request wait. */
  fate: (request: RelayedRequest) => Fate | Promise<Fate>;
  /** Everything that came, in order. */
  requests: RelayedRequest[];
  /** Closes all connections. */
  cut(): void;
  stop(): Promise<void>;
}

export async function startApiRelay(target: { url: string; ca: string }): Promise<ApiRelay> {
  const ca = await createTestCa("relay");
  const { certificate, key } = await ca.leaf(["127.0.0.1"]);
  const agent = new Agent({ ca: target.ca, keepAlive: true });
  const sockets = new Set<Socket>();
  const requests: RelayedRequest[] = [];

  const server = createServer({ cert: certificate, key }, (request, response) => {
    response.on("error", () => undefined);
    request.on("error", () => undefined);
    answer(request, response).catch(() => response.destroy());
  });
  server.on("secureConnection", (socket: Socket) => {
    sockets.add(socket);
    socket.on("error", () => undefined);
    socket.once("close", () => sockets.delete(socket));
  });
  server.on("tlsClientError", () => undefined);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));

  async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { pathname, searchParams } = new URL(request.url ?? "", "https://x");
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    const body = Buffer.concat(chunks).toString();
    const { authorization = "" } = request.headers;
    const relayed = { method: request.method ?? "", path: pathname, query: searchParams, body, authorization };
    requests.push(relayed);
    const fate = await relay.fate(relayed);
    if (fate === "hang") return;
    if (fate === "refuse") {
      response.destroy();
      return;
    }
    if (typeof fate === "object") {
      const { status, reason, message, headers = {} } = fate;
      response.writeHead(status, { "content-type": "application/json", ...headers });
      response.end(
        JSON.stringify({ kind: "Status", apiVersion: "v1", status: "Failure", code: status, reason, message }),
      );
      return;
    }
    const { hostname, port } = new URL(target.url);
    const { host: _host, connection: _connection, ...headers } = request.headers;
    const upstream = forward({ hostname, port, agent, method: request.method, path: request.url, headers });
    if (fate !== "lose") response.once("close", () => upstream.destroy());
    upstream.on("error", () => response.destroy());
    upstream.once("response", (answered) => {
      answered.on("error", () => response.destroy());
      if (fate === "lose") {
        answered.resume();
        answered.once("end", () => response.destroy());
        return;
      }
      response.writeHead(answered.statusCode ?? 502, answered.headers);
      response.flushHeaders();
      answered.once("aborted", () => response.destroy());
      answered.pipe(response);
    });
    upstream.end(body);
  }

  const relay: ApiRelay = {
    url: `https://127.0.0.1:${(server.address() as AddressInfo).port}`,
    ca: ca.certificate,
    fate: () => undefined,
    requests,
    cut() {
      for (const socket of sockets) socket.destroy();
    },
    async stop() {
      relay.cut();
      agent.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
  return relay;
}
