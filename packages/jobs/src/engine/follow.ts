import { Fault } from "@kube-connector/core";
import type { Job, Pod } from "../kube.ts";
import { runLabels } from "../labels.ts";
import { paths } from "../paths.ts";
import { type Attempt, type ContainerExit, type Diagnosis, isTerminal, type Progress, type RunRecord } from "../run.ts";
import { exitsOf, mergeExits } from "../state/exits.ts";
import { outcomeOf, type StateSeen, stateOf } from "../state/state.ts";
import { deadlineOver } from "./deadlines.ts";
import { endAttempt } from "./end-attempt.ts";
import { change, type EngineParts, type LiveRun, withAttempt } from "./live-run.ts";
import { findDiagnosis, readWorkload } from "./trouble.ts";

// From posted to ended: what is seen of the Job and its pods becomes the run's state.

/** Milliseconds between looks at a run whose cluster cannot be followed, and whose Job the view has not shown yet. */
const stalePause = 5000;
const unseenPause = 1000;
/** Milliseconds between two times that counts alone are kept: pods of a large Job end many a second. */
const progressPause = 2000;

/** One look. Answers after how many milliseconds to look again, if nothing changes before. */
export async function follow(live: LiveRun, parts: EngineParts, attempt: Attempt): Promise<number | undefined> {
  const { record } = live;
  live.view ??= parts.view(record);
  const { view } = live;
  const trouble = view.trouble();
  if (trouble !== undefined && !record.stale) {
    await change(live, parts, { stale: true, message: Fault.from(trouble, "Cannot follow the cluster").message });
  }
  // Nobody hears a silence while the cluster cannot be read.
  if (trouble !== undefined || record.stale) live.listeningSince = parts.clock.now();
  if (!view.isSynced()) {
    void view.synced.then(() => parts.wake(record.id));
    // What was asked for needs no watch.
    if (trouble !== undefined && record.cancel !== undefined) {
      await act(live, parts, attempt, await getJob(record, parts, attempt));
    }
    return stalePause;
  }
  const all = view.pods();
  live.gone.push(...view.takeGone());
  const gone = live.gone;
  if (live.log === undefined && all.length + gone.length > 0) await parts.openLog(live);
  // Also one that came and went between two looks: what it wrote is not missing in silence.
  live.log?.observe([...all, ...gone], uidsOf(gone));
  const isOurs = ({ metadata }: Pod) => metadata.labels?.[runLabels.attempt] === String(attempt.number);
  const pods = all.filter(isOurs);
  const seenNow: Seen = {
    job: await findJob(live, parts, attempt),
    pods,
    exits: mergeExits(attempt.exits, exitsOf([...pods, ...gone.filter(isOurs)]).map(masked(live))),
    startedAt: attempt.startedAt ?? firstStart([...pods, ...gone.filter(isOurs)]),
  };
  const { job } = seenNow;
  if (job === undefined && !live.seen && live.deletedAt === undefined) {
    // The watch brings it in a moment, mostly.
    const isNew = live.madeAt !== undefined && parts.clock.monotonic() < live.madeAt + unseenPause;
    if (isNew || (await isThere(live, parts, attempt))) return unseenPause;
  }
  await act(live, parts, attempt, job);
  return judge(live, parts, attempt, seenNow);
}

/** What one look has found. */
export interface Seen {
  job: Job | undefined;
  /** Of this attempt. */
  pods: readonly Pod[];
  exits: ContainerExit[];
  /** Of the first container. */
  startedAt: string | undefined;
}

/** The Job as the view has it. That it is gone, only the API server says: a view may be behind. */
async function findJob(live: LiveRun, parts: EngineParts, attempt: Attempt): Promise<Job | undefined> {
  const cached = live.view?.job(attempt.job);
  if (cached !== undefined) {
    live.seen ||= cached.metadata.uid === attempt.uid;
    return cached;
  }
  return live.seen && live.deletedAt === undefined ? getJob(live.record, parts, attempt) : undefined;
}

