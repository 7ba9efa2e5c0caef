// A run goes from its definition to its end through a real Connector and a real Job controller, keeps every line of its log,
// and leaves nothing behind, whatever its end. What pods do is played.
import type { Jobs } from "@kube-connector/jobs";
import { afterAll, beforeAll, expect, test } from "vitest";
import { definition, left, linesByPod, numbered, untilCleaned, untilEnd } from "../kit/jobs-checks.ts";
import { type JobsRoom, namespace, type Started, startJobsRoom } from "../kit/jobs-room.ts";

let room: JobsRoom;
let folder: string;
let started: Started;
let jobs: Jobs;

beforeAll(async () => {
  room = await startJobsRoom();
  folder = await room.folder();
  started = await room.start(folder);
  jobs = started.jobs;
});
afterAll(async () => {
  await started?.stop();
  await room?.stop();
});

const leftOf = (id: string) => left(room, `connectors.cpaas.io/run-id=${id}`);

test("five completions, two at a time: five pods' lines in one log, each once and in order, and nothing is left", async () => {
  const { run } = await jobs.submit(definition({ lines: 200, every: 1 }, { completions: 5, parallelism: 2 }));
  const events = await untilEnd(jobs, run.id);
  const states = events.filter(({ type }) => type === "state").map(({ data }) => data.state);
  expect(states[0]).toBe("Submitting");
  expect(states.at(-1)).toBe("Succeeded");
  const ended = await untilCleaned(jobs, run.id);
  expect(ended).toMatchObject({
    state: "Succeeded",
    status: "Success",
    cleanup: { state: "Done" },
    progress: { succeeded: 5 },
  });
  expect(ended.attempts[0]?.exits.map(({ exitCode }) => exitCode)).toEqual([0, 0, 0, 0, 0]);
  expect([...(await linesByPod(folder, run.id)).values()]).toEqual(Array(5).fill(numbered(200)));
  expect(ended.log).toMatchObject({ lines: 1000, gaps: 0 });
  expect(await leftOf(run.id)).toEqual([]);
});

test("a run that fails keeps its log, its exit codes and its reason, and nothing is left", async () => {
  const { run } = await jobs.submit(definition({ lines: 3, exit: 7, message: "out of paper" }));
  await untilEnd(jobs, run.id);
  const ended = await untilCleaned(jobs, run.id);
  expect(ended).toMatchObject({
    state: "Failed",
    status: "Failed",
    reason: "BackoffLimitExceeded",
    diagnosis: { category: "AppExit" },
    cleanup: { state: "Done" },
  });
  expect(ended.attempts[0]?.exits[0]).toMatchObject({ exitCode: 7, message: "out of paper", container: "main" });
  expect([...(await linesByPod(folder, run.id)).values()]).toEqual([numbered(3)]);
  expect(await leftOf(run.id)).toEqual([]);
});

test("a run that is cancelled is Cancelling until its pods are gone, then Cancelled, and nothing is left", async () => {
  const { run } = await jobs.submit(definition({ lines: 5, stay: -1 }));
  await expect.poll(async () => (await jobs.get(run.id)).state, { timeout: 20_000 }).toBe("Running");
  await jobs.cancel(run.id);
  const events = await untilEnd(jobs, run.id);
  const states = events.filter(({ type }) => type === "state").map(({ data }) => data.state);
  expect(states.slice(-2)).toEqual(["Cancelling", "Cancelled"]);
  const ended = await untilCleaned(jobs, run.id);
  expect(ended).toMatchObject({ state: "Cancelled", status: "Cancelled", cleanup: { state: "Done" } });
  expect([...(await linesByPod(folder, run.id)).values()]).toEqual([numbered(5)]);
  expect(await leftOf(run.id)).toEqual([]);
});

test("a run that finished first stays finished when it is cancelled", async () => {
  const { run } = await jobs.submit(definition({}));
  await untilEnd(jobs, run.id);
  await expect(jobs.cancel(run.id)).rejects.toThrow("has ended already: Succeeded");
  expect((await jobs.get(run.id)).state).toBe("Succeeded");
});

