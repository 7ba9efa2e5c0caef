// The jobs module before a real control plane whose pods are played: how fast it submits, what ten thousand live runs cost it
// and the cluster, how soon it knows what the Job controller wrote, and a thousand log streams. Nothing is asserted of times
// and sizes: each is a line, `name value unit target ok|short`; what must be exact is asserted.
//   JOBS_SECONDS=10 JOBS_LIVE=500 JOBS_STREAMS=100 make bench ARGS=jobs-load   a short form of it
import { fork } from "node:child_process";
import { createReadStream } from "node:fs";
import { readdir } from "node:fs/promises";
import { availableParallelism, cpus, loadavg } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import type { RunState } from "@kube-connector/jobs";
import { expect, onTestFinished, test, vi } from "vitest";
import { definition, linesByPod, numbered } from "../kit/jobs-checks.ts";
import { type JobsRoom, namespace, startJobsRoom } from "../kit/jobs-room.ts";
import { figure } from "./figure.ts";
import type { EngineCall, EngineReport } from "./jobs-engine.ts";

const seconds = Number(process.env.JOBS_SECONDS ?? 60);
const liveRuns = Number(process.env.JOBS_LIVE ?? 10_000);
const streams = Number(process.env.JOBS_STREAMS ?? 1000);
const inFlight = 32;

// The controller's own brakes are not what is measured. The controllers that Jobs do not need look at each pod as well, and
// the one for nodes would evict all pods after some minutes, as the stand-in sends no heartbeat.
const controllers = [
  "--kube-api-qps=2000",
  "--kube-api-burst=4000",
  "--concurrent-job-syncs=50",
  "--controllers=job-controller,garbage-collector-controller",
];

/** The folder for a CPU profile of the engine; a profile takes memory, so what is measured of that is more then. */
const { JOBS_PROFILE: profileFolder } = process.env;
const profile = profileFolder === undefined ? [] : ["--cpu-prof", `--cpu-prof-dir=${profileFolder}`];

interface Engine {
  folder: string;
  ask<T>(call: EngineCall): Promise<T>;
}

async function startRoom(): Promise<{ room: JobsRoom; engine: Engine }> {
  const room = await startJobsRoom({ controllers });
  onTestFinished(() => room.stop(), 60_000);
  const folder = await room.folder();
  const child = fork(
    fileURLToPath(new URL("jobs-engine.ts", import.meta.url)),
    [JSON.stringify({ connector: room.config, folder })],
    {
      // As in its image.
      execArgv: ["--max-semi-space-size=2", "--expose-gc", "--optimize-for-size", ...profile],
      env: { ...process.env, MALLOC_ARENA_MAX: "1", MALLOC_TRIM_THRESHOLD_: "131072" },
    },
  );
  const next = () =>
    new Promise<unknown>((resolve, reject) => {
      const ended = (code: number | null) => reject(new Error(`the engine ended with ${code}`));
      child.once("exit", ended);
      child.once("message", (said: { value: unknown; error?: string }) => {
        child.off("exit", ended);
        if (said.error === undefined) resolve(said.value);
        else reject(new Error(said.error));
      });
    });
  await next();
  const ask = async <T>(call: EngineCall) => {
    const answer = next();
    child.send(call);
    return (await answer) as T;
  };
  onTestFinished(async () => {
    await ask({ call: "stop" });
    await new Promise((resolve) => child.once("exit", resolve));
  }, 60_000);
  return { room, engine: { folder, ask } };
}

const report = (engine: Engine) => engine.ask<EngineReport>({ call: "report" });
const untilStates = (engine: Engine, states: RunState[], count: number, most: number) =>
  engine.ask<number>({ call: "until", states, count, seconds: most });
const share = (sorted: readonly number[], part: number) => sorted[Math.floor(sorted.length * part)] ?? Number.NaN;

/** Others on this machine are in these figures, so that one reads them with that in mind. */
function noteLoad(): void {
  const load = loadavg()[0] ?? 0;
  if (load > 2 * availableParallelism()) console.log(`# load ${load.toFixed(1)} on ${availableParallelism()} cores`);
}

