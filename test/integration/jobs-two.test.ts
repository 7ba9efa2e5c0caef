// Two processes on one history: each run has one owner, what is asked of the other one is done, and who has lost its lease touches
// nothing any more.
import { stat } from "node:fs/promises";
import { join } from "node:path";
import { Fault } from "@kube-connector/core";
import { noCounts, type Store, diskFiles } from "@kube-connector/jobs";
import { afterAll, beforeAll, expect, test } from "vitest";
import { definition, left, linesByPod, numbered, untilCleaned, untilEnd } from "../kit/jobs-checks.ts";
import { type JobsRoom, namespace, startJobsRoom } from "../kit/jobs-room.ts";

let room: JobsRoom;

beforeAll(async () => {
  room = await startJobsRoom();
});
afterAll(() => room?.stop());

/** Its history can be taken away, and its calls to the cluster are counted. */
async function startProcess(folder: string, profiles = {}) {
  let isAway = false;
  let calls = 0;
  const wrap = (store: Store): Store =>
    new Proxy(store, {
      get(target, name: keyof Store) {
        const value = target[name];
        if (typeof value !== "function") return value;
        return async (...given: never[]) => {
          if (isAway) throw new Fault("unavailable", "the history is away");
          return (value as (...given: never[]) => unknown).apply(target, given);
        };
      },
    });
  const started = await room.start(folder, {
    wrap,
    leaseSeconds: 2,
    profiles,
    counts: { ...noCounts, asked: () => void (calls += 1) },
  });
  return {
    ...started,
    calls: () => calls,
    setAway(away: boolean) {
      isAway = away;
    },
  };
}

const createdJobs = async (base: string) =>
  (await room.plane.audited()).filter(
    ({ verb, requestURI, responseStatus, objectRef }) =>
      verb === "create" &&
      requestURI.startsWith(`/apis/batch/v1/namespaces/${namespace}/jobs`) &&
      responseStatus?.code === 201 &&
      (objectRef?.name ?? "").startsWith(base),
  ).length;

test("runs of both are done once each, and either may cancel, suspend and follow what the other one owns", async () => {
  const folder = await room.folder();
  const [a, b] = [await startProcess(folder), await startProcess(folder)];
  const before = await createdJobs("");
  const submitted = await Promise.all(
    [a, b, a, b, a, b].map(({ jobs }, at) => jobs.submit(definition({ lines: 20, every: 10 }, { name: `both-${at}` }))),
  );
  const lasting = await a.jobs.submit(definition({ lines: 2, stay: -1 }));
  await expect.poll(async () => (await b.jobs.get(lasting.run.id)).state, { timeout: 30_000 }).toBe("Running");
  await b.jobs.suspend(lasting.run.id, true);
  const rested = await b.jobs.wait(lasting.run.id, AbortSignal.timeout(30_000));
  expect(rested.state).toBe("Suspended");
  await b.jobs.suspend(lasting.run.id, false);
  await expect.poll(async () => (await b.jobs.get(lasting.run.id)).state, { timeout: 30_000 }).toBe("Running");
  await b.jobs.cancel(lasting.run.id);
  await untilEnd(b.jobs, lasting.run.id);
  expect((await untilCleaned(b.jobs, lasting.run.id)).state).toBe("Cancelled");
  for (const { run } of submitted) {
    await untilEnd(b.jobs, run.id);
    const ended = await untilCleaned(a.jobs, run.id);
    expect([ended.state, ended.attempts.length]).toEqual(["Succeeded", 1]);
    expect([...(await linesByPod(folder, run.id)).values()]).toEqual([numbered(20)]);
  }
  expect((await createdJobs("")) - before).toBe(7);
  await Promise.all([a.stop(), b.stop()]);
});

test("who cannot renew its lease stops; the other one goes on with the run, its log and its clean-up", async () => {
  const folder = await room.folder();
  const a = await startProcess(folder);
  const { run } = await a.jobs.submit(definition({ lines: 800, every: 10 }));
  await expect.poll(async () => (await a.jobs.get(run.id)).state, { timeout: 30_000 }).toBe("Running");
  const b = await startProcess(folder);
  a.setAway(true);
  await expect.poll(async () => (await b.jobs.figures()).owned, { timeout: 30_000 }).toBe(1);
  const calls = a.calls();
  await untilEnd(b.jobs, run.id);
  const ended = await untilCleaned(b.jobs, run.id);
  expect(a.calls()).toBe(calls);
  expect([ended.state, ended.attempts.length, ended.log?.gaps]).toEqual(["Succeeded", 1, 0]);
  expect([...(await linesByPod(folder, run.id)).values()]).toEqual([numbered(800)]);
  expect(await left(room, `connectors.cpaas.io/run-id=${run.id}`)).toEqual([]);
  a.setAway(false);
  await expect.poll(async () => (await a.jobs.figures()).owned, { timeout: 30_000 }).toBe(0);
  await Promise.all([a.stop(), b.stop()]);
});

