import { timingSafeEqual } from "node:crypto";
import type { IncomingMessage, ServerResponse } from "node:http";
import { createServer } from "node:https";
import type { AddressInfo } from "node:net";
import type { Duplex } from "node:stream";
import type { Running, Secret } from "@kube-connector/core";
import { createTestCa } from "./certificates.ts";
import { answerError, answerJson, readObject, refusalStatus } from "./sample-api-server/answers.ts";
import { noSuchPath, Refusal } from "./sample-api-server/refusal.ts";
import { discover } from "./sample-api-server/discovery.ts";
import { answerExec } from "./sample-api-server/exec.ts";
import { answerLog } from "./sample-api-server/logs.ts";
import { answerObjects, parseObjectPath } from "./sample-api-server/objects.ts";
import { startPods } from "./sample-api-server/pods.ts";
import { review } from "./sample-api-server/reviews.ts";
import { seed } from "./sample-api-server/seed.ts";
import { createStore } from "./sample-api-server/store.ts";

// A stand-in for a Kubernetes API server, for the demo and for tests without a cluster: the core kinds in memory, with
// everything that kubectl needs to get, describe, watch, log, create, apply, delete and exec.

export interface SampleApiServerOptions {
  /** The one bearer token that is let in; `setToken` changes it. */
  token: Secret;
  /** Part of every path, for example `/kubernetes/global`; "" unless told. */
  prefix?: string;
  /** Milliseconds between two log lines of a pod; 1000 unless told. */
  logInterval?: number;
}

export interface SampleApiServer extends Running {
  /** https://127.0.0.1:<port><prefix>. */
  url: string;
  port: number;
  /** PEM of the CA that signed its certificate. */
  ca: string;
  /** Lets another token in from now on, and the old one no more. */
  setToken(token: Secret): void;
  /** `GET /api/v1/pods`, one for each request that was let in. */
  requests: string[];
}

export async function startSampleApiServer(options: SampleApiServerOptions): Promise<SampleApiServer> {
  const { prefix = "", logInterval = 1000 } = options;
  const ca = await createTestCa("sample API server CA");
  const leaf = await ca.leaf(["127.0.0.1", "localhost"]);
  const store = createStore();
  const pods = startPods({ store, logInterval });
  seed(store, pods);
  const sockets = new Set<Duplex>();
  const requests: string[] = [];
  let token = options.token;

  /** The path below the prefix of a request that is let in; throws a Refusal. */
  function admit(request: IncomingMessage): URL {
    const url = new URL(request.url ?? "/", "https://sample");
    if (!isToken(request.headers.authorization, token)) throw new Refusal(401, "Unauthorized", "Unauthorized");
    if (!url.pathname.startsWith(`${prefix}/`)) throw noSuchPath();
    requests.push(`${request.method} ${url.pathname}`);
    url.pathname = url.pathname.slice(prefix.length);
    return url;
  }

  async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { pathname, searchParams: query } = admit(request);
    if (["/livez", "/readyz", "/healthz"].includes(pathname)) {
      response.writeHead(200, { "content-type": "text/plain" }).end("ok");
      return;
    }
    if (pathname === "/openapi/v2") {
      // kubectl before 1.29 asks for it before it applies, and goes on with an empty one.
      response.writeHead(200, { "content-type": "application/com.github.proto-openapi.spec.v2.v1.0+protobuf" }).end();
      return;
    }
    const found = request.method === "GET" ? discover(pathname) : undefined;
    if (found !== undefined) {
      answerJson(response, 200, found);
      return;
    }
    if (request.method === "POST" && pathname.startsWith("/apis/")) {
      const reviewed = review(pathname, await readObject(request));
      if (reviewed === undefined) throw noSuchPath();
      answerJson(response, 201, reviewed);
      return;
    }
    const path = parseObjectPath(pathname);
    if (path === undefined) throw noSuchPath();
    if (path.subresource === "log" && request.method === "GET") {
      answerLog(response, pods.log(store.get(path.kind, path.namespace, path.name ?? "")), query);
      return;
    }
    if (path.subresource === "exec") throw new Refusal(400, "BadRequest", "Upgrade request required");
    await answerObjects(request, response, { path, query, store, pods, bookmarkInterval: 60_000 });
  }

  function upgrade(request: IncomingMessage, socket: Duplex, head: Buffer): void {
    try {
      const { pathname, searchParams: query } = admit(request);
      const path = parseObjectPath(pathname);
      if (path?.subresource !== "exec" || path.name === undefined) throw noSuchPath();
      store.get(path.kind, path.namespace, path.name);
      if (!answerExec(request, socket, { head, host: path.name, query })) {
        const text = "The sample API server speaks exec by WebSocket only; use kubectl 1.30 or newer";
        throw new Refusal(400, "BadRequest", text);
      }
    } catch (error) {
      const refusal = error instanceof Refusal ? error : new Refusal(500, "InternalError", String(error));
      const body = JSON.stringify(refusalStatus(refusal));
      const head = `HTTP/1.1 ${refusal.status} ${refusal.reason}\r\ncontent-type: application/json`;
      socket.end(`${head}\r\ncontent-length: ${Buffer.byteLength(body)}\r\nconnection: close\r\n\r\n${body}`);
    }
  }

  const server = createServer({ cert: leaf.certificate, key: leaf.key, ALPNProtocols: ["http/1.1"] });
  server.on("request", (request, response) => {
    answer(request, response).catch((error: unknown) => answerError(response, error));
  });
  server.on("upgrade", (request, socket, head) => {
    socket.on("error", () => socket.destroy());
    upgrade(request, socket, head);
  });
  server.on("secureConnection", (socket) => {
    socket.on("error", () => socket.destroy());
    sockets.add(socket);
    socket.once("close", () => sockets.delete(socket));
  });
  server.on("tlsClientError", (_error, socket) => socket.destroy());
  const done = new Promise<void>((resolve) => server.once("close", resolve));
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(0, "127.0.0.1", resolve);
  });
  const { port } = server.address() as AddressInfo;
  return {
    url: `https://127.0.0.1:${port}${prefix}`,
    port,
    ca: ca.certificate,
    requests,
    setToken(next) {
      token = next;
    },
    done,
    async stop() {
      pods.stop();
      server.close();
      for (const socket of sockets) socket.destroy();
      await done;
    },
  };
}

function isToken(authorization: string | undefined, token: Secret): boolean {
  const sent = Buffer.from(authorization ?? "");
  const expected = Buffer.from(`Bearer ${token.reveal()}`);
  return sent.length === expected.length && timingSafeEqual(sent, expected);
}
