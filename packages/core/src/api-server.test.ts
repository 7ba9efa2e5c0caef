import { ClientRequest, createServer, type RequestListener } from "node:http";
import { type AddressInfo, createServer as createTcpServer, type Socket } from "node:net";
import { once } from "node:events";
import { text } from "node:stream/consumers";
import { queryObjects } from "node:v8";
import { expect, onTestFinished, test } from "vitest";
import { type ApiAccess, type ApiServer, openApiServer } from "./api-server.ts";
import { Secret } from "./secret.ts";

// Requests share a bounded number of connections, each ends when its time is over wherever it is by then, and a Fault says
// why. What is open ends with `stop`.

async function serve(answer: RequestListener, access: Partial<ApiAccess> = {}) {
  const sockets = new Set<Socket>();
  const server = createServer(answer);
  server.on("connection", (socket) => {
    sockets.add(socket);
    socket.once("close", () => sockets.delete(socket));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const api = open({ url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, ...access });
  onTestFinished(() => {
    server.close();
    server.closeAllConnections();
  });
  return { api, sockets, server };
}

function open(access: ApiAccess): ApiServer {
  const api = openApiServer(access);
  onTestFinished(() => api.stop());
  return api;
}

const faultOf = async (work: Promise<unknown>) =>
  await work.then(
    () => undefined,
    (fault: unknown) => fault,
  );

test.each(["GET", "POST", "PUT", "PATCH", "DELETE"])(
  "a %s arrives as it was asked, and its answer is parsed",
  async (asked) => {
    const seen: unknown[] = [];
    const { api } = await serve(
      (request, response) => {
        const { method, url, headers } = request;
        void text(request).then((body) => {
          const sent: unknown = JSON.parse(body);
          seen.push([method, url, headers.authorization, headers["content-type"], headers.accept, sent]);
          response.end('{"kind":"Pod"}');
        });
      },
      { token: async () => new Secret("t0ken") },
    );
    const options = { query: { limit: 5, continue: undefined, dryRun: "All" }, body: { a: "ü" } };
    expect(await api.request(asked, "/api/v1/x", { ...options, contentType: "application/merge-patch+json" })).toEqual({
      kind: "Pod",
    });
    expect(seen).toEqual([
      [
        asked,
        "/api/v1/x?limit=5&dryRun=All",
        "Bearer t0ken",
        "application/merge-patch+json",
        "application/json",
        { a: "ü" },
      ],
    ]);
  },
);

test("the path of the address goes before each path", async () => {
  const { server } = await serve((request, response) => void response.end(JSON.stringify(request.url)));
  const api = open({ url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/k8s/clusters/c-1/` });
  expect(await api.request("GET", "/version")).toBe("/k8s/clusters/c-1/version");
});

test("one after the other on one connection, side by side on no more than were allowed", async () => {
  let most = 0;
  const { api, sockets } = await serve(
    (_request, response) => {
      most = Math.max(most, sockets.size);
      setTimeout(() => response.end("{}"), 5);
    },
    { connections: 4 },
  );
  for (let at = 0; at < 10; at++) await api.request("GET", "/");
  expect(most).toBe(1);
  await Promise.all(Array.from({ length: 40 }, () => api.request("GET", "/")));
  expect(most).toBe(4);
});

test("a connection that the server has closed meanwhile is not used again", async () => {
  const { api, sockets } = await serve((_request, response) => void response.end("{}"));
  await api.request("GET", "/");
  const [socket] = sockets;
  socket?.end();
  await new Promise((resolve) => setTimeout(resolve, 50));
  expect(await api.request("GET", "/")).toEqual({});
});

test.each([
  [403, { message: "no", reason: "Forbidden" }, "permission_denied", "GET /x: no"],
  [404, { message: "not there", reason: "NotFound" }, "not_found", "GET /x: not there"],
  [302, "", "unavailable", "GET /x: status 302"],
  [502, "<html>", "unavailable", "GET /x: status 502"],
] as const)("an answer of %i is a Fault that says why", async (status, body, code, message) => {
  const { api } = await serve((_request, response) => {
    response.writeHead(status, { "retry-after": "7" }).end(typeof body === "string" ? body : JSON.stringify(body));
  });
  expect(await faultOf(api.request("GET", "/x"))).toMatchObject({
    code,
    message,
    answer: { status, retryAfterSeconds: 7 },
  });
  expect(await faultOf(api.open("/x"))).toMatchObject({ code, message });
});

test("an answer that is no JSON, or breaks off, is a Fault", async () => {
  const { api } = await serve((request, response) => {
    if (request.url === "/text") response.end("hello");
    else response.writeHead(200, { "content-length": "100" }).write("{", () => response.destroy());
  });
  expect(await faultOf(api.request("GET", "/text"))).toMatchObject({
    code: "unavailable",
    message: "GET /text: the API server's answer is not JSON",
  });
  expect(await faultOf(api.request("GET", "/half"))).toMatchObject({ code: "unavailable" });
});

test("no content where a stream was asked for is a Fault, and the connection stays", async () => {
  const { api, sockets } = await serve((_request, response) => void response.writeHead(204).end());
  for (let at = 0; at < 3; at++) {
    expect(await faultOf(api.open("/log"))).toMatchObject({ code: "unavailable", answer: { status: 204 } });
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  expect(sockets.size).toBe(1);
});

const late = { code: "deadline_exceeded", message: "GET /x: no answer from the API server in time" };

test("the time is over before there is an answer, in the middle of it, and in the queue", async () => {
  const { api } = await serve(
    (request, response) => {
      if (request.url === "/half") response.write("{");
    },
    { connections: 1 },
  );
  const first = faultOf(api.request("GET", "/x", { timeout: 200 }));
  expect(await faultOf(api.request("GET", "/x", { timeout: 50 }))).toMatchObject(late);
  expect(await first).toMatchObject(late);
  expect(await faultOf(api.request("GET", "/half", { timeout: 50 }))).toMatchObject({ code: "deadline_exceeded" });
  expect(await faultOf(api.open("/x", { timeout: 50 }))).toMatchObject({ code: "deadline_exceeded" });
});

test("the time is over while nobody answers the connection, or the dial", async () => {
  // A listener that takes nothing: its queue holds one, so that further connections are never answered.
  const server = createTcpServer(() => undefined);
  onTestFinished(() => void server.close());
  await new Promise<void>((resolve) => server.listen({ port: 0, host: "127.0.0.1" }, resolve));
  const silent = open({ url: `https://127.0.0.1:${(server.address() as AddressInfo).port}`, insecureSkipVerify: true });
  expect(await faultOf(silent.request("GET", "/x", { timeout: 50 }))).toMatchObject(late);
  const never = open({ url: "https://x", dial: () => new Promise(() => undefined) });
  expect(await faultOf(never.request("GET", "/x", { timeout: 50 }))).toMatchObject(late);
});

test("a dial that fails is told, and the next request dials anew", async () => {
  let dials = 0;
  const api = open({
    url: "https://x",
    dial: async () => {
      dials += 1;
      throw Object.assign(new Error("refused"), { code: "ECONNREFUSED" });
    },
  });
  for (let at = 1; at <= 2; at++) {
    expect(await faultOf(api.request("GET", "/x"))).toMatchObject({ code: "unavailable" });
    expect(dials).toBe(at);
  }
});

test("the caller's signal ends a request, and a stream", async () => {
  const { api, sockets } = await serve((_request, response) => void response.write("line\n"));
  const left = new AbortController();
  const body = await api.open("/watch", { signal: left.signal });
  expect(String((await once(body, "data"))[0])).toBe("line\n");
  const asked = faultOf(api.request("GET", "/x", { signal: left.signal }));
  left.abort();
  expect(await asked).toMatchObject(late);
  expect(await faultOf(text(body))).toBeInstanceOf(Error);
  await expect.poll(() => sockets.size).toBe(0);
});

test("a stream has no time limit once it has begun, and ends with the one who destroys it", async () => {
  const { api, sockets } = await serve((_request, response) => {
    response.write("a");
    setTimeout(() => response.write("b"), 150);
  });
  const body = await api.open("/watch", { timeout: 50 });
  const seen: string[] = [];
  for await (const piece of body) {
    seen.push(String(piece));
    if (seen.length === 2) break;
  }
  expect(seen).toEqual(["a", "b"]);
  await expect.poll(() => sockets.size).toBe(0);
});

test("what is over is forgotten, though the signal that it could have been ended by lives on", async () => {
  const { api } = await serve((_request, response) => void response.end("{}"));
  const { signal } = new AbortController();
  const before = queryObjects(ClientRequest, { format: "count" });
  for (let at = 0; at < 50; at++) {
    await api.request("GET", "/", { signal });
    (await api.open("/log", { signal })).resume();
  }
  await new Promise((resolve) => setTimeout(resolve, 50));
  expect(queryObjects(ClientRequest, { format: "count" }) - before).toBeLessThan(10);
});

test("stop ends what is open, what waits in the queue, and what comes later", async () => {
  const { api, sockets } = await serve((_request, response) => void response.write("a"), { connections: 2 });
  const body = await api.open("/watch");
  const waiting = [1, 2, 3].map(() => faultOf(api.request("GET", "/x", { timeout: 60_000 })));
  await new Promise((resolve) => setTimeout(resolve, 50));
  await api.stop();
  const ended = { code: "unavailable" };
  expect(await Promise.all(waiting)).toMatchObject([ended, ended, ended]);
  expect(await faultOf(text(body))).toBeInstanceOf(Error);
  expect(await faultOf(api.request("GET", "/x"))).toMatchObject(ended);
  await expect.poll(() => sockets.size).toBe(0);
});
