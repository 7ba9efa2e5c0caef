import { isReserved } from "../labels.ts";
import type { DefinitionFields, Resources } from "./definition.ts";
import { dnsLabel } from "./fields.ts";
import { jobProblems } from "./job-shape.ts";
import { parseQuantity } from "./quantity.ts";
import { lookUp, pointer } from "./sentences.ts";

// The checks of a definition that take more than one field, or the configuration. Each is given the fields that are right
// by themselves, so all mistakes come at once.

type Fields = Partial<DefinitionFields>;
type Check = (fields: Fields, given: Readonly<Record<string, unknown>>) => string[];

/** What a definition may name. */
export interface DefinitionContext {
  connectors: ReadonlyMap<string, { defaultNamespace?: string }>;
  profiles: ReadonlySet<string>;
}

/** Every mistake, as sentences with JSON pointers. `given` is the form as it came, `fields` what of it was read. */
export function crossProblems(fields: Fields, given: Readonly<Record<string, unknown>>, context: DefinitionContext) {
  return [...checkNames(fields, context), ...checks.flatMap((check) => check(fields, given))];
}

function checkNames({ connector, profile }: Fields, { connectors, profiles }: DefinitionContext): string[] {
  const sentences: string[] = [];
  if (connector !== undefined && !connectors.has(connector))
    sentences.push(`/connector is "${connector}", which is not configured; there are: ${listed(connectors.keys())}`);
  if (profile !== undefined && !profiles.has(profile))
    sentences.push(`/profile is "${profile}", which is not configured; there are: ${listed(profiles)}`);
  return sentences;
}

const imageOnly = ["container", "command", "args", "resources", "env"] as const;
const overlaid: readonly string[] = ["command", "args", "resources", "env", "container"];

const checkOrigin: Check = (_fields, given) => {
  const origins = ["image", "job", "source"].filter((name) => given[name] !== undefined);
  const sentences: string[] = [];
  if (origins.length !== 1)
    sentences.push(
      `/ should have exactly one of image, job and source, and has ${origins.length === 0 ? "none" : origins.join(" and ")}`,
    );
  if (given.image === undefined && origins.length > 0)
    for (const name of imageOnly)
      if (given[name] !== undefined)
        sentences.push(
          `/${name} is for image${overlaid.includes(name) ? `; with ${origins.join(" and ")} use /overlay/${name}` : ""}`,
        );
  if (given.image !== undefined && given.overlay !== undefined)
    sentences.push("/overlay is for source and job; with image give the fields themselves");
  if (given.fallback !== undefined && given.source === undefined) sentences.push("/fallback is for source");
  return sentences;
};

const checkMissingSource: Check = ({ source }, given) => {
  if (source?.onMissing === "Fallback" && given.fallback === undefined)
    return ["/source/onMissing is Fallback, and /fallback is missing"];
  if (source?.onMissing === "Fail" && given.fallback !== undefined)
    return ["/fallback is never used, as /source/onMissing is Fail"];
  return [];
};

const checkPods: Check = (fields) => {
  const { completions, completionMode, restartPolicy, podFailurePolicy, successPolicy, image } = fields;
  const sentences: string[] = [];
  if (completionMode === "Indexed" && completions === null)
    sentences.push("/completions should be a number, as /completionMode is Indexed");
  if (podFailurePolicy !== undefined && restartPolicy === "OnFailure")
    sentences.push("/podFailurePolicy is for /restartPolicy Never");
  if (successPolicy !== undefined && image !== undefined && completionMode !== "Indexed")
    sentences.push("/successPolicy is for /completionMode Indexed");
  if (fields.backoffLimitPerIndex !== undefined && image !== undefined && completionMode !== "Indexed")
    sentences.push("/backoffLimitPerIndex is for /completionMode Indexed");
  if (fields.backoffLimitPerIndex !== undefined && restartPolicy === "OnFailure")
    sentences.push("/backoffLimitPerIndex is for /restartPolicy Never");
  return sentences;
};

const checkTimes: Check = ({ retry, ttl, cleanup, keepFailedFor, deadlines }) => {
  const sentences: string[] = [];
  const least = deadlines === undefined ? 0 : 2 * deadlines.collect;
  const why = "twice /deadlines/collect, so that the log is read before the cluster deletes the pods";
  if (ttl !== undefined && ttl < least) sentences.push(`/ttl should be at least ${least}: ${why}`);
  if (cleanup === "OnSuccess" && ttl === undefined && keepFailedFor !== undefined && keepFailedFor < least)
    sentences.push(`/keepFailedFor should be at least ${least}: ${why}`);
  if (cleanup === "OnSuccess" && ttl !== undefined && keepFailedFor !== undefined && ttl < keepFailedFor)
    sentences.push("/ttl should be at least /keepFailedFor, or the cluster deletes a failed Job before that");
  if (ttl === undefined && cleanup === "Always" && 86_400 < least)
    sentences.push(`/ttl is missing, and should be at least ${least}: ${why}`);
  if (retry !== undefined && retry.maxDelay < retry.initialDelay)
    sentences.push("/retry/maxDelay should be at least /retry/initialDelay");
  return sentences;
};

