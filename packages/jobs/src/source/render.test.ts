import { Secret } from "@kube-connector/core";
import { expect, test } from "vitest";
import type { RunDefinition } from "../definition/definition.ts";
import { isSubmission } from "../labels.ts";
import { parseDefinition } from "../definition/parse.ts";
import { fingerprintOf, parseIndexes } from "./names.ts";
import { type RenderOptions, renderJob, renderSecret, sourceDiff } from "./render.ts";
import { stripSource } from "./strip.ts";
import { exportedJob } from "../../../../test/kit/job-objects.ts";

// A definition and its origin give one Job, always the same: named after run and attempt, marked as ours, and with each
// field of the definition where Kubernetes reads it. What the definition does not say stays as it is in the origin.

const context = { connectors: new Map([["team-a/prod", {}]]), profiles: new Set<string>() };

function definition(fields: Record<string, unknown>): RunDefinition {
  return parseDefinition({ connector: "team-a/prod", namespace: "batch", ...fields }, context).definition;
}

function render(fields: Record<string, unknown>, more: Partial<RenderOptions> = {}) {
  return renderJob({ definition: definition(fields), runId: "01k9", attempt: 1, engine: "e1e1e1e1e1", ...more });
}

const image = { name: "report", image: "images.example/report:1.4" };
const source = stripSource(exportedJob);
const clone = { source: { name: "nightly" } };

test("an image becomes this Job", () => {
  const { name, manifest, fingerprint } = render({
    ...image,
    command: "python,-m,report",
    args: ["--all"],
    env: { MODE: "full", PRICE: "5$", DB: { secretKeyRef: { name: "db", key: "url" } } },
    secretEnv: { PASSWORD: "x" },
    resources: { requests: { cpu: "250m" }, limits: { memory: "1Gi" } },
    mounts: [{ name: "data", claim: "reports", mountPath: "/data", readOnly: true }],
    completions: 4,
    parallelism: 2,
    labels: { team: "a" },
    serviceAccountName: "runner",
  });
  expect(name).toMatch(/^report-[0-9a-hjkmnp-tv-z]{10}$/);
  const marks = {
    team: "a",
    "connectors.cpaas.io/run-id": "01k9",
    "connectors.cpaas.io/attempt": "1",
    "connectors.cpaas.io/engine": "e1e1e1e1e1",
    "app.kubernetes.io/managed-by": "kube-connector-jobs",
  };
  expect(manifest).toEqual({
    apiVersion: "batch/v1",
    kind: "Job",
    metadata: {
      name,
      namespace: "batch",
      labels: marks,
      annotations: { "connectors.cpaas.io/fingerprint": fingerprint },
    },
    spec: {
      completions: 4,
      parallelism: 2,
      completionMode: "NonIndexed",
      backoffLimit: 0,
      activeDeadlineSeconds: 86_400,
      ttlSecondsAfterFinished: 86_400,
      template: {
        metadata: { labels: marks },
        spec: {
          restartPolicy: "Never",
          serviceAccountName: "runner",
          containers: [
            {
              name: "main",
              image: "images.example/report:1.4",
              command: ["python", "-m", "report"],
              args: ["--all"],
              env: [
                { name: "MODE", value: "full" },
                { name: "PRICE", value: "5$$" },
                { name: "DB", valueFrom: { secretKeyRef: { name: "db", key: "url" } } },
                { name: "PASSWORD", valueFrom: { secretKeyRef: { name, key: "PASSWORD" } } },
              ],
              resources: { requests: { cpu: "250m" }, limits: { memory: "1Gi" } },
              volumeMounts: [{ name: "data", mountPath: "/data", readOnly: true }],
            },
          ],
          volumes: [{ name: "data", persistentVolumeClaim: { claimName: "reports" } }],
        },
      },
    },
  });
});

