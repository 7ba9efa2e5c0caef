// Each field of a run definition, at its effect in the pod, read back from the cluster and from what the program says.
import { chmod, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { systemClock } from "@kube-connector/core";
import { definitionJsonSchema, isTerminal, type Jobs, type RunRecord } from "@kube-connector/jobs";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { Job, Pod } from "../../packages/jobs/src/kube.ts";
import { linesByPod, untilEnd } from "../kit/jobs-checks.ts";
import type { Started } from "../kit/jobs-room.ts";
import { connector, image, type JobsCluster, script, startJobsCluster, untilRun } from "./jobs-cluster.ts";
import { fieldCases, type Played } from "./jobs-fields.ts";
import { givenObjects, sourceJob } from "./jobs-objects.ts";
import { eventually } from "./kubectl.ts";

const ns = "jobs-fields";
let room: JobsCluster;
let started: Started;
let jobs: Jobs;
let folder: string;
let data: string;
const played = new Map<string, Promise<Played>>();
/** Every definition of this file. */
const definitions: object[] = [];

beforeAll(async () => {
  room = await startJobsCluster(ns, "jobs-other");
  data = await room.folder();
  await chmod(data, 0o777);
  await writeFile(join(data, "given"), "from the test\n");
  await room.apply(...givenObjects(ns, data));
  folder = await room.folder();
  started = await room.start(folder, { profiles: { one: { concurrency: { max: 1 } } } });
  jobs = started.jobs;
  for (const [name, { fields }] of Object.entries(fieldCases)) {
    const playing = play(name, fields);
    playing.catch(() => undefined);
    played.set(name, playing);
  }
});
afterAll(async () => {
  await started?.stop();
  await room?.kubectl("delete", "pv", "jobs-data", "--ignore-not-found", "--wait=false");
  await room?.stop();
});

async function submit(definition: object, to = jobs): Promise<{ id: string; created: boolean }> {
  definitions.push(definition);
  const { run, created } = await to.submit(definition);
  return { id: run.id, created };
}

const isComplete = ({ state, log }: RunRecord) => isTerminal(state) && log?.sha256 !== undefined;

/** Kept in the cluster, so that it can be read back. */
async function play(name: string, fields: object): Promise<Played> {
  const base = name
    .toLowerCase()
    .replaceAll(/[^a-z0-9]+/g, "-")
    .slice(0, 30)
    .replace(/-$/, "");
  const { id } = await submit({ name: base, cleanup: "Never", ...fields });
  const run = await untilRun(jobs, id, isComplete, 150);
  const label = `connectors.cpaas.io/run-id=${id}`;
  const read = async <T>(kind: string) => {
    const text = await room.kubectl("-n", run.namespace, "get", kind, "-l", label, "-o", "json");
    return (JSON.parse(text) as { items: T[] }).items;
  };
  return {
    run,
    said: [...(await linesByPod(folder, id)).values()],
    told: (await untilEnd(jobs, id)).map(({ message }) => message),
    job: (await read<Job>("jobs"))[0],
    pods: await read<Pod>("pods"),
  };
}

test.concurrent.each(Object.entries(fieldCases))("%s", async (name, row) => {
  const { run = { state: "Succeeded" }, said, job, pod: one, and } = row;
  const all = await played.get(name);
  if (all === undefined) throw new Error(`${name} was not played`);
  expect(all).toMatchObject({
    run,
    ...(said === undefined ? {} : { said }),
    ...(job === undefined ? {} : { job }),
    ...(one === undefined ? {} : { pods: [one] }),
  });
  and?.(all);
});

test.concurrent("what a mount was given is in the volume, and nothing else", async () => {
  await played.get("mounts");
  expect(await readFile(join(data, "made"), "utf8")).toBe("made\n");
  expect(await readFile(join(data, "given"), "utf8")).toBe("from the test\n");
});

test.concurrent("source.onMissing: what was kept of it, the fallback alone, or a failure", async () => {
  await room.apply(sourceJob(ns, "passing"));
  const run = async (more: object) => untilRun(jobs, (await submit({ connector, ...more })).id, isComplete);
  expect((await run({ source: { name: "passing" } })).source).toMatchObject({ used: "Live" });
  await room.kubectl("-n", ns, "delete", "job", "passing");
  const fallback = { image, command: ["echo", "instead"] };
  const [kept, other, none] = await Promise.all([
    run({ source: { name: "passing" }, fallback }),
    run({ source: { name: "passing", onMissing: "Fallback" }, fallback }),
    run({ source: { name: "passing", onMissing: "Fail" } }),
  ]);
  const said = async ({ id }: RunRecord) => [...(await linesByPod(folder, id)).values()].flat();
  expect([kept.state, kept.source?.used, await said(kept)]).toEqual([
    "Succeeded",
    "Snapshot",
    [expect.stringContaining("KEPT=yes")],
  ]);
  expect([other.state, other.source?.used, await said(other)]).toEqual(["Succeeded", "Fallback", ["instead"]]);
  expect(none).toMatchObject({
    state: "Failed",
    reason: "Source",
    message: expect.stringContaining(`Job ${ns}/passing`),
  });
});

test.concurrent("cleanup Always: nothing is left; OnSuccess: a failed Job stays as long as keepFailedFor; ttl brings its end", async () => {
  const there = async ({ attempts, namespace }: RunRecord) =>
    (await room.kubectl("-n", namespace, "get", "job", attempts[0]?.job ?? "", "--ignore-not-found", "-o", "name")) !==
    "";
  const ends = async (fields: object, isThere: boolean) => {
    const { id } = await submit(fields);
    const run = await untilRun(jobs, id, ({ cleanup }) => cleanup.state !== "Pending");
    expect([run.cleanup.state, await there(run)]).toEqual(isThere ? ["Kept", true] : ["Done", false]);
    return run;
  };
  const [, kept, bounded] = await Promise.all([
    ends(script("true"), false),
    ends(script("exit 1", { cleanup: "OnSuccess", keepFailedFor: 20, deadlines: { collect: 2 } }), true),
    ends(script("true", { cleanup: "Never", ttl: 8, deadlines: { collect: 1 } }), true),
  ]);
  expect(kept.attempts[0]?.manifest).toMatchObject({ spec: { ttlSecondsAfterFinished: 20 } });
  for (const run of [bounded, kept]) {
    await eventually(async () => expect(await there(run)).toBe(false), 40_000);
  }
});

test.concurrent("profile and priority: one at a time, the most urgent first; deadlines.queue ends the waiting", async () => {
  const begin = async (more: object) => (await submit(script("sleep 2", { profile: "one", ...more }))).id;
  const first = await begin({});
  const late = await begin({ priority: -5, deadlines: { queue: 1 } });
  const low = await begin({ priority: 1 });
  const high = await begin({ priority: 50 });
  const [, missed, second, third] = await Promise.all(
    [first, late, high, low].map((id) => untilRun(jobs, id, ({ state }) => isTerminal(state))),
  );
  expect(missed).toMatchObject({ state: "TimedOut", reason: "Queue" });
  expect((second?.startedAt ?? "") < (third?.startedAt ?? "")).toBe(true);
  expect((second?.endedAt ?? "") <= (third?.startedAt ?? "")).toBe(true);
});

test.concurrent("deadlines.collect: a log that cannot be read to its end is closed then, with a mark", async () => {
  // Its Job is taken away alone: the run has ended, and its pod writes on.
  const { id } = await submit(script("echo begun; sleep 600", { deadlines: { collect: 3 } }));
  const { attempts } = await untilRun(jobs, id, ({ state }) => state === "Running");
  await eventually(async () => {
    for await (const piece of jobs.readLog(id)) if (piece.includes("begun")) return;
    throw new Error("no line yet");
  });
  await room.kubectl("-n", ns, "delete", "job", attempts[0]?.job ?? "", "--cascade=orphan");
  const run = await untilRun(jobs, id, isComplete);
  expect(run).toMatchObject({ state: "Lost", reason: "Deleted", log: { lines: 1, gaps: 1 } });
  const pieces: Buffer[] = [];
  for await (const piece of jobs.readLog(id)) pieces.push(piece);
  expect(Buffer.concat(pieces).toString()).toMatch(/\] begun\n\S+ \[.*\/main#0\]!gap Unreadable\n#end/);
});

test.concurrent("logRetentionDays: the log goes once as many days are over, and stays until then", async () => {
  const own = await room.folder();
  const first = await room.start(own);
  const ids = await Promise.all(
    [1, 3].map(async (logRetentionDays) => (await submit(script("echo kept", { logRetentionDays }), first.jobs)).id),
  );
  for (const id of ids) await untilRun(first.jobs, id, ({ cleanup }) => cleanup.state === "Done");
  await first.stop();
  const twoDays = 2 * 86_400_000 + 3_600_000;
  const later = await room.start(own, { clock: { ...systemClock, now: () => Date.now() + twoDays } });
  const said = async (id = "") => (await linesByPod(own, id).catch(() => new Map<string, string[]>())).size;
  await eventually(async () => expect(await said(ids[0])).toBe(0), 20_000);
  expect(await said(ids[1])).toBe(1);
  await later.stop();
});

test.concurrent("runKey: the same run", async () => {
  const one = await submit(script("true", { runKey: "2026-03-01" }));
  const two = await submit(script("true", { runKey: "2026-03-01" }));
  expect([two.id, one.created, two.created]).toEqual([one.id, true, false]);
});

interface Schema {
  properties?: Record<string, Schema>;
  items?: Schema;
  additionalProperties?: Schema | boolean;
  anyOf?: Schema[];
}

/** The fields below that one, which has those values in the definitions here, that none of them gives. */
function notGiven(schema: Schema, values: readonly unknown[], path = ""): string[] {
  const given = values.filter((value) => value !== undefined);
  if (given.length === 0) return [path];
  const objects = given.filter((value) => typeof value === "object" && value !== null) as Record<string, unknown>[];
  const { properties = {}, items, additionalProperties, anyOf = [] } = schema;
  return [
    ...Object.entries(properties).flatMap(([name, one]) =>
      notGiven(
        one,
        objects.map((value) => value[name]),
        `${path}/${name}`,
      ),
    ),
    ...(items === undefined ? [] : notGiven(items, given.filter(Array.isArray).flat(), `${path}/*`)),
    // What is named freely is looked into once: variables of an overlay are as those of an image.
    ...(typeof additionalProperties === "object" && path.lastIndexOf("/") === 0
      ? notGiven(additionalProperties, objects.flatMap(Object.values), `${path}/*`)
      : []),
    ...anyOf.flatMap((one) => notGiven(one, given, path)),
  ];
}

test("no field of a definition is without a test here", ({ task }) => {
  const schema = definitionJsonSchema() as Schema;
  expect(notGiven(schema, definitions)).toEqual([]);
  // script() gives some in every definition, so each field is named as well by the test that shows what it does.
  const names = new Set(task.file.tasks.flatMap(({ name }) => name.split(/[^A-Za-z]+/)));
  expect(Object.keys(schema.properties ?? {}).filter((field) => !names.has(field))).toEqual([]);
});
