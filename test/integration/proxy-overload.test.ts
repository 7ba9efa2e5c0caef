import http2 from "node:http2";
import { once } from "node:events";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import type { ServerResponse } from "node:http";
import { connect, type AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, expect, test } from "vitest";
import { createTestCa } from "../kit/certificates.ts";
import { type ControlPlane, createPod, requestToken, startControlPlane } from "../kit/control-plane.ts";
import { createRawClient } from "../kit/raw-client.ts";
import { type Replica, startReplica } from "../kit/replica.ts";
import { resolvedParts } from "../kit/resolved.ts";
import { basic, connectText } from "../kit/test-proxy.ts";
import {
  type Credentials,
  type DoorName,
  openSecure,
  openWire,
  type Served,
  type Way,
  type Wire,
} from "../kit/wire.ts";

// Load beyond the limits, on a proxy process that works with a real API server: whoever asks for more than its share is
// told so by 429, when to come again, and what its admin can do; it gets its share and no more; another caller of the
// same connector notices nothing; and when it has slowed down it is served again.

const limits = { requestsPerSecond: 20, burst: 40, streams: 10 };
const connections = 30;
let plane: ControlPlane;
let directory: string;
let replica: Replica;
let place: Served;
let modest: Credentials;
let stopTarget: () => void;

