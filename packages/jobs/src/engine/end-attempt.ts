import { Fault } from "@kube-connector/core";
import type { Job } from "../kube.ts";
import { type Attempt, isTerminal, type Progress, type RunRecord } from "../run.ts";
import { diagnose } from "../state/diagnose.ts";
import { failedIndexesOf } from "../state/exits.ts";
import { firstCause } from "../state/first-cause.ts";
import { planRetry } from "../state/retry.ts";
import type { StateSeen } from "../state/state.ts";
import type { Seen } from "./follow.ts";
import { change, end, type EngineParts, isoTime, type LiveRun, withAttempt } from "./live-run.ts";

/** An attempt has ended: the next one is planned, or the run has ended with it. */
export async function endAttempt(
  live: LiveRun,
  parts: EngineParts,
  attempt: Attempt,
  { job, pods, exits, startedAt, found, progress }: Seen & { found: StateSeen; progress: Progress },
): Promise<number> {
  // What we have deleted ends as what it was deleted for.
  const { state, reason, message } = found.state === "Cancelled" ? (attempt.verdict ?? found) : found;
  if (!isTerminal(state)) throw new Fault("internal", `a run cannot end as ${state}`);
  const { record } = live;
  const last = job === undefined ? undefined : diagnose({ job, pods, now: parts.clock.now() });
  const diagnosis = state === "Succeeded" ? undefined : firstCause(record.diagnosis, last, true);
  const failedIndexes = job === undefined ? "" : failedIndexesOf(job);
  const endedAt = endOf(job) ?? isoTime(parts.clock.now());
  const attempts = withAttempt(record, {
    exits,
    outcome: state,
    reason,
    endedAt,
    ...(message === undefined ? {} : { message }),
    ...(startedAt === undefined ? {} : { startedAt }),
    ...(diagnosis === undefined ? {} : { diagnosis }),
    ...(failedIndexes === "" ? {} : { failedIndexes }),
  });
  const { diagnosis: told, message: _message, ...rest } = record;
  const ended: RunRecord = {
    ...rest,
    progress,
    attempts,
    ...(startedAt === undefined ? {} : { startedAt: record.startedAt ?? startedAt }),
  };
  live.record = ended;
  const delay =
    record.cancel === undefined
      ? planRetry(record.definition.retry, { attempt: attempt.number, outcome: state, diagnosis, random: parts.random })
      : undefined;
  if (delay === undefined) {
    // A cause that was told is not told again.
    if (told !== undefined && diagnosis === told) live.record = { ...ended, diagnosis: told };
    await end(
      live,
      parts,
      { state, reason, ...(message === undefined ? {} : { message }) },
      { endedAt, ...(diagnosis === undefined ? {} : { diagnosis }) },
    );
    return 0;
  }
  parts.slots.release(record.id);
  const next = `attempt ${attempt.number} ended as ${state}; the next one in ${Math.round(delay)} s`;
  await change(live, parts, {
    state: "Queued",
    status: "Starting",
    reason: "Retry",
    stale: false,
    message: message === undefined ? next : `${next}: ${message}`,
    retryAt: isoTime(parts.clock.now() + delay * 1000),
  });
  return 0;
}

/** When the Job ended by its own word; a failed Job has no completionTime, so its condition's time counts. */
function endOf(job: Job | undefined): string | undefined {
  const decided = (job?.status?.conditions ?? []).find(
    ({ type, status }) => (type === "Complete" || type === "Failed") && status === "True",
  );
  return decided === undefined ? undefined : (job?.status?.completionTime ?? decided.lastTransitionTime);
}