test.each<[string, Record<string, unknown>, Record<string, unknown>]>([
  [
    "a work queue has no completions",
    { completions: null, parallelism: 3 },
    { completions: undefined, parallelism: 3 },
  ],
  ["an Indexed Job", { completionMode: "Indexed", completions: 3 }, { completionMode: "Indexed", completions: 3 }],
  ["timeout 0 is no deadline", { timeout: 0 }, { activeDeadlineSeconds: undefined }],
  ["timeout", { timeout: 60 }, { activeDeadlineSeconds: 60 }],
  ["cleanup Never has no ttl", { cleanup: "Never" }, { ttlSecondsAfterFinished: undefined }],
  [
    "cleanup OnSuccess keeps as long as failed Jobs are kept",
    { cleanup: "OnSuccess" },
    { ttlSecondsAfterFinished: 604_800 },
  ],
  [
    "parallelism above completions stays as it is asked",
    { completions: 2, parallelism: 5 },
    { completions: 2, parallelism: 5 },
  ],
  ["backoffLimit", { backoffLimit: 2 }, { backoffLimit: 2 }],
  [
    "podFailurePolicy as it is",
    { podFailurePolicy: { rules: [{ action: "Count" }] } },
    { podFailurePolicy: { rules: [{ action: "Count" }] } },
  ],
  [
    "a limit of each index is none for all",
    { backoffLimitPerIndex: 1, completionMode: "Indexed" },
    { backoffLimitPerIndex: 1, backoffLimit: undefined },
  ],
  ["patch adds", { patch: { spec: { maxFailedIndexes: 1 } } }, { maxFailedIndexes: 1 }],
  ["patch removes", { patch: { spec: { backoffLimit: null } } }, { backoffLimit: undefined }],
])("%s", (_name, fields, expected) => {
  const { spec } = render({ ...image, ...fields }).manifest;
  for (const [field, value] of Object.entries(expected)) expect([field, spec[field]]).toEqual([field, value]);
});

test("patch merges lists by name, and volume mounts by path", () => {
  const { manifest } = render({
    ...image,
    env: { A: "1" },
    mounts: [{ name: "data", claim: "c", mountPath: "/a" }],
    patch: {
      spec: {
        template: {
          spec: {
            containers: [
              {
                name: "main",
                env: [{ name: "B", value: "2" }],
                volumeMounts: [{ name: "data", mountPath: "/b", subPath: "x" }],
              },
              { name: "helper", image: "h" },
            ],
            tolerations: [{ key: "gpu", operator: "Exists" }],
          },
        },
      },
    },
  });
  const { containers, tolerations } = manifest.spec.template.spec;
  expect(tolerations).toEqual([{ key: "gpu", operator: "Exists" }]);
  expect(containers).toMatchObject([
    {
      name: "main",
      image: image.image,
      env: [
        { name: "A", value: "1" },
        { name: "B", value: "2" },
      ],
      volumeMounts: [
        { name: "data", mountPath: "/a" },
        { name: "data", mountPath: "/b", subPath: "x" },
      ],
    },
    { name: "helper", image: "h" },
  ]);
});

test("a patch cannot take our marks away", () => {
  const fields = definition(image);
  const patch = { metadata: { labels: null, name: "x" }, spec: { template: { metadata: null } } };
  const { manifest, name } = renderJob({ definition: { ...fields, patch }, runId: "01k9", attempt: 1, engine: "e" });
  expect(manifest.metadata.name).toBe(name);
  expect(manifest.metadata.labels).toMatchObject({ "connectors.cpaas.io/run-id": "01k9" });
  expect(manifest.spec.template.metadata?.labels).toMatchObject({ "connectors.cpaas.io/run-id": "01k9" });
});

test("the same run and attempt give the same Job to the byte; another attempt, run or field another one", () => {
  const first = render(image);
  expect(JSON.stringify(render(image))).toBe(JSON.stringify(first));
  expect(render(image, { attempt: 2 }).name).not.toBe(first.name);
  expect(render(image, { runId: "01k8" }).name).not.toBe(first.name);
  expect(render({ ...image, priority: 3 }).fingerprint).toBe(first.fingerprint);
  expect(render({ ...image, backoffLimit: 3 }).fingerprint).not.toBe(first.fingerprint);
  expect(render({ ...image, backoffLimit: 3 }).name).toBe(first.name);
});

