// What readers get: the live log while it grows, from any offset; the complete log by pod, by container, by bytes, plain
// and compressed; what a sweep leaves.
import {
  existsSync,
  mkdirSync,
  readdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";
import { silentLog, sleep } from "@kube-connector/core";
import { expect, onTestFinished, test } from "vitest";
import { createFastClock, LogKubelet } from "../../../../test/kit/log-kubelet.ts";
import { createBell } from "./bell.ts";
import { followLive, readLive } from "./read-live.ts";
import { type LogQueryOptions, readIndex, readLog, searchLog } from "./read-log.ts";
import { startRunLog } from "./run-log.ts";
import { createSlots } from "./slots.ts";
import { sweepLogs } from "./sweep.ts";

const run = "01k9abc";
const day = 86_400_000;

async function roomWithLog() {
  const folder = mkdtempSync(join(tmpdir(), "jobs-read-"));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  const clock = createFastClock(50);
  const kubelet = new LogKubelet(clock);
  const bell = createBell(clock);
  const containers = [
    kubelet.pod("report-a").container("main"),
    kubelet.pod("report-a2").container("main"),
    kubelet.pod("report-b").container("side"),
  ];
  for (const one of containers) one.start();
  const log = await startRunLog({
    run,
    folder,
    namespace: "batch",
    job: "report",
    connector: "team-a/prod",
    open: kubelet.open,
    slots: createSlots(1000, clock),
    bell,
    clock,
    log: silentLog,
    random: Math.random,
    masks: [],
    onGap() {},
  });
  onTestFinished(() => log.stop());
  const see = () =>
    log.observe(
      [...kubelet.pods.values()].map((pod) => pod.object()),
      [],
    );
  see();
  const write = (lines: number) => {
    for (let line = 0; line < lines; line += 1)
      for (const [at, one] of containers.entries()) one.write(`${at} line ${line} ${"x".repeat(line % 400)}`);
  };
  const finish = async () => {
    for (const one of containers) one.end();
    see();
    return await log.finish({ state: "Succeeded", milliseconds: 600_000 });
  };
  return { folder, clock, bell, write, finish };
}

async function text(folder: string, query: LogQueryOptions = {}): Promise<string> {
  const blocks: Buffer[] = [];
  for await (const block of readLog(folder, run, query)) blocks.push(Buffer.from(block));
  return Buffer.concat(blocks).toString();
}

async function gather<T>(from: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const one of from) all.push(one);
  return all;
}

const linesWith = (all: string, part: string) =>
  all
    .split("\n")
    .filter((line) => line.includes(part))
    .map((line) => `${line}\n`)
    .join("");

test("who has read live.log to its end, and was cut off before anything else said so, is told that it has ended", async () => {
  const { folder, write, finish } = await roomWithLog();
  write(3);
  await finish();
  const size = statSync(join(folder, run, "live.log")).size;
  expect(await readLive(folder, run, size)).toEqual({ lines: [], next: size, ended: true });
});

test("views by pod, container and bytes are the same from the plain and the compressed log", async () => {
  const { folder, write, finish, clock } = await roomWithLog();
  write(6_000);
  const summary = await finish();
  const path = join(folder, run, "merged.log");
  const all = readFileSync(path, "utf8");
  expect(summary.bytes).toBe(all.length);
  const index = await readIndex(folder, run);
  expect(index?.blocks.length).toBeGreaterThan(3);

  const byPod = ["[report-a/", "[report-a2/", "[report-b/"].map((pod) => linesWith(all, pod)).join("");
  const check = async () => {
    expect(await text(folder)).toBe(all);
    expect(await text(folder, { pod: "report-a" })).toBe(linesWith(all, "[report-a/"));
    expect(await text(folder, { container: "side" })).toBe(linesWith(all, "/side#"));
    expect(await text(folder, { view: "pod" })).toBe(byPod);
    expect(await text(folder, { view: "pod", from: 1_000_001, to: 1_000_100 })).toBe(byPod.slice(1_000_001, 1_000_100));
    for (const [from, to] of [
      [0, 10],
      [5, 2_500_000],
      [2_500_000, 2_500_001],
      [all.length - 3, all.length + 10],
      [all.length, all.length + 1],
    ] as const)
      expect((await text(folder, { from, to })) === all.slice(from, to)).toBe(true);
    const found = await gather(searchLog(folder, run, "LINE 77 ", { limit: 2 }));
    expect(found.map(({ line }) => line.slice(30, 60))).toEqual([
      expect.stringContaining("/main#0] 0 line 77"),
      expect.stringContaining("/main#0] 1 line 77"),
    ]);
    for (const { line, offset } of found) expect(all.slice(offset, offset + line.length)).toBe(line);
  };
  await check();
  const swept = await sweepLogs(folder, clock.now(), () => 30);
  expect(swept).toEqual({ removed: [], zipped: 1 });
  expect(existsSync(path)).toBe(false);
  expect(existsSync(join(folder, run, "live.log"))).toBe(true);
  const zipped = join(folder, run, "merged.log.gz");
  expect(gunzipSync(readFileSync(zipped)).toString()).toBe(all);
  expect(statSync(zipped).size).toBeLessThan(all.length / 5);
  await check();
});