async function isThere(live: LiveRun, parts: EngineParts, attempt: Attempt): Promise<boolean> {
  return (await getJob(live.record, parts, attempt))?.metadata.uid === attempt.uid;
}

async function getJob(record: RunRecord, parts: EngineParts, { job }: Attempt): Promise<Job | undefined> {
  try {
    return await parts.kube(record.connector).get<Job>(paths.job(record.namespace, job));
  } catch (error) {
    if (error instanceof Fault && error.answer?.status === 404) return undefined;
    throw error;
  }
}

/** Does what was asked for: cancel, suspend, resume. What finished first stays finished. */
async function act(live: LiveRun, parts: EngineParts, attempt: Attempt, job: Job | undefined): Promise<void> {
  const { record } = live;
  const { connector, namespace, cancel, suspend } = record;
  if (job === undefined || job.metadata.uid !== attempt.uid) return;
  const isWanted = cancel === undefined && attempt.verdict === undefined;
  const hasEnded = outcomeOf(job, { decided: false, cancelAsked: false }) !== undefined;
  if (!isWanted && live.deletedAt === undefined && !hasEnded) {
    const one = { connector, namespace, job: attempt.job, uid: attempt.uid, propagation: cancel?.propagation };
    if (await allowed(live, "It cannot be cancelled", "delete on jobs", removeJob(parts, one))) {
      live.deletedAt = parts.clock.monotonic();
    }
  }
  if (isWanted && suspend !== undefined && suspend !== live.suspended) {
    if ((job.spec?.suspend ?? false) !== suspend) {
      const change = { metadata: { uid: attempt.uid }, spec: { suspend } };
      const patched = parts.kube(connector).patch(paths.job(namespace, attempt.job), change);
      await allowed(live, `It cannot be ${suspend ? "suspended" : "resumed"}`, "patch on jobs", unlessGone(patched));
    }
    live.suspended = suspend;
  }
}

/** False when the cluster refuses it: the run is followed all the same, and says which right is missing. */
async function allowed(live: LiveRun, doing: string, right: string, work: Promise<unknown>): Promise<boolean> {
  live.refusal = undefined;
  try {
    await work;
    return true;
  } catch (error) {
    if (!(error instanceof Fault && error.code === "permission_denied")) throw error;
    live.refusal = `${doing}, as that needs the right ${right} in namespace ${live.record.namespace}: ${error.message}`;
    return false;
  }
}

async function judge(live: LiveRun, parts: EngineParts, attempt: Attempt, now: Seen): Promise<number> {
  const { record } = live;
  // Another Job that has taken its name says nothing of it, but that it is gone.
  const isOurs = now.job?.metadata.uid === attempt.uid;
  const seen: Seen = isOurs ? now : { ...now, job: undefined };
  const { job, pods } = seen;
  const { workload, problem } = job?.spec?.suspend === true ? await readWorkload(live, parts, job) : {};
  const cancelAsked = record.cancel !== undefined || attempt.verdict !== undefined;
  const decided = job === undefined ? attempt.decided : outcomeOf(job, { decided: true, cancelAsked });
  const found = stateOf({
    posted: "Yes",
    cancelAsked,
    pods,
    ...(attempt.uid === undefined ? {} : { uid: attempt.uid }),
    ...(now.job === undefined ? {} : { job: now.job }),
    ...(workload === undefined ? {} : { workload }),
    ...(decided === undefined ? {} : { knownOutcome: decided }),
  });
  const progress = progressOf(job, record.progress);
  if (isTerminal(found.state)) {
    const whole = job === undefined ? seen : await withMissedPods(live, parts, attempt, { ...seen, job });
    return endAttempt(live, parts, attempt, { ...whole, found, progress });
  }

  const trouble = await findDiagnosis(live, parts, { job, pods, workload, cancelAsked });
  const { diagnosis } = trouble;
  const over = deadlineOver(live, parts.clock.now(), { attempt, job, pods, ...trouble });
  if (over.verdict !== undefined && !cancelAsked) {
    // Kept before anything is deleted, or another process would take what we did for somebody else's doing.
    await change(live, parts, {
      ...(diagnosis === undefined ? {} : { diagnosis }),
      attempts: withAttempt(record, { verdict: over.verdict, exits: seen.exits }),
    });
    return 0;
  }
  if (record.cancel?.force === true && (live.deletedAt !== undefined || job === undefined)) {
    await force(live, parts, pods);
  }
  const wait = await keep(live, parts, { attempt, seen, found, progress, diagnosis, decided, problem });
  return Math.min(over.again, trouble.again, wait ?? over.again);
}

