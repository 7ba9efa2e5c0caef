import { expect, test } from "vitest";
import {
  condition,
  containerStatus,
  creating,
  disrupted,
  job,
  pod,
  running,
  terminated,
  unplacedPod,
} from "../../../../test/kit/job-objects.ts";
import type { KubeEvent } from "../kube.ts";
import type { DiagnosisCategory } from "../run.ts";
import { diagnose, eventsOf, type Trouble } from "./diagnose.ts";

// Each cause of trouble gets its category, a message with the names, sizes and words that matter, and a hint that says what to
// change. Here: what is found by putting pods, Job, events and Workload together, and which of several causes is told.

const now = Date.parse("2026-03-01T10:05:00Z");
const name = "report-mz4k7q2xpa-x7f2p";

function waiting(reason: string, message: string, more: object = {}) {
  return [pod("Pending", [containerStatus({ waiting: { reason, message } }, more)])];
}

function ended(exitCode: number, more: object = {}) {
  return [pod("Failed", [containerStatus(terminated(exitCode, more))])];
}

function event(reason: string, message: string, uid: string, at = "2026-03-01T10:04:00Z"): KubeEvent {
  return { type: "Warning", reason, message, count: 3, lastTimestamp: at, involvedObject: { uid } };
}

const podEvents = (reason: string, message: string) => ({
  pods: [pod("Pending", [containerStatus(creating)])],
  events: [event(reason, message, `uid-${name}`)],
});
const jobEvents = (message: string) => ({ events: [event("FailedCreate", `Error creating: ${message}`, "u1")] });
const failedBecause = (reason: string, message: string, more: object = {}) =>
  job({ conditions: [condition("FailureTarget", reason, message), condition("Failed", reason, message)], ...more });
const workload = {
  metadata: { name: "job-report" },
  spec: { queueName: "small" },
  status: {
    conditions: [
      condition(
        "QuotaReserved",
        "Pending",
        "couldn't assign flavors to pod set main: insufficient unused quota for cpu in flavor default, 1 more needed",
        "False",
      ),
    ],
  },
};

