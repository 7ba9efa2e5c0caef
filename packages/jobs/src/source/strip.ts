import { problems } from "@kube-connector/core";
import { jobProblems } from "../definition/job-shape.ts";
import { isReserved } from "../labels.ts";
import type { JobManifest, Metadata } from "./manifest.ts";

// What a clone of a Job, or a Job made from a CronJob, does not take over: what the API server and the Job controller
// wrote, what would give it to somebody else (owner, garbage collection, a tool that prunes), and what pins it to a node.

/** Marks by which tools know what they deployed; an object that carries them and is not in their source is deleted. */
const pruned = [
  /^kubectl\.kubernetes\.io\/last-applied-configuration$/,
  /^applyset\.kubernetes\.io\//,
  /^(meta\.)?helm\.sh\//,
  /(^|\.)argoproj\.io\//,
  /\.toolkit\.fluxcd\.io\//,
  // A Workload that was made for the source alone, and what Kueue wrote into its admitted pods.
  /^kueue\.x-k8s\.io\/(prebuilt-workload-name|podset|workload)$/,
];

/**
 * A Job, or a CronJob's template, as a manifest without name. The same as is stored as the snapshot of a source. A Fault
 * when it has no pods to run.
 */
export function stripSource(source: unknown): JobManifest {
  const { kind, metadata, spec } = structuredClone(source) as {
    kind?: string;
    metadata?: Metadata;
    spec?: { jobTemplate?: { metadata?: Metadata; spec?: Record<string, unknown> }; [field: string]: unknown };
  };
  const job = kind === "CronJob" ? spec?.jobTemplate : { metadata, spec };
  const fault = problems(
    `The ${kind ?? "Job"} ${metadata?.name ?? ""} cannot be run`,
    jobProblems(job ?? {}, kind === "CronJob" ? ["spec", "jobTemplate"] : []),
  );
  if (fault !== undefined) throw fault;
  const jobSpec = job?.spec as JobManifest["spec"];
  const { selector: _s, manualSelector: _m, suspend: _p, template, ...kept } = jobSpec;
  const { nodeName: _n, ...podSpec } = template.spec;
  const labels = withoutMarks(job?.metadata?.labels);
  // Argo CD tracks what it deployed by this label unless told otherwise; pods are not tracked.
  delete labels["app.kubernetes.io/instance"];
  return {
    apiVersion: "batch/v1",
    kind: "Job",
    metadata: { labels, annotations: withoutMarks(job?.metadata?.annotations) },
    spec: {
      ...kept,
      template: {
        metadata: {
          labels: withoutMarks(template.metadata?.labels),
          annotations: withoutMarks(template.metadata?.annotations),
        },
        spec: { ...podSpec, containers: template.spec.containers },
      },
    },
  };
}

function withoutMarks(marks: Record<string, string> | undefined): Record<string, string> {
  return Object.fromEntries(
    Object.entries(marks ?? {}).filter(([key]) => !isReserved(key) && !pruned.some((pattern) => pattern.test(key))),
  );
}
