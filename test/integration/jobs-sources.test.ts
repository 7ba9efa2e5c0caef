// A run is cloned from a Job, from a CronJob, from what was kept of a source that is gone, or from its fallback; the source
// itself is never touched. What can be cloned is found in pages, with its variables as parameters.
import type { KubeObject } from "@kube-connector/core";
import type { Jobs, RunRecord } from "@kube-connector/jobs";
import { afterAll, beforeAll, expect, test } from "vitest";
import { untilEnd } from "../kit/jobs-checks.ts";
import { connector, type JobsRoom, namespace, type Started, startJobsRoom } from "../kit/jobs-room.ts";

let room: JobsRoom;
let started: Started;
let jobs: Jobs;

beforeAll(async () => {
  room = await startJobsRoom();
  started = await room.start(await room.folder());
  jobs = started.jobs;
});
afterAll(async () => {
  await started?.stop();
  await room?.stop();
});

const template = {
  metadata: { labels: { app: "tidy" } },
  spec: {
    restartPolicy: "Never",
    containers: [
      {
        name: "main",
        image: "images.example/tidy:1",
        command: ["tidy"],
        env: [
          { name: "REGION", value: "eu" },
          { name: "URL", valueFrom: { secretKeyRef: { name: "db", key: "url" } } },
        ],
      },
      { name: "worker", image: "images.example/worker:1", env: [{ name: "DEPTH", value: "1" }] },
    ],
  },
};
const jobsPath = `/apis/batch/v1/namespaces/${namespace}/jobs`;
const cronJobsPath = `/apis/batch/v1/namespaces/${namespace}/cronjobs`;
const admin = () => room.plane.admin;

const createJob = (name: string, more: object = {}) =>
  admin().request<KubeObject>("POST", jobsPath, {
    body: { metadata: { name }, spec: { suspend: true, template, ...more } },
  });
const createCronJob = (name: string) =>
  admin().request<KubeObject>("POST", cronJobsPath, {
    body: { metadata: { name }, spec: { schedule: "0 3 * * *", jobTemplate: { spec: { backoffLimit: 2, template } } } },
  });

interface Sent {
  metadata: { annotations: Record<string, string>; ownerReferences?: unknown };
  spec: {
    suspend?: boolean;
    backoffLimit?: number;
    template: { spec: { containers: { name: string; env?: object[] }[] } };
  };
}

/** The run, ended, and what was sent for it. */
async function ran(definition: object): Promise<{ run: RunRecord; sent: Sent }> {
  const { run } = await jobs.submit({ connector, ...definition });
  await untilEnd(jobs, run.id);
  const ended = await jobs.get(run.id);
  return { run: ended, sent: ended.attempts[0]?.manifest as unknown as Sent };
}

const envOf = (sent: Sent, container: string) =>
  sent.spec.template.spec.containers.find(({ name }) => name === container)?.env;

test("a Job is cloned with new and replaced variables of its first container, and runs although the source is suspended", async () => {
  const source = await createJob("plain");
  const { run, sent } = await ran({
    source: { name: "plain" },
    overlay: { env: { REGION: "us", URL: "postgres://x", EXTRA: "1" } },
  });
  expect(run).toMatchObject({
    state: "Succeeded",
    source: { kind: "Job", name: "plain", used: "Live", uid: source.metadata.uid },
  });
  expect(envOf(sent, "main")).toEqual([
    { name: "REGION", value: "us" },
    { name: "URL", value: "postgres://x" },
    { name: "EXTRA", value: "1" },
  ]);
  expect(sent.spec.suspend).toBeUndefined();
});

