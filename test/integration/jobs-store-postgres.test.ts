import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import { createJsonLog, describeError, Fault, Secret, silentLog } from "@kube-connector/core";
import { openStore, type Store } from "@kube-connector/jobs";
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
import { historyStoreContract } from "../kit/contracts/history-store.ts";
import { expectAllThere, startHistoryWriter } from "../kit/history-writer.ts";
import { passwordMark, type Postgres, postgresPrograms, startPostgres } from "../kit/postgres.ts";
import { testRun } from "../kit/runs.ts";

// The history in a real PostgreSQL: the contract of all stores, and what only a server can do: be away, come back, be full,
// refuse.

const missing = postgresPrograms() === undefined && process.env.CI !== "true";
const cannotMount = process.getuid?.() !== 0 && process.env.CI !== "true";
const owner = "engine-a";

async function faultOf(work: Promise<unknown>): Promise<Fault> {
  const error = await work.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  if (error instanceof Fault) return error;
  throw new Error("there was no Fault", { cause: error });
}

describe.skipIf(missing)("a history in PostgreSQL (needs its Debian package)", () => {
  let postgres: Postgres;
  beforeAll(async () => {
    postgres = await startPostgres();
  });
  afterAll(() => postgres.stop());

  async function open(url: Secret): Promise<Store> {
    const store = await openStore(url, { log: silentLog });
    onTestFinished(() => store.stop());
    await store.renew(owner, 600);
    return store;
  }

  const databaseOf = (url: Secret) => new URL(url.reveal()).pathname.slice(1);

  describe("the contract", () => {
    historyStoreContract(async () => {
      const url = await postgres.createDatabase();
      return {
        open: () => openStore(url, { log: silentLog }),
        sql: (statement) => postgres.sql(statement, databaseOf(url)),
        schema: "kube_connector_jobs.",
      };
    });
  });

  test("a server that went away is said to be away; once it is back the same store goes on with all it had", async () => {
    const lines: string[] = [];
    const log = createJsonLog("debug", {}, { write: (line) => lines.push(line) });
    const store = await openStore(await postgres.createDatabase(), { log });
    onTestFinished(() => store.stop());
    await store.renew(owner, 600);
    const { record } = await store.create(testRun(1), {}, owner);
    await postgres.halt("fast");
    onTestFinished(() => postgres.start().catch(() => undefined));
    const asked = [store.save(record, [], owner), store.read(record.id), store.list({ limit: 1 })].map(faultOf);
    for (const fault of await Promise.all(asked)) {
      expect([fault.code, fault.message]).toEqual([
        "unavailable",
        expect.stringMatching(/cannot be reached|is stopping/),
      ]);
      expect(describeError(fault)).not.toContain(passwordMark);
    }
    await postgres.start();
    expect(await store.read(record.id)).toEqual(record);
    expect((await store.save(record, [], owner)).version).toBe(2);
    expect(lines.join("")).not.toContain(passwordMark);
    expect(lines.join("")).not.toContain(encodeURIComponent(passwordMark));
  });

  test("sessions that the server ended are not noticed", async () => {
    const url = await postgres.createDatabase();
    const store = await open(url);
    await Promise.all([1, 2, 3, 4].map(() => store.list({ limit: 1 })));
    await postgres.sql(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '${databaseOf(url)}'`);
    const results = await Promise.allSettled([
      store.create(testRun(1), {}, owner),
      store.create(testRun(2), {}, owner),
      store.list({ limit: 1 }),
    ]);
    expect(results.map(({ status }) => status)).toEqual(["fulfilled", "fulfilled", "fulfilled"]);
    expect(await store.count()).toEqual({ Queued: 2 });
  });

  test("a server that dies in the middle of the writing, with commits set to be lazy, loses nothing acknowledged", async () => {
    const url = await postgres.createDatabase();
    await postgres.sql(`ALTER DATABASE ${databaseOf(url)} SET synchronous_commit = off`);
    const writer = startHistoryWriter(url, { keepOn: true });
    for (let round = 0; round < 3; round += 1) {
      await writer.more(200 + Math.floor(Math.random() * 300));
      await postgres.halt("immediate");
      await wait(Math.random() * 300);
      await postgres.start();
    }
    await writer.more(100);
    await writer.kill();
    expect(writer.faults.length).toBeGreaterThan(0);
    for (const fault of writer.faults) expect(fault).toMatch(/^fault unavailable The history postgres:/);
    expect(writer.acknowledged.size).toBeGreaterThan(20);
    await expectAllThere(await open(url), writer.acknowledged);
  }, 300_000);

  test("a process that is killed in the middle of its writing loses nothing that was acknowledged", async () => {
    const url = await postgres.createDatabase();
    const store = await open(url);
    for (let round = 0; round < 4; round += 1) {
      const writer = startHistoryWriter(url);
      await writer.more(1 + Math.floor(Math.random() * 300));
      await writer.kill();
      expect(writer.faults).toEqual([]);
      await expectAllThere(store, writer.acknowledged);
    }
  });

  test("what has to be changed in the URL or the server is said, and no password with it", async () => {
    const database = databaseOf(await postgres.createDatabase());
    await postgres.sql(`CREATE ROLE guest LOGIN PASSWORD '${passwordMark}'`);
    const there = postgres.urlOf({ user: "plain", database }).reveal();
    const [tcp, port] = [`plain:${encodeURIComponent(passwordMark)}@127.0.0.2`, postgres.port];
    const cases: [string, Fault["code"], RegExp][] = [
      [
        postgres.urlOf({ password: `wrong-${passwordMark}`, database }).reveal(),
        "invalid_argument",
        /refuses the user or the password/,
      ],
      [there.replace(/:[^:@/]+@/, "@"), "invalid_argument", /no password/],
      [postgres.urlOf({ user: "plain", database: "nowhere" }).reveal(), "invalid_argument", /is not there: create it/],
      [postgres.urlOf({ user: "guest", database }).reveal(), "invalid_argument", /does not give this user the rights/],
      [
        `postgres://plain:${passwordMark}@127.0.0.2:${port}/${database}`,
        "invalid_argument",
        /cannot be read: write it as/,
      ],
      [
        `postgres://plain:${encodeURIComponent(passwordMark)}@[half/x`,
        "invalid_argument",
        /cannot be read: write it as/,
      ],
      [
        `${there}?sslrootcert=/nowhere/ca.crt`,
        "invalid_argument",
        /certificate or key file that cannot be read: no such file/,
      ],
      [`postgres://${tcp}:1/${database}?sslmode=disable`, "unavailable", /connection refused/],
      // Not to this machine by its name, so without TLS only if that is meant.
      [`postgres://${tcp}:${port}/${database}`, "invalid_argument", /does not speak TLS; put sslmode=disable/],
    ];
    for (const [url, code, words] of cases) {
      const fault = await faultOf(openStore(new Secret(url), { log: silentLog }));
      expect([fault.code, fault.message]).toEqual([code, expect.stringMatching(words)]);
      for (const mark of [passwordMark, encodeURIComponent(passwordMark)])
        expect(describeError(fault)).not.toContain(mark);
    }
    const plain = await open(new Secret(`postgres://${tcp}:${port}/${database}?sslmode=disable`));
    expect(await plain.count()).toEqual({});
    expect(postgres.log()).not.toContain(passwordMark);
  });

  test("the user needs no right but to its own schema", async () => {
    const url = await postgres.createDatabase();
    const name = databaseOf(url);
    await postgres.sql(`ALTER DATABASE ${name} OWNER TO admin`);
    await postgres.sql("CREATE SCHEMA kube_connector_jobs AUTHORIZATION plain", name);
    const store = await open(url);
    await store.create(testRun(1), {}, owner);
    expect(await store.count()).toEqual({ Queued: 1 });
    expect(await postgres.sql("SELECT tablename FROM pg_tables WHERE schemaname = 'public'", name)).toEqual([]);
  });

  test.skipIf(cannotMount)(
    "a full disk says so and loses nothing; with room the store goes on (needs root, to mount)",
    async () => {
      const folder = mkdtempSync(join(tmpdir(), "pg-"));
      onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
      execFileSync("mount", ["-t", "tmpfs", "-o", "size=64m", "tmpfs", folder]);
      onTestFinished(() => void execFileSync("umount", [folder]));
      const small = await startPostgres({
        folder: join(folder, "pg"),
        settings: ["max_wal_size=2MB", "min_wal_size=2MB"],
      });
      onTestFinished(() => small.stop());
      const store = await open(await small.createDatabase());
      const kept = new Map<string, number>();
      let failed: Fault | undefined;
      for (let count = 0; failed === undefined; count += 10) {
        // Random, as PostgreSQL would press it.
        const message = () => Array.from({ length: 3000 }, () => Math.random().toString(36).slice(2)).join("");
        const runs = Array.from({ length: 10 }, (_, index) => testRun(count + index, { message: message() }));
        const results = await Promise.allSettled(runs.map((run) => store.create(run, {}, owner)));
        for (const [index, result] of results.entries()) {
          if (result.status === "fulfilled") kept.set(runs[index]?.id ?? "", 1);
          else failed = result.reason as Fault;
        }
      }
      expect([failed.code, failed.message]).toEqual([
        "unavailable",
        expect.stringMatching(
          /has a full disk: make room there|cannot be reached|broke off in a commit|is stopping, starting/,
        ),
      ]);
      execFileSync("mount", ["-o", "remount,size=300m", folder]);
      expect(kept.size).toBeGreaterThan(10);
      // What the full disk broke may take the server down once more after it has answered.
      const lost = async () => {
        await small.start();
        const found = await Promise.all(Array.from(kept.keys(), (id) => store.read(id)));
        return found.filter((run) => run === undefined);
      };
      await expect.poll(lost, { timeout: 60_000, interval: 500 }).toEqual([]);
      expect((await store.create(testRun(100_000), {}, owner)).created).toBe(true);
    },
  );
});
