// What the data path costs over HTTP/2, beside haproxy (HTTP/2 on both sides) and nginx (HTTP/2 towards its clients alone).
// haproxy shares its connections to the target among its clients; "unshared" it has one for each of them, as ours has. The byte
// pipe is what Node itself costs, with no HTTP at all.
// "ours" is the whole proxy: it reviews tokens and grants at a real API server, judges by the policy ReadOnly, counts, and
// writes an audit log into a file. "relay" is the same without all that, "by node:http2" the same with `--http2 node`. CPU is
// compared within a round only.

import { loadavg } from "node:os";
import { afterAll, beforeAll, expect, test } from "vitest";
import { openTls } from "./clients.ts";
import { figure, nginxHandshake } from "./figure.ts";
import { compareFirstAnswers } from "./first-answers.ts";
import { buildGoPeer } from "./go-peer.ts";
import { cpuPerRequest, cpuUnder, sleep } from "./load.ts";
import { cpuOf, freePort, leaveMeasuredCore, otherCore, residentOf, type Started, start } from "./machine.ts";
import { addedLatency } from "./paced.ts";
import { type Bench, startBench, type Subject } from "./peers.ts";
import { median, ratios, rounds, table } from "./rounds.ts";

const peers = ["haproxy", "haproxy, unshared", "nginx", "byte pipe", "relay", "ours", "by node:http2"] as const;
const names = [...peers, "ours, no audit", "ours, no policy"] as const;
type Name = (typeof names)[number];

let bench: Bench;
let subjects: Record<Name, Subject>;
let goPeer: string;
const times = Number(process.env.BENCH_ROUNDS ?? 5);
const one = "/api/v1/namespaces/work/configmaps/one";
const list = "/api/v1/configmaps";

beforeAll(async () => {
  leaveMeasuredCore();
  goPeer = buildGoPeer();
  bench = await startBench();
  const whole = { ...bench.http2Target, whole: true } as const;
  subjects = {
    haproxy: bench.subjects["haproxy, h2"],
    "haproxy, unshared": bench.subjects["haproxy, h2 unshared"],
    nginx: bench.subjects["nginx, h2"],
    "byte pipe": await bench.byteInFrontOf(bench.http2Target.port, { protocol: "h2" }),
    relay: await bench.ours("relay", bench.http2Target),
    ours: await bench.ours("ours", { ...whole, preset: "ReadOnly", audit: "file" }),
    "by node:http2": await bench.ours("by node:http2", { ...whole, preset: "ReadOnly", audit: "file", http2: "node" }),
    "ours, no audit": await bench.ours("ours, no audit", { ...whole, preset: "ReadOnly", audit: "off" }),
    "ours, no policy": await bench.ours("ours, no policy", { ...whole, audit: "off" }),
  };
  // A proxy's first client may come before it knows that the target speaks HTTP/2.
  for (const subject of Object.values(subjects)) {
    await cpuPerRequest(bench, subject, { path: one, connections: 1, milliseconds: 100 });
  }
}, 90_000);
afterAll(async () => {
  console.log(`load of the machine at the end: ${(loadavg()[0] ?? 0).toFixed(1)}`);
  await bench[Symbol.asyncDispose]();
});

/**
 * Requests at least, before the measuring and in each round of it. Before, so that code is as it is in a process that is up for a
 * while, as V8 compiles what it has seen run; in a round, so that handshakes and a busy machine say little.
 */
const enough = { before: 20_000, round: 1000 };

/** Rounds after one that is thrown away. */
async function compare<N extends Name>(
  among: readonly N[],
  measure: (subject: Subject, requests: number) => Promise<number>,
) {
  await rounds(1, among, (name) => measure(subjects[name], enough.before));
  return await rounds(times, among, (name) => measure(subjects[name], enough.round));
}

/** The Go program's command line, before that subject. */
function goPeerOf(command: string, subject: Subject, more: object): string[] {
  const authorization = subject.headers.find((line) => line.startsWith("Authorization: "))?.slice(15) ?? "";
  return [goPeer, command, JSON.stringify({ port: subject.port, authorization, ...more })];
}

test("small GETs, 4 connections of 8 streams", async () => {
  const load = { path: one, connections: 4, streams: 8, milliseconds: 1000 };
  const cpu = await compare(names, (subject, requests) => cpuPerRequest(bench, subject, { ...load, requests }));
  table("2 kB GET, 4 connections of 8 streams", "us CPU", cpu);
  figure("h2 small GET, 4 x 8, of haproxy", median(ratios(cpu, "haproxy", "ours")), "x", { atLeast: 0.85 });
  figure("h2 small GET, 4 x 8, relay alone, of haproxy", median(ratios(cpu, "haproxy", "relay")), "x", { atLeast: 1 });
  figure("h2 small GET, 4 x 8, of node:http2", median(ratios(cpu, "by node:http2", "ours")), "x", { atLeast: 2 });
  const cost = (more: Name, less: Name) => median(cpu[more].map((value, round) => value - (cpu[less][round] ?? 0)));
  figure("h2 what audit costs a request", cost("ours", "ours, no audit"), "us", { atMost: 5 });
  figure("h2 what the policy costs a request", cost("ours, no audit", "ours, no policy"), "us", { atMost: 5 });
  figure("h2 what identity and metrics cost a request", cost("ours, no policy", "relay"), "us", { atMost: 5 });
});

test("small GETs, 32 connections of one stream", async () => {
  const load = { path: one, connections: 32, streams: 1, milliseconds: 1000 };
  const cpu = await compare(peers, (subject, requests) => cpuPerRequest(bench, subject, { ...load, requests }));
  table("2 kB GET, 32 connections of one stream", "us CPU", cpu);
  figure("h2 small GET, 32 x 1, of haproxy", median(ratios(cpu, "haproxy", "ours")), "x", { atLeast: 0.65 });
});

