import { once } from "node:events";
import { parseLine } from "@kube-connector/jobs";
import type { SessionFlags } from "./commands.ts";
import { followRun } from "./follow.ts";
import { wholeLines, writeTo } from "./print.ts";
import { comeBack, type Env, type JobsCalls, openHistory, openSession } from "./session.ts";
import { exitStatus, statusOfRun } from "./status.ts";

type LogsFlags = SessionFlags & {
  follow: boolean;
  pod?: string;
  container?: string;
  search?: string;
  view: "merged" | "pod";
  plain: boolean;
};

/** `jobs logs`. */
export async function logsCommand(id: string, flags: LogsFlags, signal: AbortSignal, env: Env): Promise<number> {
  const session = await (flags.follow ? openSession : openHistory)(flags, env);
  try {
    const { jobs } = session;
    const { log } = await jobs.get(id);
    if ("followLog" in jobs && log === undefined && flags.search === undefined) {
      return await follow(id, jobs, flags, signal);
    }
    // Nobody reads any more: the rest need not be read either.
    const closed = new AbortController();
    process.stdout.once("error", () => closed.abort());
    const print = printer(flags, AbortSignal.any([signal, closed.signal]));
    const { pod, container, view, search } = flags;
    for await (const lines of search === undefined
      ? wholeLines(jobs.readLog(id, { pod, container, view }))
      : foundLines(jobs.searchLog(id, search, { pod, container, limit: mostFound }))) {
      if (!(await print(lines))) break;
    }
    if (signal.aborted) return exitStatus.interrupted;
    return flags.follow ? statusOfRun(await jobs.get(id)) : 0;
  } finally {
    await session.stop();
  }
}

/** Lines of a search at most. */
const mostFound = 100_000;

async function follow(id: string, jobs: JobsCalls, flags: LogsFlags, signal: AbortSignal): Promise<number> {
  const { stdout, stderr } = process;
  const { pod, container, plain } = flags;
  if (!plain && pod === undefined && container === undefined) {
    return followRun(await jobs.get(id), {
      jobs,
      output: "table",
      cancelOnInterrupt: false,
      exitFrom: undefined,
      withLog: true,
      back: comeBack(flags, id),
      signal,
      stdout,
      stderr,
    });
  }
  const closed = new AbortController();
  stdout.once("error", () => closed.abort());
  const left = AbortSignal.any([signal, closed.signal]);
  const print = printer(flags, left);
  for await (const { lines } of jobs.followLog(id, { filter: { pod, container }, signal: left })) await print(lines);
  return left.aborted ? exitStatus.interrupted : statusOfRun(await jobs.get(id));
}

/** Prints lines as fast as they are taken; false once nobody does. */
function printer({ plain }: LogsFlags, left: AbortSignal): (lines: readonly string[]) => Promise<boolean> {
  const { stdout } = process;
  const write = writeTo(stdout);
  return async (lines) => {
    const shown = plain ? lines.map(plainOf).filter((line) => line !== undefined) : lines;
    if (shown.length > 0 && !left.aborted) write(`${shown.join("\n")}\n`);
    if (stdout.writableNeedDrain) await once(stdout, "drain", { signal: left }).catch(() => undefined);
    return !left.aborted;
  };
}

async function* foundLines(found: AsyncIterable<{ line: string }>): AsyncGenerator<string[]> {
  for await (const { line } of found) yield [line];
}

/** The program's words; undefined for a line of ours. */
function plainOf(line: string): string | undefined {
  const { kind, text } = parseLine(line);
  return kind === "text" ? text : undefined;
}
