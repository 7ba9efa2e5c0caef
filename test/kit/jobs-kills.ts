import { join } from "node:path";
import { Secret, silentLog } from "@kube-connector/core";
import { openStore, type RunRecord } from "@kube-connector/jobs";
import { expect } from "vitest";
import { definition, left, linesByPod, numbered } from "./jobs-checks.ts";
import { createJobsProcesses } from "./jobs-process.ts";
import { startJobsRoom } from "./jobs-room.ts";

// The process of the jobs module is killed in the middle of a run, again and again, and started again.

/** Submits so many runs, one after the other, each with a SIGKILL at a random moment of its first seconds, and checks them all. */
export async function killAtRandom(runs: number): Promise<void> {
  const room = await startJobsRoom();
  try {
    const folder = await room.folder();
    using processes = createJobsProcesses({ connector: room.config, folder });
    await using closing = new AsyncDisposableStack();
    const opened = await openStore(new Secret(join(folder, "jobs.db")), { log: silentLog });
    const store = closing.adopt(opened, (one) => one.stop());
    const ids: string[] = [];
    const jobsMade = new Set<string>();
    let current = await processes.launch();
    for (let at = 0; at < runs; at++) {
      ids.push(
        await current.say(definition({ lines: 400, every: 5, exit: at % 3 === 2 ? 1 : 0 }, { name: `run-${at}` })),
      );
      await new Promise((resolve) => setTimeout(resolve, Math.random() * 3500));
      await current.kill();
      current = await processes.launch();
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
    await room.stop();
  }
}
