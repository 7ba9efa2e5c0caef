import { type ChildProcess, spawn } from "node:child_process";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { Secret, silentLog } from "@kube-connector/core";
import { openStore, type RunRecord } from "@kube-connector/jobs";
import { expect } from "vitest";
import { definition, left, linesByPod, numbered } from "./jobs-checks.ts";
import { type JobsRoom, startJobsRoom } from "./jobs-room.ts";

// The process of the jobs module is killed in the middle of a run, again and again, and started again.

const main = fileURLToPath(new URL("jobs-main.ts", import.meta.url));

/** Submits so many runs, one after the other, each with a SIGKILL at a random moment of its first seconds, and checks them all. */
export async function killAtRandom(runs: number): Promise<void> {
  const room = await startJobsRoom();
  const children = new Set<ChildProcess>();
  try {
    const folder = await room.folder();
    await using closing = new AsyncDisposableStack();
    const opened = await openStore(new Secret(join(folder, "jobs.db")), { log: silentLog });
    const store = closing.adopt(opened, (one) => one.stop());
    const launch = () => launchOne(room, folder, children);
    const ids: string[] = [];
    const jobsMade = new Set<string>();
    let current = await launch();
    for (let at = 0; at < runs; at++) {
      ids.push(
        await current.say(definition({ lines: 400, every: 5, exit: at % 3 === 2 ? 1 : 0 }, { name: `run-${at}` })),
      );
      await new Promise((resolve) => setTimeout(resolve, Math.random() * 3500));
      await current.kill();
      current = await launch();
    }
    for (const id of ids) {
      let run: RunRecord | undefined;
      await expect
        .poll(
          async () => {
            run = await store.read(id);
            return run?.cleanup.state;
          },
          { timeout: 60_000, interval: 200 },
        )
        .toBe("Done");
      const at = ids.indexOf(id);
      expect([at, run?.state, run?.attempts.length]).toEqual([at, at % 3 === 2 ? "Failed" : "Succeeded", 1]);
      expect([at, ...(await linesByPod(folder, id)).values()]).toEqual([at, numbered(400)]);
      jobsMade.add(run?.attempts[0]?.uid ?? "");
    }
    const created = (await room.plane.audited()).filter(
      ({ verb, objectRef, responseStatus }) =>
        verb === "create" && objectRef?.resource === "jobs" && responseStatus?.code === 201,
    );
    expect(created.length).toBe(runs);
    expect(jobsMade.size).toBe(runs);
    expect(await left(room, `connectors.cpaas.io/engine=${store.engine}`)).toEqual([]);
    await current.kill();
  } finally {
    for (const child of children) child.kill("SIGKILL");
    await room.stop();
  }
}

/** A process, ready; `say` sends a definition and answers with the run's id. */
async function launchOne(room: JobsRoom, folder: string, children: Set<ChildProcess>) {
  const child = spawn(process.execPath, [main, JSON.stringify({ connector: room.config, folder })], {
    stdio: ["pipe", "pipe", "inherit"],
  });
  children.add(child);
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const next = async () => String((await lines.next()).value);
  expect(await next()).toBe("ready");
  return {
    async say(value: object) {
      child.stdin.write(`${JSON.stringify(value)}\n`);
      return next();
    },
    async kill() {
      children.delete(child);
      const gone = new Promise((resolve) => child.once("exit", resolve));
      child.kill("SIGKILL");
      await gone;
    },
  };
}
