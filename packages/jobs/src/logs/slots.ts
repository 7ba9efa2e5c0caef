import type { Clock } from "@kube-connector/core";

/** The right to one open stream, or a place in the line for it. */
export interface Slot {
  /** Ends when the stream may be opened; false when the line was left. */
  entered: Promise<boolean>;
  /** Leaves the line; a slot that is held stays. */
  leave(): void;
  release(): void;
}

/** How many streams there may be at once, over all runs of a process. */
export interface Slots {
  /**
   * A slot, or a place in the line. `giveUp` asks the holder to end soon, as others wait; without it the stream is one that
   * ends by itself, and does not wait for those that go on.
   */
  acquire(run: string, giveUp?: () => void): Slot;
  /** Streams that go on. */
  held(): number;
  /** Whether the next one that goes on has to wait. */
  full(): boolean;
}

/** Milliseconds that a stream may run while others wait for its place. */
const turn = 30_000;
/** Milliseconds between two who give up their place: each costs the cluster a request, and us a connection. */
const between = 200;
/** Streams that end by themselves, at once. */
export const mostBrief = 64;

interface Holder {
  since: number;
  asked: boolean;
  giveUp: (() => void) | undefined;
}

/**
 * At most `most` at once that go on, and 64 that end by themselves. Fair: runs take turns whatever the number of their
 * containers, and while somebody waits, who has held a slot for 30 s is asked to give it up, five of them a second at most.
 */
export function createSlots(most: number, clock: Clock): Slots {
  const streams = createLine(most, clock);
  const brief = createLine(mostBrief, clock);
  let checking = false;

  function check(): void {
    const { waiting, held } = streams;
    if (checking || waiting.size === 0) return;
    checking = true;
    const wanted = [...waiting.values()].reduce((sum, those) => sum + those.size, 0);
    const asked = [...held].filter((one) => one.asked).length;
    const oldest = asked >= wanted ? undefined : [...held].find((one) => !one.asked);
    const wait = oldest === undefined ? turn / 30 : Math.max(between, oldest.since + turn - clock.monotonic());
    clock.after(wait, () => {
      checking = false;
      if (waiting.size > 0 && oldest !== undefined && held.has(oldest)) {
        oldest.asked = true;
        oldest.giveUp?.();
      }
      check();
    });
  }

  return {
    held: () => streams.held.size,
    full: () => streams.held.size >= most,
    acquire(run, giveUp) {
      const slot = (giveUp === undefined ? brief : streams).enter(run, giveUp);
      check();
      return slot;
    },
  };
}

/** Runs take turns in it. */
function createLine(most: number, clock: Clock) {
  const waiting = new Map<string, Set<() => void>>();
  const held = new Set<Holder>();

  /** Lets the next run's first in; that run goes to the end of the line. */
  function admit(): void {
    while (held.size < most) {
      const next = waiting.entries().next().value;
      if (next === undefined) return;
      const [run, those] = next;
      const [come] = those;
      waiting.delete(run);
      if (come === undefined) continue;
      those.delete(come);
      if (those.size > 0) waiting.set(run, those);
      come();
    }
  }

  function enter(run: string, giveUp: (() => void) | undefined): Slot {
    let holder: Holder | undefined;
    let leave = () => {};
    const entered = new Promise<boolean>((resolve) => {
      const come = () => {
        leave = () => {};
        holder = { since: clock.monotonic(), asked: false, giveUp };
        held.add(holder);
        resolve(true);
      };
      leave = () => {
        leave = () => {};
        const those = waiting.get(run);
        those?.delete(come);
        if (those?.size === 0) waiting.delete(run);
        resolve(false);
      };
      const those = waiting.get(run) ?? new Set();
      waiting.set(run, those.add(come));
      admit();
    });
    return {
      entered,
      leave: () => leave(),
      release() {
        if (holder !== undefined && held.delete(holder)) admit();
      },
    };
  }
  return { waiting, held, enter };
}
