import { expect, test } from "vitest";
import {
  condition,
  containerStatus,
  creating,
  job,
  pod,
  running,
  terminated,
  unplacedPod,
} from "../../../../test/kit/job-objects.ts";
import type { Job } from "../kube.ts";
import { runStates } from "../run.ts";
import { type Observation, outcomeOf, stateOf, statusOf } from "./state.ts";

// jobs.md's table, row by row, on objects as the API server of 1.35 gives them; and the pitfalls of section 15 that it is for.

type Row = [string, Partial<Observation>, string, string?];

const seen: Observation = { posted: "Yes", uid: "u1", cancelAsked: false, pods: [] };
const deleted = { deletionTimestamp: "2026-03-01T10:01:00Z", deletionGracePeriodSeconds: 0 };
const complete = condition("Complete", "CompletionsReached", "Reached expected number of succeeded pods");
const criteriaMet = condition("SuccessCriteriaMet", "CompletionsReached", "Reached expected number of succeeded pods");
const failed = condition("Failed", "BackoffLimitExceeded", "Job has reached the specified backoff limit");
const failing = condition("FailureTarget", "BackoffLimitExceeded", "Job has reached the specified backoff limit");
const suspended = condition("Suspended", "JobSuspended", "Job suspended");
const resumed = condition("Suspended", "JobResumed", "Job resumed", "False");
const workload = (type: string, status: string) => ({
  metadata: { name: "job-report" },
  status: { conditions: [condition(type, "Pending", "", status)] },
});
const runningPod = pod("Running", [containerStatus(running)]);
const creatingPod = pod("Pending", [containerStatus(creating)]);
const pastDeadline = "Job was active longer than specified deadline";

