import type { RunState, RunStatus, TerminalState } from "../run.ts";
import type { ContainerStatus, Job, KubeCondition, Pod, Workload } from "../kube.ts";

// jobs.md's table of states, row by row: what is seen of a run's Job and pods → the run's state. First match wins.

/** How a Job ended, or is known to end. */
export interface Outcome {
  state: TerminalState;
  reason: string;
  message?: string;
}

/** What is known of an attempt. */
export interface Observation {
  /** Whether the Job was sent: not yet, just now without an answer, or it is ours. */
  posted: "No" | "Sending" | "Yes";
  /** Why it was not sent yet: Profile, Retry. */
  waitsFor?: string;
  /** The uid that the POST gave. */
  uid?: string;
  cancelAsked: boolean;
  /** By its run id; undefined when the cluster, read after the POST, has none. */
  job?: Job;
  /** The attempt's. */
  pods: readonly Pod[];
  /** Kueue's, of this Job. */
  workload?: Workload;
  /** What was seen decided before the Job went away; see `outcomeOf`. */
  knownOutcome?: Outcome;
}

export interface StateSeen {
  state: RunState;
  /** One word that says more, "" when there is nothing more. A Pending run's is its diagnosis', which is not known here. */
  reason: string;
  status: RunStatus;
  message?: string;
}

/** The state of a run whose last state was not terminal; a terminal state never changes, so it is not asked for again. */
export function stateOf(seen: Observation): StateSeen {
  const { job, pods, cancelAsked } = seen;
  // 1. An event may be faster than the POST's answer: a Job that is there was sent.
  if (job === undefined && seen.posted === "No") return to("Queued", seen.waitsFor);
  if (job === undefined && seen.posted === "Sending") return to("Submitting");
  // 2
  if (job === undefined || (seen.uid !== undefined && job.metadata.uid !== seen.uid)) return goneState(seen);
  const { conditions = [], active = 0, ready = 0, failed = 0, succeeded = 0, startTime } = job.status ?? {};
  const uncounted = Object.values(job.status?.uncountedTerminatedPods ?? {}).flat();
  // 3, 4
  const ended = outcomeOf(job, { decided: false, cancelAsked });
  if (ended !== undefined)
    return ended.state === "Cancelled" && pods.some(isUnfinished)
      ? to("Cancelling", "PodsTerminating")
      : to(ended.state, ended.reason, ended.message);
  // 5
  if (job.metadata.deletionTimestamp !== undefined) return to(cancelAsked ? "Cancelling" : "Deleting");
  // 6
  const failing = isTrue(conditions, "FailureTarget");
  if (failing !== undefined) return to("Failing", failing.reason, failing.message);
  const succeeding = isTrue(conditions, "SuccessCriteriaMet");
  if (succeeding !== undefined) return to("Succeeding", succeeding.reason, succeeding.message);
  // 7
  const suspended = isTrue(conditions, "Suspended");
  if (suspended !== undefined)
    return isWaiting(seen.workload) ? to("Queued", "Admission") : to("Suspended", suspended.reason, suspended.message);
  // 8
  if (job.spec?.suspend === true) return to("Suspending");
  // 9
  if (ready > 0 || pods.some(hasRun)) return to("Running");
  // 10; a Job controller that is behind counts pods as active that have ended already, which is 12
  const finished = pods.filter((pod) => !isUnfinished(pod)).length;
  if (active > 0) return to(finished > succeeded + failed ? "Running" : "Pending");
  // 11
  if (failed > 0) return to("Backoff", "", nextTry(job, pods));
  // 12
  if (succeeded > 0 || uncounted.length > 0) return to("Running");
  // 13, 14
  return to(startTime === undefined ? "Submitted" : "Pending");
}

/**
 * How the Job ended. With `decided`, what the Job controller has decided while pods still stop counts too: keep that, for
 * when the Job is deleted before its end is seen.
 */
export function outcomeOf(job: Job, options: { decided: boolean; cancelAsked: boolean }): Outcome | undefined {
  const conditions = job.status?.conditions ?? [];
  const complete =
    isTrue(conditions, "Complete") ?? (options.decided ? isTrue(conditions, "SuccessCriteriaMet") : undefined);
  if (complete !== undefined) return { state: "Succeeded", ...wordsOf(complete) };
  const failed = isTrue(conditions, "Failed") ?? (options.decided ? isTrue(conditions, "FailureTarget") : undefined);
  if (failed === undefined) return undefined;
  const words = wordsOf(failed);
  if (options.cancelAsked) return { ...words, state: "Cancelled" };
  return { ...words, state: failed.reason === "DeadlineExceeded" ? "TimedOut" : "Failed" };
}