test.each<[DiagnosisCategory, Partial<Trouble>, RegExp, RegExp]>([
  [
    "StartError",
    podEvents(
      "FailedCreatePodSandBox",
      'Failed to create pod sandbox: plugin type="bridge" failed (add): no IP addresses',
    ),
    /set up on node node-1: .*no IP/,
    /network/,
  ],
  [
    "VolumeMount",
    podEvents("FailedMount", 'MountVolume.SetUp failed for volume "keys" : secret "keys" not found'),
    /volume of pod report.* on node node-1: .*secret "keys" not found/,
    /Create that Secret/,
  ],
  [
    "VolumeMount",
    podEvents("FailedAttachVolume", 'Multi-Attach error for volume "pvc-1" Volume is already used by pod(s) other'),
    /Multi-Attach/,
    /ReadWriteMany/,
  ],
  [
    "AwaitingAdmission",
    { workload, job: job({ startTime: undefined, conditions: [condition("Suspended")] }) },
    /queue small: couldn't assign flavors/,
    /queue has room/,
  ],
  [
    "Infra.Evicted",
    {
      pods: [
        pod("Failed", [containerStatus(terminated(137))], {
          status: {
            reason: "Evicted",
            message: "The node was low on resource: memory. Threshold quantity: 100Mi, available: 90Mi. ",
            ...disrupted("TerminationByKubelet", "The node was low on resource: memory."),
          },
        }),
      ],
    },
    /evicted from node node-1: The node was low on resource: memory\. Threshold.*90Mi\.$/,
    /memory request/,
  ],
  [
    "Infra.Evicted",
    {
      pods: [
        pod("Failed", [containerStatus(terminated(143))], {
          status: disrupted("EvictionByEvictionAPI", "Eviction API: evicting"),
        }),
      ],
    },
    /Eviction API/,
    /retry.on Infra/,
  ],
  [
    "Infra.Evicted",
    {
      pods: [
        pod("Failed", [containerStatus(terminated(137))], {
          status: { reason: "Evicted", message: 'Usage of EmptyDir volume "scratch" exceeds the limit "1Mi". ' },
        }),
      ],
    },
    /evicted from node node-1: Usage of EmptyDir volume "scratch" exceeds the limit "1Mi"\.$/,
    /sizeLimit/,
  ],
  [
    "Infra.Evicted",
    {
      pods: [
        pod("Failed", [], {
          status: {
            reason: "OutOfcpu",
            message:
              "Pod was rejected: Node didn't have enough resource: cpu, requested: 64000, used: 0, capacity: 4000",
          },
        }),
      ],
    },
    /OutOf|enough resource/,
    /retried/,
  ],
  [
    "Infra.Evicted",
    { pods: [pod("Running", [containerStatus(running)], { metadata: { deletionTimestamp: "2026-03-01T10:04:50Z" } })] },
    /deleted by somebody else/,
    /audit log/,
  ],
  [
    "Infra.Preempted",
    {
      pods: [
        pod("Failed", [containerStatus(terminated(143))], {
          status: disrupted(
            "PreemptionByScheduler",
            "default-scheduler: preempting to accommodate a higher priority pod",
          ),
        }),
      ],
    },
    /node node-1 for a pod of higher priority/,
    /PriorityClass/,
  ],
  [
    "Infra.Preempted",
    {
      pods: [
        pod("Failed", [], {
          status: {
            reason: "Preempting",
            message: "Preempted in order to admit critical pod",
            ...disrupted("TerminationByKubelet", "Pod was preempted by Kubelet to accommodate a critical pod."),
          },
        }),
      ],
    },
    /critical pod/,
    /PriorityClass/,
  ],
  [
    "Infra.NodeLost",
    {
      pods: [
        pod("Running", [containerStatus(running)], {
          metadata: { deletionTimestamp: "2026-03-01T10:04:50Z" },
          status: disrupted("DeletionByTaintManager", "Taint manager: deleting due to NoExecute taint"),
        }),
      ],
    },
    /lost with node node-1: Taint manager/,
    /another node/,
  ],
  [
    "Infra.NodeLost",
    { pods: [pod("Failed", [], { status: disrupted("DeletionByPodGC", "PodGC: node no longer exists") })] },
    /node no longer exists/,
    /look at the node/,
  ],
  [
    "Deadline",
    { job: failedBecause("DeadlineExceeded", "Job was active longer than specified deadline"), pods: ended(143) },
    /timeout of 600 s: Job was active longer/,
    /Raise timeout/,
  ],
  [
    "BackoffLimit",
    { job: failedBecause("BackoffLimitExceeded", "Job has reached the specified backoff limit", { failed: 3 }) },
    /3 pods failed, and none of them is left/,
    /backoffLimit/,
  ],
  [
    "FailedIndexes",
    {
      job: job(
        { failedIndexes: "1,3-4", conditions: [condition("FailureTarget", "FailedIndexes", "Job has failed indexes")] },
        { spec: { completions: 6 } },
      ),
      pods: ended(2),
    },
    /Of 6 indexes these failed: 1,3-4\. Container main of pod .* ended with exit code 2/,
    /--failed-indexes/,
  ],
  [
    "PodFailurePolicy",
    {
      job: failedBecause(
        "PodFailurePolicy",
        "Container main for pod batch/report-x failed with exit code 42 matching FailJob rule at index 0",
      ),
      pods: ended(42),
    },
    /exit code 42 matching FailJob rule at index 0/,
    /rule that it matched/,
  ],
  [
    "StuckTerminating",
    {
      pods: [
        pod("Running", [containerStatus(running)], {
          metadata: { deletionTimestamp: "2026-03-01T10:04:00Z", finalizers: ["example.com/hold"] },
        }),
      ],
    },
    /should be gone since 2026-03-01T10:04:00Z, and is still on node node-1; finalizers: example.com\/hold/,
    /--force/,
  ],
  [
    "StuckTerminating",
    { job: job({}, { metadata: { deletionTimestamp: "2026-03-01T10:04:00Z", finalizers: ["foregroundDeletion"] } }) },
    /no pods left; finalizers: foregroundDeletion/,
    /finalizer/,
  ],
])("%s: %#", (category, trouble, message, hint) => {
  const found = diagnose({ job: job(), pods: [], now, ...trouble });
  expect(found?.category).toBe(category);
  expect(found?.message).toMatch(message);
  expect(found?.hint).toMatch(hint);
});

