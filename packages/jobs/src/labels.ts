import { group, type KubeObject } from "@kube-connector/core";

// The marks that objects of ours carry on a target cluster. A definition, a source and a patch cannot set them.

/** Labels of a run's Job, of its pods and of its Secret. */
export const runLabels = {
  /** The run's id. */
  run: `${group}/run-id`,
  /** The attempt's number. */
  attempt: `${group}/attempt`,
  /** The history store that the run belongs to. */
  engine: `${group}/engine`,
  managedBy: "app.kubernetes.io/managed-by",
} as const;

/** The value of `managed-by`. */
export const manager = "kube-connector-jobs";

/** Annotations of a run's Job. */
export const runAnnotations = {
  /** `sha256:` and the digest of the manifest as it was sent. */
  fingerprint: `${group}/fingerprint`,
  /** What was cloned: kind, namespace and name, for people. */
  source: `${group}/source`,
} as const;

/** Whether that label or annotation is set by us, or by the Job controller, and so by nobody else. */
export function isReserved(key: string): boolean {
  return (
    key.startsWith(`${group}/`) ||
    key.startsWith("batch.kubernetes.io/") ||
    key === runLabels.managedBy ||
    key === "controller-uid" ||
    key === "job-name"
  );
}

/**
 * Whether a Job that is there under our name is what this attempt sent, so that it may be adopted. The annotation is compared and
 * not the spec, which webhooks may have changed.
 */
export function isSubmission(
  job: KubeObject,
  attempt: { engine: string; runId: string; attempt: number; fingerprint: string },
): boolean {
  const { labels = {}, annotations = {} } = job.metadata as Record<string, Record<string, string> | undefined>;
  return (
    labels[runLabels.engine] === attempt.engine &&
    labels[runLabels.run] === attempt.runId &&
    labels[runLabels.attempt] === String(attempt.attempt) &&
    annotations[runAnnotations.fingerprint] === attempt.fingerprint
  );
}
