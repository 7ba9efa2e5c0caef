// What the data path costs over HTTP/1.1, beside nginx, haproxy, kubectl proxy, a forwarder on node:http and a bare TLS byte
// pipe. CPU is compared within a round only, and nothing is asserted of it: each figure is a line, and short is said.
// "ours" is the relay alone; "ours, whole" reviews tokens and grants at a real API server, counts, and logs each request.

import { loadavg } from "node:os";
import { fileURLToPath } from "node:url";
import { systemClock } from "@kube-connector/core";
import { noMetrics } from "@kube-connector/proxy";
import { afterAll, beforeAll, expect, test } from "vitest";
// oxlint-disable-next-line import/no-relative-packages -- a part of the proxy that is not in its index
import { createCallerLimiter } from "../../proxy/src/limits/callers.ts";
import { resolvedConnector } from "../kit/resolved.ts";
import { listPath } from "./asked.ts";
import { ask, getText, inLanes, openTls, openTunnel } from "./clients.ts";
import { figure, nginxHandshake } from "./figure.ts";
import { compareFirstAnswers } from "./first-answers.ts";
import { buildGoPeer } from "./go-peer.ts";
import { cpuPerRequest, sleep } from "./load.ts";
import { cpuOf, freePort, leaveMeasuredCore, memoryOf, otherCore, residentOf, start } from "./machine.ts";
import { addedLatency } from "./paced.ts";
import { type Bench, imageEnvironment, startBench, type Subject, type SubjectName } from "./peers.ts";
import { median, ratios, rounds, table } from "./rounds.ts";

let bench: Bench;
const times = Number(process.env.BENCH_ROUNDS ?? 5);
/** Requests until V8 has compiled what it will: before, a third of the CPU is the compiler's. */
const untilWarm = 30_000;
const connectionsUntilWarm = 1500;
/** Of requests directly, and as many through each of what stands before it. */
const apiServerSeconds = 12 * times;

beforeAll(async () => {
  leaveMeasuredCore();
  bench = await startBench();
}, 60_000);
afterAll(async () => {
  const [one = 0] = loadavg();
  console.log(
    `load of the machine at the end: ${one.toFixed(1)} (above 2 or 3, others were at work and figures say less)`,
  );
  await bench[Symbol.asyncDispose]();
});

/** Rounds after one that is thrown away. */
async function compare(names: readonly SubjectName[], measure: (subject: Subject) => Promise<number>) {
  const one = (name: SubjectName) => measure(bench.subjects[name]);
  await rounds(1, names, one);
  return await rounds(times, names, one);
}

test("a small GET", async () => {
  const load = { path: "/small", connections: 32, milliseconds: 500, requests: 5000 };
  const names = ["nginx", "haproxy", "byte pipe", "ours", "ours, whole", "kubectl proxy", "node:http"] as const;
  for (const name of names) await cpuPerRequest(bench, bench.subjects[name], { ...load, requests: untilWarm });
  const cpu = await compare(names, (subject) => cpuPerRequest(bench, subject, load));
  table("2 kB GET, 32 connections", "us CPU", cpu);
  const over = (under: SubjectName, name: SubjectName) => median(ratios(cpu, under, name));
  figure("h1 small GET, of the byte pipe", over("byte pipe", "ours"), "x", { atLeast: 0.9 });
  figure("h1 small GET, of nginx", over("nginx", "ours"), "x", { atLeast: 0.7 });
  figure("h1 small GET, of kubectl proxy", over("kubectl proxy", "ours"), "x", { atLeast: 2.5 });
  figure("h1 small GET with everything on, of nginx", over("nginx", "ours, whole"), "x", { atLeast: 0.6 });
});

test("what each part costs", async () => {
  const { port } = bench.target;
  const parts = {
    "relay alone": bench.subjects.ours,
    "and identity, metrics": await bench.ours("and identity, metrics", { port, whole: true, audit: "off" }),
    "and the audit log": await bench.ours("and the audit log", { port, whole: true }),
    "and a policy of rules": bench.subjects["ours, whole"],
  };
  type Part = keyof typeof parts;
  const names = Object.keys(parts) as Part[];
  const load = { path: listPath, connections: 32, milliseconds: 500, requests: 5000 };
  const one = (name: Part) => cpuPerRequest(bench, parts[name], load);
  for (const name of names) await cpuPerRequest(bench, parts[name], { ...load, requests: untilWarm });
  const cpu = await rounds(times, names, one);
  table("2 kB list, 32 connections", "us CPU", cpu);
  const cost = (part: Part, before: Part) => median(cpu[part].map((with_, at) => with_ - (cpu[before][at] ?? 0)));
  figure("h1 what identity and metrics cost a request", cost(names[1]!, names[0]!), "us", { atMost: 4 });
  figure("h1 what the audit log costs a request", cost(names[2]!, names[1]!), "us", { atMost: 6 });
  figure("h1 what a policy of six rules costs a request", cost(names[3]!, names[2]!), "us", { atMost: 3 });
  figure("h1 what the limits of callers cost a request", await costOfLimits(), "us", { atMost: 1 });
});