test("a reader that follows gets each line once, from the offset it says, until the end", async () => {
  const { folder, bell, clock, write, finish } = await roomWithLog();
  const signal = new AbortController().signal;
  const follow = async (offset: number, filter = {}) => {
    const pieces = await gather(followLive({ folder, run, offset, filter, clock, bell, signal }));
    return pieces.flatMap(({ lines }) => lines);
  };
  const whole = follow(0);
  const side = follow(0, { container: "side" });
  write(100);
  await sleep(clock, 5_000);
  const first = await readLive(folder, run, 0);
  expect(first.ended).toBe(false);
  const rest = follow(first.next);
  write(100);
  await finish();
  const live = readFileSync(join(folder, run, "live.log"), "utf8");
  expect(`${(await whole).join("\n")}\n`).toBe(live);
  expect(await rest).toEqual((await whole).slice(first.lines.length));
  expect(await side).toEqual((await whole).filter((line) => line.includes("/side#")));
  expect(live.length).toBe(readFileSync(join(folder, run, "merged.log"), "utf8").length);
  // An offset within a line goes on with the next one.
  expect((await readLive(folder, run, 3)).lines[0]).toBe((await whole)[1]);
  rmSync(join(folder, run, "live.log"));
  expect(await readLive(folder, run, first.next)).toEqual({ lines: [], next: first.next, ended: true });
});

test("the log can be read while it grows; without one there is a clear error", async () => {
  const { folder, write, clock } = await roomWithLog();
  write(10);
  await sleep(clock, 10_000);
  const all = readFileSync(join(folder, run, "live.log"), "utf8");
  expect(await text(folder)).toBe(all);
  expect(await text(folder, { view: "pod", container: "side" })).toBe(linesWith(all, "/side#"));
  await expect(gather(readLog(folder, "01other"))).rejects.toMatchObject({ code: "not_found" });
  await expect(gather(readLog(folder, "../01k9abc"))).rejects.toMatchObject({ code: "invalid_argument" });
});

test("several processes that sweep at once leave one whole log", async () => {
  const { folder, write, finish, clock } = await roomWithLog();
  write(20_000);
  await finish();
  const all = await text(folder);
  await Promise.all(Array.from({ length: 4 }, () => sweepLogs(folder, clock.now(), () => 30)));
  expect(await text(folder)).toBe(all);
  expect(gunzipSync(readFileSync(join(folder, run, "merged.log.gz"))).toString()).toBe(all);
  expect(readdirSync(join(folder, run)).sort()).toEqual(["live.log", "merged.json", "merged.log.gz"]);
});

test("a sweep keeps to each run's days, takes live.log after an hour and folders that nobody owns", async () => {
  const { folder, write, finish, clock } = await roomWithLog();
  write(1);
  await finish();
  const ended = clock.now();
  for (const [name, age] of [
    ["01orphan", 2 * 3_600_000],
    ["01newborn", 0],
    ["not-a-run", 10 * day],
  ] as const) {
    mkdirSync(join(folder, name));
    writeFileSync(join(folder, name, "x"), "x");
    const at = new Date(ended - age);
    utimesSync(join(folder, name), at, at);
  }
  const days = (name: string) => (name === run ? 9 : undefined);
  expect((await sweepLogs(folder, ended + 60_000, days)).removed).toEqual(["01orphan"]);
  expect(existsSync(join(folder, run, "live.log"))).toBe(true);
  await sweepLogs(folder, ended + 3_700_000, (name) => days(name) ?? 1);
  expect(existsSync(join(folder, run, "live.log"))).toBe(false);
  expect(await text(folder)).toContain("#end state=Succeeded");
  expect((await sweepLogs(folder, ended + 8.9 * day, (name) => days(name) ?? 1)).removed).toEqual([]);
  expect((await sweepLogs(folder, ended + 9.1 * day, (name) => days(name) ?? 1)).removed).toEqual([run]);
  expect(existsSync(join(folder, "not-a-run"))).toBe(true);
});
