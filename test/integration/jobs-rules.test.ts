// What a definition asks of its run beyond its Job: profiles, deadlines, outputs, secret values across restarts, what is kept and
// for how long, and what a sweep finds.
import { type Clock, systemClock } from "@kube-connector/core";
import type { Jobs, RunRecord } from "@kube-connector/jobs";
import { afterAll, beforeAll, describe, test } from "vitest";
import { definition, left, linesByPod, untilCleaned, untilEnd } from "../kit/jobs-checks.ts";
import { type JobsRoom, namespace, startJobsRoom } from "../kit/jobs-room.ts";

let room: JobsRoom;

beforeAll(async () => {
  room = await startJobsRoom();
});
afterAll(() => room?.stop());

async function until(jobs: Jobs, id: string, holds: (run: RunRecord) => boolean): Promise<RunRecord> {
  for (const end = performance.now() + 40_000; ; ) {
    const run = await jobs.get(id);
    if (holds(run)) return run;
    if (performance.now() > end) throw new Error(`run ${id} is still ${JSON.stringify({ ...run, definition: 0 })}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

async function ended(jobs: Jobs, id: string): Promise<RunRecord> {
  await untilEnd(jobs, id);
  return untilCleaned(jobs, id);
}

const postedAt = ({ attempts }: RunRecord) => attempts[0]?.postedAt ?? "";
const isRunning = ({ state }: RunRecord) => state === "Running";
const hours = (count: number): Clock => ({ ...systemClock, now: () => Date.now() + count * 3_600_000 });
const of = (id: string) => left(room, `connectors.cpaas.io/run-id=${id}`);

describe.concurrent("deadlines", () => {
  const ends = async (script: Parameters<typeof definition>[0], more: object) => {
    const started = await room.start(await room.folder());
    const { run } = await started.jobs.submit(definition(script, more));
    const done = await ended(started.jobs, run.id);
    const nothing = await of(run.id);
    await started.stop();
    return { done, nothing };
  };

  test("start", async ({ expect }) => {
    const script = { waiting: { reason: "ContainerCreating" } };
    const { done, nothing } = await ends(script, { deadlines: { start: 2 } });
    expect(done).toMatchObject({ state: "TimedOut", reason: "Start", status: "Failed" });
    expect(nothing).toEqual([]);
  });

  test("silence", async ({ expect }) => {
    const { done } = await ends({ lines: 4, every: 1000, stay: -1 }, { deadlines: { silence: 3 } });
    expect(done).toMatchObject({ state: "TimedOut", reason: "Silence", log: { lines: 4 } });
  });

  test("failFast, and another try where that is asked for", async ({ expect }) => {
    const script = { waiting: { reason: "ImagePullBackOff", message: "manifest unknown" } };
    const more = { failFast: { ImagePull: 1 }, retry: { maxAttempts: 2, initialDelay: 1, on: ["ImagePull"] } };
    const { done, nothing } = await ends(script, more);
    expect(done).toMatchObject({ state: "Failed", reason: "ImagePull", diagnosis: { category: "ImagePull" } });
    expect(done.attempts.map(({ outcome }) => outcome)).toEqual(["Failed", "Failed"]);
    expect(nothing).toEqual([]);
  });

  test("timeout is the Job's own", async ({ expect }) => {
    const { done } = await ends({ lines: 1, stay: -1 }, { timeout: 2 });
    expect(done).toMatchObject({ state: "TimedOut", reason: "DeadlineExceeded", diagnosis: { category: "Deadline" } });
  });
});

describe.concurrent("profiles", () => {
  const night = (concurrency: object) => ({ profiles: { night: { concurrency: { max: 1, ...concurrency } } } });

  test("Reject refuses what has no slot; a restart keeps the slot of what runs", async ({ expect }) => {
    const folder = await room.folder();
    const first = await room.start(folder, night({ onFull: "Reject" }));
    const value = definition({ lines: 1, stay: -1 }, { profile: "night" });
    const results = await Promise.allSettled([first.jobs.submit(value), first.jobs.submit(value)]);
    expect(results.map(({ status }) => status).toSorted()).toEqual(["fulfilled", "rejected"]);
    const [run] = (await first.jobs.list({ limit: 1 })).runs;
    const id = run?.id ?? "";
    await until(first.jobs, id, isRunning);
    await first.stop();
    const second = await room.start(folder, night({ onFull: "Reject" }));
    await expect(second.jobs.submit(value)).rejects.toThrow("runs 1 at a time, and all are taken");
    await second.jobs.cancel(id);
    await ended(second.jobs, id);
    const next = await second.jobs.submit(definition({}, { profile: "night" }));
    expect((await ended(second.jobs, next.run.id)).state).toBe("Succeeded");
    await second.stop();
  });

  test("the queue goes by priority, and a waiting run can be cancelled", async ({ expect }) => {
    const { jobs, ...started } = await room.start(await room.folder(), night({}));
    const submit = async (name: string, priority: number) =>
      (await jobs.submit(definition({ lines: 1, stay: 300 }, { name, priority, profile: "night" }))).run.id;
    const blocker = await submit("blocker", 0);
    const ids = [await submit("low", -1), await submit("high", 50), await submit("none", 0)];
    await until(jobs, ids[2] as string, ({ reason }) => reason === "Profile");
    await jobs.cancel(ids[0] as string);
    expect((await ended(jobs, ids[0] as string)).state).toBe("Cancelled");
    const done = await Promise.all([blocker, ...ids.slice(1)].map((id) => ended(jobs, id)));
    const posted = done.toSorted((a, b) => (postedAt(a) < postedAt(b) ? -1 : 1));
    expect(posted.map(({ name }) => name)).toEqual(["blocker", "high", "none"]);
    await started.stop();
  });
});

describe.concurrent("what a run gives", () => {
  test("outputs of the termination message and of the log, masked; what is missing is said", async ({ expect }) => {
    const { jobs, ...started } = await room.start(await room.folder());
    const script = {
      texts: ["working", '::output {"rows": "42"}', '::output {"word": "hunter2"}'],
      message: '{"token": "hunter2", "page": "a"}',
    };
    const more = { secretEnv: { PASSWORD: "hunter2" }, outputs: ["rows", "file"] };
    const { run } = await jobs.submit(definition(script, more));
    const done = await ended(jobs, run.id);
    expect(done.outputs).toEqual({ rows: "42", word: "***", token: "***", page: "a" });
    expect(done).toMatchObject({ state: "Succeeded", message: "outputs that were not given: file" });
    await started.stop();
  });

  test("failed indexes are run again alone, and of these those that fail again", async ({ expect }) => {
    const { jobs, ...started } = await room.start(await room.folder());
    const more = { completions: 4, parallelism: 4, completionMode: "Indexed", backoffLimitPerIndex: 0 };
    const { run } = await jobs.submit(definition({ lines: 1, exit: [0, 1, 0, 1] }, more));
    const first = await ended(jobs, run.id);
    expect(first).toMatchObject({ state: "Failed", diagnosis: { category: "FailedIndexes" } });
    expect(first.attempts[0]?.failedIndexes).toBe("1,3");
    const second = await ended(jobs, (await jobs.retry(run.id, { failedIndexes: true })).id);
    expect(second).toMatchObject({ retryOf: run.id, indexes: [1, 3], progress: { completions: 2 } });
    expect(JSON.stringify(second.attempts[0]?.manifest)).toContain('{"name":"JOB_INDEX_MAP","value":"1,3"}');
    expect(second.attempts[0]?.failedIndexes).toBe("1");
    const third = await jobs.retry(second.id, { failedIndexes: true });
    expect(third.indexes).toEqual([3]);
    expect((await ended(jobs, third.id)).state).toBe("Succeeded");
    await started.stop();
  });

  test("progress is told as pods end, and events are numbered without holes", async ({ expect }) => {
    const { jobs, ...started } = await room.start(await room.folder());
    const { run } = await jobs.submit(definition({ lines: 1, stay: 1000 }, { completions: 6, parallelism: 2 }));
    const events = await untilEnd(jobs, run.id);
    expect(events.map(({ number }) => number)).toEqual(events.map((_, at) => at + 1));
    const told = events.filter(({ type }) => type === "progress").map(({ data }) => data.succeeded as number);
    expect(told.length).toBeGreaterThan(0);
    expect(told).toEqual(told.toSorted((a, b) => a - b));
    expect(new Set(told).size).toBe(told.length);
    await started.stop();
  });
});

describe.concurrent("secret values", () => {
  test("after a restart they are read from the cluster, and hidden as before", async ({ expect }) => {
    const folder = await room.folder();
    const first = await room.start(folder);
    const more = { secretEnv: { PASSWORD: "line 4" } };
    const { run } = await first.jobs.submit(definition({ lines: 6, every: 700 }, more));
    await until(first.jobs, run.id, isRunning);
    await first.stop();
    const second = await room.start(folder);
    await ended(second.jobs, run.id);
    const lines = [...(await linesByPod(folder, run.id)).values()];
    expect(lines).toEqual([["line 0", "line 1", "line 2", "line 3", "***", "line 5"]]);
    await second.stop();
  });

  test("lost before the Job was made: the run says so, and is not started without them", async ({ expect }) => {
    const folder = await room.folder();
    const options = { profiles: { night: { concurrency: { max: 1 } } } };
    const first = await room.start(folder, options);
    const blocker = await first.jobs.submit(definition({ lines: 1, stay: -1 }, { profile: "night" }));
    const { run } = await first.jobs.submit(definition({}, { profile: "night", secretEnv: { PASSWORD: "x" } }));
    await until(first.jobs, blocker.run.id, isRunning);
    await first.stop();
    for (const name of await of(run.id)) {
      await room.plane.admin.request("DELETE", `/api/v1/namespaces/${namespace}/secrets/${name}`);
    }
    const second = await room.start(folder, options);
    await second.jobs.cancel(blocker.run.id);
    const done = await ended(second.jobs, run.id);
    expect(done).toMatchObject({ state: "Failed", reason: "Secret", attempts: [] });
    await ended(second.jobs, blocker.run.id);
    await second.stop();
  });
});

describe.concurrent("what stays", () => {
  test("OnSuccess keeps a failed run's Job until its time, also over a restart", async ({ expect }) => {
    const folder = await room.folder();
    const first = await room.start(folder);
    const more = { cleanup: "OnSuccess", keepFailedFor: 7200 };
    const [bad, good] = await Promise.all([
      first.jobs.submit(definition({ exit: 1 }, more)),
      first.jobs.submit(definition({}, more)),
    ]);
    expect((await ended(first.jobs, good.run.id)).cleanup.state).toBe("Done");
    const kept = await ended(first.jobs, bad.run.id);
    expect(kept.cleanup).toEqual({
      state: "Kept",
      until: new Date(Date.parse(kept.endedAt ?? "") + 7_200_000).toISOString(),
    });
    expect((await of(bad.run.id)).length).toBe(2);
    await first.stop();
    const early = await room.start(folder, { clock: hours(1) });
    await early.jobs.clean();
    expect((await of(bad.run.id)).length).toBe(2);
    await early.stop();
    const due = await room.start(folder, { clock: hours(3) });
    await until(due.jobs, bad.run.id, ({ cleanup }) => cleanup.state === "Done");
    expect(await of(bad.run.id)).toEqual([]);
    await due.stop();
  });

  test("Never keeps it for good", async ({ expect }) => {
    const { jobs, ...started } = await room.start(await room.folder());
    const { run } = await jobs.submit(definition({}, { cleanup: "Never" }));
    expect((await ended(jobs, run.id)).cleanup).toEqual({ state: "Kept" });
    expect((await of(run.id)).length).toBe(2);
    await started.stop();
  });

  test("a sweep deletes what no run needs, and what still runs only when it is told to", async ({ expect }) => {
    const folder = await room.folder();
    const { jobs, store, ...started } = await room.start(folder, { clock: hours(1) });
    const { run } = await jobs.submit(definition({ lines: 1 }));
    await ended(jobs, run.id);
    const labels = { "connectors.cpaas.io/engine": store.engine, "connectors.cpaas.io/run-id": "01k9unknown" };
    const template = {
      metadata: { labels },
      spec: { restartPolicy: "Never", containers: [{ name: "a", image: "b" }] },
    };
    template.spec.containers[0] = { name: "a", image: "b" };
    const make = (name: string, spec: object) =>
      room.plane.admin.request("POST", `/apis/batch/v1/namespaces/${namespace}/jobs`, {
        body: { metadata: { name, labels }, spec: { template, ...spec } },
      });
    const name = `sweep-${store.engine}`;
    await make(`${name}-idle`, { suspend: true });
    const annotations = { "stand-in/script": JSON.stringify({ lines: 1, stay: -1 }) };
    await make(`${name}-busy`, { template: { ...template, metadata: { labels, annotations } } });
    await room.plane.admin.request("POST", `/api/v1/namespaces/${namespace}/secrets`, {
      body: { metadata: { name: `${name}-secret`, labels } },
    });
    const busy = `/apis/batch/v1/namespaces/${namespace}/jobs/${name}-busy`;
    const active = async () =>
      (await room.plane.admin.request<{ status?: { active?: number } }>("GET", busy)).status?.active ?? 0;
    while ((await active()) === 0) await new Promise((resolve) => setTimeout(resolve, 50));
    const swept = await jobs.clean();
    const at = `team-a/prod`;
    expect(swept.deleted.toSorted()).toEqual([
      `${at} job ${namespace}/${name}-idle`,
      `${at} secret ${namespace}/${name}-secret`,
    ]);
    expect([swept.orphans, swept.problems]).toEqual([[`${at} job ${namespace}/${name}-busy`], []]);
    expect((await jobs.clean({ orphans: true })).deleted).toEqual([`${at} job ${namespace}/${name}-busy`]);
    await expect.poll(() => left(room, `connectors.cpaas.io/engine=${store.engine}`), { timeout: 20_000 }).toEqual([]);
    await started.stop();
  });

  test("a log goes after its days, and stays until then", async ({ expect }) => {
    const folder = await room.folder();
    const first = await room.start(folder);
    const [short, long] = await Promise.all(
      [1, 3].map((logRetentionDays) => first.jobs.submit(definition({ lines: 2 }, { logRetentionDays }))),
    );
    for (const one of [short, long]) await ended(first.jobs, one?.run.id ?? "");
    await first.stop();
    const later = await room.start(folder, { clock: hours(49) });
    const has = async (id = "") => {
      try {
        for await (const piece of later.jobs.readLog(id)) return piece.length > 0;
      } catch {
        return false;
      }
      return false;
    };
    await expect.poll(() => has(short?.run.id), { timeout: 20_000 }).toBe(false);
    expect(await has(long?.run.id)).toBe(true);
    await later.stop();
  });
});
