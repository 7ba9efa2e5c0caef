import { Fault } from "@kube-connector/core";
import { resourceProblems } from "../definition/checks.ts";
import type { EnvValue, Resources } from "../definition/definition.ts";

// A Job as it is written: what of its fields this room reads and writes, with everything else kept.

export interface EnvVar {
  name: string;
  value?: string;
  valueFrom?: Record<string, unknown>;
}

export interface Container {
  name: string;
  image?: string;
  command?: string[];
  args?: string[];
  env?: EnvVar[];
  envFrom?: { prefix?: string; configMapRef?: { name: string }; secretRef?: { name: string } }[];
  resources?: Resources;
  volumeMounts?: { name: string; mountPath: string; readOnly?: boolean }[];
  [field: string]: unknown;
}

export interface PodTemplate {
  metadata?: Metadata;
  spec: {
    containers: Container[];
    initContainers?: Container[];
    volumes?: { name: string; [field: string]: unknown }[];
    [field: string]: unknown;
  };
}

export interface Metadata {
  name?: string;
  namespace?: string;
  labels?: Record<string, string>;
  annotations?: Record<string, string>;
}

export interface JobManifest {
  apiVersion: "batch/v1";
  kind: "Job";
  metadata: Metadata;
  spec: { template: PodTemplate; completions?: number; parallelism?: number; [field: string]: unknown };
}

/** The container of that name, the first when none is named; a Fault lists those that there are. */
export function containerOf({ spec }: PodTemplate, name: string | undefined): Container {
  const found = name === undefined ? spec.containers[0] : spec.containers.find((one) => one.name === name);
  if (found !== undefined) return found;
  const names = spec.containers.map((one) => one.name).join(", ");
  throw new Fault("invalid_argument", `There is no container ${name ?? ""} to lay anything over; there are: ${names}`);
}

/** The last of duplicates is changed in place, as it is the one that counts, and `$(NAME)` looks at what stands before. */
export function setEnv(container: Container, variable: EnvVar): void {
  container.env ??= [];
  const at = container.env.findLastIndex((one) => one.name === variable.name);
  if (at === -1) container.env.push(variable);
  else container.env[at] = variable;
}

/**
 * A variable as Kubernetes has it. The kubelet expands `$(NAME)` and takes `$$` for a dollar, so each dollar of text that
 * is meant as it stands is doubled.
 */
export function envVar(name: string, value: EnvValue): EnvVar {
  if (typeof value === "string") return { name, value: value.replaceAll("$", "$$$$") };
  if (!("value" in value)) return { name, valueFrom: { ...value } };
  return { name, value: value.expand ? value.value : value.value.replaceAll("$", "$$$$") };
}

/** Quantities that are named replace, the others stay. A request above its limit is a Fault. */
export function setResources(container: Container, { requests, limits }: Resources): void {
  const { requests: oldRequests, limits: oldLimits, ...others } = container.resources ?? {};
  const merged = {
    ...others,
    ...((requests ?? oldRequests) ? { requests: { ...oldRequests, ...requests } } : {}),
    ...((limits ?? oldLimits) ? { limits: { ...oldLimits, ...limits } } : {}),
  };
  const wrong = resourceProblems(merged, []);
  if (wrong.length > 0)
    throw new Fault("invalid_argument", `Container ${container.name} with its overlay: ${wrong.join("; ")}`);
  container.resources = merged;
}