test("who had lost its lease for a moment goes on with its logs, one writer at a time", async () => {
  const folder = await room.folder();
  let isSlow = false;
  const writers = { now: 0, most: 0, opened: 0 };
  const started = await room.start(folder, {
    leaseSeconds: 1,
    wrap: (store) => ({
      ...store,
      async renew(...given) {
        if (isSlow) await new Promise((resolve) => setTimeout(resolve, 1300));
        return store.renew(...given);
      },
    }),
    files: {
      ...diskFiles,
      async open(path) {
        const file = await diskFiles.open(path);
        if (!path.endsWith("live.log")) return file;
        writers.now += 1;
        writers.opened += 1;
        writers.most = Math.max(writers.most, writers.now);
        return {
          ...file,
          async write(...given) {
            await new Promise((resolve) => setTimeout(resolve, 150));
            await file.write(...given);
          },
          async close() {
            writers.now -= 1;
            await file.close();
          },
        };
      },
    },
  });
  const { run } = await started.jobs.submit(definition({ lines: 800, every: 10 }));
  await expect.poll(async () => (await started.jobs.get(run.id)).state, { timeout: 30_000 }).toBe("Running");
  isSlow = true;
  await expect.poll(() => writers.opened, { timeout: 20_000 }).toBeGreaterThan(2);
  isSlow = false;
  const size = async () => (await stat(join(folder, "logs", run.id, "live.log"))).size;
  const before = await size();
  await expect.poll(size, { timeout: 5000 }).toBeGreaterThan(before + 1000);
  expect((await started.jobs.get(run.id)).state).toBe("Running");
  await untilEnd(started.jobs, run.id);
  const ended = await untilCleaned(started.jobs, run.id);
  expect([ended.state, ended.log?.gaps, writers.most]).toEqual(["Succeeded", 0, 1]);
  expect([...(await linesByPod(folder, run.id)).values()]).toEqual([numbered(800)]);
  await started.stop();
  expect(writers.now).toBe(0);
});

test("a pod that came and went while no process looked is marked in the log", async () => {
  const folder = await room.folder();
  const first = await room.start(folder);
  const script = { lines: 2, startAfter: 2000, stay: 2000 };
  const { run } = await first.jobs.submit(definition(script, { backoffLimit: 1 }));
  const path = `/api/v1/namespaces/${namespace}/pods`;
  const query = { labelSelector: `connectors.cpaas.io/run-id=${run.id}` };
  const pods = async () =>
    (
      await room.plane.admin.request<{ items: { metadata: { name: string }; status?: { phase?: string } }[] }>(
        "GET",
        path,
        { query },
      )
    ).items;
  await expect.poll(async () => (await pods()).length, { timeout: 20_000 }).toBe(1);
  await first.stop();
  await expect.poll(async () => (await pods())[0]?.status?.phase, { timeout: 20_000 }).toBe("Running");
  const name = (await pods())[0]?.metadata.name ?? "";
  await room.plane.admin.request("DELETE", `${path}/${name}`);
  const phases = async () => (await pods()).map(({ metadata, status }) => metadata.name !== name && status?.phase);
  await expect.poll(phases, { timeout: 60_000 }).toEqual(["Succeeded"]);
  const second = await room.start(folder);
  const events = await untilEnd(second.jobs, run.id);
  const ended = await untilCleaned(second.jobs, run.id);
  expect([ended.state, ended.log?.lines, ended.log?.gaps]).toEqual(["Succeeded", 2, 1]);
  const gaps = events.filter(({ type }) => type === "gap").map(({ data }) => data);
  expect(gaps).toEqual([{ pod: ended.attempts[0]?.job, container: "unseen", restart: 0, reason: "PodDeleted" }]);
  await second.stop();
}, 120_000);

test("a profile's slots count over both, and a restart keeps them", async () => {
  const folder = await room.folder();
  const profiles = { night: { concurrency: { max: 1 } } };
  const a = await startProcess(folder, profiles);
  const first = await a.jobs.submit(definition({ lines: 1, stay: -1 }, { profile: "night" }));
  await expect.poll(async () => (await a.jobs.get(first.run.id)).state, { timeout: 30_000 }).toBe("Running");
  const b = await startProcess(folder, profiles);
  const second = await b.jobs.submit(definition({}, { profile: "night" }));
  await expect.poll(async () => (await b.jobs.get(second.run.id)).reason, { timeout: 30_000 }).toBe("Profile");
  await a.stop();
  // It has taken up the first one, which holds the slot.
  await expect.poll(async () => (await b.jobs.figures()).owned, { timeout: 30_000 }).toBe(2);
  expect((await b.jobs.get(second.run.id)).reason).toBe("Profile");
  await b.jobs.cancel(first.run.id);
  await untilEnd(b.jobs, second.run.id);
  expect((await b.jobs.get(second.run.id)).state).toBe("Succeeded");
  expect((await untilCleaned(b.jobs, first.run.id)).state).toBe("Cancelled");
  await b.stop();
});