const checkResources: Check = ({ resources, overlay }) => [
  ...resourceProblems(resources, ["resources"]),
  ...resourceProblems(overlay?.resources, ["overlay", "resources"]),
];

/** A request may not be above its limit. */
export function resourceProblems(resources: Resources | undefined, at: readonly string[]): string[] {
  return Object.entries(resources?.requests ?? {}).flatMap(([name, request]) => {
    const limit = resources?.limits?.[name];
    const [asked, most] = [parseQuantity(request), parseQuantity(limit ?? "")];
    return asked !== undefined && most !== undefined && asked > most
      ? [`${pointer([...at, "requests", name])} is ${request}, above the limit of ${limit}`]
      : [];
  });
}

const checkMounts: Check = ({ mounts = [] }) =>
  (["name", "mountPath"] as const).flatMap((field) =>
    mounts.flatMap((mount, index) =>
      mounts.findIndex((other) => other[field] === mount[field]) < index
        ? [`/mounts/${index}/${field} is ${mount[field]}, as of another mount`]
        : [],
    ),
  );

/** A Secret holds at most 1 MiB: https://kubernetes.io/docs/concepts/configuration/secret/ */
const checkSecrets: Check = ({ secretEnv = {}, env = {}, overlay }) => {
  const size = Object.entries(secretEnv).reduce(
    (sum, [name, value]) => sum + name.length + Buffer.byteLength(value),
    0,
  );
  return [
    ...Object.keys(secretEnv).flatMap((name) =>
      Object.hasOwn(env, name) || Object.hasOwn(overlay?.env ?? {}, name)
        ? [`${pointer(["secretEnv", name])} is also in ${overlay === undefined ? "/env" : "/overlay/env"}`]
        : [],
    ),
    ...(size > 1_000_000 ? [`/secretEnv has ${size} bytes; a Secret holds at most 1000000`] : []),
  ];
};

/** Ours, and the Job controller's, are set by nobody else. */
const checkReserved: Check = ({ labels, annotations, job, patch }) => {
  const places: [readonly string[], unknown][] = [
    [["labels"], labels],
    [["annotations"], annotations],
    ...(["job", "patch"] as const).flatMap((origin) =>
      [["metadata"], ["spec", "template", "metadata"]].flatMap((path) =>
        ["labels", "annotations"].map((kind): [readonly string[], unknown] => {
          const place = [...path, kind];
          return [[origin, ...place], lookUp(origin === "job" ? job : patch, place)];
        }),
      ),
    ),
  ];
  return places.flatMap(([place, value]) =>
    keysOf(value)
      // A Job that was read from a cluster carries its controller's labels; they are taken off, as from a source.
      .filter((key) => isReserved(key) && (place[0] !== "job" || key.startsWith("connectors.cpaas.io/")))
      .map((key) => `${pointer([...place, key])} is set by the engine or by the cluster, and cannot be given`),
  );
};

const checkPatch: Check = ({ patch }) => [
  ...(["apiVersion", "kind", "status"] as const).flatMap((key) =>
    patch?.[key] === undefined ? [] : [`/patch/${key} cannot be changed`],
  ),
  ...keysOf(patch?.metadata).flatMap((key) =>
    key === "labels" || key === "annotations" ? [] : [`/patch/metadata/${key} cannot be changed`],
  ),
];

const checkJob: Check = ({ job, namespace, overlay, resultContainer }) => {
  if (job === undefined) return [];
  const sentences: string[] = [];
  if (job.apiVersion !== "batch/v1") sentences.push("/job/apiVersion should be batch/v1");
  if (job.kind !== "Job") sentences.push("/job/kind should be Job");
  const own = lookUp(job, ["metadata", "namespace"]);
  if (own !== undefined && !dnsLabel.safeParse(own).success)
    sentences.push("/job/metadata/namespace should be a DNS label");
  else if (namespace !== undefined && own !== undefined && own !== namespace)
    sentences.push("/job/metadata/namespace differs from /namespace");
  const shape = jobProblems(job, ["job"]);
  if (shape.length > 0) return [...sentences, ...shape];
  const containers = lookUp(job, ["spec", "template", "spec", "containers"]) as { name: string }[];
  const names = containers.map((one) => one.name);
  for (const [place, name] of [
    ["/overlay/container", overlay?.container],
    ["/resultContainer", resultContainer],
  ])
    if (name !== undefined && !names.includes(name))
      sentences.push(`${place} is ${name}; the containers of /job are: ${names.join(", ")}`);
  return sentences;
};

const checks: readonly Check[] = [
  checkOrigin,
  checkMissingSource,
  checkPods,
  checkTimes,
  checkResources,
  checkMounts,
  checkSecrets,
  checkReserved,
  checkPatch,
  checkJob,
];

function keysOf(value: unknown): string[] {
  return typeof value === "object" && value !== null ? Object.keys(value) : [];
}

function listed(names: Iterable<string>): string {
  return [...names].sort().join(", ") || "none";
}