test("a Job under our name is ours by engine, run, attempt and fingerprint, whatever a webhook did to its spec", () => {
  const { manifest, fingerprint } = render(image);
  const sent = { engine: "e1e1e1e1e1", runId: "01k9", attempt: 1, fingerprint };
  const found = { metadata: { ...manifest.metadata, name: "x" }, spec: { suspend: true } };
  expect(isSubmission(found, sent)).toBe(true);
  for (const other of [{ engine: "e2" }, { runId: "01k8" }, { attempt: 2 }, { fingerprint: "sha256:00" }])
    expect(isSubmission(found, { ...sent, ...other })).toBe(false);
  expect(isSubmission({ metadata: { name: "x" } }, sent)).toBe(false);
});

test("a fingerprint does not depend on the order of keys", () => {
  expect(fingerprintOf({ a: 1, b: { c: 2, d: [1, 2] } })).toBe(fingerprintOf({ b: { d: [1, 2], c: 2 }, a: 1 }));
  expect(fingerprintOf({ a: [1, 2] })).not.toBe(fingerprintOf({ a: [2, 1] }));
});

test("a long name is cut, so that name, index and suffix fit into 63 characters", () => {
  const { name } = render({ ...image, name: `${"a".repeat(39)}-${"b".repeat(20)}` });
  expect(name).toMatch(/^a{39}-[0-9a-z]{10}$/);
  expect(render({ ...image, name: "c".repeat(63) }).name).toHaveLength(51);
});

test("a clone keeps what its source says, and takes our name, marks and ttl", () => {
  const { name, manifest } = render(clone, { source });
  expect(manifest.spec).toMatchObject({
    completions: 3,
    parallelism: 2,
    backoffLimit: 4,
    activeDeadlineSeconds: 1200,
    ttlSecondsAfterFinished: 86_400,
    template: { spec: { restartPolicy: "OnFailure", serviceAccountName: "etl", serviceAccount: "etl" } },
  });
  expect(manifest.metadata).toMatchObject({
    name,
    annotations: { "connectors.cpaas.io/source": "Job batch/nightly", "team/owner": "etl" },
    labels: { "kueue.x-k8s.io/queue-name": "small", "connectors.cpaas.io/run-id": "01k9" },
  });
});

test("a clone takes what the definition says", () => {
  const fields = {
    completions: 1,
    timeout: 0,
    restartPolicy: "Never",
    serviceAccountName: "other",
    secretEnv: { P: "x" },
  };
  const { name, manifest } = render({ ...clone, ...fields, overlay: { container: "load" } }, { source });
  expect(manifest.spec).toMatchObject({
    completions: 1,
    template: { spec: { restartPolicy: "Never", serviceAccountName: "other" } },
  });
  expect(manifest.spec).not.toHaveProperty("activeDeadlineSeconds");
  expect(manifest.spec.template.spec).not.toHaveProperty("serviceAccount");
  expect(manifest.spec.template.spec.containers[1]?.env?.at(-1)).toEqual({
    name: "P",
    valueFrom: { secretKeyRef: { name, key: "P" } },
  });
});

test("a source that is gone is replaced by the fallback, and by nothing else", () => {
  const fallback = { image: "images.example/nightly:2", command: ["nightly"] };
  const overlay = { container: "etl", env: { REGION: "eu" } };
  expect(render({ ...clone, overlay, fallback }).manifest.spec.template.spec.containers).toEqual([
    { name: "etl", ...fallback, env: [{ name: "REGION", value: "eu" }] },
  ]);
  expect(() => render(clone)).toThrow("The source of nightly is gone, and there is no fallback");
});

test("a job that was read from a cluster can be sent again; its suspension and node are meant", () => {
  const metadata = { ...exportedJob.metadata, annotations: {} };
  const { manifest } = render({ job: { ...exportedJob, metadata, spec: { ...exportedJob.spec, suspend: true } } });
  expect(manifest.spec.suspend).toBe(true);
  expect(manifest.spec.template.spec.nodeName).toBe("node-7");
  expect(manifest.spec).not.toHaveProperty("selector");
  expect(manifest.spec.template.metadata?.labels).not.toHaveProperty("controller-uid");
  expect(manifest).not.toHaveProperty("status");
  expect(manifest.metadata).not.toHaveProperty("uid");
});

