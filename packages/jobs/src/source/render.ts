import { Fault, problems, type Secret } from "@kube-connector/core";
import type { RunDefinition } from "../definition/definition.ts";
import { jobProblems } from "../definition/job-shape.ts";
import { manager, runAnnotations, runLabels } from "../labels.ts";
import {
  type Container,
  containerOf,
  envVar,
  type JobManifest,
  type Metadata,
  setEnv,
  setResources,
} from "./manifest.ts";
import { type Difference, differences, mergePatch } from "./merge.ts";
import { fingerprintOf, jobName } from "./names.ts";
import { applyOverlay } from "./overlay.ts";
import { stripSource } from "./strip.ts";

export interface RenderOptions {
  definition: RunDefinition;
  /** With a source: its manifest, stripped, live or from the snapshot. Absent: `fallback` is run. */
  source?: JobManifest;
  runId: string;
  /** From 1. */
  attempt: number;
  engine: string;
  /** Only these completion indexes of an Indexed Job, in ascending order; the containers find them in JOB_INDEX_MAP. */
  indexes?: readonly number[];
}

type Marks = Readonly<Record<string, string>>;

export interface RenderedJob {
  /** Of the Job, and of the Secret with secretEnv. */
  name: string;
  manifest: JobManifest;
  fingerprint: string;
}

/**
 * The Job of one attempt, as it is sent. The same options give the same Job, to the byte. A Fault when a container that
 * the definition names is not there, or a volume's name is taken.
 */
export function renderJob(options: RenderOptions): RenderedJob {
  const { definition, runId, attempt, engine } = options;
  const name = jobName(definition.name, runId, attempt);
  const origin =
    definition.overlay === undefined ? originOf(options) : applyOverlay(originOf(options), definition.overlay);
  const job = structuredClone(origin);
  setSpec(job, definition);
  const container = containerOf(job.spec.template, definition.overlay?.container);
  addMounts(job, container, definition);
  for (const secret of definition.secretEnv)
    setEnv(container, { name: secret, valueFrom: { secretKeyRef: { name, key: secret } } });
  const manifest = patched(job, definition.patch);
  if (options.indexes !== undefined) onlyIndexes(manifest, options.indexes);
  if (definition.resultContainer !== undefined) resultContainer(manifest, definition.resultContainer);
  const marks = {
    [runLabels.run]: runId,
    [runLabels.attempt]: String(attempt),
    [runLabels.engine]: engine,
    [runLabels.managedBy]: manager,
  };
  const { template } = manifest.spec;
  template.metadata = marked(template.metadata, marks, {});
  manifest.metadata = { ...marked(manifest.metadata, marks, {}), name, namespace: definition.namespace };
  const fingerprint = fingerprintOf(manifest);
  manifest.metadata.annotations = { ...manifest.metadata.annotations, [runAnnotations.fingerprint]: fingerprint };
  return { name, manifest, fingerprint };
}

function patched(job: JobManifest, patch: Record<string, unknown> | undefined): JobManifest {
  if (patch === undefined) return job;
  const manifest = mergePatch(job, patch);
  const fault = problems("The Job with its patch cannot be used", jobProblems(manifest, []));
  if (fault !== undefined) throw fault;
  return manifest as JobManifest;
}

/** What a run would change of its source: each difference by its JSON pointer. */
export function sourceDiff(source: JobManifest, rendered: JobManifest): Difference[] {
  return differences(source, rendered);
}

/** The Secret with the values of secretEnv, for the Job of that name; it is sent, and kept nowhere. */
export function renderSecret(rendered: RenderedJob, secrets: ReadonlyMap<string, Secret>): Record<string, unknown> {
  const { namespace, labels } = rendered.manifest.metadata;
  return {
    apiVersion: "v1",
    kind: "Secret",
    type: "Opaque",
    immutable: true,
    metadata: { name: rendered.name, namespace, labels },
    data: Object.fromEntries(
      [...secrets].map(([name, secret]) => [name, Buffer.from(secret.reveal()).toString("base64")]),
    ),
  };
}

function originOf({ definition, source }: RenderOptions): JobManifest {
  const { image, job, fallback, overlay, container, command, args, resources, env } = definition;
  if (job !== undefined) return jobOrigin(job);
  if (definition.source !== undefined && source !== undefined) {
    const { kind, namespace, name } = definition.source;
    const named = structuredClone(source);
    named.metadata.annotations = {
      ...named.metadata.annotations,
      [runAnnotations.source]: `${kind} ${namespace}/${name}`,
    };
    return named;
  }
  if (image !== undefined) {
    const main = only({ name: container, image, command, args });
    for (const [name, value] of Object.entries(env)) setEnv(main, envVar(name, value));
    if (resources !== undefined) setResources(main, resources);
    return jobOf(main);
  }
  if (fallback === undefined)
    throw new Fault("not_found", `The source of ${definition.name} is gone, and there is no fallback`);
  return jobOf(only({ name: overlay?.container ?? container, ...fallback }));
}

