import type { RunDefinition } from "./definition/definition.ts";

// A run: one piece of work that somebody asked for. It has one or more attempts, each a Job of its own. This record is what
// the history keeps; it holds no secret. Times are RFC 3339 text in UTC with milliseconds, by this process's clock, unless
// said otherwise. jobs.md's table of states is in state/state.ts.

export const runStates = [
  "Queued",
  "Submitting",
  "Submitted",
  "Suspending",
  "Suspended",
  "Pending",
  "Running",
  "Backoff",
  "Failing",
  "Succeeding",
  "Deleting",
  "Cancelling",
  "Succeeded",
  "Failed",
  "TimedOut",
  "Cancelled",
  "Lost",
] as const;
export type RunState = (typeof runStates)[number];

export const terminalStates = ["Succeeded", "Failed", "TimedOut", "Cancelled", "Lost"] as const;
export type TerminalState = (typeof terminalStates)[number];

export function isTerminal(state: RunState): state is TerminalState {
  return (terminalStates as readonly string[]).includes(state);
}

/** The same in the five words that workflow tools use for a job. */
export type RunStatus = "Starting" | "Running" | "Success" | "Failed" | "Cancelled" | "Unknown";

/** Categories of diagnosis; the part before a dot is the family. */
export const diagnosisCategories = [
  "InvalidImage",
  "ImagePull",
  "ConfigMissing",
  "StartError",
  "VolumeMount",
  "Unschedulable.Resources",
  "Unschedulable.Affinity",
  "Unschedulable.Taint",
  "Unschedulable.Volume",
  "Gated",
  "Quota",
  "Denied",
  "AwaitingAdmission",
  "AppExit",
  "OutOfMemory",
  "CrashLoop",
  "Infra.Evicted",
  "Infra.Preempted",
  "Infra.NodeLost",
  "Deadline",
  "BackoffLimit",
  "FailedIndexes",
  "PodFailurePolicy",
  "StuckTerminating",
  "NameTaken",
  "Rejected",
] as const;
export type DiagnosisCategory = (typeof diagnosisCategories)[number];

/** Why a run waits or failed, for a person. */
export interface Diagnosis {
  category: DiagnosisCategory;
  /** What is wrong, with the names that matter. */
  message: string;
  /** What to change. */
  hint: string;
  pod?: string;
  container?: string;
  /** When this category was first seen. */
  since?: string;
}

/** How one container ended, once for each of its restarts. */
export interface ContainerExit {
  pod: string;
  podUid: string;
  container: string;
  restart: number;
  /** The completion index of an Indexed Job's pod. */
  index?: number;
  exitCode: number;
  signal?: number;
  reason?: string;
  /** The termination message, at most 4,096 bytes. */
  message?: string;
  image?: string;
  imageID?: string;
  node?: string;
  startedAt?: string;
  finishedAt?: string;
}

/** Counts of the Job's status, with the completions that were asked for (null: a work queue). */
export interface Progress {
  active: number;
  ready: number;
  succeeded: number;
  failed: number;
  completions: number | null;
}

/** One Job of a run. */
export interface Attempt {
  /** From 1. */
  number: number;
  /** The Job's name; the same run and attempt always give the same one. */
  job: string;
  /** What was or will be sent. */
  manifest: Record<string, unknown>;
  /** `sha256:` and the digest of the canonical manifest; the Job carries it as an annotation. */
  fingerprint: string;
  /** Known once the Job is ours. */
  uid?: string;
  /** When the first POST was about to be sent. */
  postedAt?: string;
  startedAt?: string;
  endedAt?: string;
  outcome?: TerminalState;
  reason?: string;
  message?: string;
  diagnosis?: Diagnosis;
  exits: ContainerExit[];
  /** What the Job controller has decided while pods still stop; counts when the Job is deleted before its end is seen. */
  decided?: { state: TerminalState; reason: string; message?: string };
  /** What we end it as: kept before its Job is deleted for that, so that another process knows. */
  verdict?: { state: TerminalState; reason: string; message: string };
  /** `status.failedIndexes` of an Indexed Job that failed, as `1,3-5`. */
  failedIndexes?: string;
}

/** What is left to do for an ended run in the cluster; it never changes the result. */
export interface Cleanup {
  state: "Pending" | "Done" | "Kept";
  /** Kept until then; absent: for ever. */
  until?: string;
  /** Why it is not done yet, or not as asked. */
  problem?: string;
}

/** The consolidated log of a run. */
export interface LogSummary {
  lines: number;
  bytes: number;
  gaps: number;
  /** Of the file without its last line, once the log is complete. */
  sha256?: string;
}

export interface RunRecord {
  /** 26 characters of Crockford base32, lower case: the first 10 are the time in milliseconds, so ids sort by time. */
  id: string;
  /** The engine (history store) whose label its objects carry. */
  engine: string;
  connector: string;
  namespace: string;
  /** The base of the Jobs' names. */
  name: string;
  definition: RunDefinition;
  /** Where a cloned run's Job came from. */
  source?: { kind: string; namespace: string; name: string; uid?: string; used: "Live" | "Snapshot" | "Fallback" };
  state: RunState;
  status: RunStatus;
  /** One word that says more than the state, "" when there is nothing more. */
  reason: string;
  message?: string;
  /** Since when it is in that state. */
  since: string;
  /** The cluster cannot be reached or read, so the state is of before. */
  stale: boolean;
  diagnosis?: Diagnosis;
  progress: Progress;
  createdAt: string;
  startedAt?: string;
  endedAt?: string;
  attempts: Attempt[];
  /** When the next attempt may start. */
  retryAt?: string;
  cancel?: { at: string; propagation: "Background" | "Foreground"; force: boolean };
  /** Asked for by suspend and resume; absent: as in the manifest. */
  suspend?: boolean;
  cleanup: Cleanup;
  outputs?: Record<string, string>;
  log?: LogSummary;
  /** The run that this one repeats, and the indexes of it that it repeats. */
  retryOf?: string;
  indexes?: number[];
  /** Raised by each save; a save names the one it was made from. */
  version: number;
}

/** What happened to a run, in order. Log lines are in the log files only. */
export interface RunEvent {
  /** From 1, without holes. */
  number: number;
  at: string;
  type: "state" | "progress" | "diagnosis" | "attempt" | "gap" | "cleanup" | "end";
  /** For people: one sentence. */
  message: string;
  /** state: {state, reason, status, progress, message}; progress: the counts; diagnosis: it; attempt: {number, job}; gap: {pod, container, reason}; end: {state, log}. */
  data: Record<string, unknown>;
}