/** Microseconds of one admission among a thousand callers; in this process, as nobody can switch limits off. */
async function costOfLimits(): Promise<number> {
  const limiter = createCallerLimiter({ clock: systemClock, metrics: noMetrics });
  const limits = { requestsPerSecond: 1e9, burst: 1e9, streams: 1e6 };
  const connector = { ...(await resolvedConnector({ name: "prod" })), limits };
  const callers = Array.from({ length: 1000 }, (_, at) => ({
    user: "system:serviceaccount:team-a:bench",
    uid: "u",
    groups: [],
    extra: {},
    namespace: "team-a",
    pod: { name: `pod-${at}`, uid: `uid-${at}` },
  }));
  const once = () => {
    for (const caller of callers) limiter.admit(caller, connector).end();
  };
  for (let warm = 0; warm < 50; warm += 1) once();
  const before = process.cpuUsage();
  for (let round = 0; round < 100; round += 1) once();
  const { user, system } = process.cpuUsage(before);
  return (user + system) / 100 / callers.length;
}

test("a 5 MB list", async () => {
  const load = { path: "/big", connections: 4, milliseconds: 1000 };
  const names = ["nginx", "haproxy", "byte pipe", "ours", "ours, whole", "kubectl proxy"] as const;
  const cpu = await compare(names, (subject) => cpuPerRequest(bench, subject, load));
  table("5 MB GET, 4 connections", "us CPU", cpu);
  figure("h1 5 MB list, CPU of nginx's", median(ratios(cpu, "ours", "nginx")), "x", { atMost: 1 });
});

test("new connections", async () => {
  const authority = `127.0.0.1:${bench.target.port}`;
  const oneShot =
    (requests: number, count = 150) =>
    async (subject: Subject) => {
      const before = cpuOf(subject.pid);
      await inLanes(count, 4, async () => {
        const { forward } = subject;
        const where =
          forward === undefined
            ? { port: subject.port }
            : { socket: await openTunnel(forward, authority, bench.tunnelToken) };
        const client = await openTls(where);
        const text = getText("/small", authority, subject.headers);
        for (let i = 0; i < requests; i += 1) await ask(client, text, 2048);
        client.destroy();
      });
      return (cpuOf(subject.pid) - before) / count / 1000;
    };
  const names = ["nginx", "haproxy", "ours", "ours, whole"] as const;
  for (const name of ["ours", "ours, whole"] as const) await oneShot(1, connectionsUntilWarm)(bench.subjects[name]);
  const once = await compare(names, oneShot(1));
  table("TLS (ours: CONNECT, TLS) and one GET", "ms CPU", once);
  figure("h1 new CONNECT, TLS and request", median(once.ours), "ms", { atMost: 1 });
  const elsewhere = nginxHandshake * median(ratios(once, "ours", "nginx"));
  figure(`h1 new CONNECT, TLS and request where nginx takes ${nginxHandshake} ms`, elsewhere, "ms", { atMost: 1 });
  const kubectl = await compare(["ours, whole"], oneShot(3));
  const persecond = 1000 / median(kubectl["ours, whole"]);
  figure("h1 one-shot clients of 3 requests a second and core, by CPU", persecond, "1/s", { atLeast: 300 });
});

test("the first answer of a new client", async () => {
  const port = await freePort();
  const script = fileURLToPath(new URL("stream-target.ts", import.meta.url));
  const parts = { listen: port, certificate: bench.identity.certificate, key: bench.identity.key };
  await using target = await start(otherCore, [process.execPath, script, JSON.stringify(parts)], { ready: "ready" });
  expect(target.pid).toBeGreaterThan(0);
  // Watches, which keep their connections to the target.
  await compareFirstAnswers(bench, { port, http2: false, path: "/api/v1/pods?watch=1", count: 8 * times });
});

