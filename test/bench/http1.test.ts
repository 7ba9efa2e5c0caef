// What the data path costs over HTTP/1.1, beside nginx, haproxy, kubectl proxy, a forwarder on node:http and a bare TLS byte
// pipe. CPU is compared within a round only, and nothing is asserted of it: each figure is a line, and short is said.
// "ours" is the relay alone; "ours, whole" reviews tokens and grants at a real API server, counts, and logs each request.

import { loadavg } from "node:os";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, expect, test } from "vitest";
import { ask, getText, inLanes, openTls, openTunnel } from "./clients.ts";
import { figure } from "./figure.ts";
import { cpuPerRequest, sleep } from "./load.ts";
import { cpuOf, freePort, leaveMeasuredCore, otherCore, residentOf, start } from "./machine.ts";
import { type Bench, startBench, type Subject, type SubjectName } from "./peers.ts";
import { median, ratios, rounds, table } from "./rounds.ts";

let bench: Bench;
const times = Number(process.env.BENCH_ROUNDS ?? 5);

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
  const load = { path: "/small", connections: 32, milliseconds: 1000 };
  const names = ["nginx", "haproxy", "byte pipe", "ours", "ours, whole", "kubectl proxy", "node:http"] as const;
  const cpu = await compare(names, (subject) => cpuPerRequest(bench, subject, load));
  table("2 kB GET, 32 connections", "us CPU", cpu);
  const over = (under: SubjectName, name: SubjectName) => median(ratios(cpu, under, name));
  figure("h1 small GET, of the byte pipe", over("byte pipe", "ours"), "x", { atLeast: 0.9 });
  figure("h1 small GET, of nginx", over("nginx", "ours"), "x", { atLeast: 0.7 });
  figure("h1 small GET, of kubectl proxy", over("kubectl proxy", "ours"), "x", { atLeast: 2.5 });
  figure("h1 small GET with everything on, of nginx", over("nginx", "ours, whole"), "x", { atLeast: 0.6 });
  const cost = median(cpu["ours, whole"].map((whole, round) => whole - (cpu.ours[round] ?? 0)));
  figure("h1 what identity, metrics and log cost a request", cost, "us", { atMost: 10 });
});

test("a 5 MB list", async () => {
  const load = { path: "/big", connections: 4, milliseconds: 1000 };
  const names = ["nginx", "haproxy", "byte pipe", "ours", "ours, whole", "kubectl proxy"] as const;
  const cpu = await compare(names, (subject) => cpuPerRequest(bench, subject, load));
  table("5 MB GET, 4 connections", "us CPU", cpu);
  figure("h1 5 MB list, CPU of nginx's", median(ratios(cpu, "ours", "nginx")), "x", { atMost: 1 });
});

test("new connections", async () => {
  const authority = `127.0.0.1:${bench.target.port}`;
  const oneShot = (requests: number) => async (subject: Subject) => {
    const count = 150;
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
  const once = await compare(names, oneShot(1));
  table("TLS (ours: CONNECT, TLS) and one GET", "ms CPU", once);
  figure("h1 new CONNECT, TLS and request", median(once.ours), "ms", { atMost: 1 });
  const kubectl = await compare(["ours, whole"], oneShot(3));
  const persecond = 1000 / median(kubectl["ours, whole"]);
  figure("h1 one-shot clients of 3 requests a second and core, by CPU", persecond, "1/s", { atLeast: 300 });
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
  const { plane, adminToken: token } = bench;
  const { hostname, port, host } = new URL(plane.url);
  expect(hostname).toBe("127.0.0.1");
  const through = await bench.ours("ours, whole", { port: Number(port), caBundle: plane.ca, token, whole: true });
  const path = "/api/v1/namespaces/team-a/serviceaccounts?limit=1";
  /** One request every 2 ms, each on a connection that is free; what waits for one waits on the clock. */
  const latencies = async (clients: Awaited<ReturnType<typeof openTls>>[], text: string) => {
    const free = [...clients];
    const all: number[] = [];
    const began = performance.now();
    const waiting: Promise<void>[] = [];
    for (let sent = 0; sent < 1000; sent += 1) {
      const due = began + sent * 2;
      for (let client = free.pop(); ; client = free.pop()) {
        if (client !== undefined && performance.now() >= due) {
          const used = client;
          const done = askAny(used, text).then(() => {
            all.push(performance.now() - due);
            free.push(used);
          });
          waiting.push(done);
          break;
        }
        if (client !== undefined) free.push(client);
        await new Promise((resolve) => setImmediate(resolve));
      }
    }
    await Promise.all(waiting);
    return all.toSorted((a, b) => a - b);
  };
  const open = (to: number) => Promise.all(Array.from({ length: 32 }, () => openTls({ port: to })));
  const [direct, proxied] = [await open(Number(port)), await open(through.port)];
  const directText = getText(path, host, [`Authorization: Bearer ${token}`]);
  const proxiedText = getText(path, "localhost", through.headers);
  const added = { p50: [] as number[], p99: [] as number[] };
  for (let round = 0; round <= times; round += 1) {
    const a = await latencies(direct, directText);
    const b = await latencies(proxied, proxiedText);
    if (round === 0) continue;
    added.p50.push((b[500] ?? 0) - (a[500] ?? 0));
    added.p99.push((b[990] ?? 0) - (a[990] ?? 0));
  }
  for (const client of [...direct, ...proxied]) client.destroy();
  figure("h1 kube-apiserver, 500 requests a second, added p50", median(added.p50), "ms", { atMost: 0.3 });
  figure("h1 kube-apiserver, 500 requests a second, added p99", median(added.p99), "ms", { atMost: 2 });
});

/** A request and its answer, whose length is not known before. Each connection has one at a time. */
async function askAny(socket: Awaited<ReturnType<typeof openTls>>, text: string): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    let answer = "";
    const onData = (bytes: Buffer) => {
      answer += bytes.toString("latin1");
      const end = answer.indexOf("\r\n\r\n");
      if (end < 0) return;
      const length = Number(/\r\ncontent-length: (\d+)/i.exec(answer)?.[1]);
      if (!answer.startsWith("HTTP/1.1 200 ") || Number.isNaN(length)) reject(new Error(answer.slice(0, 400)));
      if (answer.length < end + 4 + length) return;
      socket.off("data", onData);
      resolve();
    };
    socket.on("data", onData);
    socket.write(text, "latin1");
  });
}

test("a whole proxy at rest, as one file like the image's", async () => {
  const proxy = await bench.ours("ours, bundled", { port: bench.target.port, whole: true, bundled: true });
  await sleep(5000);
  figure("proxy at rest, resident", residentOf(proxy.pid) / 1024, "MiB", { atMost: 70 });
});
