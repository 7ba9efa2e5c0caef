// Every state of the table, row by row, as a real Job controller, scheduler and kubelet bring it about.
import { isTerminal, type Jobs, type RunEvent, type RunRecord, runStates } from "@kube-connector/jobs";
import { afterAll, beforeAll, expect, test } from "vitest";
import { jobName } from "../../packages/jobs/src/source/names.ts";
import { linesByPod, untilEnd } from "../kit/jobs-checks.ts";
import type { Started } from "../kit/jobs-room.ts";
import { control } from "./cluster.ts";
import { type JobsCluster, script, startJobsCluster, stay, untilRun } from "./jobs-cluster.ts";
import { kueue, workload } from "./jobs-objects.ts";
import { eventually } from "./kubectl.ts";

const ns = "jobs-states";
let room: JobsCluster;
let folder: string;
let started: Started;
let jobs: Jobs;

beforeAll(async () => {
  room = await startJobsCluster(ns);
  await room.apply(kueue);
  folder = await room.folder();
  const oneAtATime = { concurrency: { max: 1 } };
  started = await room.start(folder, { profiles: { one: oneAtATime, other: oneAtATime } });
  jobs = started.jobs;
});
afterAll(async () => {
  await control("start", "target-controllers");
  await started?.stop();
  await room?.kubectl("delete", "crd", kueue.metadata.name, "--ignore-not-found", "--wait=false");
  await room?.stop();
});

const slowToStop = (seconds: number) => ({
  patch: { spec: { template: { spec: { terminationGracePeriodSeconds: seconds + 20 } } } },
});
const submit = async (fields: object) => (await jobs.submit(fields)).run.id;
const named = new Set<RunRecord["state"]>();
const inState = (id: string, state: RunRecord["state"], reason?: string) => {
  named.add(state);
  return untilRun(jobs, id, (run) => run.state === state && (reason === undefined || run.reason === reason));
};
const jobOf = (run: RunRecord) => run.attempts[0]?.job ?? "";
const left = (id: string) =>
  room.kubectl("-n", ns, "get", "jobs,pods", "-l", `connectors.cpaas.io/run-id=${id}`, "-o", "name");

/** `State` or `State Reason`, with the status, in the order in which they came. */
function told(events: RunEvent[]): string[] {
  return events
    .filter(({ type }) => type === "state")
    .map(({ data }) => `${[data.state, data.reason].filter((word) => word !== "").join(" ")} (${String(data.status)})`);
}

/** Those are among them, in that order. */
function expectInOrder(all: string[], wanted: string[]): void {
  for (const one of wanted) named.add(one.split(" ")[0] as RunRecord["state"]);
  let at = 0;
  for (const one of all) if (one === wanted[at]) at += 1;
  expect(at === wanted.length ? wanted : all).toEqual(wanted);
}

test.concurrent("Submitting, Submitted, Pending, Running, Succeeded", async () => {
  const id = await submit(script("sleep 2"));
  expectInOrder(told(await untilEnd(jobs, id)), [
    "Submitting (Starting)",
    "Submitted (Starting)",
    "Pending (Starting)",
    "Running (Running)",
    "Succeeded CompletionsReached (Success)",
  ]);
});

test.concurrent("Queued for the profile; Cancelled before it was sent", async () => {
  const first = await submit(script(stay, { profile: "one" }));
  await inState(first, "Running");
  const second = await submit(script("true", { profile: "one" }));
  expect(await inState(second, "Queued", "Profile")).toMatchObject({ status: "Starting", attempts: [] });
  await jobs.cancel(second);
  expect(await inState(second, "Cancelled", "Asked")).toMatchObject({ status: "Cancelled", attempts: [] });
  await jobs.cancel(first);
  await inState(first, "Cancelled");
});

test.concurrent("Backoff until the next pod; Queued for the next Job", async () => {
  const id = await submit(
    script("exit 1", { backoffLimit: 1, retry: { maxAttempts: 2, on: ["Any"], backoff: "Fixed", initialDelay: 3 } }),
  );
  const waiting = await inState(id, "Backoff");
  expect(waiting.status).toBe("Running");
  expect(waiting.message).toMatch(/^Next try at 20\d\d-/);
  const due = Date.parse(waiting.message?.replace("Next try at ", "") ?? "");
  const again = await untilRun(jobs, id, ({ attempts }) => (attempts[0]?.exits.length ?? 0) > 1);
  const began = Date.parse(again.attempts[0]?.exits[1]?.startedAt ?? "");
  // Both have a grain of a second, and a pod takes a moment to start.
  expect(began).toBeGreaterThanOrEqual(due - 1000);
  expectInOrder(told(await untilEnd(jobs, id)), [
    "Backoff (Running)",
    "Queued Retry (Starting)",
    "Submitting (Starting)",
    "Failed BackoffLimitExceeded (Failed)",
  ]);
}, 120_000);

