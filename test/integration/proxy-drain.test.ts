import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:https";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Secret } from "@kube-connector/core";
import { afterAll, beforeAll, expect, onTestFinished, test } from "vitest";
import { startBalancer } from "../kit/balancer.ts";
import { createTestCa } from "../kit/certificates.ts";
import { type ControlPlane, createPod, requestToken, startControlPlane } from "../kit/control-plane.ts";
import { openRaw, openSecure, type RawClient } from "../kit/raw-client.ts";
import { type Replica, startReplica } from "../kit/replica.ts";
import { resolvedParts } from "../kit/resolved.ts";
import { startSteadyClients, throughTunnel } from "../kit/steady-clients.ts";
import { basic } from "../kit/test-proxy.ts";

// Two replicas behind something that behaves like a Service, real processes and real signals, under load from clients that
// never try again: a rolling update and the loss of a node's replica by SIGTERM cost no request, and no request reaches the
// target twice. Watches go on through the grace period and end cleanly, in a way that their clients take up again.

const sleep = (milliseconds: number) => new Promise((resolve) => setTimeout(resolve, milliseconds));
const host = "c-prod.team-a.svc.cluster.local";
let plane: ControlPlane;
let directory: string;
let ca: string;
let authority: string;
let tunnel: Secret;
let token: Secret;
/** How often each request reached the target. */
const reached = new Map<string, number>();
let stopTarget: () => void;

beforeAll(async () => {
  plane = await startControlPlane();
  const pod = { name: "steady", uid: await createPod(plane.admin, "team-a", "steady") };
  tunnel = await requestToken(plane.admin, { namespace: "team-a", audience: "kube-connector-tunnel", pod });
  token = await requestToken(plane.admin, { namespace: "team-a", audience: "kube-connector", pod });
  const targetCa = await createTestCa("target");
  const identity = await targetCa.leaf(["127.0.0.1"]);
  const target = createServer({ cert: identity.certificate, key: identity.key }, (request, response) => {
    if (request.url?.startsWith("/watch") === true) {
      response.writeHead(200).write("event\n");
      const timer = setInterval(() => response.write("event\n"), 50);
      response.once("close", () => clearInterval(timer));
      return;
    }
    const mark = request.url ?? "";
    reached.set(mark, (reached.get(mark) ?? 0) + 1);
    request.resume().once("end", () => setTimeout(() => response.end("done"), Math.random() * 20));
  });
  // As long as Go's servers keep an idle connection.
  target.keepAliveTimeout = 90_000;
  await new Promise<void>((resolve) => target.listen(0, "127.0.0.1", resolve));
  stopTarget = () => {
    target.close();
    target.closeAllConnections();
  };
  authority = `127.0.0.1:${(target.address() as AddressInfo).port}`;
  const connectorCa = await createTestCa("connectors");
  ca = connectorCa.certificate;
  directory = await mkdtemp(join(tmpdir(), "proxy-drain-"));
  await mkdir(join(directory, "prod"));
  const tls = { caBundle: targetCa.certificate };
  const entries = await resolvedParts({ name: "prod", address: `https://${authority}`, tls, ca: connectorCa });
  for (const [name, secret] of Object.entries(entries)) await writeFile(join(directory, "prod", name), secret.reveal());
});
afterAll(async () => {
  stopTarget();
  await plane.stop();
  await rm(directory, { recursive: true });
});

async function startDrained(): Promise<Replica> {
  const flags = { audit: "off", "log-level": "warn", "drain-delay": "2s", "drain-grace": "1s" };
  const replica = await startReplica({ directory, kubeconfig: plane.kubeconfig, flags });
  onTestFinished(() => void replica.child.kill("SIGKILL"));
  replica.log.pipe(process.stderr, { end: false });
  return replica;
}

const readinessOf = (replica: Replica) => async () =>
  await replica.read("/readyz").then(
    (text) => text === "ok\n",
    () => false,
  );

async function startService() {
  const late = { every: 100, late: 400 };
  const [forward, reverse] = [await startBalancer(late), await startBalancer(late)];
  const add = (replica: Replica) => {
    const isReady = readinessOf(replica);
    forward.add({ port: replica.forward, isReady });
    reverse.add({ port: replica.reverse, isReady });
    return replica;
  };
  return {
    tunnelled: throughTunnel(forward.port, authority, basic("team-a/prod", tunnel.reveal()), ca),
    direct: async () => await openSecure({ port: reverse.port }, { ca, servername: host }),
    start: async () => add(await startDrained()),
    async [Symbol.asyncDispose]() {
      await forward[Symbol.asyncDispose]();
      await reverse[Symbol.asyncDispose]();
    },
  };
}

