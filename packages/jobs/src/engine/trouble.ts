import { Fault, type KubeObject } from "@kube-connector/core";
import type { Job, KubeEvent, Pod, Workload } from "../kube.ts";
import { paths } from "../paths.ts";
import type { Diagnosis } from "../run.ts";
import { diagnose, eventsOf } from "../state/diagnose.ts";
import { firstCause } from "../state/first-cause.ts";
import { isWaiting } from "../state/state.ts";
import { type EngineParts, isoTime, type LiveRun } from "./live-run.ts";

/** Milliseconds until a run's events are first read, and at most between two readings; each one doubles the time. */
const leastPause = 15_000;
const mostPause = 300_000;
/** Milliseconds after the end of its grace at which a pod is said to be stuck. */
const stuckAfter = 30_000;

export interface TroubleSeen {
  /** What is known; the first cause stays while there is no other. */
  diagnosis: Diagnosis | undefined;
  /** It was seen just now, and is no memory. */
  stands: boolean;
  /** Milliseconds until the next look is worth it. */
  again: number;
}

/** Why it waits or failed. Events are read only where status alone does not say it. */
export async function findDiagnosis(
  live: LiveRun,
  parts: EngineParts,
  seen: { job: Job | undefined; pods: readonly Pod[]; workload: Workload | undefined; cancelAsked: boolean },
): Promise<TroubleSeen> {
  const { pods, workload, cancelAsked } = seen;
  const before = live.record.diagnosis;
  const now = parts.clock.now();
  const job: Job = seen.job ?? { metadata: { name: "", deletionTimestamp: isoTime(now) } };
  const stuckAt = pods.flatMap(({ metadata: { deletionTimestamp } }) =>
    deletionTimestamp === undefined ? [] : [Date.parse(deletionTimestamp) + stuckAfter + 1000],
  );
  let again = Math.min(mostPause, ...stuckAt.filter((at) => at > now).map((at) => at - now));
  let events: readonly KubeEvent[] = [];
  const of = eventsOf(job, pods);
  if (of === undefined) live.eventReads = 0;
  else {
    if (live.eventReads === 0) live.eventsAt ??= now;
    const pause = Math.min(leastPause * 2 ** live.eventReads, mostPause);
    let left = (live.eventsAt ?? now) + pause - now;
    if (left <= 0) {
      events = await readEvents(live, parts, of);
      live.eventsAt = now;
      live.eventReads += 1;
      left = Math.min(pause * 2, mostPause);
    }
    again = Math.min(again, left);
  }
  const found = diagnose({ job, pods, events, now, ...(workload === undefined ? {} : { workload }) });
  // What ends by our own hand says nothing new, unless it does not end.
  if ((cancelAsked || seen.job === undefined) && found?.category !== "StuckTerminating") {
    return { diagnosis: before, stands: false, again };
  }
  // Kueue's Workload comes after the Job, and nobody watches it.
  const isSuspended = job.spec?.suspend === true;
  if (isSuspended && (workload === undefined || isWaiting(workload))) {
    again = Math.min(again, pauseSince(now - Date.parse(live.record.since)));
  }
  if (found === undefined) {
    // Between two readings of events nothing has changed.
    const stands = of !== undefined && events.length === 0;
    return { diagnosis: firstCause(before, undefined, stands || isSuspended), stands, again };
  }
  const since = found.category === before?.category ? before.since : undefined;
  return { diagnosis: firstCause(before, { ...found, since: since ?? isoTime(now) }, true), stands: true, again };
}

/** Milliseconds to the next look of a run that waits that long: at 15 s, 30, 60 and so on. */
function pauseSince(milliseconds: number): number {
  let due = leastPause;
  while (due <= milliseconds) due *= 2;
  return due - milliseconds;
}

/** Of that object; none where they may not be read: status has to say it alone. */
async function readEvents(live: LiveRun, parts: EngineParts, uid: string): Promise<readonly KubeEvent[]> {
  const { connector, namespace } = live.record;
  try {
    const { items } = await parts.kube(connector).list<KubeObject & KubeEvent>(paths.events(namespace), {
      limit: 500,
      fieldSelector: `involvedObject.uid=${uid}`,
    });
    return items;
  } catch (error) {
    if (error instanceof Fault && error.answer !== undefined) return [];
    throw error;
  }
}

/** Kueue's Workload of a suspended Job, where there is Kueue; or why nobody can say whether it waits for that. */
export async function readWorkload(
  live: LiveRun,
  parts: EngineParts,
  job: Job,
): Promise<{ workload?: Workload; problem?: string }> {
  const { connector, namespace } = live.record;
  try {
    const { items } = await parts.kube(connector).list<Workload>(paths.workloads(namespace), { limit: 500 });
    const workload = items.find(({ metadata }) =>
      ((metadata.ownerReferences ?? []) as { uid?: string }[]).some(({ uid }) => uid === job.metadata.uid),
    );
    return workload === undefined ? {} : { workload };
  } catch (error) {
    const isQueued = job.metadata.labels?.["kueue.x-k8s.io/queue-name"] !== undefined;
    if (!isQueued || !(error instanceof Fault && error.code === "permission_denied")) return {};
    return {
      problem: `Whether it waits for Kueue is not known, as that needs the right list on workloads.kueue.x-k8s.io in namespace ${namespace}`,
    };
  }
}
