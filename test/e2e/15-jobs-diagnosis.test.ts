// Every category of diagnosis, each from what causes it in a cluster: what it says, what it advises, and how the run ends.
import {
  type Diagnosis,
  diagnosisCategories,
  type DiagnosisCategory,
  type Jobs,
  type RunEvent,
  type RunRecord,
} from "@kube-connector/jobs";
import { afterAll, beforeAll, expect, test } from "vitest";
import { untilEnd } from "../kit/jobs-checks.ts";
import type { Started } from "../kit/jobs-room.ts";
import { type JobsCluster, script, startJobsCluster, stay, untilRun } from "./jobs-cluster.ts";
import { obstacles, workload } from "./jobs-objects.ts";

let room: JobsCluster;
let started: Started;
let jobs: Jobs;
const seen = new Map<string, Promise<{ run: RunRecord; events: RunEvent[]; diagnosis: Diagnosis | undefined }>>();

interface Case {
  category: DiagnosisCategory;
  fields: object;
  /** What happens to it, once it is there. */
  act?: (run: RunRecord) => Promise<unknown>;
  message: RegExp;
  hint: RegExp;
  /** State and reason at its end. A run that nothing ends is cancelled once its cause is known. */
  end: [string, string];
}

const why = "jobs-why";
const pod = (spec: object) => ({ spec: { template: { spec: { terminationGracePeriodSeconds: 1, ...spec } } } });
const main = (container: object) => pod({ containers: [{ name: "main", ...container }] });
const cancelled: Case["end"] = ["Cancelled", ""];
const failed: Case["end"] = ["Failed", "BackoffLimitExceeded"];
// A pod that ends well when it is told to has done its work, whatever the reason was.
const dies = stay.replace("exit 0", "exit 143");
const seat = { "example.com/seat": "1" };
const running = ({ id }: RunRecord) => untilRun(jobs, id, ({ state }) => state === "Running");
const evict = async (run: RunRecord) => {
  const name = await room.pod(why, run.id);
  const body = { apiVersion: "policy/v1", kind: "Eviction", metadata: { name, namespace: why } };
  await room.admin.request("POST", `/api/v1/namespaces/${why}/pods/${name}/eviction`, { body });
};
const grown = "a=x; while :; do a=$a$a$a$a; done";

