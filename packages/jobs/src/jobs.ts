import { createHash, randomBytes } from "node:crypto";
import { type Clock, Fault, type Log, type Running, type Secret, systemClock } from "@kube-connector/core";
import { type ConnectorConfig, fillMonitorUrl, openClusters } from "./clusters.ts";
import { type JobsCounts, noCounts } from "./counts.ts";
import { parseDefinition } from "./definition/parse.ts";
import { discover, type DiscoverQuery, type SourcePage } from "./discover.ts";
import { startEngine } from "./engine/engine.ts";
import { type LiveRun, maskOf } from "./engine/live-run.ts";
import { createRunSecret } from "./engine/run-secret.ts";
import { startSweeper, type SweepReport } from "./engine/sweep.ts";
import { followEvents, waitForRest } from "./follow-run.ts";
import type { RunQuery, RunSummary, Store } from "./history/store.ts";
import { createBell } from "./logs/bell.ts";
import type { LogFiles } from "./logs/files.ts";
import type { LineFilter } from "./logs/line.ts";
import { followLive, type LivePiece } from "./logs/read-live.ts";
import { type Found, type LogQueryOptions, readLog, searchLog } from "./logs/read-log.ts";
import { type RunLog, startRunLog } from "./logs/run-log.ts";
import { createSlots as createFollowSlots, mostBrief } from "./logs/slots.ts";
import { isRunId, noSuchRun } from "./run-id.ts";
import { isTerminal, type RunEvent, type RunRecord, type RunState } from "./run.ts";
import { parseIndexes } from "./source/names.ts";
import { createSlots, type Profile } from "./submit/slots.ts";
import { type DryRun, type Submitted, submitRun, tryRun } from "./submit/submission.ts";

export interface JobsOptions {
  connectors: readonly ConnectorConfig[];
  profiles?: Readonly<Record<string, Profile>>;
  /** Closed by who opened it, after `stop`. */
  store: Store;
  /** The folder of the log files. */
  logs: string;
  log: Log;
  clock?: Clock;
  counts?: JobsCounts;
  /** How logs reach the disk; the machine's own way unless told. */
  files?: LogFiles;
  /** Seconds after which another process may take up the runs of one that has died; 30 unless told. */
  leaseSeconds?: number;
}

/** Runs of Kubernetes Jobs, from one history. Every call rejects with a Fault. */
export interface Jobs extends Running {
  /** Accepted, and kept, once this resolves. `created` is false when a key has found an earlier run. */
  submit(definition: unknown, keys?: { idempotencyKey?: string }): Promise<Submitted>;
  /** client: rendered only; server: the cluster judges it as well. Nothing is kept. */
  dryRun(definition: unknown, where: "client" | "server"): Promise<DryRun>;
  get(id: string): Promise<RunRecord>;
  list(query: RunQuery): Promise<{ runs: RunSummary[]; next?: string }>;
  /** What happened to a run after event number `after`, and goes on until its end; with it the log is complete. */
  follow(id: string, after: number, signal: AbortSignal): AsyncGenerator<RunEvent>;
  /** The log as bytes, as far as it is; rejects with `not_found` when there is none. */
  readLog(id: string, query?: LogQueryOptions): AsyncGenerator<Buffer>;
  /** Lines with those words. */
  searchLog(id: string, words: string, query: LineFilter & { limit: number }): AsyncGenerator<Found>;
  /** The live log from that byte on, until it is complete or the signal. */
  followLog(
    id: string,
    options: { offset?: number; filter?: LineFilter; signal: AbortSignal },
  ): AsyncGenerator<LivePiece>;
  /** The run as it is when it is complete, failed, deleted or suspended, whichever is first. */
  wait(id: string, signal: AbortSignal): Promise<RunRecord>;
  cancel(id: string, options?: { propagation?: "Background" | "Foreground"; force?: boolean }): Promise<RunRecord>;
  suspend(id: string, suspended: boolean): Promise<RunRecord>;
  /** A new run of the same definition; with `failedIndexes` only of the indexes that failed. */
  retry(id: string, options?: { failedIndexes?: boolean }): Promise<RunRecord>;
  discover(query: DiscoverQuery): Promise<SourcePage>;
  /** Deletes what runs have left in the clusters; with `orphans` also what runs, and is in no history. */
  clean(options?: { orphans?: boolean }): Promise<SweepReport>;
  /** Ended runs, with their logs. Answers with the ids deleted. */
  remove(ids: readonly string[]): Promise<string[]>;
  /** A page about the run elsewhere, where the configuration names one. */
  monitorUrl(run: Pick<RunRecord, "id" | "connector" | "namespace" | "attempts">): Promise<string | undefined>;
  /** What is configured. */
  connectors(): Promise<{ name: string; defaultNamespace?: string }[]>;
  /** For metrics: runs by state, watches and polls, logs followed, runs that this process looks after. */
  figures(): Promise<{
    runs: Partial<Record<RunState, number>>;
    cleanupPending: number;
    watches: { watch: number; poll: number };
    follows: number;
    owned: number;
  }>;
}

