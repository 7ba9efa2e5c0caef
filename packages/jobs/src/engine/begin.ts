import { backoff, Fault } from "@kube-connector/core";
import type { Job, Kube } from "../kube.ts";
import { isSubmission } from "../labels.ts";
import { paths } from "../paths.ts";
import type { Attempt, Diagnosis, RunRecord } from "../run.ts";
import { renderJob } from "../source/render.ts";
import { change, end, type EngineParts, isoTime, type LiveRun, slotRequest, withAttempt } from "./live-run.ts";
import { readSource } from "./read-source.ts";
import { createRunSecret } from "./run-secret.ts";
import { isQuota, refusalOf } from "../state/refusal.ts";

// From queued to posted. The intent is kept before the first call to the cluster; a POST without an answer is looked for
// before it is sent again, by a name that is always the same for this run and attempt.

const leastWait = 500;
const mostWait = 30_000;
/** Milliseconds for which an API server that was away may refuse whom it will not later: it begins without its rules. */
const rulesWithin = 15_000;

/** Waits for its time and its slot, then keeps the intent. Answers after how many milliseconds to look again. */
export async function begin(live: LiveRun, parts: EngineParts): Promise<number | undefined> {
  const { record } = live;
  const { definition } = record;
  const now = parts.clock.now();
  if (record.cancel !== undefined) {
    await end(live, parts, { state: "Cancelled", reason: "Asked", message: "cancelled before it was started" });
    return 0;
  }
  const due = record.retryAt === undefined ? Date.parse(record.createdAt) : Date.parse(record.retryAt);
  if (due > now) return due - now;
  const left = due + definition.deadlines.queue * 1000 - now;
  if (left <= 0) {
    await end(live, parts, queueOver(record));
    return 0;
  }
  if (!parts.slots.take(slotRequest(record))) {
    if (record.reason !== "Profile") {
      await change(live, parts, { state: "Queued", status: "Starting", reason: "Profile" });
    }
    return left;
  }
  let source: Awaited<ReturnType<typeof readSource>>;
  try {
    source = await readSource(definition, parts);
  } catch (error) {
    const fault = Fault.from(error, "Cannot read the source");
    if (fault.code === "unavailable" || fault.code === "deadline_exceeded") return wait(live, parts, fault, left);
    await end(live, parts, { state: "Failed", reason: "Source", message: fault.message });
    return 0;
  }
  const number = record.attempts.length + 1;
  if (definition.secretEnv.length > 0 && !(await hasSecret(live, parts, number))) {
    await end(live, parts, {
      state: "Failed",
      reason: "Secret",
      message: "the secret values were lost before they were in the cluster; submit it again with them",
    });
    return 0;
  }
  let rendered: ReturnType<typeof renderJob>;
  try {
    rendered = renderJob({
      definition,
      ...(source?.manifest === undefined ? {} : { source: source.manifest }),
      runId: record.id,
      attempt: number,
      engine: record.engine,
      ...(record.indexes === undefined ? {} : { indexes: record.indexes }),
    });
  } catch (error) {
    const fault = Fault.from(error, "Cannot make the Job");
    await end(live, parts, { state: "Failed", reason: "Definition", message: fault.message });
    return 0;
  }
  const attempt: Attempt = {
    number,
    job: rendered.name,
    manifest: { ...rendered.manifest },
    fingerprint: rendered.fingerprint,
    postedAt: isoTime(now),
    exits: [],
  };
  const { message: _message, ...rest } = record;
  live.record = rest;
  live.unsure = false;
  live.failures = 0;
  live.refusedSince = undefined;
  live.seen = false;
  live.madeAt = undefined;
  live.deletedAt = undefined;
  live.eventReads = 0;
  await change(
    live,
    parts,
    {
      state: "Submitting",
      status: "Starting",
      reason: "",
      attempts: [...record.attempts, attempt],
      ...(source === undefined ? {} : { source: source.origin }),
    },
    [
      {
        at: isoTime(now),
        type: "attempt",
        message: `Attempt ${number}: Job ${rendered.name}`,
        data: { number, job: rendered.name },
      },
    ],
  );
  return post(live, parts, attempt);
}

/** Each attempt has a Secret of its own; after a restart the values are read from an earlier one. */
async function hasSecret(live: LiveRun, parts: EngineParts, attempt: number): Promise<boolean> {
  const secret = createRunSecret(live.record, parts.kube(live.record.connector));
  if (attempt === 1 && live.secrets.size > 0) return true;
  const values = live.secrets.size > 0 ? live.secrets : await secret.read();
  if (values.size > 0 && attempt > 1) await secret.create(values, attempt);
  return values.size > 0;
}

/** Sends the Job, or finds that it was sent. */
export async function post(live: LiveRun, parts: EngineParts, attempt: Attempt): Promise<number | undefined> {
  const { record } = live;
  const kube = parts.kube(record.connector);
  const since = record.retryAt ?? record.createdAt;
  const left = Date.parse(since) + record.definition.deadlines.queue * 1000 - parts.clock.now();
  live.view ??= parts.view(record);
  // The watch begins first. Where it cannot, the Job is sent all the same, and its state is stale until it can.
  if (!live.view.isSynced() && live.view.trouble() === undefined) {
    void live.view.synced.then(() => parts.wake(record.id));
    return 1000;
  }
  try {
    if (live.unsure) {
      const found = await find(kube, record, attempt);
      if (found !== undefined) return await adopt(live, parts, attempt, found);
      live.unsure = false;
    }
    if (record.cancel !== undefined) {
      await end(live, parts, { state: "Cancelled", reason: "Asked", message: "cancelled before its Job was made" });
      return 0;
    }
    if (left <= 0) {
      await end(live, parts, queueOver(record));
      return 0;
    }
    const job = await kube.create<Job>(paths.jobs(record.namespace), attempt.manifest);
    live.madeAt = parts.clock.monotonic();
    return await adopt(live, parts, attempt, job);
  } catch (error) {
    const fault = Fault.from(error, "Cannot make the Job");
    if (live.unsaved || fault.code === "internal") throw error;
    return refused(live, parts, fault, left);
  }
}