test.concurrent("a run whose pod was taken away is tried again", async () => {
  const id = await submit(script("sleep 5", { retry: { maxAttempts: 2, initialDelay: 1 } }));
  await inState(id, "Running");
  await room.kubectl("-n", ns, "delete", "pod", "-l", `connectors.cpaas.io/run-id=${id}`, "--wait=false");
  const run = await inState(id, "Succeeded");
  expect(run.attempts).toMatchObject([
    { outcome: "Failed", diagnosis: { category: "Infra.Evicted" } },
    { outcome: "Succeeded" },
  ]);
  expect(run.diagnosis).toBeUndefined();
});

test.concurrent("Failing while the other pod still stops, then Failed", async () => {
  const id = await submit(
    script(
      "if [ $JOB_COMPLETION_INDEX = 0 ]; then sleep 3; exit 1; fi; trap 'sleep 4; echo stopped; exit 0' TERM; sleep 600 & wait",
      { completions: 2, parallelism: 2, completionMode: "Indexed", ...slowToStop(4) },
    ),
  );
  expectInOrder(told(await untilEnd(jobs, id)), [
    "Failing BackoffLimitExceeded (Running)",
    "Failed BackoffLimitExceeded (Failed)",
  ]);
  expect([...(await linesByPod(folder, id)).values()]).toEqual([["stopped"]]);
});

test.concurrent("Succeeding while the other pod still stops, then Succeeded", async () => {
  const id = await submit(
    script(
      "if [ $JOB_COMPLETION_INDEX = 0 ]; then sleep 3; exit 0; fi; trap 'sleep 4; echo stopped; exit 0' TERM; sleep 600 & wait",
      {
        completions: 2,
        parallelism: 2,
        completionMode: "Indexed",
        successPolicy: { rules: [{ succeededIndexes: "0" }] },
        ...slowToStop(4),
      },
    ),
  );
  expectInOrder(told(await untilEnd(jobs, id)), [
    "Succeeding SuccessPolicy (Running)",
    "Succeeded SuccessPolicy (Success)",
  ]);
  expect([...(await linesByPod(folder, id)).values()]).toEqual([["stopped"]]);
});

test.concurrent("suspended and back: not cancelled, and both pods' lines are in the log", async () => {
  const id = await submit(script("echo begun; sleep 5"));
  await inState(id, "Running");
  await eventually(async () => {
    for await (const piece of jobs.readLog(id)) if (piece.includes("begun")) return;
    throw new Error("no line yet");
  });
  await jobs.suspend(id, true);
  expect(await inState(id, "Suspended")).toMatchObject({ status: "Starting", reason: "JobSuspended" });
  await eventually(async () => expect(await left(id)).not.toContain("pod/"));
  await jobs.suspend(id, false);
  const events = await untilEnd(jobs, id);
  expectInOrder(told(events), [
    "Running (Running)",
    "Suspended JobSuspended (Starting)",
    "Running (Running)",
    "Succeeded CompletionsReached (Success)",
  ]);
  expect([...(await linesByPod(folder, id)).values()]).toEqual([["begun"], ["begun"]]);
});

test.concurrent("Queued for Kueue's admission, with its words; admitted it runs, and nothing is wrong with it any more", async () => {
  const id = await submit(script("echo admitted", { patch: { spec: { suspend: true } } }));
  const { attempts } = await inState(id, "Suspended");
  const { job = "", uid = "" } = attempts[0] ?? {};
  await room.apply(workload(ns, job, uid));
  const waiting = await inState(id, "Queued", "Admission");
  expect(waiting).toMatchObject({
    status: "Starting",
    message: expect.stringMatching(
      /^Kueue has not admitted the Job yet, in queue nightly: .*insufficient unused quota/,
    ),
    diagnosis: { category: "AwaitingAdmission", hint: expect.stringContaining("when the queue has room") },
  });
  // What Kueue does when it admits a Job.
  await room.apply(workload(ns, job, uid, true));
  await room.kubectl("-n", ns, "patch", "job", job, "--type=merge", '-p={"spec":{"suspend":false}}');
  expectInOrder(told(await untilEnd(jobs, id)), [
    "Suspended JobSuspended (Starting)",
    "Queued Admission (Starting)",
    "Succeeded CompletionsReached (Success)",
  ]);
  expect((await jobs.get(id)).diagnosis).toBeUndefined();
});

test.concurrent("TimedOut by the Job's deadline; Cancelling, and Cancelled once the pods are gone", async () => {
  const timed = await submit(script(stay, { timeout: 4 }));
  const cancelled = await submit(script("trap 'sleep 3; exit 0' TERM; sleep 600 & wait", slowToStop(3)));
  await inState(cancelled, "Running");
  await jobs.cancel(cancelled);
  expect(await inState(cancelled, "Cancelling")).toMatchObject({ status: "Running" });
  expect(await left(cancelled)).toContain("pod/");
  expect(await inState(cancelled, "Cancelled")).toMatchObject({ status: "Cancelled" });
  expect(await left(cancelled)).toBe("");
  expect(await inState(timed, "TimedOut", "DeadlineExceeded")).toMatchObject({ status: "Failed" });
});