/** Seconds of CPU that the machine has worked, all in all. */
function machineTime(): number {
  return cpus().reduce((sum, { times }) => sum + times.user + times.nice + times.sys + times.irq, 0) / 1000;
}

/** Prints what a part of a test has cost: our process, and beside it everything else, the control plane above all. */
async function costOf<T>(
  engine: Engine,
  what: string,
  runs: number,
  work: () => Promise<T>,
): Promise<[T, EngineReport]> {
  const before = (await report(engine)).cpu;
  const machine = machineTime();
  const started = performance.now();
  const answer = await work();
  const after = await report(engine);
  const seconds = (performance.now() - started) / 1000;
  const ours = after.cpu - before;
  const theirs = machineTime() - machine - ours;
  console.log(
    `# ${what}: ${seconds.toFixed(0)} s; a run took ${((ours / runs) * 1000).toFixed(1)} ms of our CPU beside ${((theirs / runs) * 1000).toFixed(1)} ms of all else; we stood still for ${after.still.p99.toFixed(0)} ms at p99, ${after.still.most.toFixed(0)} ms at most`,
  );
  noteLoad();
  return [answer, after];
}

/** Requests that the API server has had from the module, by verb and resource; a stream that begins and ends counts once. */
async function requestsOf({ plane }: JobsRoom): Promise<Map<string, number>> {
  const folder = join(plane.folder, "log");
  const ids = new Set<string>();
  const counted = new Map<string, number>();
  for (const name of (await readdir(folder)).filter((one) => one.startsWith("audit"))) {
    for await (const line of createInterface({ input: createReadStream(join(folder, name)) })) {
      if (!line.includes(`system:serviceaccount:${namespace}:jobs`)) continue;
      const { auditID, verb, objectRef, user } = JSON.parse(line) as {
        auditID: string;
        verb: string;
        objectRef?: { resource?: string; subresource?: string };
        user: { username: string };
      };
      if (user.username !== `system:serviceaccount:${namespace}:jobs` || ids.has(auditID)) continue;
      ids.add(auditID);
      const { resource = "", subresource } = objectRef ?? {};
      const key = `${verb} ${resource}${subresource === undefined ? "" : `/${subresource}`}`;
      counted.set(key, (counted.get(key) ?? 0) + 1);
    }
  }
  return counted;
}

test("submissions a second, beside what the API server takes without us", { timeout: 600_000 }, async () => {
  const { room, engine } = await startRoom();
  // No pods, so that what is measured is the submission.
  const wanted = definition({}, { parallelism: 0 });
  const manifest = await engine.ask<object>({ call: "manifest", definition: wanted });
  const path = `/apis/batch/v1/namespaces/${namespace}/jobs`;
  const raw = { call: "post", manifest, path, inFlight } as const;
  const before = await engine.ask<Rate>({ ...raw, seconds: Math.max(2, seconds / 6) });
  const { cpu } = await report(engine);
  const ours = await engine.ask<Rate>({ call: "submit", definition: wanted, inFlight, seconds });
  noteLoad();
  const after = await report(engine);
  const limit = before.done / before.seconds;
  const rate = ours.done / ours.seconds;
  figure("jobs submitted", rate, "per s", { atLeast: 50 });
  figure("jobs submitted, of raw POSTs by the same way", rate / limit, "ratio", { atLeast: 0.3 });
  // What a machine leaves as it is whose cores are taken by the control plane.
  figure("jobs submitted, by our own CPU", ours.done / (after.cpu - cpu), "per s of CPU", { atLeast: 50 });
  console.log(`# raw POSTs ${limit.toFixed(0)} per s; ${(after.saves / ours.done).toFixed(1)} saves a run`);
  const { items } = await room.plane.admin.request<{ items: object[] }>("GET", path, {
    query: { labelSelector: "connectors.cpaas.io/run-id" },
    timeout: 60_000,
  });
  expect(items).toHaveLength(ours.done);
});

interface Rate {
  done: number;
  seconds: number;
}