/** A Job that somebody wrote: what he says of node and suspension is meant, what a cluster wrote is not. */
function jobOrigin(job: Record<string, unknown>): JobManifest {
  const stripped = stripSource(job);
  const { suspend, template } = job.spec as { suspend?: unknown; template: { spec: { nodeName?: unknown } } };
  if (suspend !== undefined) stripped.spec.suspend = suspend;
  if (template.spec.nodeName !== undefined) stripped.spec.template.spec.nodeName = template.spec.nodeName;
  return stripped;
}

function jobOf(container: Container): JobManifest {
  return {
    apiVersion: "batch/v1",
    kind: "Job",
    metadata: {},
    spec: {
      completions: 1,
      parallelism: 1,
      backoffLimit: 0,
      activeDeadlineSeconds: 86_400,
      template: { metadata: {}, spec: { restartPolicy: "Never", containers: [container] } },
    },
  };
}

function only({ name, image, command, args }: Pick<Container, "name" | "image" | "command" | "args">): Container {
  return {
    name,
    ...(image === undefined ? {} : { image }),
    ...(command === undefined ? {} : { command: [...command] }),
    ...(args === undefined ? {} : { args: [...args] }),
  };
}

const jobFields = [
  "parallelism",
  "completionMode",
  "backoffLimit",
  "backoffLimitPerIndex",
  "podFailurePolicy",
  "successPolicy",
] as const;

/** The fields of the Job and its pods; what the definition does not say stays as it is in the origin. */
function setSpec(job: JobManifest, definition: RunDefinition): void {
  const { completions, timeout, labels, annotations } = definition;
  const set = (target: Record<string, unknown>, key: string, value: unknown) => {
    if (value !== undefined) target[key] = value;
  };
  const { spec } = job;
  if (completions === null) delete spec.completions;
  else set(spec, "completions", completions);
  if (definition.backoffLimitPerIndex !== undefined) delete spec.backoffLimit;
  for (const key of jobFields) set(spec, key, definition[key]);
  if (timeout === 0) delete spec.activeDeadlineSeconds;
  else set(spec, "activeDeadlineSeconds", timeout);
  if (definition.ttl === undefined) delete spec.ttlSecondsAfterFinished;
  else spec.ttlSecondsAfterFinished = definition.ttl;
  const pod = spec.template.spec;
  for (const key of ["restartPolicy", "serviceAccountName"] as const) set(pod, key, definition[key]);
  // The old name of the same field, which an API server writes too.
  if (definition.serviceAccountName !== undefined) delete pod.serviceAccount;
  for (const target of [job, spec.template]) target.metadata = marked(target.metadata, labels, annotations);
}

/** Without the lists that are empty, as an API server has it. */
function marked(metadata: Metadata | undefined, labels: Marks, annotations: Marks): Metadata {
  const { labels: oldLabels, annotations: oldAnnotations, ...others } = metadata ?? {};
  const all = { labels: { ...oldLabels, ...labels }, annotations: { ...oldAnnotations, ...annotations } };
  return { ...others, ...Object.fromEntries(Object.entries(all).filter(([, marks]) => Object.keys(marks).length > 0)) };
}

function addMounts(job: JobManifest, container: Container, { mounts }: RunDefinition): void {
  const pod = job.spec.template.spec;
  for (const { name, claim, mountPath, readOnly } of mounts) {
    if (pod.volumes?.some((volume) => volume.name === name) === true)
      throw new Fault("invalid_argument", `The source has a volume ${name} already; give the mount another name`);
    const at = container.volumeMounts?.find((mount) => mount.mountPath === mountPath);
    if (at !== undefined)
      throw new Fault("invalid_argument", `Container ${container.name} mounts ${at.name} at ${mountPath} already`);
    pod.volumes = [...(pod.volumes ?? []), { name, persistentVolumeClaim: { claimName: claim } }];
    container.volumeMounts = [
      ...(container.volumeMounts ?? []),
      { name, mountPath, ...(readOnly ? { readOnly } : {}) },
    ];
  }
}

/** Linux takes at most 128 KiB in one variable. */
const longestVariable = 131_000;

function onlyIndexes(job: JobManifest, indexes: readonly number[]): void {
  const { spec } = job;
  if (spec.completionMode !== "Indexed")
    throw new Fault("invalid_argument", "Only an Indexed Job has indexes to run again");
  const value = indexes.join(",");
  if (indexes.length === 0 || value.length > longestVariable)
    throw new Fault("invalid_argument", `${indexes.length} indexes cannot be run again at once`);
  spec.completions = indexes.length;
  spec.parallelism = Math.min(spec.parallelism ?? 1, indexes.length);
  if (typeof spec.maxFailedIndexes === "number")
    spec.maxFailedIndexes = Math.min(spec.maxFailedIndexes, indexes.length);
  // It speaks of the indexes of the whole; of those that failed, each has to succeed.
  delete spec.successPolicy;
  for (const container of [...(spec.template.spec.initContainers ?? []), ...spec.template.spec.containers])
    setEnv(container, { name: "JOB_INDEX_MAP", value });
}

function resultContainer({ spec }: JobManifest, name: string): void {
  const names = [...spec.template.spec.containers, ...(spec.template.spec.initContainers ?? [])].map((one) => one.name);
  if (!names.includes(name))
    throw new Fault(
      "invalid_argument",
      `There is no container ${name} for resultContainer; there are: ${names.join(", ")}`,
    );
}