test.each<[string, Partial<Trouble>]>([
  ["a pod that runs", { pods: [pod("Running", [containerStatus(running)])] }],
  ["a container that is being made", { pods: [pod("Pending", [containerStatus(creating)])] }],
  ["a Job that succeeded after a failure", { job: job({ conditions: [condition("Complete")] }), pods: ended(1) }],
  [
    "a DisruptionTarget that was taken back",
    {
      pods: [
        pod("Running", [containerStatus(running)], {
          status: { conditions: [condition("DisruptionTarget", "", "", "False")] },
        }),
      ],
    },
  ],
  [
    "a pod that stops within its grace as its Job was suspended",
    {
      job: job({}, { spec: { suspend: true } }),
      pods: [
        pod("Running", [containerStatus(terminated(143))], { metadata: { deletionTimestamp: "2026-03-01T10:04:50Z" } }),
      ],
    },
  ],
  [
    "a pod that the controller deletes at the deadline, and has not said so yet",
    {
      job: job({ startTime: "2026-03-01T10:04:00Z" }, { spec: { activeDeadlineSeconds: 60 } }),
      pods: [pod("Running", [containerStatus(running)], { metadata: { deletionTimestamp: "2026-03-01T10:05:00Z" } })],
    },
  ],
  [
    "a pod that the controller deletes because the others were enough, and has not said so yet",
    {
      job: job({}, { spec: { successPolicy: { rules: [{ succeededIndexes: "0" }] } } }),
      pods: [
        pod("Succeeded", [containerStatus(terminated(0))]),
        pod("Running", [containerStatus(running)], { metadata: { deletionTimestamp: "2026-03-01T10:05:00Z" } }),
      ],
    },
  ],
  [
    "a sidecar that is stopped at the end",
    {
      pods: [
        pod("Succeeded", [containerStatus(terminated(0))], {
          spec: { initContainers: [{ name: "proxy", restartPolicy: "Always" }] },
          status: { initContainerStatuses: [containerStatus(terminated(143), { name: "proxy" })] },
        }),
      ],
    },
  ],
  [
    "events of another pod",
    { pods: [pod("Pending", [containerStatus(creating)])], events: [event("FailedMount", "x", "uid-other")] },
  ],
  [
    "a mount that failed before the container ran",
    { ...podEvents("FailedMount", "x"), pods: [pod("Running", [containerStatus(running)])] },
  ],
  ["a quota that let the pods through since", { job: job({ active: 1 }), ...jobEvents("exceeded quota") }],
  ["a Workload that was admitted", { workload: { ...workload, status: { conditions: [condition("Admitted")] } } }],
])("%s is no trouble", (_name, trouble) => {
  expect(diagnose({ job: job(), pods: [], now, ...trouble })).toBeUndefined();
});

test("what a pod waits for says more than the Job's deadline, and that more than how the pod was then ended", () => {
  const timedOut = failedBecause("DeadlineExceeded", "Job was active longer than specified deadline");
  const pull = waiting("ImagePullBackOff", "Back-off pulling image");
  expect(diagnose({ job: timedOut, pods: [...ended(1), ...pull], now })).toMatchObject({
    category: "ImagePull",
    pod: name,
  });
  expect(diagnose({ job: timedOut, pods: ended(137), now })?.category).toBe("Deadline");
});

test("of several failures the first one is the cause", () => {
  const pods = [
    pod("Failed", [containerStatus(terminated(2, {}, 60))], { name: "late" }),
    pod("Failed", [containerStatus(terminated(1, {}, 20))], { name: "early" }),
  ];
  expect(diagnose({ job: job(), pods, now })).toMatchObject({ category: "AppExit", pod: "early", container: "main" });
});

test("of several events the latest one tells", () => {
  const events = [
    event("FailedCreate", "Error creating: new", "u1", "2026-03-01T10:04:00Z"),
    event("FailedCreate", "Error creating: old", "u1", "2026-03-01T10:01:00Z"),
  ];
  expect(diagnose({ job: job(), pods: [], events, now })?.message).toBe("The cluster does not take the pods: new");
});

test.each<[string, boolean, Trouble["job"], Trouble["pods"]]>([
  ["no pod though it started", true, job(), []],
  ["fewer pods than it wants", true, job({ active: 1 }, { spec: { parallelism: 3, completions: 5 } }), []],
  [
    "as many pods as are left to do",
    false,
    job({ active: 1, succeeded: 4 }, { spec: { parallelism: 3, completions: 5 } }),
    [],
  ],
  ["a pod whose container is not made yet", true, job({ active: 1 }), [pod("Pending", [containerStatus(creating)])]],
  ["a pod without a node", false, job({ active: 1 }), [unplacedPod("Unschedulable", "")]],
  ["a pod that runs", false, job({ active: 1 }), [pod("Running", [containerStatus(running)])]],
  ["a Job that has not started", false, job({ startTime: undefined }), []],
  ["a suspended Job", false, job({}, { spec: { suspend: true } }), []],
  ["a Job that ended", false, job({ conditions: [condition("Failed")] }), []],
  ["a Job whose pods are elsewhere", false, job({}, { spec: { managedBy: "kueue.x-k8s.io/multikueue" } }), []],
])("%s: events are worth a list: %s", (_name, worth, of, pods) => {
  expect(eventsOf(of, pods) !== undefined).toBe(worth);
});