test.concurrent("Deleting and Lost, when somebody else deletes the Job", async () => {
  const text = "trap 'sleep 4; echo stopped; exit 0' TERM; echo begun; sleep 600 & wait";
  const id = await submit(script(text, slowToStop(4)));
  const run = await inState(id, "Running");
  await room.kubectl("-n", ns, "delete", "job", jobOf(run), "--cascade=foreground", "--wait=false");
  const events = await untilEnd(jobs, id);
  expectInOrder(told(events), ["Running (Running)", "Deleting (Running)", "Lost Deleted (Unknown)"]);
  expect(await jobs.get(id)).toMatchObject({ message: expect.stringContaining("deleted by somebody else") });
});

test.concurrent("what happened while no process of ours was there: Replaced, Deleted, ended, and failed without a pod left", async () => {
  const own = await room.folder();
  let other = await room.start(own);
  const ids: string[] = [];
  for (const text of [stay, stay, "sleep 3; echo done", "sleep 3; exit 1"]) {
    const { run } = await other.jobs.submit(script(text, { name: "alone" }));
    ids.push(run.id);
  }
  const runs = await Promise.all(
    ids.map((id) => untilRun(other.jobs, id, ({ state }) => state === "Running" || isTerminal(state))),
  );
  await other.stop();
  const [replaced, deleted, , bare] = runs.map(jobOf);
  const text = await room.kubectl("-n", ns, "get", "job", replaced ?? "", "-o", "json");
  await room.kubectl("-n", ns, "delete", "job", replaced ?? "", deleted ?? "");
  const { metadata } = JSON.parse(text) as { metadata: { name: string; labels: object; annotations: object } };
  const { name, labels, annotations } = metadata;
  const spec = {
    template: {
      metadata: { labels },
      spec: { restartPolicy: "Never", containers: [{ name: "main", image: "localhost/tools:1" }] },
    },
  };
  await room.apply({
    apiVersion: "batch/v1",
    kind: "Job",
    metadata: { name, labels, annotations, namespace: ns },
    spec,
  });
  await room.kubectl("-n", ns, "wait", "--for=condition=Failed", `job/${bare}`, "--timeout=60s");
  await room.kubectl("-n", ns, "delete", "pods", "-l", `batch.kubernetes.io/job-name=${bare}`);
  other = await room.start(own);
  const ended = await Promise.all(ids.map((id) => untilRun(other.jobs, id, ({ state }) => isTerminal(state))));
  await other.stop();
  expect(ended.map(({ state, reason, status }) => [state, reason, status])).toEqual([
    ["Lost", "Replaced", "Unknown"],
    ["Lost", "Deleted", "Unknown"],
    ["Succeeded", "CompletionsReached", "Success"],
    ["Failed", "BackoffLimitExceeded", "Failed"],
  ]);
  expect(ended[3]?.diagnosis).toMatchObject({ category: "BackoffLimit", hint: expect.stringContaining("log") });
}, 120_000);

test.concurrent("a Job of our name that is not ours is left alone: NameTaken", async () => {
  const holder = await submit(script(stay, { profile: "other" }));
  await inState(holder, "Running");
  const id = await submit(script("true", { name: "taken", profile: "other" }));
  await inState(id, "Queued", "Profile");
  const name = jobName("taken", id, 1);
  const spec = {
    suspend: true,
    template: { spec: { restartPolicy: "Never", containers: [{ name: "main", image: "localhost/tools:1" }] } },
  };
  await room.apply({ apiVersion: "batch/v1", kind: "Job", metadata: { name, namespace: ns }, spec });
  await jobs.cancel(holder);
  const ended = await inState(id, "Failed");
  expect(ended).toMatchObject({
    reason: "NameTaken",
    diagnosis: { category: "NameTaken", hint: expect.stringContaining("another name") },
  });
  expect(ended.message).toContain("is there already and is not of this run; it was left alone");
  await untilRun(jobs, id, ({ cleanup }) => cleanup.state === "Done");
  expect(await room.kubectl("-n", ns, "get", "job", name, "-o", "name")).toContain(name);
});

test("the controllers are away: Submitted, Suspending; they come back: Succeeded, Suspended", async () => {
  const second = await submit(script(stay));
  await inState(second, "Running");
  await control("stop", "target-controllers");
  const first = await submit(script("true"));
  await jobs.suspend(second, true);
  expect(await inState(first, "Submitted")).toMatchObject({ status: "Starting" });
  expect(await inState(second, "Suspending")).toMatchObject({ status: "Running" });
  await control("start", "target-controllers");
  await inState(second, "Suspended");
  expect(await inState(first, "Succeeded")).toMatchObject({ status: "Success" });
  await jobs.cancel(second);
  await inState(second, "Cancelled");
}, 120_000);

test("no state is without a test here", () => {
  expect(runStates.filter((state) => !named.has(state))).toEqual([]);
});
