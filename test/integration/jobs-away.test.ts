// The API server is away, the database stops, the disk is full, in the middle of runs: nothing that was acknowledged is
// lost, what cannot be taken is refused with a sentence, and all goes on afterwards by itself. They wait beside each other.
import { execFile } from "node:child_process";
import { mkdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import { promisify } from "node:util";
import type { Jobs } from "@kube-connector/jobs";
import { afterAll, beforeAll, describe, test } from "vitest";
import { definition, left, linesByPod, numbered, untilCleaned, untilEnd } from "../kit/jobs-checks.ts";
import { type JobsRoom, startJobsRoom } from "../kit/jobs-room.ts";
import { postgresPrograms, startPostgres } from "../kit/postgres.ts";

const run = promisify(execFile);
let room: JobsRoom;
/** Its API server goes. */
let other: JobsRoom;

beforeAll(async () => {
  [room, other] = await Promise.all([startJobsRoom(), startJobsRoom()]);
});
afterAll(async () => {
  await room?.stop();
  await other?.stop();
});

const state = async (jobs: Jobs, id: string) => (await jobs.get(id)).state;

/** Submits until one is taken; answers with its id and the sentences of those that were not. */
async function submitUntilTaken(jobs: Jobs, value: object): Promise<{ id: string; refusals: string[] }> {
  const refusals: string[] = [];
  for (const end = performance.now() + 60_000; performance.now() < end; ) {
    try {
      return { id: (await jobs.submit(value)).run.id, refusals };
    } catch (error) {
      refusals.push((error as Error).message);
      await wait(500);
    }
  }
  throw new Error(`nothing was taken for a minute: ${refusals.at(-1)}`);
}

describe.concurrent("what a run needs is away", () => {
  test("the API server is away for longer than silence may last: runs go on, and those submitted meanwhile are done afterwards", async ({
    expect,
  }) => {
    const folder = await other.folder();
    const started = await other.start(folder);
    const { jobs } = started;
    const going = await jobs.submit(definition({ lines: 300, every: 10, stay: 500 }, { deadlines: { silence: 10 } }));
    const lasting = await jobs.submit(definition({ lines: 3, stay: -1 }));
    for (const { run: one } of [going, lasting]) {
      await expect.poll(() => state(jobs, one.id), { timeout: 30_000 }).toBe("Running");
    }
    // It is cancelled while nobody can ask for its lines, and they go with its pod.
    const linesOf = async (id: string) => [...(await linesByPod(folder, id)).values()];
    await expect.poll(() => linesOf(lasting.run.id), { timeout: 30_000 }).toEqual([numbered(3)]);
    await other.plane.control("stop", "apiserver");
    const began = performance.now();
    const late = await jobs.submit(definition({ lines: 4 }));
    await jobs.cancel(lasting.run.id);
    await expect.poll(async () => (await jobs.get(going.run.id)).stale, { timeout: 30_000 }).toBe(true);
    await expect.poll(async () => (await jobs.get(late.run.id)).stale, { timeout: 30_000 }).toBe(true);
    expect(await state(jobs, going.run.id)).toBe("Running");
    await wait(20_000 - (performance.now() - began));
    await other.plane.control("start", "apiserver");
    // How long the Job controller waits by itself is not ours to show.
    await other.plane.control("restart", "controllers");
    for (const [{ run: one }, end, lines] of [
      [going, "Succeeded", 300],
      [late, "Succeeded", 4],
      [lasting, "Cancelled", 3],
    ] as const) {
      await untilEnd(jobs, one.id, 90);
      const ended = await untilCleaned(jobs, one.id, 60);
      expect([ended.state, ended.stale, ended.attempts.length]).toEqual([end, false, 1]);
      expect([end, ...(await linesOf(one.id))]).toEqual([end, numbered(lines)]);
      // Of pods that were deleted before their log could be read again the log says so.
      expect(end === "Cancelled" ? 0 : ended.log?.gaps).toBe(0);
      expect(await left(other, `connectors.cpaas.io/run-id=${one.id}`)).toEqual([]);
    }
    await started.stop();
  }, 240_000);

  test.skipIf(postgresPrograms() === undefined)(
    "PostgreSQL stops for longer than a lease in the middle of runs: nothing acknowledged is lost",
    async ({ expect }) => {
      const postgres = await startPostgres();
      const folder = await room.folder();
      const started = await room.start(folder, { history: await postgres.createDatabase(), leaseSeconds: 3 });
      const { jobs } = started;
      const ids: string[] = [];
      for (let at = 0; at < 4; at++) ids.push((await jobs.submit(definition({ lines: 200, every: 10 }))).run.id);
      await expect.poll(() => state(jobs, ids[0] as string), { timeout: 30_000 }).toBe("Running");
      await postgres.halt("immediate");
      await expect(jobs.submit(definition({}))).rejects.toMatchObject({ code: "unavailable" });
      await wait(6000);
      await postgres.start();
      ids.push((await submitUntilTaken(jobs, definition({ lines: 200 }))).id);
      for (const id of ids) {
        await untilEnd(jobs, id, 90);
        const ended = await untilCleaned(jobs, id, 60);
        expect([ended.state, ended.attempts.length, ended.log?.gaps]).toEqual(["Succeeded", 1, 0]);
        expect([...(await linesByPod(folder, id)).values()]).toEqual([numbered(200)]);
        expect(await left(room, `connectors.cpaas.io/run-id=${id}`)).toEqual([]);
      }
      await started.stop();
      await postgres.stop();
    },
    180_000,
  );

  // A file system of its own needs root.
  test.skipIf(process.getuid?.() !== 0)(
    "the disk of history and logs is full in the middle of runs: a clear sentence, and all lines once there is room",
    async ({ expect }) => {
      const folder = join(await room.folder(), "small");
      await mkdir(folder);
      await run("mount", ["-t", "tmpfs", "-o", "size=4m", "tmpfs", folder]);
      try {
        const started = await room.start(folder, { leaseSeconds: 3 });
        const { jobs } = started;
        const first = await jobs.submit(definition({ lines: 400, every: 10 }));
        await expect.poll(() => state(jobs, first.run.id), { timeout: 30_000 }).toBe("Running");
        await fill(join(folder, "ballast"));
        const refusal = await refused(jobs);
        expect(refusal).toMatch(/disk|space|full/);
        await wait(3000);
        await rm(join(folder, "ballast"));
        const second = await submitUntilTaken(jobs, definition({ lines: 5 }));
        for (const [id, lines] of [
          [first.run.id, 400],
          [second.id, 5],
        ] as const) {
          await untilEnd(jobs, id, 90);
          const ended = await untilCleaned(jobs, id, 60);
          expect([ended.state, ended.attempts.length, ended.log?.gaps]).toEqual(["Succeeded", 1, 0]);
          expect([...(await linesByPod(folder, id)).values()]).toEqual([numbered(lines)]);
        }
        await started.stop();
      } finally {
        await run("umount", ["-l", folder]);
      }
    },
    180_000,
  );
});

/** Writes until nothing more fits. */
async function fill(file: string): Promise<void> {
  for (let size = 1 << 20; size >= 1; size >>= 1) {
    for (;;) {
      const failed = await writeFile(file, Buffer.alloc(size), { flag: "a" }).then(
        () => false,
        () => true,
      );
      if (failed) break;
    }
  }
}

/** Submits until one is refused. */
async function refused(jobs: Jobs): Promise<string> {
  for (let at = 0; at < 200; at++) {
    try {
      const { run: taken } = await jobs.submit(definition({ stay: -1 }));
      await jobs.cancel(taken.id).catch(() => undefined);
    } catch (error) {
      return (error as Error).message;
    }
  }
  throw new Error("the disk is full, and everything is taken");
}
