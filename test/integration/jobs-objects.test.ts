import { Secret } from "@kube-connector/core";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { Job, KubeEvent, Pod } from "../../packages/jobs/src/kube.ts";
import { parseDefinition } from "../../packages/jobs/src/definition/parse.ts";
import { renderJob, renderSecret, type RenderedJob } from "../../packages/jobs/src/source/render.ts";
import { stripSource } from "../../packages/jobs/src/source/strip.ts";
import { diagnose, eventsOf } from "../../packages/jobs/src/state/diagnose.ts";
import { stateOf } from "../../packages/jobs/src/state/state.ts";
import { type ControlPlane, ensureNamespace, startControlPlane } from "../kit/control-plane.ts";

// The pure rooms of the jobs module against a real API server and Job controller: what is rendered is taken as it is sent, what
// is read back can be cloned, and the states and causes are found in what the real controller writes. Pods' status is written
// by this test, as there is no kubelet.

let plane: ControlPlane;
let runs = 0;

beforeAll(async () => {
  plane = await startControlPlane({ controllers: true });
  for (const name of ["batch", "quota", "range", "restricted"]) await ensureNamespace(plane.admin, name);
  const labels = { "pod-security.kubernetes.io/enforce": "restricted" };
  await merge("/api/v1/namespaces/restricted", { metadata: { labels } });
  await plane.admin.request("POST", "/api/v1/namespaces/quota/resourcequotas", {
    body: { metadata: { name: "small" }, spec: { hard: { "requests.cpu": "1" } } },
  });
  await plane.admin.request("POST", "/api/v1/namespaces/range/limitranges", {
    body: { metadata: { name: "range" }, spec: { limits: [{ type: "Container", max: { cpu: "1" } }] } },
  });
});
afterAll(() => plane.stop());

const jobs = (namespace = "batch") => `/apis/batch/v1/namespaces/${namespace}/jobs`;
const pods = (namespace = "batch") => `/api/v1/namespaces/${namespace}/pods`;
const strict = { fieldValidation: "Strict" };
const image = { image: "images.example/report:1.4" };

function render(fields: Record<string, unknown>, more: object = {}): RenderedJob {
  const context = { connectors: new Map([["c", { defaultNamespace: "batch" }]]), profiles: new Set<string>() };
  const { definition } = parseDefinition({ connector: "c", ...fields }, context);
  runs += 1;
  return renderJob({ definition, runId: `run${runs}`, attempt: 1, engine: "e1e1e1e1e1", ...more });
}

async function submit({ manifest }: RenderedJob): Promise<Job> {
  return await plane.admin.request<Job>("POST", jobs(manifest.metadata.namespace), { body: manifest, query: strict });
}

async function podsOf(job: Job): Promise<Pod[]> {
  const query = { labelSelector: `batch.kubernetes.io/job-name=${job.metadata.name}` };
  return (await plane.admin.request<{ items: Pod[] }>("GET", pods(job.metadata.namespace), { query })).items;
}