test.each<[string, Record<string, unknown>, string]>([
  [
    "an overlay of no container",
    { ...clone, overlay: { container: "x" } },
    "There is no container x to lay anything over; there are: extract, load",
  ],
  [
    "a volume's name that is taken",
    { ...clone, mounts: [{ name: "tmp", claim: "c", mountPath: "/x" }] },
    "The source has a volume tmp already",
  ],
  [
    "a path that is taken",
    { ...clone, mounts: [{ name: "n", claim: "c", mountPath: "/tmp" }] },
    "Container extract mounts tmp at /tmp already",
  ],
  [
    "a request above the source's limit",
    { ...clone, overlay: { resources: { requests: { memory: "2Gi" } } } },
    "Container extract with its overlay: /requests/memory is 2Gi, above the limit of 1Gi",
  ],
  [
    "a patch that leaves no Job",
    { ...clone, patch: { spec: { template: { spec: { containers: [{ image: "x" }] } } } } },
    "The Job with its patch cannot be used: /spec/template/spec/containers/0/name is missing",
  ],
  [
    "a resultContainer that is not there",
    { ...clone, resultContainer: "x" },
    "There is no container x for resultContainer; there are: extract, load, prepare",
  ],
])("%s is refused", (_name, fields, sentence) => {
  expect(() => render(fields, { source })).toThrow(sentence);
});

test("failed indexes alone run again, and are told which they are", () => {
  const fields = { ...image, completionMode: "Indexed", completions: 10, parallelism: 5, successPolicy: { rules: [] } };
  const { spec } = render(
    { ...fields, patch: { spec: { maxFailedIndexes: 4 } } },
    { indexes: parseIndexes("1,4-5") },
  ).manifest;
  expect(spec).toMatchObject({ completions: 3, parallelism: 3, maxFailedIndexes: 3 });
  expect(spec).not.toHaveProperty("successPolicy");
  expect(spec.template.spec.containers[0]?.env).toEqual([{ name: "JOB_INDEX_MAP", value: "1,4,5" }]);
  expect(() => render(image, { indexes: [1] })).toThrow("Only an Indexed Job has indexes to run again");
  expect(() => render(fields, { indexes: [] })).toThrow("0 indexes cannot be run again");
});

test.each<[string, number[]]>([
  ["", []],
  ["3", [3]],
  ["1,3-5,7", [1, 3, 4, 5, 7]],
])("indexes %j are %j", (text, indexes) => {
  expect(parseIndexes(text)).toEqual(indexes);
});

test("the Secret is the Job's by name and marks, holds the values, and prints none of them", () => {
  const rendered = render({ ...image, secretEnv: { P: "hunter2" } });
  expect(renderSecret(rendered, new Map([["P", new Secret("hunter2")]]))).toEqual({
    apiVersion: "v1",
    kind: "Secret",
    type: "Opaque",
    immutable: true,
    metadata: { name: rendered.name, namespace: "batch", labels: rendered.manifest.metadata.labels },
    data: { P: "aHVudGVyMg==" },
  });
  expect(JSON.stringify(rendered)).not.toContain("hunter2");
});

test("the diff to the source names what is changed, added and removed, and nothing else", () => {
  const overlay = { env: { REGION: "us", NEW: "1" } };
  const { manifest } = render({ ...clone, overlay, timeout: 0, ttl: 900 }, { source });
  const env = "/spec/template/spec/containers/0/env";
  const changes = sourceDiff(source, manifest).filter(
    ({ path }) => !/\/(labels|annotations|name|namespace)(\/|$)/.test(path),
  );
  expect(changes).toEqual([
    { path: "/spec/ttlSecondsAfterFinished", before: 100, after: 900 },
    { path: `${env}/1/value`, before: "eu", after: "us" },
    { path: `${env}/4`, after: { name: "NEW", value: "1" } },
    { path: "/spec/activeDeadlineSeconds", before: 1200 },
  ]);
  expect(sourceDiff(source, structuredClone(source))).toEqual([]);
});
