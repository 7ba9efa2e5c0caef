// Cancelling, and a cluster that goes away, on a real cluster: the run ends right, and its log is whole.
import { isTerminal, type Jobs, type RunRecord } from "@kube-connector/jobs";
import { afterAll, beforeAll, expect, test } from "vitest";
import { linesByPod, numbered, untilEnd } from "../kit/jobs-checks.ts";
import type { Started } from "../kit/jobs-room.ts";
import { control } from "./cluster.ts";
import { type JobsCluster, script, startJobsCluster, untilRun } from "./jobs-cluster.ts";
import { eventually } from "./kubectl.ts";

const ns = "jobs-cancel";
let room: JobsCluster;
let folder: string;
let started: Started;
let jobs: Jobs;

beforeAll(async () => {
  room = await startJobsCluster(ns);
  folder = await room.folder();
  started = await room.start(folder);
  jobs = started.jobs;
});
afterAll(async () => {
  await control("start", "target-apiserver");
  await started?.stop();
  await room?.stop();
});

const left = (id: string, kinds = "jobs,pods") =>
  room.kubectl("-n", ns, "get", kinds, "-l", `connectors.cpaas.io/run-id=${id}`, "-o", "name");
const isComplete = ({ state, log }: RunRecord) => isTerminal(state) && log?.sha256 !== undefined;
const numbers = (count: number, every = 100) =>
  `i=0; while [ $i -lt ${count} ]; do echo "line $i"; i=$((i+1)); usleep ${every * 1000}; done`;

test.concurrent("cancelled: Cancelling until its pods are gone, though the Job is gone before; its last words are in the log", async () => {
  const slow = { spec: { template: { spec: { terminationGracePeriodSeconds: 30 } } } };
  const text = "trap 'echo stopping; sleep 4; echo stopped; exit 0' TERM; echo begun; sleep 600 & wait";
  const { run } = await jobs.submit(script(text, { patch: slow }));
  await untilRun(jobs, run.id, ({ state }) => state === "Running");
  await jobs.cancel(run.id);
  const seen = await untilRun(jobs, run.id, ({ state, reason }) => state === "Cancelling" && reason !== "");
  expect(seen).toMatchObject({ status: "Running", reason: "PodsTerminating" });
  expect(await left(run.id)).toMatch(/^pod\/\S+\n$/);
  const ended = await untilRun(jobs, run.id, ({ state }) => isTerminal(state));
  expect(await left(run.id)).toBe("");
  expect(ended).toMatchObject({ state: "Cancelled", status: "Cancelled" });
  await untilRun(jobs, run.id, isComplete);
  expect([...(await linesByPod(folder, run.id)).values()]).toEqual([["begun", "stopping", "stopped"]]);
});

