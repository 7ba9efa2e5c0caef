import type { KubeObject } from "@kube-connector/core";
import type { Container, EnvVar, PodTemplate } from "./manifest.ts";

// What a Job or CronJob offers to somebody who wants to run it again: its containers, and their variables as parameters.

/** A variable of a container that an overlay may replace. */
export interface Parameter {
  name: string;
  type: "String";
  /** As it is written; null when it comes from elsewhere. No Secret or ConfigMap is read. */
  default: string | null;
  container: string;
  /** For example `Secret db/url`. */
  from?: string;
  /** The default has a dollar, so it means the same only when it is given back as {value, expand: true}. */
  expand?: true;
}

/** All keys of a Secret or ConfigMap as variables, not named one by one. */
export interface ParameterGroup {
  container: string;
  prefix: string;
  from: string;
}

/** One line of a discovery. */
export interface SourceItem {
  kind: "Job" | "CronJob";
  name: string;
  namespace: string;
  uid: string;
  /** Of a CronJob: its schedule, with its time zone when it has one. */
  schedule?: string;
  timeZone?: string;
  suspended: boolean;
  containers: { name: string; image: string; command?: string[]; args?: string[] }[];
  parameters: Parameter[];
  groups: ParameterGroup[];
}

/** What is shown of a Job or CronJob; parameters of its first container, or of all. */
export function describeSource(kind: "Job" | "CronJob", object: KubeObject, options: { allContainers?: boolean } = {}) {
  const spec = object.spec as {
    schedule?: string;
    timeZone?: string;
    suspend?: boolean;
    template?: PodTemplate;
    jobTemplate?: { spec?: { template?: PodTemplate } };
  };
  const template = kind === "CronJob" ? spec.jobTemplate?.spec?.template : spec.template;
  const containers = template?.spec.containers ?? [];
  const item: SourceItem = {
    kind,
    name: object.metadata.name,
    namespace: object.metadata.namespace ?? "",
    uid: object.metadata.uid ?? "",
    ...(spec.schedule === undefined ? {} : { schedule: spec.schedule }),
    ...(spec.timeZone === undefined ? {} : { timeZone: spec.timeZone }),
    suspended: spec.suspend === true,
    containers: containers.map(({ name, image = "", command, args }) => ({
      name,
      image,
      ...(command === undefined ? {} : { command }),
      ...(args === undefined ? {} : { args }),
    })),
    ...parametersOf(options.allContainers === true ? containers : containers.slice(0, 1)),
  };
  return item;
}

/** The variables of those containers; of duplicates the last, as it is the one that counts. */
export function parametersOf(containers: readonly Container[]): { parameters: Parameter[]; groups: ParameterGroup[] } {
  return {
    parameters: containers.flatMap(({ name, env = [] }) =>
      [...new Map(env.map((variable) => [variable.name, variable])).values()].map((one) => parameterOf(one, name)),
    ),
    groups: containers.flatMap(({ name: container, envFrom = [] }) =>
      envFrom.map(({ prefix = "", configMapRef, secretRef }) => ({
        container,
        prefix,
        from: secretRef === undefined ? `ConfigMap ${configMapRef?.name ?? ""}` : `Secret ${secretRef.name}`,
      })),
    ),
  };
}

function parameterOf({ name, value = "", valueFrom }: EnvVar, container: string): Parameter {
  if (valueFrom !== undefined) return { name, type: "String", default: null, container, from: originOf(valueFrom) };
  return { name, type: "String", default: value, container, ...(value.includes("$") ? { expand: true } : {}) };
}

function originOf(valueFrom: Record<string, unknown>): string {
  const [kind = "", reference] = Object.entries(valueFrom)[0] ?? [];
  const { name = "", key = "", fieldPath = "", resource = "", containerName } = reference as Record<string, string>;
  switch (kind) {
    case "secretKeyRef":
      return `Secret ${name}/${key}`;
    case "configMapKeyRef":
      return `ConfigMap ${name}/${key}`;
    case "fieldRef":
      return `Field ${fieldPath}`;
    case "resourceFieldRef":
      return `Resource ${containerName === undefined ? "" : `${containerName}/`}${resource}`;
    default:
      return kind;
  }
}
