// The jobs module as a process of its own, so that its memory and its time are its own: node jobs-engine.ts {"connector",
// "folder"}, over IPC. What is kept of each run, and when, is read off the history's own calls; a raw watch of the Jobs beside
// it tells when the cluster said so.
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { monitorEventLoopDelay } from "node:perf_hooks";
import { connectorAccess, openApiServer, Secret, silentLog, startReflector, systemClock } from "@kube-connector/core";
import { type ConnectorConfig, openStore, type RunRecord, type RunState, startJobs } from "@kube-connector/jobs";

/** What the bench asks for; each is answered with one message. */
export type EngineCall =
  /** Submits for that time or number, so many at a time, each until its Job is made. */
  | { call: "submit"; definition: object; inFlight: number; seconds?: number; count?: number }
  /** Sends the same Jobs without the module, the same way. */
  | { call: "post"; manifest: object; path: string; inFlight: number; seconds: number }
  | { call: "manifest"; definition: object }
  /** Lets run what runs, until so many runs are in one of those states. */
  | { call: "until"; states: RunState[]; count: number; seconds: number }
  | { call: "report" }
  | { call: "stop" };

export interface EngineReport {
  states: Partial<Record<RunState, number>>;
  watches: number;
  follows: number;
  /** Saves of the history, in all. */
  saves: number;
  /** MiB: now, and at most so far. */
  resident: number;
  peak: number;
  /** Of that, what is used of the heap, and by buffers outside of it. */
  heap: number;
  buffers: number;
  /** Seconds of CPU. */
  cpu: number;
  /** Milliseconds for which the process stood still since the last report: 99 of 100 times at most, and once. */
  still: { p99: number; most: number };
  /** Milliseconds from the raw watch to what the history has: when pods became active, and when the Job was complete. */
  lags: number[];
}

const { connector, folder } = JSON.parse(process.argv[2] ?? "{}") as { connector: ConnectorConfig; folder: string };
const runLabel = "connectors.cpaas.io/run-id";

// First of all, as nothing else keeps the process alive.
process.on("message", (asked: EngineCall) => {
  answer(asked).then(
    (value) => {
      process.send?.({ value });
      if (asked.call === "stop") process.disconnect();
    },
    (error: unknown) => process.send?.({ error: String(error) }),
  );
});

const store = await openStore(new Secret(join(folder, "jobs.db")), { log: silentLog });
const states = new Map<string, RunState>();
const counts = new Map<RunState, number>();
/** Runs whose Job is made, and who waits for that. */
const made = new Set<string>();
const waiting = new Map<string, () => void>();
/** When the raw watch saw a run's Job complete, and when the history had it; by run. */
const said = new Map<string, number>();
const kept = new Map<string, number>();
const lags: number[] = [];
let saves = 0;
const delays = monitorEventLoopDelay({ resolution: 5 });
delays.enable();

function pair(run: string): void {
  const from = said.get(run);
  const to = kept.get(run);
  if (from === undefined || to === undefined) return;
  lags.push(to - from);
  said.delete(run);
  kept.delete(run);
}

function note({ id, state, attempts }: RunRecord): void {
  saves += 1;
  const before = states.get(id);
  if (before !== undefined) counts.set(before, (counts.get(before) ?? 0) - 1);
  states.set(id, state);
  counts.set(state, (counts.get(state) ?? 0) + 1);
  if (attempts.at(-1)?.uid !== undefined) {
    made.add(id);
    waiting.get(id)?.();
    waiting.delete(id);
  }
  if (state === "Succeeded" && before !== "Succeeded") {
    kept.set(id, performance.now());
    pair(id);
  }
}

