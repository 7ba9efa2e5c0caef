import type { Clock } from "@kube-connector/core";

/** A clock that stands still until a test moves it. */
export interface TestClock extends Clock {
  /** Lets that many milliseconds pass; timers that fall due are called in their order. */
  pass(milliseconds: number): void;
  /** Timers that wait. */
  waiting(): number;
}

export function createTestClock(now = Date.UTC(2026, 0, 1)): TestClock {
  let passed = 0;
  const timers = new Set<{ at: number; call: () => void }>();
  const nextUntil = (end: number) => {
    const due = [...timers].filter(({ at }) => at <= end);
    return due.length === 0 ? undefined : due.reduce((a, b) => (b.at < a.at ? b : a));
  };
  return {
    now: () => now + passed,
    monotonic: () => passed,
    after(milliseconds, call) {
      const timer = { at: passed + milliseconds, call };
      timers.add(timer);
      return () => timers.delete(timer);
    },
    pass(milliseconds) {
      const end = passed + milliseconds;
      for (let timer = nextUntil(end); timer !== undefined; timer = nextUntil(end)) {
        timers.delete(timer);
        passed = timer.at;
        timer.call();
      }
      passed = end;
    },
    waiting: () => timers.size,
  };
}