test.each<Row>([
  // 1
  ["not posted, for want of a slot", { posted: "No", waitsFor: "Profile" }, "Queued", "Profile"],
  ["not posted, before the next attempt", { posted: "No", waitsFor: "Retry" }, "Queued", "Retry"],
  ["in POST", { posted: "Sending" }, "Submitting"],
  [
    "in POST, and the watch was faster",
    { posted: "Sending", uid: undefined, job: job({ active: 1, ready: 1 }) },
    "Running",
  ],
  // 2
  ["gone", {}, "Lost", "Deleted"],
  ["gone after a cancel", { cancelAsked: true }, "Cancelled"],
  ["gone after a cancel, pods left", { cancelAsked: true, pods: [runningPod] }, "Cancelling", "PodsTerminating"],
  [
    "gone after its end was known",
    { knownOutcome: { state: "Succeeded", reason: "CompletionsReached" } },
    "Succeeded",
    "CompletionsReached",
  ],
  [
    "gone after its end was known, then cancelled",
    { cancelAsked: true, knownOutcome: { state: "Failed", reason: "X" } },
    "Failed",
    "X",
  ],
  ["another uid", { job: job({}, { metadata: { uid: "u2" } }) }, "Lost", "Replaced"],
  [
    "another uid that is complete",
    { job: job({ conditions: [complete] }, { metadata: { uid: "u2" } }) },
    "Lost",
    "Replaced",
  ],
  ["another uid after a cancel", { cancelAsked: true, job: job({}, { metadata: { uid: "u2" } }) }, "Cancelled"],
  // 3, 4
  ["Complete", { job: job({ succeeded: 1, conditions: [criteriaMet, complete] }) }, "Succeeded", "CompletionsReached"],
  [
    "Complete, while it is deleted",
    { job: job({ conditions: [complete] }, { metadata: deleted }) },
    "Succeeded",
    "CompletionsReached",
  ],
  [
    "Complete before the cancel came",
    { cancelAsked: true, job: job({ conditions: [complete] }) },
    "Succeeded",
    "CompletionsReached",
  ],
  ["Failed", { job: job({ failed: 1, conditions: [failing, failed] }) }, "Failed", "BackoffLimitExceeded"],
  [
    "Failed by its deadline",
    { job: job({ conditions: [condition("Failed", "DeadlineExceeded", pastDeadline)] }) },
    "TimedOut",
    "DeadlineExceeded",
  ],
  [
    "Failed after a cancel",
    { cancelAsked: true, job: job({ conditions: [failed] }) },
    "Cancelled",
    "BackoffLimitExceeded",
  ],
  [
    "Failed after a cancel, pods still at work",
    { cancelAsked: true, job: job({ conditions: [failed] }), pods: [runningPod] },
    "Cancelling",
    "PodsTerminating",
  ],
  // 5
  ["deleted by somebody", { job: job({ active: 1 }, { metadata: deleted }) }, "Deleting"],
  ["deleted by a cancel", { cancelAsked: true, job: job({ active: 1 }, { metadata: deleted }) }, "Cancelling"],
  ["deleted and failing", { job: job({ conditions: [failing] }, { metadata: deleted }) }, "Deleting"],
  // 6
  [
    "decided to fail, pods still stop",
    { job: job({ active: 1, ready: 1, conditions: [failing] }), pods: [runningPod] },
    "Failing",
    "BackoffLimitExceeded",
  ],
  ["decided to succeed", { job: job({ succeeded: 1, conditions: [criteriaMet] }) }, "Succeeding", "CompletionsReached"],
  // 7
  ["suspended", { job: job({ conditions: [suspended] }, { spec: { suspend: true } }) }, "Suspended", "JobSuspended"],
  [
    "suspended until Kueue admits it",
    { job: job({ conditions: [suspended] }), workload: workload("QuotaReserved", "False") },
    "Queued",
    "Admission",
  ],
  [
    "suspended though Kueue admitted it",
    { job: job({ conditions: [suspended] }), workload: workload("Admitted", "True") },
    "Suspended",
    "JobSuspended",
  ],
  // 8
  ["suspend just set", { job: job({ active: 1 }, { spec: { suspend: true } }), pods: [runningPod] }, "Suspending"],
  ["resumed", { job: job({ conditions: [resumed], active: 1, ready: 1 }) }, "Running"],
  // 9
  ["ready by the Job", { job: job({ active: 1, ready: 1 }) }, "Running"],
  ["a container runs and is not counted yet", { job: job({ active: 1, ready: 0 }), pods: [runningPod] }, "Running"],
  [
    "an init container ended",
    {
      job: job({ active: 1, ready: 0 }),
      pods: [
        pod("Pending", [containerStatus(creating)], {
          status: { initContainerStatuses: [containerStatus(terminated(0), { name: "init" })] },
        }),
      ],
    },
    "Running",
  ],
  [
    "a container ended, its pod not yet",
    { job: job({ active: 1, ready: 0 }), pods: [pod("Running", [containerStatus(terminated(0))])] },
    "Running",
  ],
  [
    "between two crashes",
    {
      job: job({ active: 1, ready: 0 }),
      pods: [
        pod("Running", [
          containerStatus({ waiting: { reason: "CrashLoopBackOff" } }, { restartCount: 2, lastState: terminated(1) }),
        ]),
      ],
    },
    "Running",
  ],
  // 10
  [
    "active, and no node for it",
    {
      job: job({ active: 1, ready: 0 }),
      pods: [unplacedPod("Unschedulable", "0/1 nodes are available: 1 Insufficient cpu.")],
    },
    "Pending",
  ],
  ["active, container being made", { job: job({ active: 1, ready: 0 }), pods: [creatingPod] }, "Pending"],
  [
    "active, an earlier pod failed",
    { job: job({ active: 1, failed: 1 }), pods: [pod("Failed", [containerStatus(terminated(1))]), creatingPod] },
    "Pending",
  ],
  // 11
  ["failed, next pod not there yet", { job: job({ failed: 1 }), pods: [] }, "Backoff"],
  [
    "succeeded and failed together are as many as completions",
    { job: job({ succeeded: 1, failed: 1 }, { spec: { completions: 2 } }) },
    "Backoff",
  ],
  // 12
  [
    "a pod succeeded, the next one not there yet",
    { job: job({ succeeded: 1 }, { spec: { completions: 2 } }) },
    "Running",
  ],
  [
    "a pod has ended that is counted as active still",
    { job: job({ active: 1, ready: 0 }), pods: [pod("Succeeded", [containerStatus(terminated(0))])] },
    "Running",
  ],
  [
    "pods succeeded that are not counted yet",
    { job: job({ uncountedTerminatedPods: { succeeded: ["p"] } }) },
    "Running",
  ],
  [
    "pods failed that are not counted yet",
    { job: job({ uncountedTerminatedPods: { succeeded: [], failed: ["p"] } }) },
    "Running",
  ],
  // 13, 14
  ["started, no pod", { job: job() }, "Pending"],
  ["the controller has not seen it", { job: { metadata: { name: "x", uid: "u1" } } }, "Submitted"],
])("%s: %#", (_name, part, state, reason = "") => {
  const result = stateOf({ ...seen, ...part });
  expect([result.state, result.reason, result.status]).toEqual([state, reason, statusOf(result.state)]);
});