const jobs = await startJobs({
  connectors: [connector],
  store: {
    ...store,
    async save(...of) {
      const record = await store.save(...of);
      note(record);
      return record;
    },
  },
  logs: join(folder, "logs"),
  log: silentLog,
});
const api = openApiServer({ ...(await connectorAccess(connector.kubeconfig)), connections: 64 });
const watch = startReflector<true>({
  api,
  clock: systemClock,
  log: silentLog,
  path: "/apis/batch/v1/namespaces/batch/jobs",
  query: { labelSelector: runLabel },
  keep({ metadata, status }) {
    const { labels } = metadata as { labels?: Record<string, string> };
    const run = labels?.[runLabel] ?? "";
    const conditions = (status as { conditions?: { type: string; status: string }[] } | undefined)?.conditions ?? [];
    const isComplete = conditions.some(({ type, status: is }) => type === "Complete" && is === "True");
    if (!isComplete || said.has(run)) return true;
    if (states.get(run) !== "Succeeded" || kept.has(run)) said.set(run, performance.now());
    pair(run);
    return true;
  },
});
await watch.synced;

/** So many loops until the time is over or so many were done. Answers with how many, and the seconds that they took. */
async function repeat(
  { inFlight, seconds = Infinity, count = Infinity }: { inFlight: number; seconds?: number; count?: number },
  work: (at: number) => Promise<void>,
): Promise<{ done: number; seconds: number }> {
  let done = 0;
  let next = 0;
  const started = performance.now();
  const loop = async () => {
    while (performance.now() - started < seconds * 1000 && next < count) {
      await work(next++);
      done += 1;
    }
  };
  await Promise.all(Array.from({ length: inFlight }, loop));
  return { done, seconds: (performance.now() - started) / 1000 };
}

async function memory(): Promise<Pick<EngineReport, "resident" | "peak" | "heap" | "buffers">> {
  const status = await readFile("/proc/self/status", "utf8");
  const { heapUsed, arrayBuffers } = process.memoryUsage();
  const mebi = (field: string) => Number(new RegExp(`${field}:\\s+(\\d+) kB`).exec(status)?.[1]) / 1024;
  return { resident: mebi("VmRSS"), peak: mebi("VmHWM"), heap: heapUsed / 2 ** 20, buffers: arrayBuffers / 2 ** 20 };
}

function answer(asked: EngineCall): Promise<unknown> {
  switch (asked.call) {
    case "submit":
      return repeat(asked, async () => {
        const { run } = await jobs.submit(asked.definition);
        if (!made.has(run.id)) await new Promise<void>((resolve) => waiting.set(run.id, resolve));
      });
    case "manifest":
      return jobs.dryRun(asked.definition, "client").then(({ manifest }) => manifest);
    case "post":
      return repeat(asked, async (at) => {
        const { metadata, ...rest } = asked.manifest as { metadata: object };
        const body = { ...rest, metadata: { ...metadata, name: `raw-${at}`, labels: { raw: "yes" } } };
        await api.request("POST", asked.path, { query: { fieldValidation: "Strict" }, body, timeout: 30_000 });
      });
    case "until":
      return untilStates(asked.states, asked.count, asked.seconds);
    case "report":
      return report();
    case "stop":
    default:
      return stop();
  }
}

async function untilStates(those: readonly RunState[], count: number, seconds: number): Promise<number> {
  const total = () => those.reduce((sum, state) => sum + (counts.get(state) ?? 0), 0);
  const end = performance.now() + seconds * 1000;
  while (total() < count && performance.now() < end) await new Promise((wake) => setTimeout(wake, 200));
  return total();
}

async function report(): Promise<EngineReport> {
  const { watches, follows } = await jobs.figures();
  const { user, system } = process.cpuUsage();
  const still = { p99: delays.percentile(99) / 1e6, most: delays.max / 1e6 };
  delays.reset();
  return {
    states: Object.fromEntries([...counts].filter(([, count]) => count > 0)),
    watches: watches.watch,
    follows,
    saves,
    ...(await memory()),
    cpu: (user + system) / 1e6,
    still,
    lags: lags.toSorted((a, b) => a - b),
  };
}

async function stop(): Promise<void> {
  await watch.stop();
  await jobs.stop();
  await store.stop();
  await api.stop();
}

process.send?.({ value: "ready" });
