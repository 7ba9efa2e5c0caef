import { performance } from "node:perf_hooks";

/** Time, passed in so that tests can move it. */
export interface Clock {
  /** Milliseconds since 1970, for what people and certificates read. */
  now(): number;
  /** Milliseconds since some start; never goes back. For measuring how long something took or may still take. */
  monotonic(): number;
  /** Calls `then` once after that many milliseconds. The answer cancels it. The timer keeps no process alive. */
  after(milliseconds: number, then: () => void): () => void;
}

/** The machine's time. */
export const systemClock: Clock = {
  now: () => Date.now(),
  monotonic: () => performance.now(),
  after(milliseconds, then) {
    // A deadline may have passed while it was worked out; Node warns of times below zero.
    const timer = setTimeout(then, Math.max(0, milliseconds));
    timer.unref();
    return () => clearTimeout(timer);
  },
};

/** Ends after that many milliseconds, or at once when the signal is aborted; never rejects. */
export function sleep(clock: Clock, milliseconds: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal?.aborted) {
      resolve();
      return;
    }
    const done = () => {
      cancel();
      signal?.removeEventListener("abort", done);
      resolve();
    };
    const cancel = clock.after(milliseconds, done);
    signal?.addEventListener("abort", done, { once: true });
  });
}

/** Exponential back-off with full jitter in its upper half: attempt 0 gives `base / 2` to `base`. Milliseconds. */
export function backoff(attempt: number, base: number, most: number, random: () => number = Math.random): number {
  const ceiling = Math.min(most, base * 2 ** Math.min(attempt, 30));
  return ceiling / 2 + (ceiling / 2) * random();
}