beforeAll(async () => {
  plane = await startControlPlane();
  const targetCa = await createTestCa("target");
  const identity = await targetCa.leaf(["127.0.0.1"]);
  const target = http2.createSecureServer(
    { cert: identity.certificate, key: identity.key, allowHTTP1: true },
    (request, response) => {
      // A watch goes on; what is held has no answer for as long as anybody waits.
      if (request.url.includes("watch")) (response as unknown as ServerResponse).write("event\n");
      else if (!request.url.includes("hold")) response.end("done");
    },
  );
  target.on("upgrade", (_request: unknown, socket: NodeJS.WritableStream) => {
    socket.on("error", () => undefined);
    socket.write("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
  });
  target.on("sessionError", () => undefined).on("clientError", () => undefined);
  await new Promise<void>((resolve) => target.listen(0, "127.0.0.1", resolve));
  stopTarget = () => void target.close();
  const authority = `127.0.0.1:${(target.address() as AddressInfo).port}`;
  const ca = await createTestCa("connectors");
  directory = await mkdtemp(join(tmpdir(), "proxy-overload-"));
  await mkdir(join(directory, "prod"));
  const tls = { caBundle: targetCa.certificate };
  const entries = await resolvedParts({ name: "prod", address: `https://${authority}`, tls, ca, more: { limits } });
  for (const [name, secret] of Object.entries(entries)) await writeFile(join(directory, "prod", name), secret.reveal());
  const service = "c-prod.team-a.svc.cluster.local";
  place = { connector: "team-a/prod", authority, prefix: "", service, ca: ca.certificate };
  const flags = { http2: "own", audit: "off", "log-level": "warn", "connections-per-address": String(connections) };
  replica = await startReplica({ directory, kubeconfig: plane.kubeconfig, flags });
  replica.log.pipe(process.stderr, { end: false });
  modest = await pod("modest");
});
afterAll(async () => {
  replica.child.kill("SIGKILL");
  stopTarget();
  await plane.stop();
  await rm(directory, { recursive: true });
});

async function pod(name: string): Promise<Credentials> {
  const bound = { name, uid: await createPod(plane.admin, "team-a", name) };
  const token = async (audience: string) =>
    (await requestToken(plane.admin, { namespace: "team-a", audience, pod: bound })).reveal();
  return { tunnel: await token("kube-connector-tunnel"), request: await token("kube-connector") };
}

type Protocol = "h1" | "h2";
const doors: readonly (readonly [DoorName, Protocol])[] = [
  ["forward", "h1"],
  ["forward", "h2"],
  ["reverse", "h1"],
  ["reverse", "h2"],
];

/** A client at that address, whose wires end with the test. */
function client(door: DoorName, protocol: Protocol, caller: Credentials) {
  const wires: Wire[] = [];
  const way: Way = { place, caller, door, ports: replica };
  return {
    async open() {
      const wire = await openWire(way, protocol);
      expect(wire.protocol).toBe(protocol);
      wires.push(wire);
      return wire;
    },
    [Symbol.dispose]() {
      for (const wire of wires) wire.end("destroy");
    },
  };
}

interface Answer {
  status: number;
  headers: Record<string, unknown>;
  body: string;
}

function ask(wire: Wire, path = "/api/v1/pods"): Promise<Answer> {
  const call = wire.ask({ method: "GET", path, headers: {} });
  call.body.end();
  return call.answer.then(
    ({ status, headers, body }) =>
      new Promise((resolve, reject) => {
        let text = "";
        body.on("data", (bytes: Buffer) => (text += bytes.toString()));
        body.once("end", () => resolve({ status, headers, body: text }));
        body.once("error", reject).once("close", () => reject(new Error("broke off")));
        body.resume();
      }),
  );
}

function expectRefusal({ status, headers, body }: Answer, why: string): void {
  expect(status).toBe(429);
  expect(Number(headers["retry-after"])).toBeGreaterThan(0);
  expect(headers.warning).toMatch(/^299 - "Too many requests to the connector team-a\/prod: .*spec\.limits/);
  expect(JSON.parse(body)).toMatchObject({
    kind: "Status",
    code: 429,
    reason: "TooManyRequests",
    message: expect.stringContaining(why),
    details: { retryAfterSeconds: Number(headers["retry-after"]) },
  });
}

/** Ends when that caller is served again; it waits as long as it is told to. */
async function servedAgain(wire: Wire): Promise<void> {
  for (let tries = 0; tries < 5; tries += 1) {
    const { status, headers } = await ask(wire);
    if (status === 200) return;
    await sleep(Number(headers["retry-after"]) * 1000);
  }
  throw new Error("it did as it was told and is not served again");
}

test.each(doors)(
  "at the %s door over %s: a caller far beyond its rate gets its share, another all it asks for",
  async (door, protocol) => {
    const greedy = await pod(`greedy-${door}-${protocol}`);
    using flood = client(door, protocol, greedy);
    using calm = client(door, protocol, modest);
    const [wires, steady] = [await Promise.all([1, 2, 3, 4].map(() => flood.open())), await calm.open()];
    const life = { isOver: false };
    const refused: Answer[] = [];
    const counts = { served: 0, other: 0 };
    const began = performance.now();
    const flooding = wires.flatMap((wire) =>
      (protocol === "h2" ? [1, 2] : [1]).map(async () => {
        while (!life.isOver) {
          const answer = await ask(wire);
          if (answer.status === 200) counts.served += 1;
          else if (answer.status === 429) refused.push(answer);
          else counts.other += 1;
        }
      }),
    );
    const seen: number[] = [];
    while (performance.now() - began < 2_500 || seen.length < 10) {
      seen.push((await ask(steady)).status);
      await sleep(150);
    }
    life.isOver = true;
    await Promise.all(flooding);
    const seconds = (performance.now() - began) / 1000;
    expect(new Set(seen)).toEqual(new Set([200]));
    expect(counts.other).toBe(0);
    for (const answer of refused) expectRefusal(answer, "this pod has sent more than 20 requests a second");
    expect(refused.length).toBeGreaterThan(counts.served);
    expect(counts.served).toBeGreaterThanOrEqual(limits.burst);
    expect(counts.served).toBeLessThanOrEqual(limits.burst + limits.requestsPerSecond * seconds + 1);
    await servedAgain(wires[0] ?? steady);
  },
);

const kinds = [
  ["requests that have no answer yet", "/api/v1/pods?hold"],
  ["watches", "/api/v1/pods?watch=true"],
] as const;
const each = doors.flatMap(([door, protocol]) => kinds.map(([what, path]) => [door, protocol, what, path] as const));

test.each(each)(
  "at the %s door over %s: beyond its share of %s a caller is refused, until one ends",
  async (door, protocol, _what, path) => {
    const greedy = await pod(`greedy-${door}-${protocol}-${path.slice(13, 17)}`);
    using many = client(door, protocol, greedy);
    using calm = client(door, protocol, modest);
    const shared = await many.open();
    const open = [];
    for (let number = 0; number < limits.streams; number += 1) {
      const wire = protocol === "h2" ? shared : await many.open();
      const call = wire.ask({ method: "GET", path, headers: {} });
      call.body.end();
      open.push(call);
    }
    const probe = await many.open();
    await expect.poll(async () => (await ask(probe)).status, { interval: 200, timeout: 10_000 }).toBe(429);
    expectRefusal(await ask(probe), "10 requests and streams of this pod are in progress");
    expect((await ask(await calm.open())).status).toBe(200);
    open[0]?.cancel();
    await servedAgain(probe);
  },
);

test.each(["forward", "reverse"] as const)(
  "at the %s door beyond its share of upgraded streams a caller is refused, until one ends",
  async (door) => {
    const greedy = await pod(`greedy-exec-${door}`);
    using many = client(door, "h1", greedy);
    using calm = client(door, "h1", modest);
    const exec = { method: "GET", path: "/api/v1/namespaces/x/pods/y/exec", headers: {} };
    const streams = [];
    for (let number = 0; number < limits.streams; number += 1)
      streams.push((await (await many.open()).upgrade(exec)).socket);
    await expect((await many.open()).upgrade(exec)).rejects.toThrow("an upgrade got 429");
    expectRefusal(await ask(await many.open()), "10 requests and streams of this pod are in progress");
    expect((await ask(await calm.open())).status).toBe(200);
    streams[0]?.destroy();
    await servedAgain(await many.open());
  },
);

test("an address with too many connections is told so at CONNECT, others come in, and so does it when it has closed some", async () => {
  const greedy = await pod("greedy-connections");
  const from = "127.0.0.2";
  const way: Way = { place, caller: greedy, door: "forward", ports: replica, from };
  const open = await Promise.all(Array.from({ length: connections }, () => openSecure(way, ["http/1.1"])));
  const socket = connect({ host: "127.0.0.1", port: replica.forward, localAddress: from, allowHalfOpen: true });
  const raw = createRawClient(socket);
  raw.send(connectText(place.authority, basic(place.connector, greedy.tunnel)));
  const [head = "", body = ""] = (await raw.closed()).split("\r\n\r\n");
  const sentence = "Too many connections: 127.0.0.2 has 30 open, and more are not taken";
  expect(head.split("\r\n")).toEqual(expect.arrayContaining([`HTTP/1.1 429 ${sentence}`, "Retry-After: 1"]));
  expect(JSON.parse(body)).toMatchObject({ kind: "Status", code: 429, reason: "TooManyRequests", message: sentence });
  socket.destroy();
  // At the reverse door a word would cost a handshake.
  const direct = connect({ host: "127.0.0.1", port: replica.reverse, localAddress: from });
  await once(direct, "close");
  for (const protocol of ["h1", "h2"] as const) {
    using calm = client("forward", protocol, modest);
    expect((await ask(await calm.open())).status).toBe(200);
  }
  expect(await replica.read("/metrics")).toContain('connections_refused_total{limit="address"} 2');
  for (const one of open) one.destroy();
  const again = async () =>
    await openSecure(way, ["http/1.1"]).then(
      (opened) => void opened.destroy(),
      (error: unknown) => String(error),
    );
  await expect.poll(again, { timeout: 10_000 }).toBe(undefined);
});

test("after all that the process is still the same one, and ends in order when it is told to", async () => {
  expect(replica.child.exitCode).toBe(null);
  expect(await replica.stop()).toBe(0);
});
