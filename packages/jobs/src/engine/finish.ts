import { Fault } from "@kube-connector/core";
import type { Job } from "../kube.ts";
import { runLabels } from "../labels.ts";
import type { RunLog } from "../logs/run-log.ts";
import { paths } from "../paths.ts";
import type { Attempt, RunRecord } from "../run.ts";
import { missingOutputs, outputsOf } from "../state/exits.ts";
import { removeJob, uidsOf } from "./follow.ts";
import { change, type EngineParts, isoTime, type LiveRun } from "./live-run.ts";
import { createRunSecret } from "./run-secret.ts";

// After the end: the rest of the log, then everything that was made is deleted, whatever the result, and seen to be gone. Each
// step is kept, so that another process goes on where this one died. Nothing here changes the result.

const stuckAfter = 30_000;
const defaultGrace = 30;

/** One step. Undefined: the run is done, and needs no owner any more. */
export async function finish(live: LiveRun, parts: EngineParts): Promise<number | undefined> {
  const { record } = live;
  if (record.attempts.length > 0) live.view ??= parts.view(record);
  if (live.view !== undefined && !live.view.isSynced() && !live.neverMade) {
    // Without its pods a log would be complete and empty, so a cluster that is away is waited for, for a while.
    const until = live.listeningSince + record.definition.deadlines.collect * 1000;
    const isAwaited = record.log?.sha256 === undefined && parts.clock.now() < until;
    if (isAwaited || live.view.trouble() === undefined) return 500;
  }
  live.gone.push(...(live.view?.takeGone() ?? []));
  const pods = live.view?.pods() ?? [];
  if (record.log?.sha256 === undefined) {
    const log = live.log ?? (await parts.openLog(live));
    log.observe([...pods, ...live.gone], uidsOf(live.gone));
    if (!live.collecting) {
      log.recall(record.attempts.flatMap(({ exits }) => exits));
      live.collecting = true;
      void collect(live, parts, log).catch(async (error: unknown) => {
        if (live.dropped) {
          live.collecting = false;
          return;
        }
        parts.log.warn("A log could not be completed and is tried again", { key: record.id, error });
        // What is in the files counts, not what this process remembers of them.
        await parts.closeLog(live);
        live.collecting = false;
        parts.clock.after(2000, () => parts.wake(record.id));
      });
    }
    return 60_000;
  }
  const keep = keptUntil(record);
  if (keep === "ever" || (keep !== undefined && keep > parts.clock.now())) {
    if (record.cleanup.state !== "Kept") {
      await change(live, parts, {
        cleanup: { state: "Kept", ...(keep === "ever" ? {} : { until: isoTime(keep) }) },
      });
    }
    return undefined;
  }
  return cleanUp(live, parts, pods.length);
}

async function collect(live: LiveRun, parts: EngineParts, log: RunLog): Promise<void> {
  const { record } = live;
  const summary = await log.finish({ state: record.state, milliseconds: record.definition.deadlines.collect * 1000 });
  const outputs = { ...outputsOf(record.attempts.at(-1)?.exits ?? []).outputs, ...log.outputs() };
  const missing = missingOutputs(outputs, record.definition.outputs);
  await change(
    live,
    parts,
    {
      log: summary,
      ...(Object.keys(outputs).length === 0 ? {} : { outputs }),
      ...(missing.length > 0 && record.state === "Succeeded"
        ? { message: `outputs that were not given: ${missing.join(", ")}` }
        : {}),
    },
    [
      {
        at: isoTime(parts.clock.now()),
        type: "end",
        message: `${record.state}; ${summary.lines} lines of log${summary.gaps === 0 ? "" : `, ${summary.gaps} gaps`}`,
        data: { state: record.state, reason: record.reason, log: summary },
      },
    ],
  );
  live.collecting = false;
  await parts.closeLog(live);
  parts.wake(record.id);
}

/** Until when what was made stays in the cluster, in milliseconds; undefined: it is deleted now. */
function keptUntil({ definition, state, endedAt }: RunRecord): number | "ever" | undefined {
  if (definition.cleanup === "Never") return "ever";
  if (definition.cleanup === "Always" || state === "Succeeded" || state === "Cancelled") return undefined;
  return Date.parse(endedAt ?? "") + definition.keepFailedFor * 1000;
}