test("secret values reach the pod by a Secret that goes with the Job, and are in no history, manifest or log", async () => {
  const canary = "canary-value-93c1";
  const { run } = await jobs.submit(definition({ lines: 1, stay: 500 }, { secretEnv: { PASSWORD: canary } }));
  await expect.poll(async () => (await jobs.get(run.id)).attempts[0]?.uid, { timeout: 20_000 }).toBeDefined();
  const job = (await jobs.get(run.id)).attempts[0]?.job ?? "";
  const secret = await room.plane.admin.request<{
    data: Record<string, string>;
    metadata: { ownerReferences: object[] };
  }>("GET", `/api/v1/namespaces/${namespace}/secrets/${job}`);
  expect(Buffer.from(secret.data.PASSWORD ?? "", "base64").toString()).toBe(canary);
  await expect
    .poll(
      async () =>
        (
          await room.plane.admin.request<{ metadata: { ownerReferences?: object[] } }>(
            "GET",
            `/api/v1/namespaces/${namespace}/secrets/${job}`,
          )
        ).metadata.ownerReferences,
    )
    .toMatchObject([{ kind: "Job", name: job }]);
  await untilEnd(jobs, run.id);
  const ended = await untilCleaned(jobs, run.id);
  expect(JSON.stringify([ended, await started.store.events(run.id, 0, 100)])).not.toContain(canary);
  expect(await leftOf(run.id)).toEqual([]);
});

test("a failed attempt is repeated as a new Job, and both are in the log", async () => {
  const { run } = await jobs.submit(
    definition({ lines: 2, exit: 1 }, { retry: { maxAttempts: 2, initialDelay: 1, on: ["Any"] } }),
  );
  await untilEnd(jobs, run.id);
  const ended = await untilCleaned(jobs, run.id);
  expect(ended).toMatchObject({ state: "Failed" });
  expect(ended.attempts.map(({ outcome }) => outcome)).toEqual(["Failed", "Failed"]);
  expect([...(await linesByPod(folder, run.id)).values()]).toEqual([numbered(2), numbered(2)]);
  expect(await leftOf(run.id)).toEqual([]);
});

test("a pod that has ended before the API server knows its node has a log all the same", async () => {
  const { run } = await jobs.submit(definition({ lines: 3, bindAfter: 1500 }));
  await untilEnd(jobs, run.id);
  expect((await jobs.get(run.id)).log).toMatchObject({ lines: 3, gaps: 0 });
  expect([...(await linesByPod(folder, run.id)).values()]).toEqual([numbered(3)]);
});

test("the same run key gives the same run", async () => {
  const once = definition({}, { runKey: "2026-03-01" });
  const first = await jobs.submit(once);
  const second = await jobs.submit(once);
  expect([first.created, second.created, second.run.id]).toEqual([true, false, first.run.id]);
  await untilEnd(jobs, first.run.id);
});

test("what the cluster refuses is told in its own words, and nothing is left", async () => {
  const { run } = await jobs.submit(
    definition({}, { patch: { spec: { template: { spec: { restartPolicy: "Always" } } } } }),
  );
  await untilEnd(jobs, run.id);
  const ended = await untilCleaned(jobs, run.id);
  expect(ended).toMatchObject({ state: "Failed", reason: "Rejected", diagnosis: { category: "Rejected" } });
  expect(ended.message).toContain("restartPolicy");
  expect(await leftOf(run.id)).toEqual([]);
});

test("mistakes are told all at once, before anything is kept", async () => {
  const before = (await jobs.list({ limit: 1000 })).runs.length;
  await expect(jobs.submit({ connector: "nowhere/none", name: "Not A Name", parallelism: -1 })).rejects.toThrow(
    /name[\s\S]*parallelism/,
  );
  expect((await jobs.list({ limit: 1000 })).runs.length).toBe(before);
});

test("whoever has read what happened finds the run like that, also while the history is slow to answer", async () => {
  const slow = await room.start(await room.folder(), {
    wrap: (store) =>
      Object.assign(Object.create(store) as typeof store, {
        // Others see a change before its save has been answered.
        save: async (...of: Parameters<typeof store.save>) => {
          const saved = await store.save(...of);
          await new Promise((resolve) => setTimeout(resolve, 200));
          return saved;
        },
      }),
  });
  try {
    const { run } = await slow.jobs.submit(definition({ lines: 1, stay: 100 }));
    const states: [unknown, string][] = [];
    for (let last = 0, ended = false; !ended; await new Promise((resolve) => setTimeout(resolve, 5))) {
      const [event] = await slow.store.events(run.id, last, 1);
      if (event?.type === "state") states.push([event.data.state, (await slow.jobs.get(run.id)).state]);
      last = event?.number ?? last;
      ended = event?.type === "end";
    }
    expect(states.at(-1)).toEqual(["Succeeded", "Succeeded"]);
    const order = states.map(([told]) => told);
    for (const [told, found] of states) expect(order.indexOf(found)).toBeGreaterThanOrEqual(order.indexOf(told));
  } finally {
    await slow.stop();
  }
});