/** Follows at a time, over all runs. */
const mostFollows = 1000;
/** Milliseconds between looks at a run that another process owns, and at one of ours, whose bell rings. */
const otherPatience = 500;
const ownPatience = 5000;

/** Starts the engine: from now on it takes up the runs of its history that nobody looks after. */
export async function startJobs(options: JobsOptions): Promise<Jobs> {
  const { store, log, clock = systemClock, leaseSeconds = 30, counts = noCounts } = options;
  const owner = randomBytes(12).toString("hex");
  const follows = createFollowSlots(mostFollows, clock);
  const lines = createBell(clock);
  const bell = createBell(clock);
  const profiles = new Map(Object.entries(options.profiles ?? {}));
  const slots = createSlots({ profiles, clock, onGrant: (run) => engine.wake(run) });
  const clusters = await openClusters(options.connectors, {
    engine: store.engine,
    streams: mostFollows + mostBrief,
    clock,
    log,
    counts,
    onChange: (run) => engine.wake(run),
  });
  const kube = (connector: string) => clusters.of(connector).kube;

  async function openLog(live: LiveRun): Promise<RunLog> {
    const { record, secrets } = live;
    const { id, connector, namespace, attempts, name, definition } = record;
    const isForgotten = secrets.size === 0 && definition.secretEnv.length > 0 && attempts.length > 0;
    const masks = isForgotten ? await createRunSecret(record, kube(connector)).read() : secrets;
    if (isForgotten) live.mask = maskOf(masks);
    return startRunLog({
      run: id,
      folder: options.logs,
      namespace,
      job: attempts[0]?.job ?? name,
      connector,
      open: (...of) => kube(connector).log(...of),
      masks: [...masks.values()],
      ...(options.files === undefined ? {} : { files: options.files }),
      slots: follows,
      bell: lines,
      clock,
      log,
      random: Math.random,
      onGap(gap) {
        counts.gap(gap.reason);
        live.gaps.push(gap);
        engine.wake(id);
      },
      onProgress({ lastLineAt }) {
        live.lastLineAt = lastLineAt;
      },
    });
  }

  await store.renew(owner, leaseSeconds);
  const engine = startEngine({
    store,
    clock,
    log,
    owner,
    leaseSeconds,
    parts: {
      random: Math.random,
      slots,
      kube,
      view: ({ connector, namespace, id }) => clusters.of(connector).view.view(namespace, id),
      openLog,
      onSaved: ({ id }) => bell.ring(id),
    },
  });
  await engine.ready;
  const { logs } = options;
  const sweeper = startSweeper({
    store,
    clock,
    log,
    clusters: clusters.all,
    takeUp: (runs) => engine.takeUp(runs),
    logs,
  });

  const context = {
    connectors: new Map([...clusters.all].map(([name, { config }]) => [name, config])),
    profiles: new Set(profiles.keys()),
  };
  const submission = { store, owner, clock, slots, kube };

  async function get(id: string): Promise<RunRecord> {
    const run = (await engine.settled(id)) ?? (await store.read(id));
    if (run === undefined) throw noSuchRun(id);
    return run;
  }
  const patience = (id: string) => (engine.owned(id) === undefined ? otherPatience : ownPatience);
  const news = { store, bell, get, patience };

  async function submitTo(
    parsed: ReturnType<typeof parseDefinition>,
    more: Omit<Parameters<typeof submitRun>[1], keyof typeof submission>,
  ): Promise<Submitted> {
    const began = clock.monotonic();
    const count = (result: "accepted" | "found" | "refused") =>
      counts.submitted(result, (clock.monotonic() - began) / 1000);
    try {
      const submitted = await submitRun(parsed, { ...submission, ...more });
      if (submitted.created) engine.adopt(submitted.run, parsed.secrets);
      count(submitted.created ? "accepted" : "found");
      return submitted;
    } catch (error) {
      count("refused");
      throw error;
    }
  }

  async function request(id: string, asked: Parameters<Store["request"]>[1]): Promise<RunRecord> {
    const { state } = await get(id);
    if (isTerminal(state)) throw new Fault("conflict", `Run ${id} has ended already: ${state}`);
    const record = await store.request(id, asked);
    engine.hear(record);
    return record;
  }

  return {
    done: Promise.all([engine.done, sweeper.done]).then(() => undefined),
    async submit(definition, { idempotencyKey: key } = {}) {
      const parsed = parseDefinition(definition, context);
      const { runKey } = parsed.definition;
      const digest = createHash("sha256").update(JSON.stringify(definition)).digest("hex");
      return submitTo(parsed, {
        keys: {
          ...(runKey === undefined ? {} : { runKey }),
          ...(key === undefined ? {} : { idempotency: { key, digest } }),
        },
      });
    },
    dryRun: async (definition, where) => tryRun(parseDefinition(definition, context), where, submission),
    get,
    list: (query) => store.list(query),
    follow: (id, after, signal) => followEvents(id, after, news, signal),
    readLog: (id, query) => readLog(logs, runIdOf(id), query),
    searchLog: (id, words, query) => searchLog(logs, runIdOf(id), words, query),
    followLog: (id, { offset = 0, filter = {}, signal }) =>
      followLive({ folder: logs, run: runIdOf(id), offset, filter, clock, bell: lines, signal }),
    wait: (id, signal) => waitForRest(id, news, signal),
    cancel: (id, { propagation = "Background", force = false } = {}) =>
      request(id, { cancel: { at: new Date(clock.now()).toISOString(), propagation, force } }),
    suspend: (id, suspended) => request(id, { suspend: suspended }),
    async retry(id, { failedIndexes = false } = {}) {
      const run = await get(id);
      const more = retryOf(run, failedIndexes);
      const { runKey: _runKey, ...definition } = run.definition;
      const again = { definition, secrets: new Map<string, Secret>(), warnings: [] };
      return (await submitTo(again, { keys: {}, more })).run;
    },
    discover: (query) => discover(kube(query.connector), store, query),
    clean: (asked = {}) => sweeper.sweep(asked.orphans === true),
    async remove(ids) {
      const removed = await store.remove(ids);
      await sweeper.removeLogs(removed);
      return removed;
    },
    monitorUrl: async (run) => fillMonitorUrl(clusters.all.get(run.connector)?.config, run),
    connectors: async () =>
      [...clusters.all.values()].map(({ config: { name, defaultNamespace } }) => ({
        name,
        ...(defaultNamespace === undefined ? {} : { defaultNamespace }),
      })),
    async figures() {
      const watches = [...clusters.all.values()].map(({ view }) => view.watches());
      return {
        runs: await store.count(),
        cleanupPending: engine.endedRuns(),
        watches: {
          watch: watches.reduce((sum, { watch }) => sum + watch, 0),
          poll: watches.reduce((sum, { poll }) => sum + poll, 0),
        },
        follows: follows.held(),
        owned: engine.size(),
      };
    },
    async stop() {
      await sweeper.stop();
      await engine.stop();
      slots.stop();
      await clusters.stop();
    },
  };
}

/** What a run that repeats another one has of it. */
function retryOf({ id, state, definition, attempts, indexes }: RunRecord, failedIndexes: boolean): Partial<RunRecord> {
  if (!isTerminal(state)) throw new Fault("conflict", `Run ${id} has not ended: ${state}`);
  if (definition.secretEnv.length > 0) {
    throw new Fault(
      "invalid_argument",
      `Run ${id} was given secret values (${definition.secretEnv.join(", ")}), which are kept nowhere; submit it again with them`,
    );
  }
  if (!failedIndexes) return { retryOf: id };
  const failed = attempts.at(-1)?.failedIndexes ?? "";
  // A Job counts its indexes from 0, also those of a run that had only some of another one's.
  if (failed !== "") return { retryOf: id, indexes: parseIndexes(failed).map((index) => indexes?.[index] ?? index) };
  throw new Fault("invalid_argument", `Run ${id} has no failed indexes: it is not Indexed, or all of them succeeded`);
}

/** An id that may be the name of a folder. */
function runIdOf(id: string): string {
  if (isRunId(id)) return id;
  throw noSuchRun(id);
}
