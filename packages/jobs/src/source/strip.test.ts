import { expect, test } from "vitest";
import { exportedCronJob, exportedJob } from "../../../../test/kit/job-objects.ts";
import { stripSource } from "./strip.ts";

// A clone loses what the cluster wrote, what would hand it to somebody else, and what pins it to a node. Everything else stays.

test("a Job loses its identity, its owner, its selector, its node, and the marks of those who prune", () => {
  const before = structuredClone(exportedJob);
  const { spec, ...rest } = stripSource(exportedJob);
  expect(rest).toEqual({
    apiVersion: "batch/v1",
    kind: "Job",
    metadata: {
      labels: { app: "nightly", "kueue.x-k8s.io/queue-name": "small" },
      annotations: { "team/owner": "etl" },
    },
  });
  const { template, ...job } = spec;
  expect(job).toEqual({
    parallelism: 2,
    completions: 3,
    completionMode: "NonIndexed",
    backoffLimit: 4,
    activeDeadlineSeconds: 1200,
    ttlSecondsAfterFinished: 100,
    podReplacementPolicy: "TerminatingOrFailed",
  });
  expect(template.metadata).toEqual({
    labels: { app: "nightly", "app.kubernetes.io/instance": "etl" },
    annotations: { "sidecar.istio.io/inject": "false" },
  });
  const { nodeName: _, ...podSpec } = exportedJob.spec.template.spec;
  expect(template.spec).toEqual(podSpec);
  expect(exportedJob).toEqual(before);
});

test("stripping twice is stripping once, so a snapshot can be used like a live source", () => {
  const once = stripSource(exportedJob);
  expect(stripSource(once)).toEqual(once);
});

test("a CronJob gives the Job that it would make, without schedule or history limit", () => {
  const { metadata, spec } = stripSource(exportedCronJob);
  expect(metadata).toEqual({ labels: { app: "nightly" }, annotations: { "team/owner": "etl" } });
  expect(spec).toEqual({
    backoffLimit: 4,
    template: { metadata: { labels: {}, annotations: {} }, spec: exportedCronJob.spec.jobTemplate.spec.template.spec },
  });
});

test.each<[unknown]>([
  [{ kind: "Job", metadata: { name: "x" } }],
  [{ kind: "CronJob", metadata: { name: "x" }, spec: { schedule: "" } }],
])("%j is refused", (object) => {
  expect(() => stripSource(object)).toThrow(/The (Job|CronJob) x cannot be run: \/spec/);
});
