import { type Clock, sleep } from "@kube-connector/core";

/** Tells readers within the process that a run's live log has grown. */
export interface Bell {
  ring(run: string): void;
  /** Ends at the next ring for that run, after so many milliseconds, or with the signal. */
  wait(run: string, milliseconds: number, signal: AbortSignal): Promise<void>;
}

export function createBell(clock: Clock): Bell {
  const waiting = new Map<string, Set<AbortController>>();
  return {
    ring(run) {
      const those = waiting.get(run);
      waiting.delete(run);
      for (const one of those ?? []) one.abort();
    },
    async wait(run, milliseconds, signal) {
      const rung = new AbortController();
      const those = waiting.get(run) ?? new Set();
      waiting.set(run, those.add(rung));
      await sleep(clock, milliseconds, AbortSignal.any([signal, rung.signal]));
      those.delete(rung);
      if (those.size === 0 && waiting.get(run) === those) waiting.delete(run);
    },
  };
}