/**
 * Jobs and pods come by two watches, or two polls, and the Job's end may come first: pods that it counts and that nobody has
 * seen are asked for, so that their logs and exit codes are not lost.
 */
async function withMissedPods(
  live: LiveRun,
  parts: EngineParts,
  { number }: Attempt,
  seen: Seen & { job: Job },
): Promise<Seen> {
  const { succeeded = 0, failed = 0 } = seen.job.status ?? {};
  const known = new Set([
    ...uidsOf(seen.pods.filter(({ status }) => status?.phase === "Succeeded" || status?.phase === "Failed")),
    ...seen.exits.map(({ podUid }) => podUid),
  ]);
  const counted = succeeded + failed;
  if (known.size >= counted) return seen;
  const { id, connector, namespace } = live.record;
  const labelSelector = `${runLabels.run}=${id},${runLabels.attempt}=${number}`;
  const pods: Pod[] = [];
  let cursor: string | undefined;
  do {
    const page = await parts.kube(connector).list<Pod>(paths.pods(namespace), {
      labelSelector,
      limit: 500,
      ...(cursor === undefined ? {} : { continue: cursor }),
    });
    pods.push(...page.items);
    cursor = page.next;
  } while (cursor !== undefined);
  for (const uid of uidsOf(pods)) known.add(uid);
  // Who has watched since the Job was made has seen those that are gone, and that some of them never ran.
  const isMissing = known.size < counted && live.madeAt === undefined;
  if (pods.length === 0 && !isMissing) return seen;
  const log = live.log ?? (await parts.openLog(live));
  if (isMissing) log.tally(seen.job.metadata.name, counted, known);
  if (pods.length === 0) return seen;
  log.observe(pods, []);
  return {
    ...seen,
    pods,
    exits: mergeExits(seen.exits, exitsOf(pods).map(masked(live))),
    startedAt: seen.startedAt ?? firstStart(pods),
  };
}

