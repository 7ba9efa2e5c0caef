import type { Job, Pod } from "../kube.ts";
import type { Attempt, Diagnosis } from "../run.ts";
import type { LiveRun } from "./live-run.ts";

/** How often a run without any deadline is looked at, in milliseconds, against a change that was missed. */
const lookAgain = 300_000;
/** Seconds that the pod of a result container is given to end by itself. */
const resultGrace = 5;

type Verdict = NonNullable<Attempt["verdict"]>;

interface Overdue {
  /** Set when a deadline is over: what the run then ends as. */
  verdict?: Verdict;
  /** Milliseconds until the next deadline. */
  again: number;
}

/** What deadlines are judged by. */
export interface DeadlinesSeen {
  attempt: Attempt;
  job: Job | undefined;
  pods: readonly Pod[];
  diagnosis: Diagnosis | undefined;
  /** The diagnosis was seen just now. */
  stands: boolean;
}

/**
 * The deadlines that we keep ourselves: start, silence, how long a diagnosis may stand (failFast), and the end of the result
 * container. A suspended Job has none of them; start and silence count from its resumption, silence while a container runs.
 */
export function deadlineOver(
  live: Pick<LiveRun, "record" | "lastLineAt" | "listeningSince">,
  now: number,
  { attempt, job, pods, diagnosis, stands }: DeadlinesSeen,
): Overdue {
  if (job?.spec?.suspend === true) return { again: lookAgain };
  const { definition, createdAt } = live.record;
  let again = lookAgain;
  const over = (from: number, seconds: number): boolean => {
    const left = from + seconds * 1000 - now;
    if (left > 0) again = Math.min(again, left);
    return left <= 0;
  };
  const verdict = (state: Verdict["state"], reason: string, message: string): Overdue => ({
    verdict: { state, reason, message },
    again: 0,
  });
  const hasStarted = attempt.startedAt !== undefined || pods.some(hasRun);
  const { start, silence } = definition.deadlines;
  // The Job controller sets it anew when a Job is resumed.
  const begun = latest(attempt.postedAt ?? createdAt, job?.status?.startTime);
  if (start !== undefined && !hasStarted && over(begun, start)) {
    const why = diagnosis === undefined ? "" : `: ${diagnosis.message}`;
    return verdict("TimedOut", "Start", `no container ran within deadlines.start (${start} s)${why}`);
  }
  // Only what runs can be silent.
  const running = pods
    .flatMap(({ status }) => status?.containerStatuses ?? [])
    .flatMap(({ state }) => state?.running ?? []);
  if (silence !== undefined && running.length > 0) {
    const starts = running.map(({ startedAt }) => startedAt);
    const heard = Math.max(begun, live.listeningSince, latest(live.lastLineAt, attempt.startedAt, ...starts));
    if (over(heard, silence)) {
      return verdict("TimedOut", "Silence", `no line in its log for deadlines.silence (${silence} s)`);
    }
  }
  const patience = diagnosis === undefined || !stands ? undefined : definition.failFast[diagnosis.category];
  if (diagnosis !== undefined && patience !== undefined && over(latest(diagnosis.since), patience)) {
    return verdict("Failed", diagnosis.category, diagnosis.message);
  }
  const { resultContainer } = definition;
  if (resultContainer !== undefined) {
    const ended = resultOf(pods, resultContainer, job);
    if (ended !== undefined && over(ended.at, resultGrace)) {
      const state = ended.exitCode === 0 ? "Succeeded" : "Failed";
      return verdict(state, "ResultContainer", `${resultContainer} ended with ${ended.exitCode}`);
    }
  }
  return { again };
}

/** The latest of those times, in milliseconds; 0 when there is none. */
function latest(...times: (string | undefined)[]): number {
  return Math.max(0, ...times.map((time) => Date.parse(time ?? "") || 0));
}

function hasRun({ status }: Pod): boolean {
  return (status?.containerStatuses ?? []).some(
    ({ state, lastState }) =>
      state?.running !== undefined || state?.terminated !== undefined || lastState?.terminated !== undefined,
  );
}

/** How the result container ended: with its first failure, or when as many as are wanted have succeeded. */
function resultOf(
  pods: readonly Pod[],
  container: string,
  job: Job | undefined,
): { exitCode: number; at: number } | undefined {
  // Pods that have ended by themselves are the Job controller's to judge.
  const ends = pods
    .filter(({ status }) => status?.phase === "Running")
    .map(({ status }) => status?.containerStatuses?.find(({ name }) => name === container)?.state?.terminated);
  const known = ends
    .filter((end) => end !== undefined)
    .map(({ exitCode, finishedAt }) => ({ exitCode, at: latest(finishedAt) }));
  const failed = known.find(({ exitCode }) => exitCode !== 0);
  if (failed !== undefined || known.length === 0) return failed;
  const wanted = (job?.spec?.completions ?? 1) - (job?.status?.succeeded ?? 0);
  return known.length < wanted ? undefined : { exitCode: 0, at: Math.max(...known.map(({ at }) => at)) };
}
