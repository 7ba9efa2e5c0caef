import {
  type Clock,
  Fault,
  type Log,
  type Queue,
  type Running,
  type Secret,
  sleep,
  startQueue,
} from "@kube-connector/core";
import type { Store } from "../history/store.ts";
import type { RunLog } from "../logs/run-log.ts";
import { isTerminal, type RunRecord, runStates } from "../run.ts";
import { begin, post } from "./begin.ts";
import { finish } from "./finish.ts";
import { follow } from "./follow.ts";
import { currentAttempt, type EngineParts, LiveRun, slotRequest } from "./live-run.ts";

// The loop: takes the runs that nobody owns, looks at each when something about it has changed or its time has come, and
// lets it go when it is done. A look reads the world and does the next step; a second one changes nothing.

/** Milliseconds between looks for what others asked. A lease is renewed three times in its time. */
const requestsEvery = 1000;
const claimAtOnce = 500;
/** Looks at a time: one that waits for the cluster must not hold up what others have seen. */
const looksAtOnce = 1000;
/** Milliseconds after which a run that is ours and that nobody has adopted is no submission any more that is under way. */
const strayAge = 120_000;

export interface Engine extends Running {
  /** Ends when it has what was left to it, and knows who holds slots. */
  ready: Promise<void>;
  /** A run that was just stored with this engine as its owner. */
  adopt(record: RunRecord, secrets: ReadonlyMap<string, Secret>): void;
  /** Takes up runs that nobody holds, also those that are done, as a kept one whose time is over. */
  takeUp(runs: readonly string[]): Promise<void>;
  /** That record has a request in it; nothing happens when the run is not this engine's. */
  hear(record: RunRecord): void;
  /** Something about that run may have changed. */
  wake(run: string): void;
  /** The record as this engine has it; undefined when it does not own the run. */
  owned(run: string): RunRecord | undefined;
  /** The same, with a change that is being kept: whoever has read its event sees what it tells. */
  settled(run: string): Promise<RunRecord | undefined>;
  size(): number;
  /** Runs that it owns, which have ended and are not cleaned up. */
  endedRuns(): number;
}

