import type { RetryCause, RetryPolicy } from "../definition/definition.ts";
import type { Diagnosis, TerminalState } from "../run.ts";

// Decisions about queues: whether a failed attempt is followed by another one, and which run goes first.

/**
 * Seconds until the next attempt may start; undefined when there is none. `attempt` (from 1) is the one that ended,
 * `random` gives 0 to 1: the delay is up to a tenth shorter, so that what failed together is not tried together.
 */
export function planRetry(
  policy: RetryPolicy,
  seen: { attempt: number; outcome: TerminalState; diagnosis: Diagnosis | undefined; random: () => number },
): number | undefined {
  const { attempt, outcome, diagnosis, random } = seen;
  if (outcome === "Succeeded" || outcome === "Cancelled" || attempt >= policy.maxAttempts) return undefined;
  if (!policy.on.some((cause) => matches(cause, diagnosis))) return undefined;
  const factor = { Exponential: 2 ** (attempt - 1), Linear: attempt, Fixed: 1 }[policy.backoff];
  return Math.min(policy.initialDelay * factor, policy.maxDelay) * (1 - random() / 10);
}

function matches(cause: RetryCause, diagnosis: Diagnosis | undefined): boolean {
  if (cause === "Any") return true;
  const category = diagnosis?.category;
  return category === cause || category?.startsWith(`${cause}.`) === true;
}

/** For sorting: a higher priority first, then who came first; ids sort by time. */
export function byPriority(a: { priority: number; id: string }, b: { priority: number; id: string }): number {
  return b.priority - a.priority || (a.id < b.id ? -1 : a.id > b.id ? 1 : 0);
}
