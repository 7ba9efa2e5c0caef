// Each field of a run definition, at its effect in the pod, read back from the cluster and from what the program says.
import { chmod, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { isTerminal, type Jobs, type RunRecord } from "@kube-connector/jobs";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { Job, Pod } from "../../packages/jobs/src/kube.ts";
import { linesByPod } from "../kit/jobs-checks.ts";
import type { Started } from "../kit/jobs-room.ts";
import { connector, image, type JobsCluster, script, startJobsCluster, untilRun } from "./jobs-cluster.ts";
import { givenObjects } from "./jobs-objects.ts";
import { eventually } from "./kubectl.ts";

let room: JobsCluster;
let started: Started;
let jobs: Jobs;
let folder: string;
let data: string;
const played = new Map<string, Promise<Played>>();

interface Played {
  run: RunRecord;
  /** What the program said, of each pod. */
  said: string[][];
  /** As the cluster has them after the end. */
  job: Job | undefined;
  pods: Pod[];
}

interface Case {
  fields: object;
  /** Lines of its pods. */
  said?: string[][];
  /** Parts of the run, Job and pods. */
  run?: object;
  job?: object;
  pod?: object;
  /** What else has to be so. */
  and?: (all: Played) => void;
}

const ns = "jobs-fields";
const print = ["sh", "-c", 'for a in "$@"; do echo "[$a]"; done', "x"];
const pod = (spec: object) => ({ spec: { template: { spec: { terminationGracePeriodSeconds: 1, ...spec } } } });
const scratch = pod({
  containers: [{ name: "main", volumeMounts: [{ name: "scratch", mountPath: "/scratch" }] }],
  volumes: [{ name: "scratch", emptyDir: {} }],
});
const say = (...names: string[]) => names.map((name) => `echo "${name}=$${name}"`).join("; ");
const main = (container: object) => ({ spec: { containers: [{ name: "main", ...container }] } });
const failed = { state: "Failed", reason: "BackoffLimitExceeded" };

const cases: Record<string, Case> = {
  "image, command and args as lists": {
    fields: { connector, image, command: print, args: ["one", "two words", "", "a,b"] },
    said: [["[one]", "[two words]", "[]", "[a,b]"]],
    pod: main({ image, command: print, args: ["one", "two words", "", "a,b"] }),
  },
  "command and args as texts with commas": {
    fields: { connector, image, command: "printf,<%s>", args: "one, two,three\\,four,five\\\\six" },
    said: [["<one>< two><three,four><five\\six>"]],
  },
  "args for the image's own command": {
    fields: { connector, image, args: ["echo", "hello"] },
    said: [["hello"]],
    and: ({ pods }) => expect(pods[0]?.spec?.containers?.[0]).not.toHaveProperty("command"),
  },
  env: {
    fields: script(say("TEXT", "EXPANDED", "SECRET", "CONFIG", "WHERE", "LIMIT", "NONE"), {
      env: {
        TEXT: "5$ $(HOME) $$",
        EXPANDED: { value: "<$(TEXT)>", expand: true },
        SECRET: { secretKeyRef: { name: "db", key: "url" } },
        CONFIG: { configMapKeyRef: { name: "settings", key: "mode" } },
        WHERE: { fieldRef: { fieldPath: "spec.nodeName" } },
        LIMIT: { resourceFieldRef: { resource: "limits.memory" } },
        NONE: { configMapKeyRef: { name: "settings", key: "none", optional: true } },
      },
      resources: { limits: { memory: "48Mi" } },
    }),
    said: [
      [
        "TEXT=5$ $(HOME) $$",
        "EXPANDED=<5$ $(HOME) $$>",
        "SECRET=db.example:5432",
        "CONFIG=full",
        "WHERE=target1",
        "LIMIT=50331648",
        "NONE=",
      ],
    ],
  },
  secretEnv: {
    fields: script('echo "it is $PASSWORD"; printf %s "$PASSWORD" | wc -c', {
      secretEnv: { PASSWORD: "hidden-value" },
    }),
    said: [["it is ***", "12"]],
    and: ({ run, job, pods }) => expect(JSON.stringify([run, job, pods])).not.toContain("hidden-value"),
  },
  resources: {
    fields: script(
      "cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null;" +
        "cat /sys/fs/cgroup/cpu.max /sys/fs/cgroup/cpu/cpu.cfs_quota_us 2>/dev/null | cut -d' ' -f1",
      { resources: { requests: { cpu: "50m", memory: "32Mi" }, limits: { cpu: "500m", memory: "64Mi" } } },
    ),
    said: [["67108864", "50000"]],
    pod: main({ resources: { requests: { cpu: "50m", memory: "32Mi" }, limits: { cpu: "500m", memory: "64Mi" } } }),
  },
  mounts: {
    fields: script("cat /in/given; (echo changed > /in/given) 2>&1 || echo refused; echo made > /out/made", {
      mounts: [
        { name: "in", claim: "data", mountPath: "/in", readOnly: true },
        { name: "out", claim: "data", mountPath: "/out" },
      ],
    }),
    said: [["from the test", "sh: can't create /in/given: Read-only file system", "refused"]],
  },
  "completions and parallelism": {
    fields: script("sleep 3", { completions: 3, parallelism: 2 }),
    run: { state: "Succeeded", progress: { succeeded: 3, completions: 3 } },
    job: { spec: { completions: 3, parallelism: 2 } },
    and({ run }) {
      const times = (run.attempts[0]?.exits ?? []).map(({ startedAt, finishedAt }) => [
        startedAt ?? "",
        finishedAt ?? "",
      ]);
      expect(times.length).toBe(3);
      const [, , third] = times.toSorted(([a = ""], [b = ""]) => a.localeCompare(b));
      const firstEnd = times.map(([, end = ""]) => end).toSorted()[0] ?? "";
      expect((third?.[0] ?? "") >= firstEnd).toBe(true);
    },
  },
  "a work queue": {
    fields: script("echo done", { completions: null, parallelism: 2 }),
    run: { state: "Succeeded", progress: { succeeded: 2, completions: null } },
    said: [["done"], ["done"]],
    and: ({ job }) => expect(job?.spec).not.toHaveProperty("completions"),
  },
  completionMode: {
    fields: script('echo "index $JOB_COMPLETION_INDEX"', { completions: 3, parallelism: 3, completionMode: "Indexed" }),
    and({ run, said }) {
      expect(said.flat().toSorted()).toEqual(["index 0", "index 1", "index 2"]);
      expect(run.attempts[0]?.exits.map(({ index }) => index).toSorted()).toEqual([0, 1, 2]);
    },
  },
  successPolicy: {
    fields: script("test $JOB_COMPLETION_INDEX = 0 || sleep 600", {
      completions: 2,
      parallelism: 2,
      completionMode: "Indexed",
      successPolicy: { rules: [{ succeededIndexes: "0" }] },
    }),
    run: { state: "Succeeded", reason: "SuccessPolicy" },
  },
  "namespace, name, container, labels, annotations and serviceAccountName": {
    fields: script(say("NS", "NAME", "TEAM", "NOTE", "ACCOUNT"), {
      namespace: "jobs-other",
      name: "monthly-report",
      container: "printer",
      labels: { team: "a" },
      annotations: { "example.com/note": "any text" },
      serviceAccountName: "runner",
      env: {
        NS: { fieldRef: { fieldPath: "metadata.namespace" } },
        NAME: { fieldRef: { fieldPath: "metadata.labels['batch.kubernetes.io/job-name']" } },
        TEAM: { fieldRef: { fieldPath: "metadata.labels['team']" } },
        NOTE: { fieldRef: { fieldPath: "metadata.annotations['example.com/note']" } },
        ACCOUNT: { fieldRef: { fieldPath: "spec.serviceAccountName" } },
      },
    }),
    run: { state: "Succeeded", namespace: "jobs-other", name: "monthly-report" },
    and({ run, said }) {
      const job = run.attempts[0]?.job ?? "";
      expect(job).toMatch(/^monthly-report-[0-9a-z]{10}$/);
      expect(said).toEqual([["NS=jobs-other", `NAME=${job}`, "TEAM=a", "NOTE=any text", "ACCOUNT=runner"]]);
      expect(run.attempts[0]?.exits).toMatchObject([{ container: "printer", exitCode: 0 }]);
    },
  },
  vars: {
    fields: script('echo "$DAY $0 [[other]]"', {
      args: ["[[day]]"],
      env: { DAY: "d-[[day]]" },
      vars: { day: "2026-03-01" },
    }),
    said: [["d-2026-03-01 2026-03-01 [[other]]"]],
  },
  patch: {
    fields: script("hostname", { patch: pod({ hostname: "patched", enableServiceLinks: false }) }),
    said: [["patched"]],
    pod: { spec: { hostname: "patched", enableServiceLinks: false } },
  },
  "restartPolicy OnFailure": {
    fields: script(
      "test -e /scratch/was && sleep 2 && echo second && exit 0; touch /scratch/was; echo first; sleep 2; exit 6",
      {
        restartPolicy: "OnFailure",
        backoffLimit: 3,
        patch: scratch,
      },
    ),
    run: {
      state: "Succeeded",
      attempts: [
        {
          exits: [
            { restart: 0, exitCode: 6 },
            { restart: 1, exitCode: 0 },
          ],
        },
      ],
    },
    said: [["first", "second"]],
  },
  backoffLimit: {
    fields: script("echo try; exit 1", { backoffLimit: 1 }),
    run: { ...failed, attempts: [{ exits: [{ exitCode: 1 }, { exitCode: 1 }] }], progress: { failed: 2 } },
    said: [["try"], ["try"]],
  },
  backoffLimitPerIndex: {
    fields: script("test $JOB_COMPLETION_INDEX = 0", {
      completions: 2,
      completionMode: "Indexed",
      backoffLimitPerIndex: 0,
    }),
    run: { state: "Failed", reason: "FailedIndexes", attempts: [{ failedIndexes: "1" }] },
  },
  retry: {
    fields: script("exit 1", { retry: { maxAttempts: 2, on: ["AppExit"], backoff: "Fixed", initialDelay: 1 } }),
    run: {
      ...failed,
      attempts: [
        { number: 1, outcome: "Failed" },
        { number: 2, outcome: "Failed" },
      ],
    },
  },
  timeout: {
    fields: script("echo begun; sleep 600", { timeout: 5 }),
    run: { state: "TimedOut", reason: "DeadlineExceeded" },
    job: { spec: { activeDeadlineSeconds: 5 } },
    said: [["begun"]],
  },
  "timeout 0": {
    fields: script("true", { timeout: 0 }),
    and: ({ job }) => expect(job?.spec).not.toHaveProperty("activeDeadlineSeconds"),
  },
  "deadlines.start": {
    fields: script("true", { deadlines: { start: 3 }, patch: pod({ nodeSelector: { disk: "none" } }) }),
    run: { state: "TimedOut", reason: "Start" },
  },
  "deadlines.silence": {
    fields: script("echo begun; sleep 600", { deadlines: { silence: 4 } }),
    run: { state: "TimedOut", reason: "Silence" },
    said: [["begun"]],
  },
  failFast: {
    fields: script("true", { image: "localhost/nothing:1", failFast: { ImagePull: 1 } }),
    run: { state: "Failed", reason: "ImagePull" },
  },
  resultContainer: {
    fields: script("echo done", {
      resultContainer: "main",
      patch: pod({ containers: [{ name: "side", image, command: ["sleep", "600"] }] }),
    }),
    run: { state: "Succeeded", reason: "ResultContainer" },
    said: [["done"]],
  },
  outputs: {
    fields: script(`echo '::output {"rows":"42"}'; printf '{"file":"a.csv"}' > /dev/termination-log`, {
      outputs: ["rows", "file"],
    }),
    run: { state: "Succeeded", outputs: { rows: "42", file: "a.csv" } },
  },
  "source and overlay": {
    fields: {
      connector,
      source: { kind: "CronJob", name: "tidy" },
      overlay: { container: "worker", env: { REGION: "eu", KEY: "plain" }, args: ["deep"] },
    },
    run: { state: "Succeeded", source: { kind: "CronJob", name: "tidy", used: "Live" } },
    said: [["REGION=eu KEY=plain KEPT=yes deep"]],
  },
  fallback: {
    fields: {
      connector,
      source: { name: "gone" },
      fallback: { image, command: ["echo", "instead"] },
    },
    run: { state: "Succeeded", source: { used: "Fallback" } },
    said: [["instead"]],
  },
};

beforeAll(async () => {
  room = await startJobsCluster(ns, "jobs-other");
  data = await room.folder();
  await chmod(data, 0o777);
  await writeFile(join(data, "given"), "from the test\n");
  await room.apply(...givenObjects(ns, data));
  folder = await room.folder();
  started = await room.start(folder, { one: { concurrency: { max: 1 } } });
  jobs = started.jobs;
  for (const [name, { fields }] of Object.entries(cases)) {
    const playing = play(name, fields);
    playing.catch(() => undefined);
    played.set(name, playing);
  }
});
afterAll(async () => {
  await started?.stop();
  await room?.kubectl("delete", "pv", "jobs-data", "--ignore-not-found", "--wait=false");
  await room?.stop();
});

/** Kept in the cluster, so that it can be read back. */
async function play(name: string, fields: object): Promise<Played> {
  const base = name
    .toLowerCase()
    .replaceAll(/[^a-z0-9]+/g, "-")
    .slice(0, 30);
  const { run } = await jobs.submit({ name: base, cleanup: "Never", ...fields });
  const ended = await untilRun(jobs, run.id, ({ state, log }) => isTerminal(state) && log?.sha256 !== undefined, 150);
  const label = `connectors.cpaas.io/run-id=${run.id}`;
  const read = async <T>(kind: string) => {
    const text = await room.kubectl("-n", run.namespace, "get", kind, "-l", label, "-o", "json");
    return (JSON.parse(text) as { items: T[] }).items;
  };
  return {
    run: ended,
    said: [...(await linesByPod(folder, run.id)).values()],
    job: (await read<Job>("jobs"))[0],
    pods: await read<Pod>("pods"),
  };
}

test.each(Object.entries(cases))("%s", async (name, { run = { state: "Succeeded" }, said, job, pod: one, and }) => {
  const all = await played.get(name);
  if (all === undefined) throw new Error(`${name} was not played`);
  expect(all).toMatchObject({
    run,
    ...(said === undefined ? {} : { said }),
    ...(job === undefined ? {} : { job }),
    ...(one === undefined ? {} : { pods: [one] }),
  });
  and?.(all);
});

test("what a mount was given is in the volume, and nothing else", async () => {
  await played.get("mounts");
  expect(await readFile(join(data, "made"), "utf8")).toBe("made\n");
  expect(await readFile(join(data, "given"), "utf8")).toBe("from the test\n");
});

test("cleanup Always: nothing is left; OnSuccess: a failed Job stays as long as keepFailedFor; ttl brings its end", async () => {
  const there = async ({ attempts, namespace }: RunRecord) =>
    (await room.kubectl("-n", namespace, "get", "job", attempts[0]?.job ?? "", "--ignore-not-found", "-o", "name")) !==
    "";
  const end = async (fields: object) => {
    const { run } = await jobs.submit(fields);
    return untilRun(jobs, run.id, ({ cleanup }) => cleanup.state !== "Pending");
  };
  const [always, kept, bounded] = await Promise.all([
    end(script("true")),
    end(script("exit 1", { cleanup: "OnSuccess", keepFailedFor: 20, deadlines: { collect: 2 } })),
    end(script("true", { cleanup: "Never", ttl: 4, deadlines: { collect: 1 } })),
  ]);
  expect([always.cleanup.state, kept.cleanup.state, bounded.cleanup.state]).toEqual(["Done", "Kept", "Kept"]);
  expect(await there(always)).toBe(false);
  expect(await there(kept)).toBe(true);
  expect(kept.attempts[0]?.manifest).toMatchObject({ spec: { ttlSecondsAfterFinished: 20 } });
  for (const run of [bounded, kept]) {
    await eventually(async () => expect(await there(run)).toBe(false), 40_000);
  }
});

test("profile and priority: one at a time, the most urgent first; deadlines.queue ends the waiting", async () => {
  const submit = async (more: object) => (await jobs.submit(script("sleep 2", { profile: "one", ...more }))).run.id;
  const first = await submit({});
  const late = await submit({ priority: -5, deadlines: { queue: 1 } });
  const low = await submit({ priority: 1 });
  const high = await submit({ priority: 50 });
  const [, missed, second, third] = await Promise.all(
    [first, late, high, low].map((id) => untilRun(jobs, id, ({ state }) => isTerminal(state))),
  );
  expect(missed).toMatchObject({ state: "TimedOut", reason: "Queue" });
  expect((second?.startedAt ?? "") < (third?.startedAt ?? "")).toBe(true);
  expect((second?.endedAt ?? "") <= (third?.startedAt ?? "")).toBe(true);
});

test("runKey: the same run", async () => {
  const one = await jobs.submit(script("true", { runKey: "2026-03-01" }));
  const two = await jobs.submit(script("true", { runKey: "2026-03-01" }));
  expect([two.run.id, one.created, two.created]).toEqual([one.run.id, true, false]);
});
