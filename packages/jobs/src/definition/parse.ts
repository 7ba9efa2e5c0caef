import { Fault, problems, Secret } from "@kube-connector/core";
import type * as z from "zod";
import { crossProblems, type DefinitionContext } from "./checks.ts";
import { type DefinitionFields, definitionShape, type RunDefinition } from "./definition.ts";
import { sentencesOf } from "./sentences.ts";
import { fillVars, isDeeperThan } from "./text.ts";

export interface ParsedDefinition {
  definition: RunDefinition;
  /** The values of `secretEnv`, by name. */
  secrets: Map<string, Secret>;
  /** Sentences about what is allowed and may not be meant. */
  warnings: string[];
}

const doing = "The run definition cannot be used";
const failFastDefaults = { InvalidImage: 0, ImagePull: 300, ConfigMissing: 300 };

/**
 * A definition as people write it → the parsed form. Every mistake at once, as one `invalid_argument` Fault whose
 * sentences begin with JSON pointers; no value of `secretEnv` is in them.
 */
export function parseDefinition(value: unknown, context: DefinitionContext): ParsedDefinition {
  if (typeof value !== "object" || value === null || Array.isArray(value))
    throw new Fault("invalid_argument", `${doing}: it should be an object`);
  // No Job is, and what follows calls itself for each level.
  if (isDeeperThan(value, 64)) throw new Fault("invalid_argument", `${doing}: it is nested more than 64 deep`);
  const given = filled(value as Record<string, unknown>);
  const sentences = Object.keys(given)
    .filter((key) => !Object.hasOwn(definitionShape, key))
    .flatMap((key) => sentencesOf([{ code: "unrecognized_keys", keys: [key], path: [], message: "" }], given, []));
  const fields: Record<string, unknown> = {};
  // Field by field, so that one that is wrong does not keep the others from being checked together.
  for (const [key, schema] of Object.entries<z.ZodType>(definitionShape)) {
    const parsed = schema.safeParse(given[key]);
    if (parsed.success && parsed.data !== undefined) fields[key] = parsed.data;
    if (!parsed.success) sentences.push(...sentencesOf(parsed.error.issues, given[key], [key]));
  }
  const fault = problems(doing, [...sentences, ...crossProblems(fields, given, context)]);
  if (fault !== undefined) throw fault;
  const read = fields as DefinitionFields;
  return {
    definition: withDefaults(read, context),
    secrets: new Map(Object.entries(read.secretEnv).map(([name, text]) => [name, new Secret(text)])),
    warnings: warningsOf(read),
  };
}

/** With its own `vars` in all its other strings; vars that are no texts are left for their schema to refuse. */
function filled(given: Record<string, unknown>): Record<string, unknown> {
  const vars = definitionShape.vars.safeParse(given.vars);
  if (!vars.success) return given;
  return { ...(fillVars({ ...given, vars: undefined }, vars.data) as object), vars: given.vars };
}

function withDefaults(fields: DefinitionFields, context: DefinitionContext): RunDefinition {
  const { vars: _, secretEnv, source, failFast, ...rest } = fields;
  const metadata = (fields.job?.metadata ?? {}) as { name?: unknown; generateName?: unknown; namespace?: unknown };
  const namespace =
    fields.namespace ??
    stringOr(metadata.namespace) ??
    context.connectors.get(fields.connector)?.defaultNamespace ??
    "default";
  const name =
    fields.name ??
    (fields.image === undefined ? undefined : baseOfImage(fields.image)) ??
    source?.name ??
    stringOr(metadata.name) ??
    stringOr(metadata.generateName) ??
    "job";
  const ttl = fields.ttl ?? { Always: 86_400, OnSuccess: fields.keepFailedFor, Never: undefined }[fields.cleanup];
  return {
    ...rest,
    ...(fields.image === undefined ? {} : imageDefaults(fields)),
    namespace,
    name: toLabel(name),
    ...(source === undefined ? {} : { source: { ...source, namespace: source.namespace ?? namespace } }),
    secretEnv: Object.keys(secretEnv),
    ...(ttl === undefined ? {} : { ttl }),
    failFast: Object.fromEntries(
      Object.entries({ ...failFastDefaults, ...failFast }).filter(([, seconds]) => typeof seconds === "number"),
    ),
  };
}

/** What a source or job says for itself, and an image does not. */
function imageDefaults(fields: DefinitionFields) {
  return {
    completions: fields.completions === undefined ? 1 : fields.completions,
    parallelism: fields.parallelism ?? 1,
    completionMode: fields.completionMode ?? "NonIndexed",
    restartPolicy: fields.restartPolicy ?? "Never",
    // With a limit of each index there is none for all, unless it is given.
    ...(fields.backoffLimitPerIndex === undefined ? { backoffLimit: fields.backoffLimit ?? 0 } : {}),
    timeout: fields.timeout ?? 86_400,
  } as const;
}

function warningsOf({ image, resources, timeout }: DefinitionFields): string[] {
  const warnings: string[] = [];
  if (image !== undefined && Object.keys({ ...resources?.requests, ...resources?.limits }).length === 0)
    warnings.push(
      "/resources is missing: the pods may be put on a full node, and are the first to be evicted; give requests and limits",
    );
  if (timeout === 0) warnings.push("/timeout is 0: a run that hangs is never ended");
  return warnings;
}

/** `images.example/team/report:1.4` → `report` */
function baseOfImage(image: string): string {
  const last = image.split("@")[0]?.split("/").at(-1) ?? "";
  return last.split(":")[0] ?? "";
}

/** The nearest DNS label. */
function toLabel(text: string): string {
  const label = text
    .toLowerCase()
    .replaceAll(/[^a-z0-9-]+/g, "-")
    .replace(/^-+/, "")
    .slice(0, 63)
    .replace(/-+$/, "");
  return label === "" ? "job" : label;
}

function stringOr(value: unknown): string | undefined {
  return typeof value === "string" && value !== "" ? value : undefined;
}
