import { rm } from "node:fs/promises";
import { type Clock, Fault, type Log, type Secret, sleep } from "@kube-connector/core";
import type { Pod } from "../kube.ts";
import type { ContainerExit, LogSummary } from "../run.ts";
import type { Bell } from "./bell.ts";
import { diskFiles, indexPath, type LogFiles, livePath, partsFolder } from "./files.ts";
import { Follow, type FollowRoom, type OpenLog } from "./follow.ts";
import { type ContainerNews, containersOf, newsOfExit, wantedRuns } from "./instances.ts";
import { containerKey, endLine, type GapReason, headerLine, type Instance, stampAt } from "./line.ts";
import { Live } from "./live.ts";
import { createMasks } from "./mask.ts";
import { type MergedIndex, mergeParts } from "./merge.ts";
import { Part, type PartFacts } from "./part.ts";
import { readIndex } from "./read-log.ts";
import type { Slots } from "./slots.ts";

export interface LogLimits {
  /** Bytes of a line; longer ones are cut into pieces. */
  lineBytes: number;
  /** Bytes that are stored of a run. After them lines are counted and dropped. */
  runBytes: number;
}

const untouched = { closed: false, unordered: false, limited: false };

export const defaultLogLimits: LogLimits = { lineBytes: 1_048_576, runBytes: 1_073_741_824 };

/** Lines of that instance are missing. */
export type LogGap = Pick<Instance, "pod" | "container" | "restart"> & { reason: GapReason };

export interface LogProgress {
  /** In the live log. */
  lines: number;
  bytes: number;
  /** When the last line came, RFC 3339 by our clock; absent before the first since this process began. */
  lastLineAt?: string;
}

export interface RunLogOptions {
  run: string;
  /** Where the logs of all runs are. */
  folder: string;
  namespace: string;
  /** For the first line of the files. */
  job: string;
  connector: string;
  open: OpenLog;
  slots: Slots;
  bell: Bell;
  clock: Clock;
  log: Log;
  /** From 0 to below 1. */
  random: () => number;
  /** Values that no file may hold. */
  masks: readonly Secret[];
  limits?: LogLimits;
  files?: LogFiles;
  onGap(gap: LogGap): void;
  onProgress?(progress: LogProgress): void;
}

/** The log of one run while it is collected. */
export interface RunLog {
  /** Pods of the run that are new or changed, or have gone, and the uids of those that are gone. */
  observe(pods: readonly Pod[], gone: readonly string[]): void;
  /** How containers have ended of which the history knows: what was never begun is read, or marked. */
  recall(exits: readonly ContainerExit[]): void;
  /**
   * So many pods of that Job have ended, of which the history or the cluster knows those. If there are more than that and those
   * with a log, they came and went while nobody looked: what they wrote is marked as missing.
   */
  tally(job: string, ended: number, known: ReadonlySet<string>): void;
  /**
   * Reads what is left, for so many milliseconds at most, then writes merged.log and its index; the parts go. Rejects with a
   * Fault, `unavailable` when the disk is full: what was stored is kept, and it may be called again.
   */
  finish(end: { state: string; milliseconds: number }): Promise<LogSummary>;
  /** What the program said in `::output {json}` lines; known after finish. */
  outputs(): Record<string, string>;
  /** Why lines cannot be stored at present. The reading goes on when they can. */
  problem(): Fault | undefined;
  /** Ends the reading, and when nothing is written any more; another process, or another call of startRunLog, goes on. */
  stop(): Promise<void>;
}

/**
 * Follows every container of a run's pods and keeps all they write. It goes on from what is in the run's folder, so it may
 * die at any moment. One at a time for each run. Rejects with a Fault when the folder cannot be used.
 */
export async function startRunLog(options: RunLogOptions): Promise<RunLog> {
  const doing = `Cannot write the log of run ${options.run}`;
  try {
    const complete = await readIndex(options.folder, options.run);
    return complete === undefined ? await collect(options, doing) : ended(complete);
  } catch (error) {
    throw Fault.from(error, doing);
  }
}

function ended(index: MergedIndex): RunLog {
  return {
    observe() {},
    recall() {},
    tally() {},
    finish: async () => summaryOf(index),
    outputs: () => index.outputs,
    problem: () => undefined,
    stop: async () => {},
  };
}