/** The Job and its pods once that is so of them. */
async function seen(job: Job, isSo: (job: Job, pods: Pod[]) => boolean): Promise<{ job: Job; pods: Pod[] }> {
  const path = `${jobs(job.metadata.namespace)}/${job.metadata.name}`;
  const end = Date.now() + 30_000;
  for (;;) {
    const now = { job: await plane.admin.request<Job>("GET", path), pods: await podsOf(job) };
    if (isSo(now.job, now.pods)) return now;
    if (Date.now() > end) throw new Error(`never seen: ${JSON.stringify(now.job.status)}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

async function seenState(job: Job, state: string, more: object = {}) {
  const observe = (now: Job, its: Pod[]) =>
    stateOf({ posted: "Yes", uid: job.metadata.uid ?? "", cancelAsked: false, job: now, pods: its, ...more });
  const now = await seen(job, (one, its) => observe(one, its).state === state);
  return { ...now, ...observe(now.job, now.pods) };
}

async function merge(path: string, body: unknown): Promise<void> {
  await plane.admin.request("PATCH", path, { body, contentType: "application/merge-patch+json" });
}

/** What a kubelet would write of its one container. */
async function report(pod: Pod | undefined, phase: string, state: object): Promise<void> {
  const status = {
    name: "main",
    image: "i",
    imageID: "",
    restartCount: 0,
    ready: "running" in state,
    state,
    lastState: {},
  };
  await merge(`${pods(pod?.metadata.namespace)}/${pod?.metadata.name}/status`, {
    status: { phase, containerStatuses: [status] },
  });
}

const running = { running: { startedAt: "2026-03-01T10:00:02Z" } };
const end = (exitCode: number) => ({
  terminated: { exitCode, reason: "Error", startedAt: "2026-03-01T10:00:02Z", finishedAt: "2026-03-01T10:00:30Z" },
});

test.each<[string, Record<string, unknown>, object]>([
  ["the least", image, {}],
  [
    "every field of an image",
    {
      ...image,
      command: "python,-m,report",
      args: ["--day", "[[day]]"],
      vars: { day: "2026-03-01" },
      env: {
        TEXT: "5$ $(HOME)",
        EXPANDED: { value: "$(TEXT)", expand: true },
        SECRET: { secretKeyRef: { name: "db", key: "url", optional: true } },
        CONFIG: { configMapKeyRef: { name: "settings", key: "mode" } },
        FIELD: { fieldRef: { fieldPath: "metadata.name" } },
        LIMIT: { resourceFieldRef: { resource: "limits.memory" } },
      },
      secretEnv: { PASSWORD: "x" },
      resources: {
        requests: { cpu: 1, memory: "512Mi" },
        limits: { cpu: "1500m", memory: "1Gi", "example.com/gpu": "1" },
      },
      mounts: [
        { name: "data", claim: "reports", mountPath: "/data" },
        { name: "more", claim: "reports", mountPath: "/more", readOnly: true },
      ],
      labels: { team: "a" },
      annotations: { "example.com/note": "any text, of any kind" },
      serviceAccountName: "runner",
      timeout: 0,
      cleanup: "Never",
      podFailurePolicy: { rules: [{ action: "FailJob", onExitCodes: { operator: "In", values: [42] } }] },
      patch: {
        spec: { template: { spec: { tolerations: [{ key: "gpu", operator: "Exists" }], priorityClassName: null } } },
      },
    },
    {},
  ],
  ["a work queue", { ...image, completions: null, parallelism: 3 }, {}],
  ["parallelism above completions", { ...image, completions: 2, parallelism: 5 }, {}],
  [
    "indexes with a success policy",
    { ...image, completions: 5, completionMode: "Indexed", successPolicy: { rules: [{ succeededIndexes: "0-1" }] } },
    {},
  ],
  [
    "failed indexes again",
    {
      ...image,
      completions: 9,
      parallelism: 9,
      completionMode: "Indexed",
      successPolicy: { rules: [{ succeededIndexes: "0-8" }] },
      backoffLimitPerIndex: 1,
      patch: { spec: { maxFailedIndexes: 8 } },
    },
    { indexes: [2, 7] },
  ],
  ["restarts in the pod", { ...image, restartPolicy: "OnFailure", backoffLimit: 6 }, {}],
  ["the longest name", { ...image, name: "a".repeat(63), completions: 100, completionMode: "Indexed" }, {}],
])("an API server takes it strictly, and keeps all of it: %s", async (_name, fields, more) => {
  const { manifest } = render(fields, more);
  const query = { ...strict, dryRun: "All" };
  const taken = await plane.admin.request("POST", jobs(), { body: manifest, query });
  expect(taken).toMatchObject(manifest);
});

test("the Secret of a run is taken", async () => {
  const body = renderSecret(render(image), new Map([["PASSWORD", new Secret("hünter2")]]));
  const query = { ...strict, dryRun: "All" };
  const taken = await plane.admin.request("POST", "/api/v1/namespaces/batch/secrets", { body, query });
  expect(taken).toMatchObject(body);
});

test("a Job that is at work can be cloned, and given as a whole, and both run beside it", async () => {
  const spec = { template: { spec: { restartPolicy: "OnFailure", containers: [{ name: "main", image: "i" }] } } };
  const body = { apiVersion: "batch/v1", kind: "Job", metadata: { name: "origin" }, spec };
  const origin = await plane.admin.request<Job>("POST", jobs(), { body });
  const now = await seen(origin, (_job, its) => its.length === 1);
  const fields = { source: { name: "origin" }, overlay: { env: { A: "2" } } };
  const clone = await submit(render(fields, { source: stripSource(now.job) }));
  const whole = await submit(render({ job: now.job }));
  expect(clone.metadata.annotations).toMatchObject({ "connectors.cpaas.io/source": "Job batch/origin" });
  for (const job of [clone, whole]) {
    expect(job.metadata.uid).not.toBe(origin.metadata.uid);
    await seen(job, (_job, its) => its.length === 1);
  }
});

test("a CronJob can be cloned", async () => {
  const spec = {
    schedule: "0 2 * * *",
    suspend: true,
    jobTemplate: {
      spec: { template: { spec: { restartPolicy: "Never", containers: [{ name: "main", image: "i" }] } } },
    },
  };
  const body = { apiVersion: "batch/v1", kind: "CronJob", metadata: { name: "nightly" }, spec };
  const cronJob = await plane.admin.request("POST", "/apis/batch/v1/namespaces/batch/cronjobs", { body });
  const clone = await submit(
    render({ source: { kind: "CronJob", name: "nightly" } }, { source: stripSource(cronJob) }),
  );
  await seen(clone, (_job, its) => its.length === 1);
  expect(clone.metadata).not.toHaveProperty("ownerReferences");
});

test("Submitted, Pending, Running, Succeeded", async () => {
  const job = await submit(render(image));
  const { pods: its } = await seenState(job, "Pending");
  const first = its[0] ?? (await seen(job, (_job, some) => some.length === 1)).pods[0];
  await report(first, "Running", running);
  await seenState(job, "Running");
  await report(first, "Succeeded", { terminated: { exitCode: 0, reason: "Completed" } });
  expect(await seenState(job, "Succeeded")).toMatchObject({ reason: "CompletionsReached", status: "Success" });
});

test("Failed, with the exit that was the cause", async () => {
  const job = await submit(render(image));
  const { pods: its } = await seen(job, (_job, some) => some.length === 1);
  await report(its[0], "Failed", end(3));
  const failed = await seenState(job, "Failed");
  expect(failed.reason).toBe("BackoffLimitExceeded");
  expect(diagnose({ ...failed, now: Date.now() })).toMatchObject({ category: "AppExit", container: "main" });
});

test("Backoff until the next pod", async () => {
  const job = await submit(render({ ...image, backoffLimit: 3 }));
  const { pods: its } = await seen(job, (_job, some) => some.length === 1);
  await report(its[0], "Failed", { terminated: { exitCode: 1, finishedAt: new Date().toISOString() } });
  expect((await seenState(job, "Backoff")).message).toMatch(/^Next try at 20/);
});

test("PodFailurePolicy", async () => {
  const rules = [{ action: "FailJob", onExitCodes: { operator: "In", values: [42] } }];
  const job = await submit(render({ ...image, backoffLimit: 3, podFailurePolicy: { rules } }));
  const { pods: its } = await seen(job, (_job, some) => some.length === 1);
  await report(its[0], "Failed", end(42));
  const failed = await seenState(job, "Failed");
  expect(failed.reason).toBe("PodFailurePolicy");
  const found = diagnose({ ...failed, now: Date.now() });
  expect(found?.category).toBe("PodFailurePolicy");
  expect(found?.message).toContain("exit code 42 matching FailJob rule at index 0");
});

test("FailedIndexes", async () => {
  const job = await submit(
    render({ ...image, completions: 2, parallelism: 2, completionMode: "Indexed", backoffLimitPerIndex: 0 }),
  );
  const { pods: its } = await seen(job, (_job, some) => some.length === 2);
  const indexOf = (pod: Pod) => pod.metadata.annotations?.["batch.kubernetes.io/job-completion-index"];
  await report(
    its.find((pod) => indexOf(pod) === "0"),
    "Succeeded",
    { terminated: { exitCode: 0 } },
  );
  await report(
    its.find((pod) => indexOf(pod) === "1"),
    "Failed",
    end(5),
  );
  const failed = await seenState(job, "Failed");
  expect(failed.reason).toBe("FailedIndexes");
  expect(diagnose({ ...failed, now: Date.now() })?.message).toMatch(/^Of 2 indexes these failed: 1\. .*exit code 5/);
});

test("TimedOut by the Job's deadline", async () => {
  const job = await submit(render({ ...image, timeout: 1 }));
  const failed = await seenState(job, "TimedOut");
  expect(failed.reason).toBe("DeadlineExceeded");
  expect(diagnose({ ...failed, pods: [], now: Date.now() })?.category).toBe("Deadline");
});

test("Suspended and back", async () => {
  const job = await submit(render(image));
  await seen(job, (_job, some) => some.length === 1);
  const path = `${jobs()}/${job.metadata.name}`;
  await merge(path, { spec: { suspend: true } });
  expect(await seenState(job, "Suspended")).toMatchObject({ reason: "JobSuspended", status: "Starting" });
  await merge(path, { spec: { suspend: false } });
  await seenState(job, "Pending");
});

test("Cancelling or Deleting while a finalizer holds the Job, then Cancelled or Lost", async () => {
  const job = await submit(render(image));
  const path = `${jobs()}/${job.metadata.name}`;
  await seen(job, (_job, some) => some.length === 1);
  await merge(path, { metadata: { finalizers: ["example.com/hold"] } });
  const body = { propagationPolicy: "Background", preconditions: { uid: job.metadata.uid } };
  await plane.admin.request("DELETE", path, { body });
  await seenState(job, "Cancelling", { cancelAsked: true });
  await seenState(job, "Deleting");
  await merge(path, { metadata: { finalizers: null } });
  await expect(plane.admin.request("GET", path)).rejects.toMatchObject({ code: "not_found" });
  const end = Date.now() + 30_000;
  while ((await podsOf(job)).length > 0 && Date.now() < end) await new Promise((resolve) => setTimeout(resolve, 50));
  const observed = { posted: "Yes" as const, uid: job.metadata.uid ?? "", pods: await podsOf(job) };
  expect(stateOf({ ...observed, cancelAsked: true }).state).toBe("Cancelled");
  expect(stateOf({ ...observed, cancelAsked: false })).toMatchObject({ state: "Lost", reason: "Deleted" });
});

test.each<[string, string, Record<string, unknown>, string, RegExp]>([
  [
    "a quota that is too small",
    "quota",
    { resources: { requests: { cpu: "64" } } },
    "Quota",
    /exceeded quota: small, requested: requests.cpu=64/,
  ],
  ["a quota that wants requests", "quota", {}, "Quota", /failed quota: small: must specify requests.cpu/],
  [
    "a limit range",
    "range",
    { resources: { limits: { cpu: "2" } } },
    "Denied",
    /maximum cpu usage per Container is 1, but limit is 2/,
  ],
  ["Pod Security", "restricted", {}, "Denied", /violates PodSecurity "restricted:latest"/],
  [
    "a service account that is not there",
    "batch",
    { serviceAccountName: "nobody" },
    "ConfigMissing",
    /serviceaccount "nobody" not found/,
  ],
])("no pod for %s", async (_name, namespace, fields, category, words) => {
  // The service account of a new namespace, and the quota's first count, take their time.
  const job = await submit(render({ ...image, namespace, ...fields }));
  const end = Date.now() + 60_000;
  for (;;) {
    const now = await seen(job, (of, pods) => eventsOf(of, pods) !== undefined);
    const path = `/api/v1/namespaces/${namespace}/events`;
    const query = { fieldSelector: `involvedObject.uid=${job.metadata.uid}` };
    const { items: events } = await plane.admin.request<{ items: KubeEvent[] }>("GET", path, { query });
    const found = diagnose({ ...now, events, now: Date.now() });
    if (found?.category === category && words.test(found.message)) break;
    if (Date.now() > end) throw new Error(`${found?.category}: ${found?.message} ${JSON.stringify(now.job.status)}`);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
});