/** Keeps what is new of it. Answers after how many milliseconds to come back, when it is too early for that. */
async function keep(
  live: LiveRun,
  parts: EngineParts,
  now: {
    attempt: Attempt;
    seen: Seen;
    found: StateSeen;
    progress: Progress;
    diagnosis: Diagnosis | undefined;
    decided: Attempt["decided"];
    /** What is not known of it, and why. */
    problem: string | undefined;
  },
): Promise<number | undefined> {
  const { record } = live;
  const { attempt, seen, found, progress, diagnosis, decided, problem } = now;
  const { startedAt, exits } = seen;
  // Of a run that waits the diagnosis says why; of one that is pending also the reason.
  const isPending = found.state === "Pending";
  const reason = isPending && diagnosis !== undefined ? diagnosis.category : found.reason;
  const waits = isPending || found.state === "Queued";
  const message = live.refusal ?? problem ?? found.message ?? (waits ? diagnosis?.message : undefined);
  const stale = live.view?.trouble() !== undefined;
  const isSame =
    found.state === record.state &&
    reason === record.reason &&
    (stale || message === record.message) &&
    stale === record.stale &&
    diagnosis?.message === record.diagnosis?.message &&
    exits.length === attempt.exits.length &&
    startedAt === attempt.startedAt &&
    live.gaps.length === 0 &&
    decided?.state === attempt.decided?.state &&
    record.cancel?.at === live.keptCancel;
  if (isSame) {
    if (JSON.stringify(progress) === JSON.stringify(record.progress)) return undefined;
    const left = (live.progressAt ?? -progressPause) + progressPause - parts.clock.monotonic();
    if (left > 0) return left;
  }
  live.progressAt = parts.clock.monotonic();
  live.keptCancel = record.cancel?.at;
  if (!stale) {
    const { message: _message, diagnosis: before, ...rest } = record;
    live.record = diagnosis === undefined || before === undefined ? rest : { ...rest, diagnosis: before };
  }
  await change(live, parts, {
    state: found.state,
    reason,
    status: found.status,
    stale,
    progress,
    attempts: withAttempt(record, {
      exits,
      ...(startedAt === undefined ? {} : { startedAt }),
      ...(decided === undefined ? {} : { decided }),
    }),
    ...(startedAt === undefined ? {} : { startedAt: record.startedAt ?? startedAt }),
    ...(message === undefined ? {} : { message }),
    ...(diagnosis === undefined ? {} : { diagnosis }),
  });
  return undefined;
}

/** Deletes that very Job; one that is gone, or is another, is fine. */
export async function removeJob(
  parts: Pick<EngineParts, "kube">,
  one: {
    connector: string;
    namespace: string;
    job: string;
    uid: string | undefined;
    propagation?: "Background" | "Foreground" | undefined;
  },
): Promise<void> {
  await unlessGone(
    parts.kube(one.connector).remove(paths.job(one.namespace, one.job), {
      propagation: one.propagation ?? "Background",
      ...(one.uid === undefined ? {} : { uid: one.uid }),
    }),
  );
}

/** Deletes pods without grace, because somebody asked for that. */
async function force(live: LiveRun, parts: EngineParts, pods: readonly Pod[]): Promise<void> {
  const { connector, namespace } = live.record;
  for (const { metadata } of pods) {
    const removed = parts.kube(connector).remove(paths.pod(namespace, metadata.name), {
      propagation: "Background",
      grace: 0,
      ...(metadata.uid === undefined ? {} : { uid: metadata.uid }),
    });
    if (!(await allowed(live, "Its pods cannot be deleted by force", "delete on pods", unlessGone(removed)))) return;
  }
}

async function unlessGone(work: Promise<unknown>): Promise<void> {
  try {
    await work;
  } catch (error) {
    const status = error instanceof Fault ? error.answer?.status : undefined;
    if (status !== 404 && status !== 409) throw error;
  }
}

/** A program may say a secret in its termination message. */
const masked =
  ({ mask }: LiveRun) =>
  (exit: ContainerExit): ContainerExit =>
    exit.message === undefined ? exit : { ...exit, message: mask(exit.message) };

export function uidsOf(pods: readonly Pod[]): string[] {
  return pods.flatMap(({ metadata }) => metadata.uid ?? []);
}

function firstStart(pods: readonly Pod[]): string | undefined {
  const starts = pods.flatMap(({ status }) =>
    (status?.containerStatuses ?? []).flatMap(({ state, lastState }) =>
      [state?.running?.startedAt, state?.terminated?.startedAt, lastState?.terminated?.startedAt].filter(
        (one) => typeof one === "string",
      ),
    ),
  );
  return starts.toSorted()[0];
}

function progressOf(job: Job | undefined, before: Progress): Progress {
  if (job === undefined) return before;
  const { active, ready, succeeded, failed } = job.status ?? {};
  return {
    active: active ?? 0,
    ready: ready ?? 0,
    succeeded: succeeded ?? 0,
    failed: failed ?? 0,
    completions: job.spec?.completions ?? null,
  };
}
