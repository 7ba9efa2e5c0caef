import type { Clock } from "@kube-connector/core";

/** The right to one open stream. */
export interface Slot {
  release(): void;
}

/** How many streams there may be at once, over all runs of a process. */
export interface Slots {
  /** Waits its turn; rejects when the signal is aborted. `giveUp` asks the holder to end soon, as others wait. */
  acquire(run: string, signal: AbortSignal, giveUp: () => void): Promise<Slot>;
  held(): number;
  /** Whether the next one has to wait. */
  full(): boolean;
}

/** Milliseconds that a stream may run while others wait for its place. */
const turn = 30_000;

/**
 * At most `most` at once. Fair: runs take turns whatever the number of their containers, and while somebody waits, who has
 * held a slot for 30 s is asked to give it up.
 */
export function createSlots(most: number, clock: Clock): Slots {
  const waiting = new Map<string, Set<() => void>>();
  const held = new Set<{ since: number; asked: boolean; giveUp: () => void }>();
  let checking = false;

  /** Lets the next run's first in; that run goes to the end of the line. */
  function admit(): void {
    while (held.size < most) {
      const next = waiting.entries().next().value;
      if (next === undefined) return;
      const [run, those] = next;
      const [enter] = those;
      waiting.delete(run);
      if (enter === undefined) continue;
      those.delete(enter);
      if (those.size > 0) waiting.set(run, those);
      enter();
    }
  }

  function check(): void {
    if (checking || waiting.size === 0) return;
    checking = true;
    const wanted = [...waiting.values()].reduce((sum, those) => sum + those.size, 0);
    const asked = [...held].filter((one) => one.asked).length;
    const oldest = asked >= wanted ? undefined : [...held].find((one) => !one.asked);
    const wait = oldest === undefined ? turn / 30 : Math.max(0, oldest.since + turn - clock.monotonic());
    clock.after(wait, () => {
      checking = false;
      if (waiting.size > 0 && oldest !== undefined && held.has(oldest)) {
        oldest.asked = true;
        oldest.giveUp();
      }
      check();
    });
  }

  function hold(giveUp: () => void): Slot {
    const one = { since: clock.monotonic(), asked: false, giveUp };
    held.add(one);
    return {
      release() {
        if (held.delete(one)) admit();
      },
    };
  }

  return {
    held: () => held.size,
    full: () => held.size >= most,
    acquire(run, signal, giveUp) {
      return new Promise((resolve, reject) => {
        const refuse = () => {
          waiting.get(run)?.delete(enter);
          reject(new Error("the wait for a slot was ended"));
        };
        const enter = () => {
          signal.removeEventListener("abort", refuse);
          resolve(hold(giveUp));
        };
        if (signal.aborted) return refuse();
        signal.addEventListener("abort", refuse, { once: true });
        const those = waiting.get(run) ?? new Set();
        waiting.set(run, those.add(enter));
        admit();
        check();
      });
    },
  };
}