const cases: Record<string, Case> = {
  "an image's name that is none": {
    category: "InvalidImage",
    fields: script("true", { image: "localhost/Tools:1" }),
    message: /image of container main, "localhost\/Tools:1", is no valid name: .*lowercase/,
    hint: /Correct the name/,
    end: ["Failed", "InvalidImage"],
  },
  "an image that is not there": {
    category: "ImagePull",
    fields: script("true", { image: "localhost/nothing:1", failFast: { ImagePull: 2 } }),
    message: /"localhost\/nothing:1", cannot be pulled: .*localhost/,
    hint: /cannot reach the registry/,
    end: ["Failed", "ImagePull"],
  },
  "an image that should be on the node": {
    category: "ImagePull",
    fields: script("true", { image: "localhost/nothing:2", patch: main({ imagePullPolicy: "Never" }) }),
    message: /"localhost\/nothing:2", cannot be pulled: .*not present with pull policy of Never/,
    hint: /imagePullPolicy from Never/,
    end: cancelled,
  },
  "a Secret that is not there": {
    category: "ConfigMissing",
    fields: script("true", {
      env: { A: { secretKeyRef: { name: "nothing", key: "a" } } },
      failFast: { ConfigMissing: 1 },
    }),
    message: /Container main cannot be set up: secret "nothing" not found/,
    hint: /Create it in the run's namespace/,
    end: ["Failed", "ConfigMissing"],
  },
  "a key that is not in its ConfigMap": {
    category: "ConfigMissing",
    fields: script("true", { env: { A: { configMapKeyRef: { name: "settings", key: "nothing" } } } }),
    message: /couldn't find key nothing in ConfigMap jobs-why\/settings/,
    hint: /Add that key/,
    end: cancelled,
  },
  "a service account that is not there": {
    category: "ConfigMissing",
    fields: script("true", { serviceAccountName: "nobody" }),
    message: /serviceaccount "nobody" not found/,
    hint: /Create that service account/,
    end: cancelled,
  },
  "a command that is not in the image": {
    category: "StartError",
    fields: { ...script(""), command: ["/bin/nothing"] },
    message: /Container main cannot be started: .*\/bin\/nothing.*no such file/,
    hint: /command is not in the image/,
    end: failed,
  },
  "a volume that is not there": {
    category: "VolumeMount",
    fields: script("true", {
      patch: pod({
        containers: [{ name: "main", volumeMounts: [{ name: "keys", mountPath: "/keys" }] }],
        volumes: [{ name: "keys", secret: { secretName: "nothing" } }],
      }),
    }),
    message: /volume of pod .* cannot be mounted on node target1: .*secret "nothing" not found/,
    hint: /Create that Secret or ConfigMap/,
    end: cancelled,
  },
  "more than any node has": {
    category: "Unschedulable.Resources",
    fields: script("true", { resources: { requests: { cpu: "900" } } }),
    message: /\(asks for cpu 900 for main\) fits no node: .*Insufficient cpu/,
    hint: /Ask less in resources\.requests/,
    end: cancelled,
  },
  "a label that no node has": {
    category: "Unschedulable.Affinity",
    fields: script("true", { patch: pod({ nodeSelector: { disk: "none" } }) }),
    message: /fits no node: .*node affinity\/selector/,
    hint: /nodeSelector/,
    end: cancelled,
  },
  "a claim that is not there": {
    category: "Unschedulable.Volume",
    fields: script("true", { mounts: [{ name: "data", claim: "nothing", mountPath: "/data" }] }),
    message: /fits no node: .*persistentvolumeclaim "nothing" not found/,
    hint: /Check the claim/,
    end: cancelled,
  },
  "a gate before the scheduler": {
    category: "Gated",
    fields: script("true", { patch: pod({ schedulingGates: [{ name: "example.com/wait" }] }) }),
    message: /waits behind its scheduling gates example\.com\/wait/,
    hint: /controller that set a gate/,
    end: cancelled,
  },
  "no pod left in the quota": {
    category: "Quota",
    fields: script("true", { namespace: "jobs-quota" }),
    message: /does not take the pods: .*exceeded quota: few, requested: pods=1, used: pods=0, limited: pods=0/,
    hint: /ResourceQuota/,
    end: cancelled,
  },
  "no Job left in the quota": {
    category: "Quota",
    fields: script("true", { namespace: "jobs-full" }),
    message: /does not take the Job: .*exceeded quota: full/,
    hint: /ResourceQuota/,
    end: ["Cancelled", "Asked"],
  },
  "less than Pod Security wants": {
    category: "Denied",
    fields: script("true", { namespace: "jobs-strict" }),
    message: /does not take the pods: .*violates PodSecurity "restricted:latest": allowPrivilegeEscalation/,
    hint: /securityContext/,
    end: cancelled,
  },
  "a webhook that does not answer": {
    category: "Denied",
    fields: script("true", { namespace: "jobs-webhook" }),
    message: /does not take the pods: .*failed calling webhook "dead\.example\.com"/,
    hint: /webhook does not answer/,
    end: cancelled,
  },
  "a policy against the Job": {
    category: "Denied",
    fields: script("true", { namespace: "jobs-policy" }),
    message: /does not take the Job: .*ValidatingAdmissionPolicy 'jobs-team'.*every Job names its team/,
    hint: /policy of the cluster forbids it/,
    end: ["Failed", "Denied"],
  },
  "a field that Kubernetes does not know": {
    category: "Rejected",
    fields: script("true", { patch: { spec: { paralelism: 2 } } }),
    message: /unknown field "spec\.paralelism"/,
    hint: /Change the definition/,
    end: ["Failed", "Rejected"],
  },
  "a program that fails": {
    category: "AppExit",
    fields: script("printf 'out of paper' > /dev/termination-log; exit 3"),
    message: /Container main of pod .* ended with .*3.*: out of paper/,
    hint: /./,
    end: failed,
  },
  "137 without too much memory": {
    category: "AppExit",
    fields: script("exit 137"),
    message: /ended with .*137.*SIGKILL/,
    hint: /./,
    end: failed,
  },
  "more memory than its limit": {
    category: "OutOfMemory",
    fields: script(grown, { resources: { limits: { memory: "24Mi" } } }),
    message: /needed more memory than its limit of 24Mi/,
    hint: /Raise resources\.limits\.memory above 24Mi/,
    end: failed,
  },
  "a program that fails again and again": {
    category: "CrashLoop",
    fields: script("echo again; exit 4", { restartPolicy: "OnFailure", backoffLimit: 6 }),
    message: /ended \d+ times, first seen with .*4.*back-off/,
    hint: /restartPolicy Never/,
    end: cancelled,
  },
  "a pod that was evicted": {
    category: "Infra.Evicted",
    fields: script(dies),
    act: async (run) => evict(await running(run)),
    message: /was evicted from node target1: .*[Ee]viction/,
    hint: /retried/,
    end: failed,
  },
  "a pod that filled its volume": {
    category: "Infra.Evicted",
    fields: script("dd if=/dev/zero of=/scratch/a bs=1M count=9; sleep 600", {
      patch: pod({
        containers: [{ name: "main", volumeMounts: [{ name: "scratch", mountPath: "/scratch" }] }],
        volumes: [{ name: "scratch", emptyDir: { sizeLimit: "1Mi" } }],
      }),
    }),
    message: /was evicted from node target1: .*EmptyDir volume "scratch" exceeds the limit "1Mi"/,
    hint: /sizeLimit/,
    end: failed,
  },
  "a pod that somebody deleted": {
    category: "Infra.Evicted",
    fields: script(dies),
    act: async (run) => {
      const name = await room.pod(why, (await running(run)).id);
      await room.kubectl("-n", why, "delete", "pod", name, "--wait=false");
    },
    message: /was deleted by somebody else/,
    hint: /audit log/,
    end: failed,
  },
  "a pod that had to make room": {
    category: "Infra.Preempted",
    fields: script(dies, {
      resources: { requests: seat, limits: seat },
      patch: pod({ priorityClassName: "jobs-low" }),
    }),
    act: async (run) => {
      await running(run);
      const patch = pod({ priorityClassName: "jobs-high" });
      await jobs.submit(script("true", { resources: { requests: seat, limits: seat }, patch }));
    },
    message: /had to leave node target1 for a pod of higher priority/,
    hint: /PriorityClass/,
    end: failed,
  },
  "a node that is gone": {
    category: "Infra.NodeLost",
    fields: script("true", { patch: pod({ nodeName: "jobs-lost" }) }),
    act: async (run) => {
      await room.pod(why, run.id);
      await room.kubectl("delete", "node", "jobs-lost");
    },
    message: /was lost with node jobs-lost/,
    hint: /another node/,
    end: failed,
  },
  "a pod that a dead node holds": {
    category: "StuckTerminating",
    fields: script("true", { patch: pod({ nodeName: "jobs-dead" }) }),
    act: async (run) => {
      await room.pod(why, run.id);
      await jobs.cancel(run.id);
      await untilRun(jobs, run.id, ({ diagnosis }) => diagnosis?.category === "StuckTerminating");
      await jobs.cancel(run.id, { force: true });
    },
    message: /should be gone since .*, and is still on node jobs-dead/,
    hint: /--force/,
    end: cancelled,
  },
  "a timeout": {
    category: "Deadline",
    fields: script(stay, { timeout: 4 }),
    message: /did not end within its timeout of 4 s/,
    hint: /Raise timeout/,
    end: ["TimedOut", "DeadlineExceeded"],
  },
  "indexes that fail": {
    category: "FailedIndexes",
    fields: script("case $JOB_COMPLETION_INDEX in 1|3) exit 5;; esac", {
      completions: 4,
      parallelism: 4,
      completionMode: "Indexed",
      backoffLimitPerIndex: 0,
    }),
    message: /Of 4 indexes these failed: 1,3\. Container main of pod .*5/,
    hint: /--failed-indexes/,
    end: ["Failed", "FailedIndexes"],
  },
  "an exit that a rule knows": {
    category: "PodFailurePolicy",
    fields: script("exit 42", {
      backoffLimit: 3,
      podFailurePolicy: { rules: [{ action: "FailJob", onExitCodes: { operator: "In", values: [42] } }] },
    }),
    message: /podFailurePolicy ended the run: Container main for pod .* failed with exit code 42 matching FailJob rule/,
    hint: /change the rule/,
    end: ["Failed", "PodFailurePolicy"],
  },
  "a queue that has not admitted it": {
    category: "AwaitingAdmission",
    fields: script("echo admitted", { patch: { spec: { suspend: true } } }),
    act: async ({ id }) => {
      const { attempts } = await untilRun(jobs, id, ({ state }) => state === "Suspended");
      const { job = "", uid = "" } = attempts[0] ?? {};
      await room.apply(workload(why, job, uid));
    },
    message: /Kueue has not admitted the Job yet, in queue nightly: .*insufficient unused quota/,
    hint: /when the queue has room/,
    end: cancelled,
  },
};