const statuses: Record<RunState, RunStatus> = {
  Queued: "Starting",
  Submitting: "Starting",
  Submitted: "Starting",
  Suspended: "Starting",
  Pending: "Starting",
  Suspending: "Running",
  Running: "Running",
  Backoff: "Running",
  Failing: "Running",
  Succeeding: "Running",
  Deleting: "Running",
  Cancelling: "Running",
  Succeeded: "Success",
  Failed: "Failed",
  TimedOut: "Failed",
  Cancelled: "Cancelled",
  Lost: "Unknown",
};

/** The state in the words that workflow tools use for a job. */
export function statusOf(state: RunState): RunStatus {
  return statuses[state];
}

/** The condition of that type whose status is "True", wherever in the list it stands. */
export function isTrue(conditions: readonly KubeCondition[] | undefined, type: string): KubeCondition | undefined {
  return conditions?.find((condition) => condition.type === type && condition.status === "True");
}

/** Whether Kueue has yet to admit the Job. */
export function isWaiting(workload: Workload | undefined): boolean {
  const conditions = workload?.status?.conditions;
  return (
    workload !== undefined &&
    isTrue(conditions, "Admitted") === undefined &&
    isTrue(conditions, "Finished") === undefined
  );
}

/** Whether the Job controller counts the pod as active. */
export function isActive(pod: Pod): boolean {
  return isUnfinished(pod) && pod.metadata.deletionTimestamp === undefined;
}

/** The status of every container of the pod, init containers and sidecars first. */
export function containerStatuses({ status }: Pod): ContainerStatus[] {
  return [...(status?.initContainerStatuses ?? []), ...(status?.containerStatuses ?? [])];
}

function to(state: RunState, reason = "", message?: string): StateSeen {
  return { state, reason, status: statusOf(state), ...(message === undefined || message === "" ? {} : { message }) };
}

/** A cancelled run is Cancelled when its pods are gone, not when its Job is: background deletion takes the Job first. */
function goneState({ job, pods, knownOutcome, cancelAsked }: Observation): StateSeen {
  if (knownOutcome !== undefined) return to(knownOutcome.state, knownOutcome.reason, knownOutcome.message);
  if (cancelAsked) return pods.length > 0 ? to("Cancelling", "PodsTerminating") : to("Cancelled");
  return job === undefined
    ? to("Lost", "Deleted", "The Job was deleted by somebody else before it ended")
    : to("Lost", "Replaced", "Another Job of the same name has taken its place");
}

function wordsOf({ reason = "", message }: KubeCondition): { reason: string; message?: string } {
  return message === undefined ? { reason } : { reason, message };
}

function isUnfinished(pod: Pod): boolean {
  return pod.status?.phase !== "Succeeded" && pod.status?.phase !== "Failed";
}

/** Whether a container of an active pod runs, or has run. */
function hasRun(pod: Pod): boolean {
  return (
    isActive(pod) &&
    containerStatuses(pod).some(
      ({ state, lastState }) =>
        state?.running !== undefined || state?.terminated !== undefined || lastState?.terminated !== undefined,
    )
  );
}

/** By the Job controller's rule: 10 s after the last failure, doubled for each one since a success, at most 10 minutes. */
function nextTry({ spec }: Job, pods: readonly Pod[]): string | undefined {
  if (spec?.backoffLimitPerIndex !== undefined) return undefined;
  const endsOf = (phase: string) => pods.filter((pod) => pod.status?.phase === phase).map(finishedAt);
  const success = Math.max(0, ...endsOf("Succeeded"));
  const failures = endsOf("Failed").filter((end) => end > success);
  if (failures.length === 0) return undefined;
  const delay = Math.min(10 * 2 ** (failures.length - 1), 600);
  return `Next try at ${new Date(Math.max(...failures) + delay * 1000).toISOString()}`;
}

function finishedAt(pod: Pod): number {
  const ends = containerStatuses(pod).map(({ state }) => Date.parse(state?.terminated?.finishedAt ?? ""));
  return Math.max(0, ...ends.filter((end) => !Number.isNaN(end)));
}