const between = (least: number, most: number) => () => least + Math.random() * (most - least);
const post = (mark: string, to: string) => (number: number) =>
  `POST /${mark}/${number} HTTP/1.1\r\nHost: ${to}\r\nAuthorization: Bearer ${token.reveal()}\r\nContent-Length: 4\r\n\r\nbody`;

test("a rolling update and a SIGTERM without a replacement lose no request of clients that never try again", async () => {
  await using service = await startService();
  const replicas = [await service.start(), await service.start()];
  const { tunnelled, direct } = service;
  const loads = {
    busy: startSteadyClients({ way: tunnelled, count: 6, request: post("busy", authority), pause: between(0, 10) }),
    idle: startSteadyClients({ way: tunnelled, count: 12, request: post("idle", authority), pause: between(50, 800) }),
    direct: startSteadyClients({ way: direct, count: 4, request: post("direct", host), pause: between(0, 300) }),
    oneShot: startSteadyClients({
      way: tunnelled,
      count: 3,
      request: post("one-shot", authority),
      pause: between(0, 30),
      oneShot: true,
    }),
    oneShotDirect: startSteadyClients({
      way: direct,
      count: 2,
      request: post("one-shot-direct", host),
      pause: between(0, 30),
      oneShot: true,
    }),
  };
  await sleep(1_000);
  // A rolling update, one more before one less.
  for (const old of replicas) {
    await service.start();
    old.child.kill("SIGTERM");
    expect(await old.ended).toBe(0);
  }
  // And a node that goes: one less, and nobody in its place.
  const third = await service.start();
  await sleep(500);
  third.child.kill("SIGTERM");
  expect(await third.ended).toBe(0);
  await sleep(500);
  await Promise.all(Object.values(loads).map((load) => load.stop()));
  const told = Object.entries(loads).map(([name, { seen }]) => `${name} ${seen.answered} on ${seen.connections}`);
  console.log(`answered: ${told.join(", ")}`);
  expect(Object.values(loads).flatMap(({ seen }) => seen.lost)).toEqual([]);
  expect(Object.values(loads).every(({ seen }) => seen.answered > 20)).toBe(true);
  expect([...reached.values()].every((count) => count === 1)).toBe(true);
});

/** A watch that is taken up again whenever it ends; how each of them ended, and events since the last look. */
function startWatch(way: () => Promise<RawClient>) {
  const ends: string[] = [];
  const life = { isOver: false };
  let client: RawClient | undefined;
  const running = (async () => {
    while (!life.isOver) {
      client = await way();
      client.send(`GET /watch HTTP/1.1\r\nHost: ${authority}\r\nAuthorization: Bearer ${token.reveal()}\r\n\r\n`);
      const text = await client.closed();
      if (!life.isOver) ends.push(text.endsWith("\r\n0\r\n\r\n") ? "clean" : text.slice(-40));
    }
  })();
  return {
    ends,
    received: () => client?.received().length ?? 0,
    async stop() {
      life.isOver = true;
      client?.socket.destroy();
      await running;
    },
  };
}

test("watches go on through the grace period, end cleanly, and are taken up again at another replica", async () => {
  await using service = await startService();
  const old = await service.start();
  const watches = Array.from({ length: 20 }, () => startWatch(service.tunnelled));
  await expect.poll(() => watches.every(({ received }) => received() > 200), { timeout: 10_000 }).toBe(true);
  await service.start();
  old.child.kill("SIGTERM");
  // Its port is closed when the drain delay is over; the streams are not.
  const refused = async () =>
    await openRaw(old.forward).then(
      ({ socket }) => void socket.destroy(),
      () => "refused",
    );
  await expect.poll(refused, { timeout: 10_000 }).toBe("refused");
  const before = watches.map(({ received }) => received());
  await sleep(300);
  expect(watches.every(({ received }, index) => received() > (before[index] ?? 0))).toBe(true);
  expect(await old.ended).toBe(0);
  await expect
    .poll(() => watches.every(({ ends, received }) => ends.length === 1 && received() > 0), { timeout: 10_000 })
    .toBe(true);
  await Promise.all(watches.map((watch) => watch.stop()));
  expect(new Set(watches.flatMap(({ ends }) => ends))).toEqual(new Set(["clean"]));
});