test("conditions count in any order, and only with status True", () => {
  const orders = [
    [failing, failed],
    [failed, failing],
  ].map((conditions) => stateOf({ ...seen, job: job({ conditions }) }).state);
  expect(orders).toEqual(["Failed", "Failed"]);
  for (const type of ["Complete", "Failed", "FailureTarget", "SuccessCriteriaMet", "Suspended"])
    for (const status of ["False", "Unknown"]) {
      const conditions = [condition(type, "", "", status)];
      expect([type, stateOf({ ...seen, job: job({ conditions, active: 1, ready: 1 }) }).state]).toEqual([
        type,
        "Running",
      ]);
    }
});

test("suspended and back again", () => {
  const suspend = { spec: { suspend: true } };
  const looks: Job[] = [
    job({ active: 1, ready: 1 }),
    job({ active: 1, ready: 1 }, suspend),
    job({ active: 0, ready: 0, startTime: undefined, conditions: [suspended] }, suspend),
    job({ active: 0, startTime: undefined, conditions: [suspended] }),
    job({ conditions: [resumed] }),
    job({ conditions: [resumed], active: 1, ready: 1 }),
  ];
  expect(looks.map((look) => stateOf({ ...seen, job: look }).state)).toEqual([
    "Running",
    "Suspending",
    "Suspended",
    "Suspended",
    "Pending",
    "Running",
  ]);
});

test("parallelism above completions is as any other", () => {
  const spec = { spec: { parallelism: 5, completions: 2 } };
  expect(stateOf({ ...seen, job: job({ active: 2, ready: 2 }, spec) }).state).toBe("Running");
  expect(stateOf({ ...seen, job: job({ active: 1, ready: 0, succeeded: 1 }, spec) }).state).toBe("Pending");
});

test("a Job whose pods another controller keeps elsewhere is known by its status alone", () => {
  const spec = { spec: { managedBy: "kueue.x-k8s.io/multikueue" } };
  const looks = [
    { startTime: undefined },
    {},
    { active: 1, ready: 0 },
    { active: 1, ready: 1 },
    { conditions: [complete] },
  ];
  expect(looks.map((status) => stateOf({ ...seen, job: job(status, spec) }).state)).toEqual([
    "Submitted",
    "Pending",
    "Pending",
    "Running",
    "Succeeded",
  ]);
});

test("Backoff says when the Job controller tries again: 10 s doubled for each failure since a success", () => {
  const failedPod = (name: string, at: number) => pod("Failed", [containerStatus(terminated(1, {}, at))], { name });
  const message = (...pods: Observation["pods"]) => stateOf({ ...seen, job: job({ failed: 1 }), pods }).message;
  expect(message(failedPod("a", 30))).toBe("Next try at 2026-03-01T10:00:40.000Z");
  expect(message(failedPod("a", 30), failedPod("b", 60))).toBe("Next try at 2026-03-01T10:01:20.000Z");
  const success = pod("Succeeded", [containerStatus(terminated(0, {}, 50))], { name: "s" });
  expect(message(failedPod("a", 30), success, failedPod("b", 60))).toBe("Next try at 2026-03-01T10:01:10.000Z");
  expect(message(...Array.from({ length: 9 }, (_, index) => failedPod(`p${index}`, index)))).toBe(
    "Next try at 2026-03-01T10:10:08.000Z",
  );
  expect(message()).toBeUndefined();
});

test("what is decided is known before the Job says so, for the case that it is deleted first", () => {
  const options = { decided: true, cancelAsked: false };
  expect(outcomeOf(job({ conditions: [criteriaMet] }), options)).toMatchObject({ state: "Succeeded" });
  expect(outcomeOf(job({ conditions: [failing] }), options)).toMatchObject({
    state: "Failed",
    reason: "BackoffLimitExceeded",
  });
  expect(outcomeOf(job({ conditions: [condition("FailureTarget", "DeadlineExceeded")] }), options)).toMatchObject({
    state: "TimedOut",
  });
  expect(outcomeOf(job({ conditions: [failing] }), { ...options, cancelAsked: true })).toMatchObject({
    state: "Cancelled",
  });
  expect(outcomeOf(job({ conditions: [failing] }), { ...options, decided: false })).toBeUndefined();
});

test("every state has a status of a workflow tool's words", () => {
  expect(runStates.map(statusOf)).not.toContain(undefined);
});
