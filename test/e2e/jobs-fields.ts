import type { RunRecord } from "@kube-connector/jobs";
import { expect } from "vitest";
import type { Job, Pod } from "../../packages/jobs/src/kube.ts";
import { connector, image, script } from "./jobs-cluster.ts";

// Rows of the table of fields: a definition, and what has to be so of its run, its Job and its pods.

export interface Played {
  run: RunRecord;
  /** What the program said, of each pod. */
  said: string[][];
  /** The messages of its events. */
  told: string[];
  /** As the cluster has them after the end. */
  job: Job | undefined;
  pods: Pod[];
}

export interface FieldCase {
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

const print = ["sh", "-c", 'for a in "$@"; do echo "[$a]"; done', "x"];
const pod = (spec: object) => ({ spec: { template: { spec: { terminationGracePeriodSeconds: 1, ...spec } } } });
const scratch = pod({
  containers: [{ name: "main", volumeMounts: [{ name: "scratch", mountPath: "/scratch" }] }],
  volumes: [{ name: "scratch", emptyDir: {} }],
});
const say = (...names: string[]) => names.map((name) => `echo "${name}=$${name}"`).join("; ");
const main = (container: object) => ({ spec: { containers: [{ name: "main", ...container }] } });
/** The same image under another name. */
const otherImage = "docker.io/library/kubectl:1.35";
const wholeJob = {
  apiVersion: "batch/v1",
  kind: "Job",
  metadata: { name: "given", labels: { team: "b" } },
  spec: {
    completions: 2,
    parallelism: 2,
    backoffLimit: 4,
    template: {
      metadata: { labels: { app: "given" } },
      spec: {
        restartPolicy: "Never",
        containers: [
          { name: "one", image, command: ["echo", "one"] },
          { name: "two", image, command: ["sh", "-c", 'echo "two $WHO"'], env: [{ name: "WHO", value: "given" }] },
        ],
      },
    },
  },
};
const failed = { state: "Failed", reason: "BackoffLimitExceeded" };

export const fieldCases: Record<string, FieldCase> = {
  "connector, image, and command and args as lists": {
    fields: { connector, image, command: print, args: ["one", "two words", "", "a,b"] },
    run: { state: "Succeeded", connector },
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
    fields: script(say("TEXT", "EXPANDED", "SECRET", "ABSENT", "CONFIG", "WHERE", "LIMIT", "NONE"), {
      env: {
        TEXT: "5$ $(HOME) $$",
        EXPANDED: { value: "<$(TEXT)>", expand: true },
        SECRET: { secretKeyRef: { name: "db", key: "url" } },
        ABSENT: { secretKeyRef: { name: "nothing", key: "url", optional: true } },
        CONFIG: { configMapKeyRef: { name: "settings", key: "mode" } },
        WHERE: { fieldRef: { fieldPath: "spec.nodeName", apiVersion: "v1" } },
        LIMIT: { resourceFieldRef: { resource: "limits.memory", containerName: "main", divisor: "1Mi" } },
        NONE: { configMapKeyRef: { name: "settings", key: "none", optional: true } },
      },
      resources: { limits: { memory: "48Mi" } },
    }),
    said: [
      [
        "TEXT=5$ $(HOME) $$",
        "EXPANDED=<5$ $(HOME) $$>",
        "SECRET=db.example:5432",
        "ABSENT=",
        "CONFIG=full",
        "WHERE=target1",
        "LIMIT=48",
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
    // The first run's log can be had as long as the second one lives.
    fields: script(
      "test -e /scratch/was && sleep 10 && echo second && exit 0; touch /scratch/was; echo first; sleep 2; exit 6",
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
  podFailurePolicy: {
    fields: script("exit 42", {
      backoffLimit: 3,
      podFailurePolicy: { rules: [{ action: "FailJob", onExitCodes: { operator: "In", values: [42] } }] },
    }),
    run: { state: "Failed", reason: "PodFailurePolicy", attempts: [{ exits: [{ exitCode: 42 }] }] },
  },
  backoffLimitPerIndex: {
    fields: script("test $JOB_COMPLETION_INDEX = 0", {
      completions: 2,
      completionMode: "Indexed",
      backoffLimitPerIndex: 0,
    }),
    run: { state: "Failed", reason: "FailedIndexes", attempts: [{ failedIndexes: "1" }] },
  },
  "retry: as often as maxAttempts, on what it names, later each time and never later than maxDelay": {
    fields: script("exit 1", {
      retry: { maxAttempts: 3, on: ["AppExit"], backoff: "Linear", initialDelay: 2, maxDelay: 3 },
    }),
    run: {
      ...failed,
      attempts: [
        { number: 1, outcome: "Failed" },
        { number: 2, outcome: "Failed" },
        { number: 3, outcome: "Failed" },
      ],
    },
    and({ run, told }) {
      expect(told.flatMap((text) => /the next one in (\d+) s/.exec(text)?.[1] ?? [])).toEqual(["2", "3"]);
      const waits = run.attempts.slice(1).map(({ postedAt = "" }, at) => {
        return Date.parse(postedAt) - Date.parse(run.attempts[at]?.endedAt ?? "");
      });
      // Chance takes up to a tenth off.
      expect(waits[0]).toBeGreaterThanOrEqual(1800);
      expect(waits[1]).toBeGreaterThanOrEqual(2700);
    },
  },
  // All cases begin at once, so a pod may wait a while for its turn.
  timeout: {
    fields: script("echo begun; sleep 600", { timeout: 30 }),
    run: { state: "TimedOut", reason: "DeadlineExceeded" },
    job: { spec: { activeDeadlineSeconds: 30 } },
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
  job: {
    fields: {
      connector,
      name: undefined,
      job: wholeJob,
      overlay: { container: "two", env: { WHO: "overlaid" } },
    },
    run: { state: "Succeeded", name: "given" },
    job: { metadata: { labels: { team: "b" } }, spec: { completions: 2, parallelism: 2, backoffLimit: 4 } },
    and({ pods, said }) {
      expect(said.map((lines) => lines.toSorted())).toEqual([
        ["one", "two overlaid"],
        ["one", "two overlaid"],
      ]);
      expect(pods.map(({ metadata }) => metadata.labels?.app)).toEqual(["given", "given"]);
    },
  },
  "source, a CronJob, and overlay of a container that it names": {
    fields: {
      connector,
      source: { kind: "CronJob", name: "tidy" },
      overlay: { container: "worker", env: { REGION: "eu", KEY: "plain" }, args: ["deep"] },
    },
    run: { state: "Succeeded", source: { kind: "CronJob", name: "tidy", used: "Live" } },
    said: [["REGION=eu KEY=plain KEPT=yes deep"]],
  },
  "source, a Job of another namespace, and overlay of its first container": {
    fields: {
      connector,
      source: { kind: "Job", name: "plain", namespace: "jobs-other" },
      overlay: { env: { REGION: "eu", KEY: { secretKeyRef: { name: "db", key: "url" } } } },
    },
    run: { state: "Succeeded", source: { kind: "Job", name: "plain", namespace: "jobs-other", used: "Live" } },
    said: [["REGION=eu KEY=db.example:5432 KEPT=yes shallow"]],
  },
  "overlay of image, command and resources": {
    fields: {
      connector,
      source: { kind: "CronJob", name: "tidy" },
      overlay: {
        image: otherImage,
        command: ["echo", "overlaid"],
        resources: { requests: { memory: "32Mi" }, limits: { memory: "48Mi" } },
      },
    },
    pod: {
      spec: {
        containers: [
          {
            name: "first",
            image: otherImage,
            command: ["echo", "overlaid"],
            resources: { requests: { memory: "32Mi" }, limits: { memory: "48Mi" } },
          },
          { name: "worker", image },
        ],
      },
    },
    and: ({ said }) => expect(said.flat()).toContain("overlaid"),
  },
  fallback: {
    fields: {
      connector,
      source: { name: "gone" },
      fallback: { image, command: ["echo"], args: ["instead"] },
    },
    run: { state: "Succeeded", source: { used: "Fallback" } },
    said: [["instead"]],
  },
};