async function find(kube: Kube, record: RunRecord, attempt: Attempt): Promise<Job | undefined> {
  try {
    return await kube.get<Job>(paths.job(record.namespace, attempt.job));
  } catch (error) {
    if (error instanceof Fault && error.answer?.status === 404) return undefined;
    throw error;
  }
}

/** The Job of that name is ours when it says so itself; a webhook may have changed its spec, so that is not compared. */
async function adopt(live: LiveRun, parts: EngineParts, attempt: Attempt, job: Job): Promise<number | undefined> {
  const { record } = live;
  const { uid } = job.metadata;
  const { engine, id: runId } = record;
  const isOurs = isSubmission(job, { engine, runId, attempt: attempt.number, fingerprint: attempt.fingerprint });
  if (!isOurs || uid === undefined) {
    const message = `the Job ${record.namespace}/${attempt.job} is there already and is not of this run; it was left alone`;
    const diagnosis: Diagnosis = {
      category: "NameTaken",
      message,
      hint: "Delete that Job, or give the run another name.",
    };
    await end(live, parts, { state: "Failed", reason: "NameTaken", message }, { diagnosis });
    return 0;
  }
  // First the Secret, so that no death in between leaves it without an owner.
  if (record.definition.secretEnv.length > 0) {
    await createRunSecret(record, parts.kube(record.connector)).own(attempt.number, uid);
  }
  live.failures = 0;
  live.unsure = false;
  const { message: _message, diagnosis: _diagnosis, ...rest } = record;
  live.record = rest;
  await change(live, parts, {
    state: "Submitted",
    status: "Starting",
    reason: "",
    stale: false,
    attempts: withAttempt(record, { uid }),
  });
  return 0;
}

async function refused(live: LiveRun, parts: EngineParts, fault: Fault, left: number): Promise<number | undefined> {
  const { record } = live;
  const { status, reason, retryAfterSeconds } = fault.answer ?? { status: 0, reason: "" };
  if (reason === "AlreadyExists") {
    live.unsure = true;
    return 0;
  }
  // A quota that others change at this moment is answered with 409 Conflict.
  if (status === 409 || (status === 403 && isQuota(fault.message))) {
    if (left <= 0) {
      await end(live, parts, queueOver(record));
      return 0;
    }
    const diagnosis: Diagnosis = { ...refusalOf(fault.message, "Job"), category: "Quota" };
    if (record.reason !== "Quota") {
      const { message } = diagnosis;
      await change(live, parts, {
        state: "Queued",
        status: "Starting",
        reason: "Quota",
        stale: false,
        message,
        diagnosis,
      });
    }
    return pause(live, parts, retryAfterSeconds, left);
  }
  if (status === 429) {
    if (record.stale || record.message === undefined) {
      const message = `The cluster takes no more requests at the moment, and is asked again: ${fault.message}`;
      await change(live, parts, { stale: false, message });
    }
    return pause(live, parts, retryAfterSeconds, left);
  }
  if ((status === 401 || status === 403) && live.failures > 0) {
    live.refusedSince ??= parts.clock.monotonic();
    if (parts.clock.monotonic() - live.refusedSince < rulesWithin) return wait(live, parts, fault, left);
  }
  if (status >= 400 && status < 500) {
    const diagnosis = rejectionOf(status, fault.message);
    // Every POST was answered, and with no.
    live.neverMade = record.attempts.length === 1 && live.failures === 0;
    await end(live, parts, { state: "Failed", reason: diagnosis.category, message: fault.message }, { diagnosis });
    return 0;
  }
  // No answer, or a server's error: the Job may be there.
  live.unsure = true;
  if (left <= 0 && live.failures > 2) {
    await end(live, parts, queueOver(record));
    return 0;
  }
  return wait(live, parts, fault, left);
}

function rejectionOf(status: number, message: string): Diagnosis {
  const refusal = refusalOf(message, "Job");
  if (refusal.category !== "Rejected") return refusal;
  const hint =
    status === 401 || status === 403
      ? "Have the connector's policy and its stored token allow it to create jobs there."
      : "Change the definition as the message says, and run it again.";
  return { ...refusal, message, hint };
}

/** The cluster cannot be reached: says so once, and tries again. */
async function wait(live: LiveRun, parts: EngineParts, fault: Fault, left: number): Promise<number> {
  if (!live.record.stale) await change(live, parts, { stale: true, message: fault.message });
  return pause(live, parts, fault.answer?.retryAfterSeconds, left);
}

function pause(live: LiveRun, parts: EngineParts, retryAfterSeconds: number | undefined, left: number): number {
  const own = backoff(live.failures, leastWait, mostWait, parts.random);
  live.failures += 1;
  return Math.min(retryAfterSeconds === undefined ? own : retryAfterSeconds * 1000, Math.max(left, leastWait));
}

function queueOver({ definition, reason, message }: RunRecord) {
  const why = message ?? (reason === "" ? "the cluster did not take it" : `it was waiting for: ${reason}`);
  return {
    state: "TimedOut",
    reason: "Queue",
    message: `not started within deadlines.queue (${definition.deadlines.queue} s): ${why}`,
  } as const;
}
