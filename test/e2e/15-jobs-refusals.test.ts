// What a real API server refuses for a while or for good, a right to watch, a quota, a rate: the run ends right all the same.
import { readFile } from "node:fs/promises";
import { type AddressInfo, createServer, type Socket } from "node:net";
import type { Jobs } from "@kube-connector/jobs";
import { afterAll, beforeAll, expect, onTestFinished, test } from "vitest";
import type { AuditEvent } from "../kit/audit-log.ts";
import { linesByPod, numbered } from "../kit/jobs-checks.ts";
import type { Started } from "../kit/jobs-room.ts";
import { target } from "./cluster.ts";
import { image, type JobsCluster, script, startJobsCluster, untilRun } from "./jobs-cluster.ts";
import { fullFor } from "./jobs-objects.ts";
import { eventually } from "./kubectl.ts";

const ns = "jobs-refusals";
const heldNs = "jobs-held";
const user = "system:serviceaccount:jobs-access:jobs";
let room: JobsCluster;
let folder: string;
let started: Started;
let jobs: Jobs;

beforeAll(async () => {
  room = await startJobsCluster(ns, heldNs);
  folder = await room.folder();
});
afterAll(() => room?.stop());

/** The module, on the history of this file. */
async function begin(): Promise<void> {
  started = await room.start(folder);
  jobs = started.jobs;
  onTestFinished(() => started.stop());
}

/** Requests of the module to the target since then, with their answers. */
async function asked(since: number): Promise<AuditEvent[]> {
  const text = await readFile(process.env.TARGET_AUDIT_LOG ?? "", "utf8");
  return text
    .split("\n")
    .filter((line) => line.includes(user))
    .map((line) => JSON.parse(line) as AuditEvent)
    .filter((event) => event.user.username === user && event.objectRef?.namespace === ns)
    .filter((event) => event.stage === "ResponseComplete" && Date.parse(event.requestReceivedTimestamp) >= since);
}

const ended = (id: string) => untilRun(jobs, id, ({ cleanup }) => cleanup.state === "Done");
const lines = (count: number) => `i=0; while [ $i -lt ${count} ]; do echo "line $i"; i=$((i+1)); usleep 50000; done`;

test("watch is forbidden: lists take its place, and the run ends right, with every line", async () => {
  await room.withhold("watch");
  onTestFinished(() => room.withhold());
  const since = Date.now();
  await begin();
  const { run } = await jobs.submit(script(lines(100), { completions: 2, parallelism: 2 }));
  expect(await ended(run.id)).toMatchObject({ state: "Succeeded", stale: false, log: { lines: 200, gaps: 0 } });
  expect([...(await linesByPod(folder, run.id)).values()]).toEqual([numbered(100), numbered(100)]);
  const left = ["-n", ns, "get", "jobs,pods", "-l", `connectors.cpaas.io/run-id=${run.id}`, "-o", "name"];
  expect(await room.kubectl(...left)).toBe("");
  const requests = await asked(since);
  const watches = requests.filter(({ verb }) => verb === "watch");
  expect(watches.length).toBeGreaterThan(0);
  expect(watches.filter(({ responseStatus }) => responseStatus?.code !== 403)).toEqual([]);
  expect(requests.filter(({ verb }) => verb === "list").length).toBeGreaterThan(2);
});

test("a quota of Jobs is used up: the run waits and says so, and starts once there is room", async () => {
  const quota = (jobsAtMost: string) => ({
    apiVersion: "v1",
    kind: "ResourceQuota",
    metadata: { name: "few", namespace: ns },
    spec: { hard: { "count/jobs.batch": jobsAtMost } },
  });
  await room.apply(quota("0"));
  onTestFinished(async () => void (await room.kubectl("-n", ns, "delete", "resourcequota", "few")));
  await begin();
  const { run } = await jobs.submit(script("echo done"));
  const waiting = await untilRun(jobs, run.id, ({ reason }) => reason === "Quota");
  expect(waiting).toMatchObject({ state: "Queued", status: "Starting", diagnosis: { category: "Quota" } });
  expect(waiting.message).toMatch(/exceeded quota: few/);
  await room.apply(quota("1"));
  const { state, diagnosis, attempts } = await ended(run.id);
  expect([state, diagnosis, attempts.length]).toEqual(["Succeeded", undefined, 1]);
});

/** A webhook that takes connections and never answers; `held` ends with the first, `release` lets go of all. */
async function startWebhook(): Promise<{ url: string; held: Promise<unknown>; release: () => void }> {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => sockets.add(socket.on("error", () => undefined)));
  const held = new Promise((resolve) => server.once("connection", resolve));
  await new Promise<void>((resolve) => server.listen(0, "0.0.0.0", resolve));
  const { hostname } = new URL(target("host").address);
  return {
    url: `https://${hostname}:${(server.address() as AddressInfo).port}/`,
    held,
    release() {
      server.close();
      for (const socket of sockets) socket.destroy();
    },
  };
}

test("429 of the API server's own fairness: the Job is sent again later, once, and the run succeeds", async () => {
  const webhook = await startWebhook();
  onTestFinished(webhook.release);
  const objects = fullFor(user, [ns, heldNs], webhook.url);
  await room.apply(...objects);
  onTestFinished(async () => {
    for (const { kind, metadata } of objects) await room.kubectl("delete", kind, metadata.name, "--ignore-not-found");
  });
  const flow = `flowschema/${objects[0]?.metadata.name}`;
  await room.kubectl("wait", "--for=condition=Dangling=False", flow, "--timeout=20s");
  // One request is at work all the time, which is as many as are taken.
  const holding = room.kubectl("-n", heldNs, "create", "job", "holder", `--image=${image}`, `--as=${user}`);
  await webhook.held;
  const since = Date.now();
  await begin();
  const codes = async () =>
    (await asked(since)).filter(({ verb }) => verb === "create").map(({ responseStatus }) => responseStatus?.code);
  const { run } = await jobs.submit(script("echo done"));
  await eventually(async () => expect((await codes()).length).toBeGreaterThan(1), 20_000);
  expect(new Set(await codes())).toEqual(new Set([429]));
  const waiting = await jobs.get(run.id);
  expect(waiting).toMatchObject({ state: "Submitting", status: "Starting", stale: false });
  expect(waiting.message).toMatch(/^The cluster takes no more requests at the moment/);
  webhook.release();
  await holding;
  expect(await ended(run.id)).toMatchObject({ state: "Succeeded", attempts: [{ number: 1 }] });
  expect((await codes()).filter((code) => code !== 429)).toEqual([201]);
});