export function startEngine(options: {
  store: Store;
  clock: Clock;
  log: Log;
  owner: string;
  leaseSeconds: number;
  /** All but what the engine brings itself. */
  parts: Omit<EngineParts, "store" | "clock" | "log" | "owner" | "wake" | "closeLog">;
}): Engine {
  const { store, clock, log, owner, leaseSeconds } = options;
  const stopping = new AbortController();
  const lives = new Map<string, LiveRun>();
  /** Those that were looked at since the last time that others were put to rest. */
  let awake = new Set<LiveRun>();
  let drowsy = new Set<LiveRun>();
  /** Milliseconds (monotonic) until when others leave our runs alone. */
  let leaseEnd = clock.monotonic() + leaseSeconds * 1000;
  let cancelLapse: () => void = () => undefined;
  let lapses = 0;
  /** Logs that end just now, by run: one at a time writes a run's files. */
  const closings = new Map<string, Promise<void>>();
  /** Runs of other engines that were looked at, and whether they hold a slot. */
  const others = new Map<string, boolean>();
  const queue: Queue = startQueue({ clock, log, run: look, concurrency: looksAtOnce });
  const parts: EngineParts = {
    ...options.parts,
    store,
    clock,
    log,
    owner,
    wake: (run) => queue.add(run),
    openLog,
    closeLog,
  };

  async function look(id: string): Promise<number | undefined> {
    // After a long pause, or without the history, the runs may be another's: its word comes before the next step.
    if (clock.monotonic() >= leaseEnd) await renew();
    const live = lives.get(id);
    if (live === undefined) return undefined;
    awake.add(live);
    try {
      if (live.unsaved) await reload(live);
      const again = lives.has(id) ? await step(live) : undefined;
      live.gone = [];
      return again;
    } catch (error) {
      // What the history has counts, and is read by the next look.
      if (live.unsaved && error instanceof Fault && error.code === "conflict") return 0;
      const seconds = error instanceof Fault ? error.answer?.retryAfterSeconds : undefined;
      if (seconds !== undefined) return seconds * 1000;
      throw error;
    }
  }

  /** Of ten thousand runs most have nothing to do at a time. */
  function putToRest(): void {
    for (const live of drowsy) if (!awake.has(live)) live.rest();
    drowsy = awake;
    awake = new Set();
  }

  async function step(live: LiveRun): Promise<number | undefined> {
    if (isTerminal(live.state)) {
      const again = await finish(live, parts);
      if (again === undefined) await letGo(live);
      return again;
    }
    const { record } = live;
    const attempt = currentAttempt(record);
    if (attempt === undefined) return begin(live, parts);
    return attempt.uid === undefined ? post(live, parts, attempt) : follow(live, parts, attempt);
  }

  async function letGo(live: LiveRun): Promise<void> {
    await store.release(owner, [live.id]);
    drop(live);
  }

  function drop(live: LiveRun): void {
    lives.delete(live.id);
    live.dropped = true;
    parts.slots.release(live.id);
    live.rest();
    live.view?.release();
    void closeLog(live);
  }

  async function openLog(live: LiveRun): Promise<RunLog> {
    await closings.get(live.id);
    const before = lapses;
    const opened = await options.parts.openLog(live);
    live.log = opened;
    if (!live.dropped && lapses === before) return opened;
    await closeLog(live);
    throw new Fault("unavailable", "The lease was lost while the log was opened");
  }

  function closeLog(live: LiveRun): Promise<void> {
    const { id } = live;
    const before = closings.get(id) ?? Promise.resolve();
    const { log: open } = live;
    if (open === undefined) return before;
    live.log = undefined;
    const closing = Promise.all([before, open.stop()])
      .catch((error: unknown) => log.warn("A log could not be closed", { key: id, error }))
      .then(() => {
        if (closings.get(id) === closing) closings.delete(id);
      });
    closings.set(id, closing);
    return closing;
  }

  function take(record: RunRecord, secrets?: ReadonlyMap<string, Secret>): void {
    if (lives.has(record.id)) return;
    lives.set(record.id, new LiveRun(record, clock.now(), secrets));
    if (!isTerminal(record.state) && currentAttempt(record) !== undefined) parts.slots.hold(slotRequest(record));
    queue.add(record.id);
  }

  /** A save has failed: it may have been kept, or refused because the run is another's. */
  async function reload(live: LiveRun): Promise<void> {
    const { id } = live;
    await renew();
    const record = await store.read(id);
    if (record === undefined) drop(live);
    else live.record = record;
    live.unsaved = false;
  }

  /** Renews the lease, and lets go of what others have taken meanwhile. Answers with all runs that are ours. */
  async function renew(): Promise<ReadonlySet<string>> {
    const before = new Set(lives.keys());
    const began = clock.monotonic();
    const held = new Set(await store.renew(owner, leaseSeconds));
    leaseEnd = began + leaseSeconds * 1000;
    cancelLapse();
    cancelLapse = clock.after(leaseEnd - clock.monotonic(), lapse);
    for (const [id, live] of lives) {
      // What came after the question is not in the answer.
      if (held.has(id) || !before.has(id)) continue;
      log.info("A run is another engine's now", { key: id });
      drop(live);
    }
    return held;
  }

  async function everySoOften(milliseconds: number, work: () => Promise<void>): Promise<void> {
    let works = true;
    while (!stopping.signal.aborted) {
      try {
        await work();
        if (!works) for (const id of lives.keys()) queue.add(id);
        works = true;
      } catch (error) {
        if (works) log.warn("The history cannot be used at the moment", { error });
        works = false;
      }
      await sleep(clock, milliseconds, stopping.signal);
    }
  }

  async function renewAndClaim(): Promise<void> {
    try {
      const held = await renew();
      for (let more = true; more && !stopping.signal.aborted; ) {
        const claimed = await store.claim(owner, claimAtOnce, leaseSeconds);
        for (const record of claimed) take(record);
        more = claimed.length === claimAtOnce;
      }
      await takeStrays(held);
      await holdOthers();
    } finally {
      // What runs has its slots by now, so what waits cannot be given them.
      queue.begin();
      isReady();
    }
  }

  /** The runs may be another's from now on, and with them their logs; what is still ours is opened again by its next look. */
  function lapse(): void {
    lapses += 1;
    for (const live of lives.values()) {
      void closeLog(live);
      queue.add(live.id);
    }
  }

  /** Slots are shared with other engines of this history, one that has died just now among them. */
  async function holdOthers(): Promise<void> {
    if (!parts.slots.areLimited) return;
    const there = new Set<string>();
    let cursor: string | undefined;
    do {
      const page = await store.list({
        states: runStates.filter((state) => !isTerminal(state) && state !== "Queued"),
        limit: 1000,
        ...(cursor === undefined ? {} : { cursor }),
      });
      for (const { id } of page.runs) {
        there.add(id);
        if (lives.has(id) || others.has(id)) continue;
        const record = await store.read(id);
        if (record === undefined || lives.has(id)) continue;
        others.set(id, record.definition.profile !== undefined);
        parts.slots.hold(slotRequest(record));
      }
      cursor = page.next;
    } while (cursor !== undefined);
    for (const [id, holds] of others) {
      if (there.has(id) && !lives.has(id)) continue;
      others.delete(id);
      if (holds && !lives.has(id)) parts.slots.release(id);
    }
  }

  /** A run whose creation was kept though it was not known to be, or whose release was not: it is ours, and nobody looks. */
  async function takeStrays(held: ReadonlySet<string>): Promise<void> {
    for (const id of held) {
      if (lives.has(id)) continue;
      const record = await store.read(id);
      if (record !== undefined && clock.now() - Date.parse(record.createdAt) > strayAge) take(record);
    }
  }

  async function hearRequests(): Promise<void> {
    putToRest();
    for (const id of await store.requests(owner)) {
      const record = lives.has(id) ? await store.read(id) : undefined;
      if (record !== undefined) hear(record);
    }
  }

  function hear({ id, cancel, suspend }: RunRecord): void {
    const live = lives.get(id);
    if (live === undefined) return;
    awake.add(live);
    live.record = {
      ...live.record,
      ...(cancel === undefined ? {} : { cancel }),
      ...(suspend === undefined ? {} : { suspend }),
    };
    queue.add(id);
  }

  let isReady: () => void = () => undefined;
  const ready = new Promise<void>((resolve) => {
    isReady = resolve;
  });
  const done = Promise.all([
    everySoOften((leaseSeconds * 1000) / 3, renewAndClaim),
    everySoOften(requestsEvery, hearRequests),
  ]).then(() => undefined);
  return {
    done,
    ready,
    adopt: take,
    async takeUp(runs) {
      for (const record of await store.claim(owner, claimAtOnce, leaseSeconds, runs)) take(record);
    },
    hear,
    wake: (run) => queue.add(run),
    owned(run) {
      const live = lives.get(run);
      if (live !== undefined) awake.add(live);
      return live?.record;
    },
    async settled(run) {
      const live = lives.get(run);
      await live?.saving?.catch(() => undefined);
      if (live !== undefined) awake.add(live);
      return lives.get(run)?.record;
    },
    size: () => lives.size,
    endedRuns: () => [...lives.values()].filter(({ state }) => isTerminal(state)).length,
    async stop() {
      stopping.abort();
      await Promise.all([done, queue.stop()]);
      cancelLapse();
      for (const live of lives.values()) live.dropped = true;
      await Promise.all([...[...lives.values()].map(closeLog), ...closings.values()]);
      for (const live of lives.values()) live.view?.release();
      lives.clear();
      try {
        await store.release(owner);
      } catch (error) {
        log.warn("The runs could not be given back; others take them up when the lease is over", { error });
      }
    },
  };
}