async function cleanUp(live: LiveRun, parts: EngineParts, pods: number): Promise<number | undefined> {
  const { record } = live;
  const { connector, namespace } = record;
  try {
    const posted = live.neverMade ? [] : record.attempts.filter(({ postedAt }) => postedAt !== undefined);
    if (live.cleanedAt === undefined) {
      for (const attempt of posted) {
        const uid = (await isThere(live, parts, attempt))
          ? (attempt.uid ?? (await ourUid(live, parts, attempt.job)))
          : undefined;
        if (uid !== undefined) await removeJob(parts, { connector, namespace, job: attempt.job, uid });
      }
      if (record.definition.secretEnv.length > 0) await removeSecrets(live, parts);
      live.cleanedAt = parts.clock.monotonic();
    }
    const left: Attempt[] = [];
    for (const attempt of posted) if (await isThere(live, parts, attempt)) left.push(attempt);
    if (left.length > 0 || pods > 0) {
      // A POST that nobody waited for any more has arrived.
      if (left.some(({ uid }) => uid === undefined)) live.cleanedAt = undefined;
      await reportStuck(live, parts, left.length, pods);
      return 5000;
    }
  } catch (error) {
    const { message } = Fault.from(error, "Cannot delete what was made");
    if (record.cleanup.problem !== message)
      await change(live, parts, { cleanup: { state: "Pending", problem: message } });
    throw error;
  }
  await change(live, parts, { cleanup: { state: "Done" } }, [
    { at: isoTime(parts.clock.now()), type: "cleanup", message: "What was made in the cluster is gone", data: {} },
  ]);
  return undefined;
}

async function removeSecrets({ record }: LiveRun, parts: EngineParts): Promise<void> {
  try {
    await createRunSecret(record, parts.kube(record.connector)).remove();
  } catch (error) {
    // The run has ended because it could not have one, so there is none.
    const hadNone = record.attempts.length === 0 && error instanceof Fault && error.code === "permission_denied";
    if (!hadNone) throw error;
  }
}

/** As the watch has it; where nothing can be watched, the API server is asked. */
async function isThere(live: LiveRun, parts: EngineParts, { job, uid }: Attempt): Promise<boolean> {
  // One that was never ours to see may arrive yet.
  const isFollowed = uid !== undefined && live.view?.isSynced() === true && live.view.trouble() === undefined;
  const there = isFollowed ? live.view?.job(job)?.metadata.uid : await ourUid(live, parts, job);
  return there !== undefined && (uid === undefined || there === uid);
}

/** A Job whose POST had no answer: its uid when it is there and of this run. */
async function ourUid(live: LiveRun, parts: EngineParts, name: string): Promise<string | undefined> {
  const { record } = live;
  try {
    const job = await parts.kube(record.connector).get<Job>(paths.job(record.namespace, name));
    return job.metadata.labels?.[runLabels.run] === record.id ? job.metadata.uid : undefined;
  } catch (error) {
    if (error instanceof Fault && error.answer?.status === 404) return undefined;
    throw error;
  }
}

async function reportStuck(live: LiveRun, parts: EngineParts, jobs: number, pods: number): Promise<void> {
  const { record } = live;
  if (live.cleanedAt === undefined || record.cleanup.problem !== undefined) return;
  const grace = Math.max(
    defaultGrace,
    ...(live.view?.pods() ?? []).map(({ metadata }) => metadata.deletionGracePeriodSeconds ?? 0),
  );
  if (parts.clock.monotonic() - live.cleanedAt < grace * 1000 + stuckAfter) return;
  const held = (live.view?.pods() ?? []).map(
    ({ metadata, spec }) =>
      `${metadata.name} on ${spec?.nodeName ?? "no node"}${metadata.finalizers?.length ? ` (finalizers ${metadata.finalizers.join(", ")})` : ""}`,
  );
  await change(live, parts, {
    cleanup: {
      state: "Pending",
      problem: `still there: ${jobs} Jobs, ${pods} pods${held.length === 0 ? "" : `: ${held.join("; ")}`}; is the node alive?`,
    },
  });
}