test("live runs: watches, calls, memory, and how soon their ends are known", { timeout: 3_600_000 }, async () => {
  const { room, engine } = await startRoom();
  // They stay until the last has come, and then 20 a second end.
  const empty = await report(engine);
  const wanted = definition({ lines: 1, until: "released", over: liveRuns * 50 });
  const [submitted, live] = await costOf(engine, "until they run", liveRuns, async () => {
    const done = await engine.ask<Rate>({ call: "submit", definition: wanted, inFlight, count: liveRuns });
    await untilStates(engine, ["Running"], liveRuns, liveRuns / 5 + 60);
    return done;
  });
  expect(live.states).toEqual({ Running: liveRuns });
  figure("jobs live runs, submitted with their pods beside", submitted.done / submitted.seconds, "per s", {
    atLeast: 20,
  });
  figure("jobs live runs, watches", live.watches, "watches", { atMost: 2 });
  figure("jobs live runs, resident at most", live.peak, "MiB", { atMost: 512 });
  const kibi = ((live.resident - empty.resident) * 1024) / liveRuns;
  console.log(
    `# ${empty.resident.toFixed(0)} MiB without a run, ${kibi.toFixed(0)} KiB a run; heap ${live.heap.toFixed(0)}, buffers ${live.buffers.toFixed(0)}, ${live.follows} streams`,
  );
  const [, ended] = await costOf(engine, "from there until their Jobs are gone", liveRuns, async () => {
    room.kubelet.release();
    await untilStates(engine, ["Succeeded"], liveRuns, liveRuns / 5 + 60);
    await expect
      .poll(async () => (await jobsLeft(room)).length, { timeout: liveRuns * 20 + 60_000, interval: 2000 })
      .toBe(0);
  });
  expect(ended.states).toEqual({ Succeeded: liveRuns });
  const requests = await requestsOf(room);
  console.log(
    `# requests ${JSON.stringify(Object.fromEntries(requests))}; ${(ended.saves / liveRuns).toFixed(1)} saves a run`,
  );
  const all = [...requests.values()].reduce((sum, count) => sum + count, 0);
  figure("jobs live runs, requests a run of one container", all / liveRuns, "requests", { atMost: 4 });
  figure("jobs live runs, end known after the controller's write, p50", share(ended.lags, 0.5), "ms", { atMost: 500 });
  figure("jobs live runs, end known after the controller's write, p99", share(ended.lags, 0.99), "ms", {
    atMost: 1500,
  });
  figure("jobs live runs, resident at most, to the end", ended.peak, "MiB", { atMost: 512 });
});

async function jobsLeft({ plane }: JobsRoom): Promise<object[]> {
  const { items } = await plane.admin.request<{ items: object[] }>(
    "GET",
    `/apis/batch/v1/namespaces/${namespace}/jobs`,
    {
      query: { limit: 1 },
    },
  );
  return items;
}

test("log streams at once, cut now and then, and each log is exact", { timeout: 1_200_000 }, async () => {
  const { room, engine } = await startRoom();
  const lines = 100;
  const wanted = definition({ lines, every: 300, until: "released" });
  const started = performance.now();
  await engine.ask<Rate>({ call: "submit", definition: wanted, inFlight, count: streams });
  let most = 0;
  const watching = setInterval(() => {
    most = Math.max(most, room.kubelet.follows());
  }, 100);
  await vi.waitUntil(() => most >= streams, { timeout: streams * 200 + 60_000, interval: 200 }).catch(() => undefined);
  for (let cut = 0; cut < 5; cut += 1) {
    room.kubelet.cutLogs();
    await new Promise((wake) => setTimeout(wake, 3000));
  }
  clearInterval(watching);
  noteLoad();
  figure("jobs log streams at once", most, "streams", { atLeast: streams });
  room.kubelet.release();
  await untilStates(engine, ["Succeeded"], streams, 300);
  await expect.poll(async () => (await jobsLeft(room)).length, { timeout: 300_000, interval: 1000 }).toBe(0);
  const ids = await readdir(join(engine.folder, "logs"));
  expect(ids).toHaveLength(streams);
  for (const id of ids) expect([...(await linesByPod(engine.folder, id)).values()]).toEqual([numbered(lines)]);
  const { peak, cpu } = await report(engine);
  figure("jobs log streams, resident at most", peak, "MiB", { atMost: 512 });
  console.log(`# ${((performance.now() - started) / 1000).toFixed(0)} s in all, ${cpu.toFixed(0)} s of CPU`);
});
