import { Fault, problems } from "@kube-connector/core";
import { parseDefinition } from "@kube-connector/jobs";
import { stringify } from "yaml";
import type { Output, SessionFlags } from "./commands.ts";
import { type DefinitionFlags, describeRun } from "./definition-file.ts";
import { followRun } from "./follow.ts";
import { printValue } from "./print.ts";
import { comeBack, type Env, onlyConnector, openSession, type Session } from "./session.ts";

interface FollowFlags {
  detach: boolean;
  wait: boolean;
  cancelOnInterrupt: boolean;
  exitFrom?: string;
  output: Output;
}

type RunFlags = SessionFlags & DefinitionFlags & FollowFlags & { dryRun?: "client" | "server" };

/** `jobs run`: submits, and follows to the end. */
export async function runCommand(options: {
  file: string | undefined;
  rest: readonly string[];
  flags: RunFlags;
  signal: AbortSignal;
  env: Env;
}): Promise<number> {
  const { file, rest, flags, signal, env } = options;
  if (flags.detach && flags.wait) throw new Fault("invalid_argument", "--detach and --wait exclude each other");
  if (file === undefined && flags.image === undefined && flags.from === undefined) {
    throw new Fault(
      "invalid_argument",
      "Say what to run: a FILE that describes it, --image with an image, or --from with job/NAME or cronjob/NAME",
    );
  }
  const { definition, wrong } = await describeRun(file, rest, flags, process.stdin);
  const session = await openSession(flags, env);
  try {
    definition.connector ??= await onlyConnector(session, undefined);
    if (wrong.length > 0) throw await allMistakes(session, definition, wrong);
    if (flags.dryRun !== undefined) return await dryRun(session, definition, flags.dryRun, flags.output);
    const { run, created, warnings } = await session.jobs.submit(definition);
    for (const warning of warnings) process.stderr.write(`warning: ${warning}\n`);
    if (!created) process.stderr.write(`Run ${run.id} has that run key already; this one is followed\n`);
    return await goOn(session, run.id, flags, signal);
  } finally {
    await session.stop();
  }
}

/** Those of the flags, and those of what the flags and the file describe. */
async function allMistakes({ jobs }: Session, definition: Record<string, unknown>, wrong: string[]): Promise<Fault> {
  const connectors = new Map((await jobs.connectors()).map((one) => [one.name, one]));
  const doing = "The run cannot be described";
  try {
    parseDefinition(definition, { connectors, profiles: new Set([String(definition.profile)]) });
  } catch (error) {
    const { message } = Fault.from(error);
    const [head = "", ...more] = message.split("\n  - ");
    wrong.push(...(more.length > 0 ? more : [head.slice(head.indexOf(": ") + 2)]));
  }
  return problems(doing, wrong) ?? new Fault("invalid_argument", doing);
}

/** `jobs retry`: the same again. */
export async function retryCommand(
  id: string,
  flags: SessionFlags & FollowFlags & { failedIndexes: boolean },
  signal: AbortSignal,
  env: Env,
): Promise<number> {
  const session = await openSession(flags, env);
  try {
    const run = await session.jobs.retry(id, { failedIndexes: flags.failedIndexes });
    return await goOn(session, run.id, flags, signal);
  } finally {
    await session.stop();
  }
}

async function goOn(
  session: Session,
  id: string,
  flags: SessionFlags & FollowFlags,
  signal: AbortSignal,
): Promise<number> {
  const { jobs } = session;
  if (flags.detach) {
    // An engine in this process goes with it, so the Job is at least sent before.
    if (flags.server === undefined) await sent(session, id, signal);
    const run = await jobs.get(id);
    if (flags.output === "table") process.stdout.write(`${id}\n`);
    else printValue((text) => void process.stdout.write(text), flags.output, run);
    return 0;
  }
  return followRun(await jobs.get(id), {
    jobs,
    output: flags.output,
    cancelOnInterrupt: flags.cancelOnInterrupt,
    exitFrom: flags.exitFrom,
    withLog: !flags.wait,
    back: comeBack(flags, id),
    signal,
    stdout: process.stdout,
    stderr: process.stderr,
  });
}

/** Waits until the run's Job is in the cluster, or the run has ended without one. */
async function sent({ jobs }: Session, id: string, signal: AbortSignal): Promise<void> {
  for await (const { type, data } of jobs.follow(id, 0, signal)) {
    if (type === "state" && data.state !== "Queued" && data.state !== "Submitting") return;
  }
}

const marks = /\/(?:connectors\.cpaas\.io~1|app\.kubernetes\.io~1managed-by)/;

async function dryRun(
  { jobs }: Session,
  definition: object,
  where: "client" | "server",
  output: Output,
): Promise<number> {
  const result = await jobs.dryRun(definition, where);
  for (const warning of result.warnings) process.stderr.write(`warning: ${warning}\n`);
  if (output !== "table") {
    printValue((text) => void process.stdout.write(text), output, result);
    return 0;
  }
  process.stdout.write(stringify(result.manifest));
  const { source, differences } = result;
  if (source !== undefined) {
    process.stderr.write(`\nCloned from ${source.kind} ${source.namespace}/${source.name} (${source.used})\n`);
    const shown = (value: unknown) => (value === undefined ? "nothing" : JSON.stringify(value));
    // Each run has our marks; they are in the manifest.
    for (const { path, before, after } of differences.filter((one) => !marks.test(one.path)))
      process.stderr.write(`  ${path}: ${shown(before)} -> ${shown(after)}\n`);
  }
  process.stderr.write(where === "server" ? "The cluster would take it. Nothing was sent.\n" : "Nothing was sent.\n");
  return 0;
}