test("a CronJob is cloned with the variables of a named container; its schedule and history stay as they are", async () => {
  const source = await createCronJob("nightly");
  const { run, sent } = await ran({
    source: { kind: "CronJob", name: "nightly" },
    overlay: { container: "worker", env: { DEPTH: { configMapKeyRef: { name: "deep", key: "depth" } } } },
  });
  expect(run).toMatchObject({ state: "Succeeded", source: { kind: "CronJob", used: "Live" } });
  expect(envOf(sent, "worker")).toEqual([
    { name: "DEPTH", valueFrom: { configMapKeyRef: { name: "deep", key: "depth" } } },
  ]);
  expect(sent.metadata.ownerReferences).toBeUndefined();
  expect(sent.spec.backoffLimit).toBe(2);
  const after = await admin().request<KubeObject>("GET", `${cronJobsPath}/nightly`);
  expect([after.spec, after.status]).toEqual([source.spec, source.status]);
});

test("a source that was deleted is cloned from what was kept of it; one that nobody has seen from its fallback, or not at all", async () => {
  await createJob("seen");
  await jobs.discover({ connector, namespace, kind: "Job" });
  await admin().request("DELETE", `${jobsPath}/seen`, { query: { propagationPolicy: "Background" } });
  const fallback = { image: "images.example/other:1" };
  const kept = await ran({ source: { name: "seen" }, fallback });
  expect(kept.run).toMatchObject({ state: "Succeeded", source: { used: "Snapshot" } });
  expect(envOf(kept.sent, "main")?.length).toBe(2);
  const other = await ran({ source: { name: "never" }, fallback });
  expect(other.run).toMatchObject({ state: "Succeeded", source: { used: "Fallback" } });
  const none = await ran({ source: { name: "never" } });
  expect(none.run).toMatchObject({ state: "Failed", reason: "Source" });
  expect(none.run.message).toContain(`Job ${namespace}/never is not in the cluster of ${connector}`);
});

test("a dry run shows what would be sent and what it changes of the source; the server judges it too; nothing is kept", async () => {
  await createJob("dry");
  const definition = { connector, source: { name: "dry" }, overlay: { env: { REGION: "us" } } };
  const before = (await jobs.list({ limit: 1000 })).runs.length;
  const client = await jobs.dryRun(definition, "client");
  expect(client.differences).toContainEqual(
    expect.objectContaining({ path: expect.stringContaining("/env/0/value"), before: "eu", after: "us" }),
  );
  await jobs.dryRun(definition, "server");
  await expect(
    jobs.dryRun({ ...definition, patch: { spec: { template: { spec: { restartPolicy: "Always" } } } } }, "server"),
  ).rejects.toThrow("restartPolicy");
  expect((await jobs.list({ limit: 1000 })).runs.length).toBe(before);
});

test("a thousand Jobs are found in pages of a hundred, without our runs, with their variables and defaults", async () => {
  await ran({ source: { name: "plain" } });
  for (let at = 0; at < 1000; at += 20) {
    await Promise.all(Array.from({ length: 20 }, (_, more) => createJob(`many-${String(at + more).padStart(4, "0")}`)));
  }
  const names = new Set<string>();
  let pages = 0;
  let cursor: string | undefined;
  do {
    const page = await jobs.discover({
      connector,
      namespace,
      kind: "Job",
      ...(cursor === undefined ? {} : { cursor }),
    });
    expect(page.items.length).toBeLessThanOrEqual(100);
    pages += 1;
    for (const item of page.items) {
      names.add(item.name);
      expect(item.parameters).toEqual([
        { name: "REGION", type: "String", default: "eu", container: "main" },
        { name: "URL", type: "String", default: null, container: "main", from: "Secret db/url" },
      ]);
    }
    cursor = page.next;
  } while (cursor !== undefined);
  expect([...names].filter((name) => name.startsWith("many-")).length).toBe(1000);
  expect([...names].every((name) => /^(many-\d{4}|plain|dry)$/.test(name))).toBe(true);
  expect(pages).toBeGreaterThanOrEqual(10);
  const crons = await jobs.discover({ connector, namespace, kind: "CronJob", allContainers: true });
  expect(crons.items[0]).toMatchObject({ name: "nightly", schedule: "0 3 * * *" });
  expect(crons.items[0]?.parameters.map(({ name, container }) => `${container}/${name}`)).toEqual([
    "main/REGION",
    "main/URL",
    "worker/DEPTH",
  ]);
});
