// The history in a SQLite file: the contract of all stores, and what only a file can do: be full, locked, damaged, killed.
import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { setTimeout as wait } from "node:timers/promises";
import { Fault, Secret, silentLog } from "@kube-connector/core";
import { describe, expect, onTestFinished, test } from "vitest";
import { createTestClock } from "../../../../test/kit/clock.ts";
import { historyStoreContract } from "../../../../test/kit/contracts/history-store.ts";
import { expectAllThere, startHistoryWriter } from "../../../../test/kit/history-writer.ts";
import { testRun } from "../../../../test/kit/runs.ts";
import { openStore } from "./open.ts";
import { openSqliteStore } from "./sqlite.ts";
import type { Store } from "./store.ts";

const owner = "engine-a";
const cannotMount = process.getuid?.() !== 0 && process.env.CI !== "true";

function scratch(): string {
  const folder = mkdtempSync(join(tmpdir(), "history-"));
  onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

async function open(file: string, clock?: ReturnType<typeof createTestClock>): Promise<Store> {
  const store = await openSqliteStore({ file, log: silentLog, ...(clock && { clock }) });
  onTestFinished(() => store.stop());
  await store.renew(owner, 30);
  return store;
}

async function faultOf(work: Promise<unknown>): Promise<Fault> {
  const error = await work.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  if (error instanceof Fault) return error;
  throw new Error("there was no Fault", { cause: error });
}

/** Commits in the write-ahead log: frames that say how large the database is after them. */
function commits(file: string): number {
  const log = readFileSync(`${file}-wal`);
  const frame = 24 + log.readUInt32BE(8);
  let count = 0;
  for (let at = 32; at + frame <= log.length; at += frame) if (log.readUInt32BE(at + 4) > 0) count += 1;
  return count;
}

describe("the contract", () => {
  historyStoreContract(() => {
    const file = join(scratch(), "history", "runs.db");
    const sql = (statement: string) => {
      const database = new DatabaseSync(file);
      const rows = database.prepare(statement).all();
      database.close();
      return Promise.resolve(rows);
    };
    return Promise.resolve({ open: () => openSqliteStore({ file, log: silentLog }), sql, schema: "" });
  });
});

test("nobody else may read the file, what is beside it, or the folder that was made for it", async () => {
  const folder = join(scratch(), "deep", "history");
  const file = join(folder, "runs.db");
  const store = await open(file);
  await store.create(testRun(1), {}, owner);
  expect((statSync(folder).mode & 0o777).toString(8)).toBe("700");
  for (const name of [file, `${file}-wal`, `${file}-shm`])
    expect((statSync(name).mode & 0o777).toString(8)).toBe("600");
});

test("calls of one turn of the event loop are one commit", async () => {
  const file = join(scratch(), "runs.db");
  const store = await open(file);
  const before = commits(file);
  const made = await Promise.all(Array.from({ length: 50 }, (_, count) => store.create(testRun(count), {}, owner)));
  expect(commits(file)).toBe(before + 1);
  await Promise.all(made.map(({ record }) => store.save(record, [], owner)));
  expect(commits(file)).toBe(before + 2);
});

test("a commit is on the disk before it is acknowledged", async () => {
  const file = join(scratch(), "runs.db");
  const log = join(scratch(), "calls");
  const writer = startHistoryWriter(new Secret(file), { trace: log });
  await writer.more(20);
  await writer.kill();
  // After the last write to the log, and before it said so, the log was synchronized.
  const calls = readFileSync(log, "utf8").split("\n");
  const acks = calls.flatMap((call, index) => (call.includes('"ack ') ? [index] : []));
  expect(acks.length).toBeGreaterThan(0);
  for (const index of acks) {
    const earlier = calls.slice(0, index).filter((call) => !call.includes('"ack '));
    expect(earlier.findLast((call) => /runs\.db-wal/.test(call))).toMatch(/sync/);
  }
});

test("leases are measured by the clock that it was given", async () => {
  const clock = createTestClock();
  const store = await open(join(scratch(), "runs.db"), clock);
  const { record } = await store.create(testRun(1), {}, owner);
  clock.pass(29_999);
  expect(await store.claim("engine-b", 1, 30)).toEqual([]);
  clock.pass(1);
  expect((await faultOf(store.save(record, [], owner))).message).toMatch(/ran out/);
  expect(await store.claim("engine-b", 1, 30)).toEqual([record]);
});

test("a process that is killed in the middle of its writing loses nothing that was acknowledged", async () => {
  const file = join(scratch(), "runs.db");
  const all = new Map<string, number>();
  for (let round = 0; round < 4; round += 1) {
    const writer = startHistoryWriter(new Secret(file));
    await writer.more(1 + Math.floor(Math.random() * 300));
    await wait(Math.random() * 20);
    await writer.kill();
    expect(writer.faults).toEqual([]);
    for (const [id, version] of writer.acknowledged) all.set(id, version);
    await expectAllThere(await open(file), writer.acknowledged);
  }
  expect(all.size).toBeGreaterThan(8);
  await expectAllThere(await open(file), all);
  const database = new DatabaseSync(file);
  expect(database.prepare("PRAGMA integrity_check").get()).toEqual({ integrity_check: "ok" });
  database.close();
}, 60_000);

test("a file that may not grow any more says so, and keeps what was acknowledged", async () => {
  const file = join(scratch(), "runs.db");
  const writer = startHistoryWriter(new Secret(file), { fileBlocks: 4000 });
  await writer.ended;
  expect(writer.faults[0]).toMatch(/^fault unavailable The history .*runs\.db cannot (grow|be read or written)/);
  expect(writer.acknowledged.size).toBeGreaterThan(8);
  await expectAllThere(await open(file), writer.acknowledged);
});

describe.skipIf(cannotMount)("on a file system of its own (needs root, to mount)", () => {
  function mounted(size: string): { folder: string; remount: (how: string) => void } {
    const folder = scratch();
    execFileSync("mount", ["-t", "tmpfs", "-o", `size=${size}`, "tmpfs", folder]);
    onTestFinished(() => void execFileSync("umount", [folder]));
    return { folder, remount: (how) => execFileSync("mount", ["-o", `remount,${how}`, folder]) };
  }

  test("a full disk fails what cannot be kept, answers what is read, and goes on once there is room", async () => {
    const { folder, remount } = mounted("2m");
    const store = await open(join(folder, "runs.db"));
    const kept = new Map<string, number>();
    const fill = async () => {
      for (let count = 0; ; count += 10) {
        const runs = Array.from({ length: 10 }, (_, index) => testRun(count + index, { message: "x".repeat(3000) }));
        const results = await Promise.allSettled(runs.map((run) => store.create(run, {}, owner)));
        const failed = results.flatMap((result) => (result.status === "rejected" ? [result.reason as Fault] : []));
        if (failed.length > 0) return { failed, runs };
        for (const { id } of runs) kept.set(id, 1);
      }
    };
    const { failed, runs } = await fill();
    expect(failed).toHaveLength(10);
    expect(failed[0]).toMatchObject({
      code: "unavailable",
      message: expect.stringMatching(/disk is full: make room/) as string,
    });
    await expectAllThere(store, kept);
    for (const { id } of runs) expect(await store.read(id)).toBeUndefined();
    remount("size=20m");
    await Promise.all(runs.map((run) => store.create(run, {}, owner)));
    for (const { id } of runs) kept.set(id, 1);
    await store.stop();
    await expectAllThere(await open(join(folder, "runs.db")), kept);
  });

  test("a file system that is read-only is named with what to change", async () => {
    const { folder, remount } = mounted("2m");
    const file = join(folder, "runs.db");
    await (await open(file)).stop();
    remount("ro");
    const fault = await faultOf(openSqliteStore({ file, log: silentLog }));
    expect([fault.code, fault.message]).toEqual(["invalid_argument", expect.stringMatching(/writable|read-only/)]);
    remount("rw");
    await open(file);
  });
});

test("while another process holds the file calls wait, and others have their turn; in the end they say so", async () => {
  const file = join(scratch(), "runs.db");
  const store = await open(file);
  const other = new DatabaseSync(file);
  onTestFinished(() => other.close());
  other.exec("BEGIN IMMEDIATE");
  let turns = 0;
  const timer = setInterval(() => (turns += 1), 5);
  const waiting = store.create(testRun(1), {}, owner);
  await wait(300);
  expect(await store.list({ limit: 1 })).toEqual({ runs: [] });
  other.exec("ROLLBACK");
  expect((await waiting).created).toBe(true);
  other.exec("BEGIN IMMEDIATE");
  const fault = await faultOf(store.create(testRun(2), {}, owner));
  clearInterval(timer);
  expect([fault.code, fault.message]).toEqual(["unavailable", expect.stringMatching(/locked by another process/)]);
  expect(turns).toBeGreaterThan(50);
  other.exec("ROLLBACK");
  expect((await store.create(testRun(2), {}, owner)).created).toBe(true);
});

test("what cannot be a history is refused with what to change, and left as it is", async () => {
  const folder = scratch();
  const refuse = async (name: string, words: RegExp) => {
    const fault = await faultOf(openSqliteStore({ file: join(folder, name), log: silentLog }));
    expect([fault.code, fault.message]).toEqual(["invalid_argument", expect.stringMatching(words)]);
  };
  mkdirSync(join(folder, "folder"));
  await refuse("folder", /is not a file: name one/);
  writeFileSync(join(folder, "text"), "some notes of mine, longer than the header of a database".repeat(200));
  await refuse("text", /is no SQLite database: name another file/);
  await refuse("text/runs.db", /cannot be used: (not a directory|a part of its path is no folder)/);
  const theirs = new DatabaseSync(join(folder, "theirs"));
  theirs.exec("CREATE TABLE meta (name, value)");
  theirs.close();
  const before = readFileSync(join(folder, "theirs"));
  await refuse("theirs", /is another program's database: name another file/);
  expect(readFileSync(join(folder, "theirs")).equals(before)).toBe(true);

  const store = await open(join(folder, "runs.db"));
  await Promise.all(Array.from({ length: 100 }, (_, count) => store.create(testRun(count), {}, owner)));
  await store.stop();
  const bytes = readFileSync(join(folder, "runs.db"));
  writeFileSync(join(folder, "cut"), bytes);
  truncateSync(join(folder, "cut"), 8192);
  await refuse("cut", /is damaged: put a backup in its place/);
});

test("a file that is damaged later fails what meets it, and no more", async () => {
  const file = join(scratch(), "runs.db");
  const first = await open(file);
  const made = await Promise.all(Array.from({ length: 400 }, (_, count) => first.create(testRun(count), {}, owner)));
  await first.stop();
  const bytes = readFileSync(file);
  bytes.fill(0xff, Math.floor(bytes.length * 0.6), Math.floor(bytes.length * 0.9));
  writeFileSync(file, bytes);
  const store = await openSqliteStore({ file, log: silentLog });
  onTestFinished(() => store.stop());
  const results = await Promise.allSettled(made.map(({ record }) => store.read(record.id)));
  const faults = results.flatMap((result) => (result.status === "rejected" ? [result.reason as Fault] : []));
  expect(faults.length).toBeGreaterThan(0);
  expect(faults.length).toBeLessThan(400);
  for (const { code, message } of faults)
    expect([code, message]).toEqual(["unavailable", expect.stringMatching(/is damaged/)]);
});

test("a place that is neither a path nor PostgreSQL is refused, without showing what may hold a password", async () => {
  for (const where of ["mysql://me:s3cr3t-mark@host/db", "", "file:s3cr3t-mark"]) {
    const fault = await faultOf(openStore(new Secret(where), { log: silentLog }));
    expect([fault.code, fault.message.includes("s3cr3t-mark")]).toEqual(["invalid_argument", false]);
  }
  const file = join(scratch(), "runs.db");
  const store = await openStore(new Secret(file), { log: silentLog });
  await store.stop();
  expect(statSync(file).isFile()).toBe(true);
});