test("Go clients with a new path for each request", async () => {
  const cpu = await compare(peers, (subject, requests) =>
    cpuUnder(goPeerOf("paths", subject, { connections: 4, streams: 8 }), bench, subject, 1000, requests),
  );
  table("2 kB GET by Go, new paths, 4 connections of 8 streams", "us CPU", cpu);
  figure("h2 Go clients, new paths, 4 x 8, of haproxy", median(ratios(cpu, "haproxy", "ours")), "x", { atLeast: 0.85 });
});

test("a 5 MB list", async () => {
  const load = { path: list, connections: 4, streams: 1, milliseconds: 1000 };
  const cpu = await compare(["nginx", "haproxy", "relay", "ours", "by node:http2"], (subject) =>
    cpuPerRequest(bench, subject, load),
  );
  table("5 MB GET, 4 connections (nginx: HTTP/1.1 to the target)", "us CPU", cpu);
  figure("h2 5 MB list, CPU of nginx's", median(ratios(cpu, "ours", "nginx")), "x", { atMost: 1 });
});

test("new connections", async () => {
  const host = `127.0.0.1:${bench.http2Target.port}`;
  const measure = async (subject: Subject, count = 150) => {
    const { forward } = subject;
    const proxy = `http://team-a%2Fprod:${bench.tunnelToken}@127.0.0.1:${forward}`;
    const through = forward === undefined ? {} : { proxy, host };
    const before = cpuOf(subject.pid);
    await run(goPeerOf("once", subject, { count, connections: 4, ...through }));
    return (cpuOf(subject.pid) - before) / count / 1000;
  };
  // Until V8 has compiled what it will.
  for (const name of ["relay", "ours"] as const) await measure(subjects[name], 1500);
  const cpu = await compare(peers, measure);
  table("TLS (ours: CONNECT, TLS, and TLS to the target) and one GET", "ms CPU", cpu);
  figure("h2 new CONNECT, TLS and request", median(cpu.ours), "ms", { atMost: 1.8 });
  figure("h2 new CONNECT, TLS and request, of the byte pipe", median(ratios(cpu, "byte pipe", "ours")), "x", {
    atLeast: 0.9,
  });
  const elsewhere = nginxHandshake * median(ratios(cpu, "ours", "nginx"));
  figure(`h2 new CONNECT, TLS and request where nginx takes ${nginxHandshake} ms`, elsewhere, "ms", { atMost: 1.8 });
});

test("the first answer of a new client", async () => {
  await compareFirstAnswers(bench, { port: bench.http2Target.port, http2: true, path: one, count: 8 * times });
});

/** Runs a program to its end. */
async function run(command: readonly string[]): Promise<void> {
  await using started = await start(otherCore, command);
  const { child } = started;
  const code = child.exitCode ?? (await new Promise<number | null>((resolve) => child.once("close", resolve)));
  if (code !== 0) throw new Error(`${command.slice(0, 2).join(" ")} ended with status ${code}`);
}

test("before a real kube-apiserver, 500 requests a second", async () => {
  const ours = await addedLatency(bench, goPeer, { http2: true, seconds: 12 * times });
  figure("h2 kube-apiserver, 500 requests a second, added p50", ours.p50, "ms", { atMost: 0.3 });
  figure("h2 kube-apiserver, 500 requests a second, added p99", ours.p99, "ms", { atMost: 2 });
});

test("10,000 watches", async () => {
  const port = await freePort();
  const identity = { certificate: bench.identity.certificate, key: bench.identity.key };
  const command = [goPeer, "target", JSON.stringify({ port, ...identity })];
  await using target = await start(otherCore, command, { ready: "ready" });
  expect(target.pid).toBeGreaterThan(0);
  const ours = await bench.ours("ours, watches", {
    port,
    whole: true,
    preset: "ReadOnly",
    audit: "file",
  });
  // It is up before it has read its connectors.
  const open = async () => (await openTls({ port: ours.port })).destroy().destroyed;
  await expect.poll(open, { timeout: 20_000 }).toBe(true);
  const hold = (connections: number) =>
    start(otherCore, goPeerOf("watches", ours, { connections, streams: 50 }), { ready: "open" });

  // First some that go, so that what is there once for all of them is there.
  await (await hold(4))[Symbol.asyncDispose]();
  await sleep(2000);
  const before = residentOf(ours.pid);
  {
    await using held = await hold(20);
    await sleep(2000);
    figure("h2 idle watch, memory", (residentOf(ours.pid) - before) / 1000, "KiB", { atMost: 10 });
    expect(held.child.exitCode).toBe(null);
  }
  await sleep(2000);
  await using held = await hold(200);
  await sleep(2000);
  figure("h2 10,000 watches, resident", residentOf(ours.pid) / 1024, "MiB", { atMost: 192 });
  const seconds: number[] = [];
  for (let round = 0; round <= times; round += 1) seconds.push(await eventTime(held, port));
  figure("h2 an event to 10,000 watches", median(seconds.slice(1)), "s", { atMost: 1 });
  figure("h2 10,000 watches after some events, resident", residentOf(ours.pid) / 1024, "MiB", { atMost: 192 });
});

/** Seconds from an event at the target until each watch has had it. */
async function eventTime(held: Started, port: number): Promise<number> {
  const all = new Promise<void>((resolve) => held.child.stdout?.once("data", () => resolve()));
  const began = performance.now();
  await run(["curl", "-fsk", "-X", "POST", `https://127.0.0.1:${port}/event`]);
  await all;
  return (performance.now() - began) / 1000;
}
