import { readFile } from "node:fs/promises";
import { Fault } from "@kube-connector/core";
import { parse } from "yaml";

// From a file and flags to a run definition, before it is checked. Flags override the file.

export interface DefinitionFlags {
  connector?: string;
  namespace?: string;
  name?: string;
  image?: string;
  from?: string;
  container?: string;
  env: string[];
  secretEnv: string[];
  set: string[];
  setFile: string[];
  requests?: string;
  limits?: string;
  completions?: number;
  parallelism?: number;
  timeout?: number;
  runKey?: string;
}

/** A definition as far as it can be read, with a sentence for each mistake of the flags. Throws a Fault for a file that is none. */
export async function describeRun(
  file: string | undefined,
  rest: readonly string[],
  flags: DefinitionFlags,
  stdin: NodeJS.ReadableStream,
): Promise<{ definition: Record<string, unknown>; wrong: string[] }> {
  const given = file === undefined ? {} : await readDefinition(file, stdin);
  const wrong: string[] = [];
  const pairs = (name: string, list: readonly string[]) =>
    list.flatMap((text): [string, string][] => {
      const at = text.indexOf("=");
      if (at > 0) return [[text.slice(0, at), text.slice(at + 1)]];
      wrong.push(
        `${name} ${text} should be NAME=${name.endsWith("-file") || name.startsWith("--secret") ? "FILE" : "VALUE"}`,
      );
      return [];
    });
  const files = async (name: string, list: readonly string[]) => {
    const read: [string, string][] = [];
    for (const [key, path] of pairs(name, list)) {
      try {
        read.push([key, (await readFile(path, "utf8")).replace(/\r?\n$/, "")]);
      } catch (error) {
        wrong.push(Fault.from(error, `${name} ${key}: cannot read ${path}`).message);
      }
    }
    return read;
  };
  const env = pairs("--env", flags.env);
  const secretEnv = await files("--secret-env", flags.secretEnv);
  const vars = [...pairs("--set", flags.set), ...(await files("--set-file", flags.setFile))];
  const source = sourceOf(flags.from, wrong);
  const resources = defined({
    requests: quantitiesOf("--requests", flags.requests, wrong),
    limits: quantitiesOf("--limits", flags.limits, wrong),
  });

  const { connector, namespace, name, image, completions, parallelism, timeout, runKey, container } = flags;
  const isClone = source !== undefined || given.source !== undefined || given.job !== undefined;
  const value: Record<string, unknown> = {
    ...given,
    ...defined({ connector, namespace, name, image, completions, parallelism, timeout, runKey, source }),
  };
  if (rest.length > 0) {
    if (isClone) value.overlay = merged(given.overlay, { args: rest });
    else value.command = [...rest];
  }
  if (isClone && (env.length > 0 || container !== undefined)) {
    const before = (given.overlay ?? {}) as { env?: object };
    value.overlay = merged(value.overlay, {
      ...defined({ container }),
      ...(env.length === 0 ? {} : { env: { ...before.env, ...Object.fromEntries(env) } }),
    });
  } else if (env.length > 0) value.env = merged(given.env, Object.fromEntries(env));
  if (!isClone && container !== undefined) value.container = container;
  if (Object.keys(resources).length > 0) {
    const of = isClone ? (value.overlay = merged(value.overlay, {})) : value;
    of.resources = withQuantities(of.resources, resources);
  }
  if (vars.length > 0) value.vars = merged(given.vars, Object.fromEntries(vars));
  if (secretEnv.length > 0) value.secretEnv = merged(given.secretEnv, Object.fromEntries(secretEnv));
  return { definition: value, wrong };
}

async function readDefinition(file: string, stdin: NodeJS.ReadableStream): Promise<Record<string, unknown>> {
  const text = await (file === "-" ? readAll(stdin) : readFile(file, "utf8")).catch((error: unknown) => {
    throw new Fault("invalid_argument", Fault.from(error, `Cannot read ${file}`).message, error);
  });
  let value: unknown;
  try {
    value = parse(text);
  } catch (error) {
    throw new Fault("invalid_argument", `${file} is no YAML: ${error instanceof Error ? error.message : ""}`, error);
  }
  if (typeof value === "object" && value !== null && !Array.isArray(value)) return value as Record<string, unknown>;
  throw new Fault(
    "invalid_argument",
    `${file} should hold a run definition: an object with connector and image, job or source`,
  );
}

async function readAll(stream: NodeJS.ReadableStream): Promise<string> {
  let text = "";
  for await (const chunk of stream) text += String(chunk);
  return text;
}

/** `job/NAME`, `cronjob/NAME`, as kubectl names things. */
function sourceOf(text: string | undefined, wrong: string[]): { kind: string; name: string } | undefined {
  if (text === undefined) return undefined;
  const match = /^(job|jobs|cronjob|cronjobs|cj)\/(.+)$/i.exec(text);
  if (match?.[1] !== undefined && match[2] !== undefined) {
    return { kind: match[1].toLowerCase().startsWith("j") ? "Job" : "CronJob", name: match[2] };
  }
  wrong.push(`--from ${text} should be job/NAME or cronjob/NAME`);
  return undefined;
}

/** `cpu=250m,memory=1Gi`, as `kubectl set resources` takes it. */
function quantitiesOf(name: string, list: string | undefined, wrong: string[]): Record<string, string> | undefined {
  if (list === undefined) return undefined;
  const pairs = list.split(",").map((text) => /^([^=\s]+)=([^=\s]+)$/.exec(text)?.slice(1) ?? []);
  if (pairs.every(({ length }) => length === 2)) return Object.fromEntries(pairs) as Record<string, string>;
  wrong.push(`${name} ${list} should be RESOURCE=QUANTITY with commas between, such as cpu=250m,memory=512Mi`);
  return undefined;
}

/** Those of the flags, and what the file has beside them. */
function withQuantities(before: unknown, more: Record<string, unknown>): Record<string, unknown> {
  const given = merged(before, {});
  const both = Object.entries(more).map(([kind, list]) => [kind, merged(given[kind], list as object)]);
  return { ...given, ...Object.fromEntries(both) };
}

function merged(before: unknown, more: object): Record<string, unknown> {
  return { ...(typeof before === "object" && before !== null ? before : {}), ...more };
}

function defined(object: Record<string, unknown>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(object).filter(([, value]) => value !== undefined));
}
