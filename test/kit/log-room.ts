// A room for tests of a run's log: its folder, a kubelet that writes, and what the files hold.
import { createHash } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { silentLog } from "@kube-connector/core";
import { expect, type TestContext } from "vitest";
import { createBell } from "../../packages/jobs/src/logs/bell.ts";
import { type LogLine, parseLine } from "../../packages/jobs/src/logs/line.ts";
import { type LogGap, type RunLog, type RunLogOptions, startRunLog } from "../../packages/jobs/src/logs/run-log.ts";
import { createSlots } from "../../packages/jobs/src/logs/slots.ts";
import { createFastClock, LogKubelet, type LogPod } from "./log-kubelet.ts";

export const run = "01k9abc";

export function logRoom({ onTestFinished }: TestContext, factor = 50) {
  const folder = mkdtempSync(join(tmpdir(), "jobs-logs-"));
  const clock = createFastClock(factor);
  const kubelet = new LogKubelet(clock);
  const gaps: LogGap[] = [];
  const started: RunLog[] = [];
  onTestFinished(async () => {
    await Promise.all(started.map((one) => one.stop()));
    rmSync(folder, { recursive: true, force: true });
  });
  const start = async (more: Partial<RunLogOptions> = {}) => {
    const log = await startRunLog({
      run,
      folder,
      namespace: "batch",
      job: "report",
      connector: "team-a/prod",
      open: kubelet.open,
      slots: createSlots(1000, clock),
      bell: createBell(clock),
      clock,
      log: silentLog,
      random: Math.random,
      masks: [],
      onGap: (gap) => gaps.push(gap),
      ...more,
    });
    if (more.files === undefined) started.push(log);
    return log;
  };
  const see = (log: RunLog) =>
    log.observe(
      [...kubelet.pods.values()].map((pod) => pod.object()),
      [],
    );
  const end = (log: RunLog, milliseconds = 600_000) => log.finish({ state: "Succeeded", milliseconds });
  const read = (name: string) => readLines(join(folder, run, name));
  /** Ends when the live log has so many lines of programs. */
  const shown = (lines: number) =>
    until(() => read("live.log").lines.filter(({ kind }) => kind === "text").length >= lines);
  return { folder, clock, kubelet, gaps, start, see, end, read, shown };
}

export interface File {
  raw: Buffer;
  lines: LogLine[];
  /** By instance, in the order of the file; pieces of a line are one. */
  byLabel: Map<string, string[]>;
}

export function readLines(path: string): File {
  const raw = readFileSync(path);
  const lines = raw.toString("latin1").split("\n").slice(0, -1).map(parseLine);
  const byLabel = new Map<string, string[]>();
  /** Instances whose last text goes on in their next line, and those of which the next line is announced as such. */
  const open = new Set<string>();
  const announced = new Set<string>();
  for (const { pod, container, restart, kind, text } of lines) {
    if (pod === undefined) continue;
    const label = `${pod}/${container}#${restart}`;
    const texts = byLabel.get(label) ?? [];
    byLabel.set(label, texts);
    if (kind === "mark" && text === "split") announced.add(label);
    else if (kind === "mark") texts.push(`!${text}`);
    else {
      if (open.delete(label)) texts.push(`${texts.pop()}${text}`);
      else texts.push(text);
      if (announced.delete(label)) open.add(label);
    }
  }
  return { raw, lines, byLabel };
}

/** What the kubelet wrote, as the file should have it. */
export function written(pods: Iterable<LogPod>): Map<string, string[]> {
  const all = new Map<string, string[]>();
  for (const pod of pods)
    for (const { name, lives } of pod.containers)
      for (const [restart, { lines }] of lives.entries())
        if (lines.length > 0)
          all.set(
            `${pod.name}/${name}#${restart}`,
            lines.map(({ bytes }) => bytes.toString("latin1").replace(/\n$/, "")),
          );
  return all;
}

/** Waits until that holds; the test's own time ends it. */
export async function until(holds: () => boolean): Promise<void> {
  while (!holds()) await new Promise((resolve) => setTimeout(resolve, 5));
}

export function caughtUp(live: File, pods: Iterable<LogPod>): boolean {
  const count = (map: Map<string, string[]>) => [...map.values()].reduce((sum, { length }) => sum + length, 0);
  return count(live.byLabel) === count(written(pods));
}

export const sorted = (map: Map<string, string[]>) => [...map].sort(([a], [b]) => (a < b ? -1 : 1));

/** Each line once, in its container's order; and all in the order of time. */
export function expectExact(file: File, pods: Iterable<LogPod>): void {
  const wanted = written(pods);
  expect([...file.byLabel.keys()].sort()).toEqual([...wanted.keys()].sort());
  for (const [label, lines] of wanted) {
    const got = file.byLabel.get(label) ?? [];
    expect([label, got.length, got.findIndex((line, at) => line !== lines[at])]).toEqual([label, lines.length, -1]);
  }
}

export function expectWellFormed({ raw, lines }: File): void {
  const stamps = lines.flatMap(({ stamp }) => stamp ?? []);
  expect(stamps.findIndex((stamp, at) => at > 0 && stamp < (stamps[at - 1] as string))).toBe(-1);
  expect(lines[0]?.text).toBe(`#kube-connector-log 1 run=${run} job=report connector=team-a/prod`);
  const end = lines.at(-1)?.text ?? "";
  const digest = createHash("sha256")
    .update(raw.subarray(0, raw.length - end.length - 1))
    .digest("hex");
  const count = lines.filter(({ kind }) => kind === "text").length;
  const gaps = lines.filter(({ kind, text }) => kind === "mark" && text.startsWith("gap ")).length;
  expect(end).toBe(`#end state=Succeeded lines=${count} gaps=${gaps} sha256=${digest}`);
}