test("streams: idle watches and a busy exec", async () => {
  const port = await freePort();
  const script = fileURLToPath(new URL("stream-target.ts", import.meta.url));
  const parts = { listen: port, certificate: bench.identity.certificate, key: bench.identity.key };
  await using target = await start(otherCore, [process.execPath, script, JSON.stringify(parts)], { ready: "ready" });
  expect(target.pid).toBeGreaterThan(0);
  const host = `127.0.0.1:${port}`;
  const ours = await bench.ours("ours, streams", { port });

  const watch = async () => {
    const client = await openTls({ port: ours.port });
    const text = getText("/api/v1/pods?watch=1", "localhost", ours.headers);
    await ask(client, text, 7);
    return client;
  };
  const hold = async (count: number) => {
    const held: Awaited<ReturnType<typeof watch>>[] = [];
    await inLanes(count, 8, async () => void held.push(await watch()));
    return held;
  };
  // First some that go, so that what is there once for all of them is there.
  for (const client of await hold(200)) client.destroy();
  await sleep(1000);
  const before = residentOf(ours.pid);
  const held = await hold(1000);
  await sleep(2000);
  figure("h1 idle watch, memory", (residentOf(ours.pid) - before) / held.length, "KiB", { atMost: 100 });
  for (const client of held) client.destroy();
  await sleep(500);

  const pipe = await bench.byteInFrontOf(port);
  const upgrade = ["Connection: Upgrade", "Upgrade: websocket"];
  const exec = async (
    subject: Subject,
    path: string,
    work: (socket: Awaited<ReturnType<typeof openTls>>) => Promise<number>,
  ) => {
    const client = await openTls({ port: subject.port });
    const name = subject === ours ? "localhost" : host;
    await ask(client, getText(path, name, [...subject.headers, ...upgrade]), 0);
    const begun = cpuOf(subject.pid);
    const amount = await work(client);
    const used = cpuOf(subject.pid) - begun;
    client.destroy();
    return used / amount;
  };
  const named = { "byte pipe": pipe, ours };
  const bulk = await rounds(times, ["byte pipe", "ours"] as const, (name) =>
    exec(named[name], "/exec", async (client) => {
      let bytes = 0;
      client.on("data", (piece: Buffer) => void (bytes += piece.length));
      await sleep(700);
      return bytes / 1e6;
    }),
  );
  table("exec, output as fast as it goes", "us CPU/MB", bulk);
  figure("h1 exec stream, of a TLS byte pipe", median(ratios(bulk, "byte pipe", "ours")), "x", { atLeast: 0.8 });
  const keys = await rounds(times, ["byte pipe", "ours"] as const, (name) =>
    exec(named[name], "/echo", async (client) => {
      let echoes = 0;
      client.on("data", () => {
        echoes += 1;
        client.write("x");
      });
      client.write("x");
      await sleep(500);
      return echoes;
    }),
  );
  table("exec, one byte there and back", "us CPU", keys);
});

test("before a real kube-apiserver, 500 requests a second", async () => {
  const ours = await addedLatency(bench, buildGoPeer(), { http2: false, seconds: apiServerSeconds });
  figure("h1 kube-apiserver, 500 requests a second, added p50", ours.p50, "ms", { atMost: 0.3 });
  figure("h1 kube-apiserver, 500 requests a second, added p99", ours.p99, "ms", { atMost: 2 });
});

test("a whole proxy at rest", async () => {
  const proxy = await bench.ours("ours, at rest", { port: bench.target.port, whole: true });
  await sleep(5000);
  // The floor: Node alone, and with what every server of HTTPS loads.
  const nodes = {
    "Node that does nothing": "",
    "Node that listens for HTTPS": "require('https').createServer().listen(0)",
  };
  console.log(`proxy at rest: ${shownMemory(proxy.pid)}`);
  for (const [name, what] of Object.entries(nodes)) {
    const script = `${what};console.log('ready');setInterval(()=>{},1e6)`;
    await using node = await start(otherCore, [process.execPath, "-e", script], {
      ready: "ready",
      env: imageEnvironment,
    });
    await sleep(1000);
    console.log(`a ${name}: ${shownMemory(node.pid)}`);
  }
  const memory = memoryOf(proxy.pid);
  figure("proxy at rest, resident", memory.resident / 1024, "MiB", { atMost: 70 });
  figure("proxy at rest, its own memory", memory.anonymous / 1024, "MiB", { atMost: 35 });
});

function shownMemory(pid: number): string {
  const { resident, anonymous, files } = memoryOf(pid);
  const shown = (kibibytes: number) => `${(kibibytes / 1024).toFixed(1)} MiB`;
  return `${shown(resident)} resident: ${shown(anonymous)} its own, ${shown(files)} pages of files`;
}
