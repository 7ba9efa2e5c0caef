import { join } from "node:path";
import { type Jobs, readLog, type RunEvent, type RunRecord } from "@kube-connector/jobs";
import { type JobsRoom, connector, namespace } from "./jobs-room.ts";
import type { PodScript } from "./stand-in-kubelet.ts";

// What tests of the jobs module say and ask again and again.

/** A definition whose pods do what the script says. */
export const definition = (script: PodScript, more: object = {}) => ({
  connector,
  name: "report",
  image: "images.example/report:1",
  annotations: { "stand-in/script": JSON.stringify(script) },
  ...more,
});

/** `line 0`, `line 1` and so on. */
export const numbered = (count: number) => Array.from({ length: count }, (_, at) => `line ${at}`);

/** All that happened, once the run has ended and its log is complete. */
export async function untilEnd(jobs: Jobs, id: string, seconds = 60): Promise<RunEvent[]> {
  const events: RunEvent[] = [];
  for await (const event of jobs.follow(id, 0, AbortSignal.timeout(seconds * 1000))) events.push(event);
  if (events.at(-1)?.type === "end") return events;
  throw new Error(`run ${id} did not end within ${seconds} s: ${JSON.stringify(events.at(-1))}`);
}

/** The run once nothing is left to do for it. */
export async function untilCleaned(jobs: Jobs, id: string, seconds = 30): Promise<RunRecord> {
  for (const end = performance.now() + seconds * 1000; ; ) {
    const run = await jobs.get(id);
    if (run.cleanup.state !== "Pending") return run;
    if (performance.now() > end) throw new Error(`run ${id} was not cleaned up: ${JSON.stringify(run.cleanup)}`);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

/** Names of Jobs, pods and Secrets with that label. */
export async function left({ plane }: Pick<JobsRoom, "plane">, labelSelector: string): Promise<string[]> {
  const names: string[] = [];
  for (const path of [
    `/apis/batch/v1/namespaces/${namespace}/jobs`,
    `/api/v1/namespaces/${namespace}/pods`,
    `/api/v1/namespaces/${namespace}/secrets`,
  ]) {
    const { items } = await plane.admin.request<{ items: { metadata: { name: string } }[] }>("GET", path, {
      query: { labelSelector },
    });
    names.push(...items.map(({ metadata }) => metadata.name));
  }
  return names;
}

/** The program's lines of a complete log, by pod, each pod's in order. */
export async function linesByPod(folder: string, id: string): Promise<Map<string, string[]>> {
  const pods = new Map<string, string[]>();
  const pieces: Buffer[] = [];
  for await (const piece of readLog(join(folder, "logs"), id)) pieces.push(piece);
  for (const line of Buffer.concat(pieces).toString().split("\n")) {
    const [, pod, text] = /^\S+ \[([^/]+)\/[^\]]+\] (.*)$/.exec(line) ?? [];
    if (pod === undefined || text === undefined) continue;
    const lines = pods.get(pod) ?? [];
    pods.set(pod, lines);
    lines.push(text);
  }
  return pods;
}