beforeAll(async () => {
  const extra = ["jobs-quota", "jobs-full", "jobs-strict", "jobs-webhook", "jobs-policy"];
  room = await startJobsCluster(why, ...extra);
  await room.apply(...obstacles(why));
  await room.admin.request("PATCH", "/api/v1/nodes/target1/status", {
    body: { status: { capacity: seat, allocatable: seat } },
    contentType: "application/merge-patch+json",
  });
  await room.untilRefused("jobs-team", "-n", "jobs-policy", "create", "job", "probe", "--image=none");
  started = await room.start(await room.folder());
  jobs = started.jobs;
  for (const [name, one] of Object.entries(cases)) {
    const playing = play(one);
    playing.catch(() => undefined);
    seen.set(name, playing);
  }
});
afterAll(async () => {
  await started?.stop();
  for (const { kind, metadata } of obstacles(why)) {
    if (metadata.namespace !== undefined || kind === "Namespace") continue;
    await room?.kubectl("delete", kind, metadata.name, "--ignore-not-found", "--wait=false");
  }
  await room?.stop();
});

async function play({ category, fields, act, end }: Case) {
  const { run } = await jobs.submit({ name: category.toLowerCase().replace(".", "-"), ...fields });
  await act?.(run);
  const { diagnosis } = await untilRun(jobs, run.id, (now) => now.diagnosis?.category === category, 150);
  if (end[0] === "Cancelled") await jobs.cancel(run.id);
  const events = await untilEnd(jobs, run.id, 90);
  return { run: await jobs.get(run.id), events, diagnosis };
}

