import type { Clock } from "@kube-connector/core";

/** Notices when somebody else keeps writing what we write, so that the two do not fight at full speed. */
export interface Contest {
  /** One more change to that child. true: this is the one that makes it a contest. */
  note(child: string): boolean;
  /** Whether the child is to be left alone for now. */
  blocked(child: string): boolean;
}

/** How long a contested child is left alone, and how long a change counts. Milliseconds. */
export const contestPause = 60_000;
const most = 4;

export function createContest(clock: Clock): Contest {
  const changes = new Map<string, number[]>();
  const recent = (child: string) => {
    const now = clock.monotonic();
    const times = (changes.get(child) ?? []).filter((time) => now - time < contestPause);
    if (times.length === 0) changes.delete(child);
    else changes.set(child, times);
    return times;
  };
  return {
    note(child) {
      changes.set(child, [...recent(child), clock.monotonic()]);
      return recent(child).length === most;
    },
    blocked: (child) => recent(child).length >= most,
  };
}
