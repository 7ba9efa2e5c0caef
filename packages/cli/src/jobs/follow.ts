import { once } from "node:events";
import { Fault } from "@kube-connector/core";
import { forTerminal, isTerminal, parseLine, type RunRecord } from "@kube-connector/jobs";
import type { Output } from "./commands.ts";
import { printValue, wholeLines, writeTo } from "./print.ts";
import { createProgressLine, describe } from "./progress.ts";
import type { JobsCalls } from "./session.ts";
import { exitStatus, statusOfRun } from "./status.ts";

export interface FollowOptions {
  jobs: JobsCalls;
  output: Output;
  cancelOnInterrupt: boolean;
  exitFrom: string | undefined;
  /** Whether the log is printed, where the output has one. */
  withLog: boolean;
  /** How to come back to the run, for whoever goes away. */
  back: string;
  signal: AbortSignal;
  stdout: NodeJS.WriteStream;
  stderr: NodeJS.WriteStream;
}

/**
 * Prints what happens to a run, and its log, until both are complete; answers with the exit status. When the signal comes, or
 * nobody reads standard output any more, the run goes on without us, or is cancelled when that was asked for.
 */
export async function followRun(run: RunRecord, options: FollowOptions): Promise<number> {
  const { jobs, output, stdout, stderr, signal } = options;
  const gone = new AbortController();
  const onClosed = () => gone.abort();
  stdout.on("error", onClosed);
  const left = AbortSignal.any([signal, gone.signal]);
  const stopped = new AbortController();
  let cancelling: Promise<unknown> | undefined;
  const onLeft = () => {
    if (!options.cancelOnInterrupt) stopped.abort();
    else {
      cancelling = jobs.cancel(run.id).catch((error: unknown) => {
        // One that has ended meanwhile needs no cancelling.
        const { code, message } = Fault.from(error, "The run could not be cancelled");
        if (code !== "conflict") progress.around(() => stderr.write(`${message}\n`));
      });
    }
  };
  const progress = createProgressLine(stderr, Date.now);
  const write = (text: string) => progress.around(() => gone.signal.aborted || stdout.write(text));
  left.addEventListener("abort", onLeft, { once: true });
  if (left.aborted) onLeft();
  try {
    progress.show(run);
    await Promise.all([
      followEvents(run.id, options, stopped.signal, { progress, write }),
      options.withLog && (output === "table" || output === "ndjson")
        ? followLines(run.id, options, { left: stopped.signal, closed: gone.signal }, write)
        : undefined,
    ]);
    await cancelling;
    if (!stopped.signal.aborted) await untilClean(run.id, options);
    const ended = await readRun(run.id, jobs, signal);
    progress.show(ended);
    if (!isTerminal(ended.state)) {
      progress.stop();
      stderr.write(`The run goes on without this terminal. To come back: ${options.back}\n`);
      return exitStatus.interrupted;
    }
    progress.stop();
    if (output === "json" || output === "yaml") printValue((text) => void stdout.write(text), output, ended);
    return statusOfRun(ended, options.exitFrom);
  } finally {
    // What has failed ends the other one, too.
    stopped.abort();
    progress.stop();
    stdout.off("error", onClosed);
    left.removeEventListener("abort", onLeft);
  }
}

/** An engine in this process ends with it, so it is given the time to delete what it made. */
const cleanTime = 30_000;

async function untilClean(id: string, { jobs, signal }: FollowOptions): Promise<void> {
  for (const end = Date.now() + cleanTime; Date.now() < end && !signal.aborted; ) {
    const { cleanup } = await readRun(id, jobs, signal);
    if (cleanup.state !== "Pending") return;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

/** Milliseconds between two questions to a server that is away. */
const askAgain = 1000;

/** The run. A server or a history that is away is waited for, as whoever follows a run waits for its end; not after the signal. */
async function readRun(id: string, jobs: JobsCalls, signal: AbortSignal): Promise<RunRecord> {
  for (;;) {
    try {
      return await jobs.get(id);
    } catch (error) {
      const { code } = Fault.from(error);
      if (signal.aborted || (code !== "unavailable" && code !== "deadline_exceeded")) throw error;
    }
    await new Promise((resolve) => setTimeout(resolve, askAgain));
  }
}

async function followEvents(
  id: string,
  { jobs, output }: FollowOptions,
  signal: AbortSignal,
  to: { progress: ReturnType<typeof createProgressLine>; write: (text: string) => void },
): Promise<void> {
  for await (const event of jobs.follow(id, 0, signal)) {
    if (output === "ndjson" && event.type !== "gap") to.write(`${JSON.stringify({ run: id, ...event })}\n`);
    if (event.type !== "end") to.progress.show(await readRun(id, jobs, signal));
  }
}

async function followLines(
  id: string,
  { jobs, output, stdout }: FollowOptions,
  { left, closed }: { left: AbortSignal; closed: AbortSignal },
  write: (text: string) => void,
): Promise<void> {
  const { log } = await readRun(id, jobs, left);
  // The live log goes an hour after the end.
  const pieces =
    log?.sha256 === undefined ? linesOf(jobs.followLog(id, { signal: left })) : wholeLines(jobs.readLog(id));
  for await (const lines of pieces) {
    for (const line of lines) {
      // The file's first and last line say what is told here otherwise.
      if (line.startsWith("#")) continue;
      const shown = output === "ndjson" ? eventOf(id, line) : line;
      write(`${stdout.isTTY ? forTerminal(shown) : shown}\n`);
    }
    if (left.aborted) return;
    if (stdout.writableNeedDrain)
      await once(stdout, "drain", { signal: AbortSignal.any([left, closed]) }).catch(() => undefined);
  }
}

async function* linesOf(pieces: AsyncIterable<{ lines: string[] }>): AsyncGenerator<string[]> {
  for await (const { lines } of pieces) yield lines;
}

/** A line of the log as one of ndjson. */
function eventOf(run: string, line: string): string {
  const { kind, stamp, pod, container, restart, text } = parseLine(line);
  const type = kind === "text" ? "log" : "gap";
  return JSON.stringify({ run, type, at: stamp, pod, container, restart, message: text });
}

/** Waits until a run has come to a rest, or the signal, and says where it stands. */
export async function waitFor(
  id: string,
  { jobs, signal, stderr }: Pick<FollowOptions, "jobs" | "signal" | "stderr">,
): Promise<RunRecord> {
  const run = await jobs.wait(id, signal);
  writeTo(stderr)(`${describe(run)}\n`);
  return run;
}
