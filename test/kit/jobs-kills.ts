import { join } from "node:path";
import { Secret, silentLog } from "@kube-connector/core";
import { type ConnectorConfig, openStore, type RunRecord } from "@kube-connector/jobs";
import { expect } from "vitest";
import { definition, left, linesByPod, numbered } from "./jobs-checks.ts";
import { createJobsProcesses } from "./jobs-process.ts";
import { startJobsRoom } from "./jobs-room.ts";

// The process of the jobs module is killed in the middle of a run, again and again, and started again.

/** Where that happens, and what runs there. */
export interface KillPlace {
  connector: ConnectorConfig;
  /** Of history and logs. */
  folder: string;
  runs: number;
  /** Of the process, during each run, each in the next 3.5 s. */
  kills: number;
  /** A run of some seconds, how it ends, its pods, and how many lines each of them writes: `line 0`, `line 1` and so on. */
  run(at: number): { definition: object; state: "Succeeded" | "Failed"; pods: number; lines: number };
  /** How many Jobs the cluster has been given. */
  made(): Promise<number>;
  /** Names of what is left of that engine. */
  left(engine: string): Promise<string[]>;
}

/** Submits the runs, one after the other, each with a SIGKILL at random moments of its first seconds, and checks them all. */
export async function killAtRandom({ connector, folder, ...place }: KillPlace): Promise<void> {
  using processes = createJobsProcesses({ connector, folder });
  await using closing = new AsyncDisposableStack();
  const opened = await openStore(new Secret(join(folder, "jobs.db")), { log: silentLog });
  const store = closing.adopt(opened, (one) => one.stop());
  const ids: string[] = [];
  let current = await processes.launch();
  for (let at = 0; at < place.runs; at++) {
    ids.push(await current.say(place.run(at).definition));
    for (let kill = 0; kill < place.kills; kill++) {
      await new Promise((resolve) => setTimeout(resolve, Math.random() * 3500));
      await current.kill();
      current = await processes.launch();
    }
  }
  const jobs = new Set<string>();
  for (const [at, id] of ids.entries()) {
    const { state, pods, lines } = place.run(at);
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
    expect([at, run?.state, run?.attempts.length]).toEqual([at, state, 1]);
    const logs = [...(await linesByPod(folder, id)).values()];
    expect([at, ...logs]).toEqual([at, ...Array.from({ length: pods }, () => numbered(lines))]);
    jobs.add(run?.attempts[0]?.uid ?? "");
  }
  expect([await place.made(), jobs.size]).toEqual([place.runs, place.runs]);
  await expect.poll(() => place.left(store.engine), { timeout: 30_000 }).toEqual([]);
  await current.kill();
}

/** The same before a real control plane whose pods are played; a third of the runs fails. */
export async function killInRoom(runs: number): Promise<void> {
  const room = await startJobsRoom();
  try {
    await killAtRandom({
      connector: room.config,
      folder: await room.folder(),
      runs,
      kills: 1,
      run(at) {
        const fails = at % 3 === 2;
        const script = { lines: 400, every: 5, exit: fails ? 1 : 0 };
        return {
          definition: definition(script, { name: `run-${at}` }),
          state: fails ? "Failed" : "Succeeded",
          pods: 1,
          lines: 400,
        };
      },
      async made() {
        const created = (await room.plane.audited()).filter(
          ({ verb, objectRef, responseStatus }) =>
            verb === "create" && objectRef?.resource === "jobs" && responseStatus?.code === 201,
        );
        return created.length;
      },
      left: (engine) => left(room, `connectors.cpaas.io/engine=${engine}`),
    });
  } finally {
    await room.stop();
  }
}