function summaryOf({ lines, bytes, gaps, sha256 }: MergedIndex): LogSummary {
  return { lines, bytes, gaps, sha256 };
}

async function collect(options: RunLogOptions, doing: string): Promise<RunLog> {
  const { run, folder, clock, files = diskFiles, limits = defaultLogLimits } = options;
  const log = options.log.with({ key: run });
  const header = headerLine(options);
  const partFolder = partsFolder(folder, run);
  const parts = await Part.openAll(files, partFolder);
  const follows = new Map<Part, Follow>();
  /** The last status of each container, and pods that are gone. */
  const seen = new Map<string, ContainerNews>();
  const goneUids = new Set<string>();
  /** The latest run of each container that has a part. */
  const known = new Map<string, number>();
  let lastLineAt: string | undefined;
  let outputs: Record<string, string> = {};
  let stopped = false;
  /** Somebody else goes on with it. */
  const leaving = new AbortController();
  let finishing: Promise<unknown> | undefined;
  let work = Promise.resolve();
  let trouble: Fault | undefined;

  const progress = (lines: number, bytes: number) =>
    options.onProgress?.({ lines, bytes, ...(lastLineAt === undefined ? {} : { lastLineAt }) });
  const room: FollowRoom = {
    run,
    namespace: options.namespace,
    open: options.open,
    slots: options.slots,
    clock,
    log,
    random: options.random,
    masks: createMasks(options.masks),
    lineBytes: limits.lineBytes,
    budget: { left: limits.runBytes - parts.reduce((sum, part) => sum + part.whole, 0) },
    onGap(part, reason) {
      const { pod, container, restart } = part.facts;
      options.onGap({ pod, container, restart, reason });
      live.grew(part);
    },
    onLines(part, lines) {
      if (lines > 0) lastLineAt = new Date(clock.now()).toISOString();
      live.grew(part);
    },
    onChange: () => live.wake(),
  };
  const live = await Live.start({
    run,
    path: livePath(folder, run),
    header,
    files,
    clock,
    log,
    bell: options.bell,
    onProgress: progress,
  });
  for (const part of parts) take(part);

  function take(part: Part): void {
    const key = containerKey(part.facts);
    known.set(key, Math.max(known.get(key) ?? -1, part.facts.restart));
    live.add(part, () => (part.facts.closed ? "closed" : (follows.get(part)?.state ?? "reconnecting")));
  }

  /** Reads the parts that are not complete and that nobody reads. */
  function followAll(): void {
    const left = parts.filter((part) => !part.facts.closed && !follows.has(part));
    for (const part of left) follow(part);
  }

  function follow(part: Part): void {
    if (leaving.signal.aborted) return;
    const { pod, podUid, container, restart } = part.facts;
    const unseen = { started: true, restarts: false, unsettled: false, evicted: false };
    const news = seen.get(containerKey(part.facts)) ?? { pod, podUid, container, restart, ...unseen };
    const one = new Follow(part, news, room);
    follows.set(part, one);
    if (goneUids.has(podUid)) one.gone();
    void one.done.then(() => follows.get(part) === one && follows.delete(part));
  }

  async function begin(news: ContainerNews): Promise<void> {
    const { pod, podUid, container } = news;
    for (const { restart, how } of wantedRuns(news, known.get(containerKey(news)) ?? -1)) {
      const facts = { pod, podUid, container, restart, ...untouched };
      if (how === "read") follow(await open(facts));
      else await openMissed(facts, "RestartMissed");
    }
  }

  async function open(facts: PartFacts): Promise<Part> {
    const part = await Part.open(files, partFolder, facts);
    parts.push(part);
    take(part);
    return part;
  }

  /** Of what can be read no more there is a mark alone. */
  async function openMissed(facts: PartFacts, reason: GapReason): Promise<void> {
    const part = await open(facts);
    await part.mark(`gap ${reason}`, stampAt(clock.now()));
    room.onGap(part, reason);
    await part.sync();
    await part.save({ closed: true });
    live.wake();
  }

  /** At once: what a stream brings next is judged by it. */
  function tell(all: readonly ContainerNews[], gone: readonly string[]): void {
    for (const news of all) seen.set(containerKey(news), news);
    for (const uid of gone) goneUids.add(uid);
    for (const [part, one] of follows) {
      const news = seen.get(containerKey(part.facts));
      if (news !== undefined) one.tell(news);
      if (goneUids.has(part.facts.podUid)) one.gone();
    }
  }

  async function beginAll(all: readonly ContainerNews[]): Promise<void> {
    // Those of an earlier process go on when there is news of the run.
    followAll();
    for (const news of all) if (news.podUid !== "" && !leaving.signal.aborted) await begin(news);
  }

  /** One thing at a time; a disk that is full is tried again with the next news. */
  function enqueue(task: () => Promise<void>): Promise<void> {
    work = work
      .then(() => (leaving.signal.aborted ? undefined : task()))
      .then(
        () => {
          trouble = undefined;
        },
        (error: unknown) => {
          if (trouble === undefined) log.error("The log of a run cannot be written", { error });
          trouble = Fault.from(error, doing);
        },
      );
    return work;
  }

  const problem = () => trouble ?? [...follows.values()].find((one) => one.problem !== undefined)?.problem;
  const settle = async () => {
    await Promise.all([...follows.values()].map((one) => one.done));
  };

  async function readRest(milliseconds: number): Promise<void> {
    const until = clock.monotonic() + milliseconds;
    followAll();
    while (follows.size > 0 && clock.monotonic() < until) {
      const over = new AbortController();
      await Promise.race([settle(), sleep(clock, until - clock.monotonic(), over.signal)]);
      over.abort();
      await work;
    }
    const fault = problem();
    for (const one of follows.values())
      if (fault === undefined) one.expire();
      else one.stop();
    const late = [...follows.values()];
    await settle();
    const failed = fault ?? late.find((one) => one.problem !== undefined)?.problem;
    if (failed !== undefined) throw failed;
  }

  async function complete({ state, milliseconds }: { state: string; milliseconds: number }): Promise<LogSummary> {
    const { signal } = leaving;
    await work;
    await readRest(milliseconds);
    // What was not read is left to whoever goes on: nothing is missing from the log of a run that was let go.
    signal.throwIfAborted();
    stopped = true;
    const merged = parts.map(({ path, facts }) => ({ path, instance: facts }));
    const endedAt = new Date(clock.now()).toISOString();
    const index = await mergeParts({ files, folder, run, header, state, endedAt, parts: merged, signal });
    await live.end(endLine(index));
    signal.throwIfAborted();
    await files.replace(indexPath(folder, run), `${JSON.stringify(index)}\n`, { durable: true });
    await rm(partFolder, { recursive: true, force: true });
    outputs = index.outputs;
    options.bell.ring(run);
    return summaryOf(index);
  }

  return {
    observe(pods, gone) {
      if (stopped) return;
      const all = pods.flatMap(containersOf);
      tell(all, gone);
      void enqueue(() => beginAll(all));
    },
    recall(exits) {
      if (stopped) return;
      const ran = exits.filter(({ startedAt }) => startedAt !== undefined).map(newsOfExit);
      const unseen = ran.filter((news) => !seen.has(containerKey(news)));
      void enqueue(() => beginAll(unseen));
    },
    tally(job, endedPods, knownPods) {
      if (stopped) return;
      const facts = { pod: job, podUid: `unseen-${job}`, container: "unseen", restart: 0, ...untouched };
      void enqueue(async () => {
        const read = parts.filter(({ facts: { pod } }) => pod.startsWith(`${job}-`)).map((part) => part.facts.podUid);
        const pods = new Set([...knownPods, ...read]);
        if (pods.size < endedPods && !known.has(containerKey(facts))) await openMissed(facts, "PodDeleted");
      });
    },
    async finish(end) {
      const completing = complete(end);
      finishing = completing.catch(() => undefined);
      try {
        return await completing;
      } catch (error) {
        stopped = false;
        throw Fault.from(error, doing);
      }
    },
    outputs: () => outputs,
    problem,
    async stop() {
      stopped = true;
      leaving.abort(new Fault("unavailable", `${doing}: it was stopped before it was complete`));
      for (const one of follows.values()) one.stop();
      await work;
      await settle();
      await finishing;
      await live.stop();
      await Promise.all(parts.map((part) => part.release()));
    },
  };
}
