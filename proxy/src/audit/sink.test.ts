import { execFileSync } from "node:child_process";
import {
  closeSync,
  constants,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  readSync,
  renameSync,
  rmSync,
  statSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { silentLog, systemClock } from "@kube-connector/core";
import { expect, onTestFinished, test } from "vitest";
import { Line } from "./line.ts";
import { type AuditBounds, startAuditSink } from "./sink.ts";

// Lines reach their file whole and in order. While they cannot be written, or wait in too great a number, the sink says so;
// beyond its bound it loses lines and counts them; when it can, it writes what waited. It never blocks its process.

function folder(): string {
  const directory = mkdtempSync(join(tmpdir(), "audit-"));
  onTestFinished(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

async function start(to: { file: string } | { descriptor: number }, bounds: Partial<AuditBounds> = {}) {
  const counts = { written: 0, lost: 0 };
  const metrics = { audited: (result: "written" | "lost", count: number) => void (counts[result] += count) };
  const fast = { collect: 1, again: 20, end: 100, ...bounds };
  const sink = await startAuditSink({ to, clock: systemClock, log: silentLog, metrics, bounds: fast });
  onTestFinished(() => sink.stop());
  return { sink, counts };
}

/** A pipe that takes as much as it holds and no more, until it is read. */
function pipe() {
  const path = join(folder(), "pipe");
  execFileSync("mkfifo", [path]);
  const descriptor = openSync(path, constants.O_RDWR | constants.O_NONBLOCK);
  onTestFinished(() => closeSync(descriptor));
  const bytes = Buffer.alloc(1_048_576);
  const read = (): string => {
    try {
      return bytes.toString("utf8", 0, readSync(descriptor, bytes));
    } catch {
      return "";
    }
  };
  return { descriptor, read };
}

function lineOf(text: string): Line {
  const line = new Line();
  line.add(text);
  return line;
}

const numbers = (text: string) =>
  text
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => Number(line.split(" ")[0]));
const upTo = (count: number) => Array.from({ length: count }, (_, index) => index);

test("lines reach the file whole and in order, and the end waits for the last one", async () => {
  const file = join(folder(), "audit.log");
  const { sink, counts } = await start({ file });
  for (const i of upTo(5000)) sink.write(lineOf(`${i} x\n`));
  await sink.stop();
  await sink.done;
  expect(numbers(readFileSync(file, "utf8"))).toEqual(upTo(5000));
  expect(counts).toEqual({ written: 5000, lost: 0 });
  expect(statSync(file).mode & 0o777).toBe(0o600);
});

test("what was in the file stays there", async () => {
  const file = join(folder(), "audit.log");
  for (const text of ["0\n", "1\n"]) {
    const { sink } = await start({ file });
    sink.write(lineOf(text));
    await sink.stop();
  }
  expect(numbers(readFileSync(file, "utf8"))).toEqual([0, 1]);
});

test("a file that was moved away is made anew", async () => {
  const directory = folder();
  const file = join(directory, "audit.log");
  const { sink, counts } = await start({ file });
  sink.write(lineOf("0\n"));
  await expect.poll(() => counts.written).toBe(1);
  renameSync(file, join(directory, "old.log"));
  await new Promise((resolve) => setTimeout(resolve, 30));
  sink.write(lineOf("1\n"));
  await expect.poll(() => counts.written).toBe(2);
  expect(numbers(readFileSync(file, "utf8"))).toEqual([1]);
  expect(numbers(readFileSync(join(directory, "old.log"), "utf8"))).toEqual([0]);
});

test("a file that cannot be opened is a Fault at the start", async () => {
  await expect(start({ file: "/nowhere/audit.log" })).rejects.toThrow(
    /^Cannot open the audit log \/nowhere\/audit.log/,
  );
});

test("while the file cannot be written it is down, and later writes what waited, in order", async () => {
  const directory = folder();
  const file = join(directory, "logs", "audit.log");
  mkdirSync(join(directory, "logs"));
  const { sink, counts } = await start({ file });
  sink.write(lineOf("0\n"));
  await expect.poll(() => counts.written).toBe(1);
  rmSync(join(directory, "logs"), { recursive: true });
  await new Promise((resolve) => setTimeout(resolve, 30));
  sink.write(lineOf("1\n"));
  await expect.poll(() => sink.whyDown()).toBe("The audit log cannot be written");
  sink.write(lineOf("2\n"));
  mkdirSync(join(directory, "logs"));
  await expect.poll(() => sink.whyDown()).toBeUndefined();
  await expect.poll(() => counts.written).toBe(3);
  expect(numbers(readFileSync(file, "utf8"))).toEqual([1, 2]);
  expect(counts.lost).toBe(0);
});

test("a disk that is full makes it down", async () => {
  const descriptor = openSync("/dev/full", "a");
  onTestFinished(() => closeSync(descriptor));
  const { sink, counts } = await start({ descriptor });
  sink.write(lineOf("0\n"));
  await expect.poll(() => sink.whyDown()).toBe("The audit log cannot be written");
  await sink.stop();
  expect(counts).toEqual({ written: 0, lost: 1 });
});

test("a reader that stops: first down, then lines are lost and counted; then on, without a gap in what was kept", async () => {
  const { descriptor, read } = pipe();
  const { sink, counts } = await start({ descriptor }, { full: 300_000, most: 400_000 });
  const line = (i: number) => `${i} ${"x".repeat(1000)}\n`;
  for (const i of upTo(250)) sink.write(lineOf(line(i)));
  expect(sink.whyDown()).toBeUndefined();
  for (const i of upTo(250)) sink.write(lineOf(line(250 + i)));
  expect(sink.whyDown()).toBe("The audit log is not written fast enough");
  await expect.poll(() => counts.lost).toBeGreaterThan(50);
  const kept = 500 - counts.lost;
  let text = "";
  await expect
    .poll(() => {
      text += read();
      return counts.written;
    })
    .toBe(kept);
  text += read();
  expect(numbers(text)).toEqual(upTo(kept));
  expect(sink.whyDown()).toBeUndefined();
});

test("a write that takes too long makes it down, however little waits", async () => {
  const { descriptor } = pipe();
  const { sink, counts } = await start({ descriptor }, { patience: 50 });
  sink.write(lineOf(`${"x".repeat(300_000)}\n`));
  await expect.poll(() => sink.whyDown()).toBe("The audit log is not written fast enough");
  await sink.stop();
  expect(counts).toEqual({ written: 0, lost: 1 });
});
