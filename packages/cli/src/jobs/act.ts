import { isTerminal } from "@kube-connector/jobs";
import type { SessionFlags } from "./commands.ts";
import { writeTo } from "./print.ts";
import { createProgressLine, describe } from "./progress.ts";
import { type Env, type JobsCalls, openSession } from "./session.ts";
import { exitStatus } from "./status.ts";

const write = writeTo(process.stdout);
const say = (line: string) => write(`${line}\n`);

/** `jobs cancel`. */
export async function cancelCommand(
  id: string,
  flags: SessionFlags & { foreground: boolean; force: boolean; wait: boolean },
  signal: AbortSignal,
  env: Env,
): Promise<number> {
  const session = await openSession(flags, env);
  try {
    const { jobs } = session;
    const asked = await jobs.cancel(id, {
      propagation: flags.foreground ? "Foreground" : "Background",
      force: flags.force,
    });
    if (!flags.wait) {
      // An engine in this process goes with it, so the Job's deletion is at least asked for before.
      if (flags.server === undefined) await deleting(jobs, id, signal);
      say(`Run ${id} is being cancelled`);
      return 0;
    }
    const progress = createProgressLine(process.stderr, Date.now);
    progress.show(asked);
    try {
      for await (const _ of jobs.follow(id, 0, signal)) {
        const run = await jobs.get(id);
        progress.show(run);
        if (isTerminal(run.state)) break;
      }
    } finally {
      progress.clear();
    }
    const run = await jobs.get(id);
    say(`${id} ${describe(run)}`);
    return isTerminal(run.state) ? 0 : exitStatus.interrupted;
  } finally {
    await session.stop();
  }
}

async function deleting(jobs: JobsCalls, id: string, signal: AbortSignal): Promise<void> {
  for await (const _ of jobs.follow(id, 0, signal)) {
    const { state } = await jobs.get(id);
    if (state === "Cancelling" || isTerminal(state)) return;
  }
}

/** `jobs suspend` and `jobs resume`. */
export async function suspendCommand(
  id: string,
  suspended: boolean,
  flags: SessionFlags,
  signal: AbortSignal,
  env: Env,
): Promise<number> {
  const session = await openSession(flags, env);
  try {
    const { jobs } = session;
    await jobs.suspend(id, suspended);
    const isReached = async () => ((await jobs.get(id)).state === "Suspended") === suspended;
    for (let tries = 0; !(await isReached()) && tries < 300 && !signal.aborted; tries++)
      await new Promise((resolve) => setTimeout(resolve, 200));
    say(`${id} ${describe(await jobs.get(id))}`);
    return (await isReached()) ? 0 : 1;
  } finally {
    await session.stop();
  }
}

const day = 86_400_000;

/** `jobs clean`. */
export async function cleanCommand(
  flags: SessionFlags & { orphans: boolean; olderThan?: number },
  _signal: AbortSignal,
  env: Env,
): Promise<number> {
  const session = await openSession(flags, env);
  try {
    const { jobs } = session;
    const report = await jobs.clean({ orphans: flags.orphans });
    for (const name of report.deleted) say(`deleted ${name}`);
    for (const name of report.orphans)
      if (!flags.orphans) say(`runs, and is in no history: ${name} (--orphans deletes it)`);
    for (const sentence of report.problems) process.stderr.write(`${sentence}\n`);
    if (flags.olderThan !== undefined) {
      const endedBefore = new Date(Date.now() - flags.olderThan * day).toISOString();
      let forgotten = 0;
      for (let more = true; more; ) {
        const { runs } = await jobs.list({ endedBefore, limit: 500 });
        const removed = await jobs.remove(runs.map(({ id }) => id));
        forgotten += removed.length;
        more = removed.length > 0;
      }
      say(`forgot ${forgotten} runs`);
    }
    if (report.deleted.length === 0 && report.orphans.length === 0) say("nothing was left");
    return report.problems.length === 0 ? 0 : 1;
  } finally {
    await session.stop();
  }
}
