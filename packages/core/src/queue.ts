import { backoff, type Clock } from "./clock.ts";
import type { Log } from "./log.ts";
import type { Running } from "./run.ts";

export interface QueueOptions {
  clock: Clock;
  log: Log;
  /** Brings the world of that key in order. Throws: again after a back-off. The answer: look again after so many ms. */
  run: (key: string) => Promise<number | undefined>;
  /** Keys worked on at a time; 32 unless told. */
  concurrency?: number;
  /** Told after each run, for metrics. */
  onRun?: (result: "ok" | "failed", milliseconds: number) => void;
}

export interface Queue extends Running {
  /** Has the key run soon; once only, however often it is asked while it waits. */
  add(key: string): void;
  /** Lets the runs begin; keys may be added before. */
  begin(): void;
  /** Keys that wait to run now, without those that wait for a time. */
  depth(): number;
}

interface KeyState {
  state: "waiting" | "running" | "runningAgain" | "resting";
  failures: number;
  /** Cancels the timer after which a resting key runs by itself. */
  cancel: (() => void) | undefined;
}

const leastWait = 1000;
const mostWait = 300_000;

/** A set of keys, each run by one worker at a time. A key added while it runs is run once more afterwards. */
export function startQueue(options: QueueOptions): Queue {
  const { clock, log } = options;
  const keys = new Map<string, KeyState>();
  const waiting = new Set<string>();
  const running = new Set<Promise<void>>();
  let open = false;
  let stopped = false;
  let end: () => void = () => undefined;
  const done = new Promise<void>((resolve) => {
    end = resolve;
  });

  const wait = (key: string, one: KeyState) => {
    one.cancel?.();
    one.cancel = undefined;
    one.state = "waiting";
    waiting.add(key);
  };

  const rest = (key: string, one: KeyState, milliseconds: number) => {
    one.state = "resting";
    // A longer time than a timer can hold is cut: looking too early costs nothing.
    one.cancel = clock.after(Math.min(Math.max(0, milliseconds), 86_400_000), () => {
      one.cancel = undefined;
      wait(key, one);
      pump();
    });
  };

  async function work(key: string, one: KeyState): Promise<void> {
    const started = clock.monotonic();
    let next: number | undefined;
    try {
      next = await options.run(key);
      one.failures = 0;
      options.onRun?.("ok", clock.monotonic() - started);
    } catch (error) {
      next = backoff(one.failures, leastWait, mostWait);
      one.failures += 1;
      options.onRun?.("failed", clock.monotonic() - started);
      log.warn("A reconcile failed and is tried again", {
        key,
        error,
        attempt: one.failures,
        milliseconds: Math.round(next),
      });
    }
    if (stopped) keys.delete(key);
    else if (one.state === "runningAgain") wait(key, one);
    else if (next !== undefined) rest(key, one, next);
    else keys.delete(key);
  }

  function pump(): void {
    if (!open || stopped) return;
    for (const key of waiting) {
      if (running.size >= (options.concurrency ?? 32)) return;
      const one = keys.get(key);
      waiting.delete(key);
      if (one === undefined) continue;
      one.state = "running";
      const job: Promise<void> = work(key, one).finally(() => {
        running.delete(job);
        pump();
      });
      running.add(job);
    }
  }

  return {
    done,
    add(key) {
      if (stopped) return;
      const one = keys.get(key);
      if (one === undefined) {
        const fresh: KeyState = { state: "waiting", failures: 0, cancel: undefined };
        keys.set(key, fresh);
        wait(key, fresh);
      } else if (one.state === "running") one.state = "runningAgain";
      else if (one.state === "resting") wait(key, one);
      pump();
    },
    begin() {
      open = true;
      pump();
    },
    depth: () => waiting.size,
    async stop() {
      stopped = true;
      waiting.clear();
      for (const one of keys.values()) one.cancel?.();
      await Promise.all(running);
      keys.clear();
      end();
    },
  };
}