test.each(Object.entries(cases))("%s", async (name, { category, message, hint, end }) => {
  const found = await seen.get(name);
  expect(found?.diagnosis).toMatchObject({
    category,
    message: expect.stringMatching(message),
    hint: expect.stringMatching(hint),
  });
  const [state, reason] = end;
  expect(found?.run).toMatchObject({ state, reason, diagnosis: { category } });
  // Each cause is told once.
  const told = found?.events.filter(({ type }) => type === "diagnosis") ?? [];
  expect(told.at(-1)?.data.category).toBe(category);
  expect(new Set(told.map((event) => event.message)).size).toBe(told.length);
});

test("a taint that keeps it away; once it is gone the run is at work, and nothing is wrong with it any more", async () => {
  await Promise.allSettled(seen.values());
  // A node without a kubelet has no room for pods, which would be another cause.
  await room.kubectl("delete", "node", "jobs-dead", "--ignore-not-found");
  await room.kubectl("taint", "node", "target1", "example.com/away=yes:NoSchedule");
  const { run } = await jobs.submit(script("sleep 3"));
  const waiting = untilRun(jobs, run.id, (now) => now.diagnosis !== undefined);
  const untaint = () => room.kubectl("taint", "node", "target1", "example.com/away-");
  const { state, reason, diagnosis } = await waiting.finally(() => void untaint());
  expect({ state, reason, ...diagnosis }).toMatchObject({
    state: "Pending",
    reason: "Unschedulable.Taint",
    category: "Unschedulable.Taint",
    message: expect.stringMatching(/fits no node: .*untolerated taint/),
    hint: expect.stringContaining("toleration"),
  });
  const working = await untilRun(jobs, run.id, (now) => now.state === "Running");
  expect(working.diagnosis).toBeUndefined();
  expect(await untilRun(jobs, run.id, (now) => now.endedAt !== undefined)).toMatchObject({ state: "Succeeded" });
});

test("no category is without a cause here, but for two that 15-jobs-states shows", () => {
  const shown = new Set(["Unschedulable.Taint", ...Object.values(cases).map(({ category }) => category)]);
  expect(diagnosisCategories.filter((one) => !shown.has(one))).toEqual(["BackoffLimit", "NameTaken"]);
});