test.concurrent("cancelled in the foreground: the Job stays until its pods are gone", async () => {
  const { run } = await jobs.submit(script("trap 'sleep 3; exit 0' TERM; sleep 600 & wait", { patch: grace(20) }));
  await untilRun(jobs, run.id, ({ state }) => state === "Running");
  await jobs.cancel(run.id, { propagation: "Foreground" });
  await untilRun(jobs, run.id, ({ state }) => state === "Cancelling");
  expect(await left(run.id)).toMatch(/pod\/.*job\.batch\/|job\.batch\/.*pod\//s);
  await untilRun(jobs, run.id, ({ state }) => state === "Cancelled");
  expect(await left(run.id)).toBe("");
});

const grace = (terminationGracePeriodSeconds: number) => ({
  spec: { template: { spec: { terminationGracePeriodSeconds } } },
});

test.concurrent("what finished first stays finished", async () => {
  const { run } = await jobs.submit(script("true"));
  await untilRun(jobs, run.id, ({ state }) => state === "Succeeded");
  await expect(jobs.cancel(run.id)).rejects.toThrow("has ended already: Succeeded");
  // In the same moment: whichever the cluster has decided counts, and Job and pod are gone.
  const racing = await Promise.all(
    [0, 200, 400, 600, 800].map(async (wait) => {
      const one = (await jobs.submit(script("sleep 1; echo done"))).run;
      await untilRun(jobs, one.id, ({ state }) => state === "Running");
      await new Promise((resolve) => setTimeout(resolve, wait));
      await jobs.cancel(one.id).catch(() => undefined);
      return untilRun(jobs, one.id, ({ cleanup }) => cleanup.state === "Done");
    }),
  );
  for (const one of racing) {
    const isDone = one.attempts[0]?.decided?.state === "Succeeded" || one.state === "Succeeded";
    expect([one.state, one.status]).toEqual(isDone ? ["Succeeded", "Success"] : ["Cancelled", "Cancelled"]);
    expect(await left(one.id)).toBe("");
  }
});

test.concurrent("the token is changed, and the old one revoked, while a log is followed: no line is lost, and new runs start", async () => {
  const { run } = await jobs.submit(script(numbers(120)));
  await untilRun(jobs, run.id, ({ state }) => state === "Running");
  await new Promise((resolve) => setTimeout(resolve, 1500));
  await room.rotate();
  await new Promise((resolve) => setTimeout(resolve, 1500));
  // Streams that were open live on with the old one; these have to be opened with the new one.
  room.cut();
  const next = await jobs.submit(script("echo next"));
  expect(await untilRun(jobs, next.run.id, isComplete)).toMatchObject({ state: "Succeeded" });
  expect(await untilRun(jobs, run.id, isComplete)).toMatchObject({ state: "Succeeded", log: { lines: 120, gaps: 0 } });
  expect([...(await linesByPod(folder, run.id)).values()]).toEqual([numbered(120)]);
});

test("the API server is away for 60 s: a run that goes on, one that ends meanwhile and one that is submitted meanwhile end right", async () => {
  const long = (await jobs.submit(script(numbers(450)))).run.id;
  const short = (await jobs.submit(script(`${numbers(150)}; exit 3`))).run.id;
  for (const id of [long, short]) await untilRun(jobs, id, ({ state }) => state === "Running");
  await control("stop", "target-apiserver");
  const since = performance.now();
  const meanwhile = (await jobs.submit(script("echo hello"))).run.id;
  await untilRun(jobs, long, ({ stale }) => stale);
  for (const [id, states] of [
    [long, ["Running"]],
    [short, ["Running"]],
    [meanwhile, ["Queued", "Submitting"]],
  ] as const) {
    const run = await untilRun(jobs, id, ({ stale }) => stale);
    expect(states).toContain(run.state);
    expect(run.message).toBeTruthy();
  }
  await new Promise((resolve) => setTimeout(resolve, 60_000 - (performance.now() - since)));
  await control("start", "target-apiserver");
  // Left alone, these may take minutes to ask the API server again.
  for (const other of ["target-controllers", "target-kubelet"]) await control("restart", other);
  const [one, two, three] = await Promise.all(
    [long, short, meanwhile].map((id) => untilRun(jobs, id, isComplete, 150)),
  );
  expect(one).toMatchObject({ state: "Succeeded", stale: false, log: { lines: 450, gaps: 0 } });
  expect(two).toMatchObject({ state: "Failed", stale: false, log: { lines: 150, gaps: 0 } });
  expect(two?.attempts[0]?.exits).toMatchObject([{ exitCode: 3 }]);
  expect(three).toMatchObject({ state: "Succeeded", log: { lines: 1, gaps: 0 } });
  expect([...(await linesByPod(folder, long)).values()]).toEqual([numbered(450)]);
  expect([...(await linesByPod(folder, short)).values()]).toEqual([numbered(150)]);
  for (const id of [long, short, meanwhile]) {
    await untilRun(jobs, id, ({ cleanup }) => cleanup.state === "Done");
    await eventually(async () => expect(await left(id)).toBe(""));
  }
  const events = await untilEnd(jobs, long);
  const states = events.filter(({ type }) => type === "state").map(({ data }) => data.state);
  // It never looked as if it had not begun, or was gone.
  const wrong = states
    .slice(states.indexOf("Running"))
    .filter((state) => !/^(Running|Succeeding|Succeeded)$/.test(String(state)));
  expect(wrong).toEqual([]);
}, 300_000);
