// A history of a million runs in a SQLite file and in PostgreSQL: pages, saves, and how long the process stands still.
// Nothing is asserted of times: each is a line, `name value unit target ok|short`.

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { silentLog } from "@kube-connector/core";
import { openSqliteStore, openStore, type RunQuery, type Store } from "@kube-connector/jobs";
import { expect, onTestFinished, test } from "vitest";
import { startPostgres } from "../kit/postgres.ts";
import { testRun } from "../kit/runs.ts";
import { figure } from "./figure.ts";

const million = Number(process.env.HISTORY_RUNS ?? 1_000_000);

/** Copies of the one run that is there, with other ids, names and states; `digits(n)` is n as 20 digits. */
function copies(schema: string, digits: (number: string) => string, source: string, template: string): string[] {
  const id = `'01kj00' || ${digits("n")}`;
  const narrow = `INSERT INTO ${schema}runs (id, connector, namespace, name, version, events, state, cleanup, ended, done)
    SELECT ${id}, 'team-' || (n % 20) || '/prod', 'batch-' || (n % 50), 'report-' || (n % 1000), 1, 0,
      CASE WHEN n % 25 = 7 THEN 'Failed' WHEN n % 10000 = 9 THEN 'Running' ELSE 'Succeeded' END,
      'Done', '2026-03-01T10:00:00.000Z', 1 FROM ${source}`;
  const wide = `INSERT INTO ${schema}records (run, summary, details)
    SELECT ${id}, replace(summary, '${template}', ${id}), details FROM ${schema}records, ${source} WHERE run = '${template}'`;
  return [narrow, wide];
}

async function usual(times: number, work: () => Promise<unknown>): Promise<number> {
  const took: number[] = [];
  for (let turn = 0; turn < times; turn += 1) took.push(await worst(1, work));
  return took.sort((a, b) => a - b)[Math.floor(times * 0.95)] ?? Number.NaN;
}

/** The longest time in which nothing else had its turn, in milliseconds. */
async function standstill<T>(work: () => Promise<T>): Promise<{ answer: T; longest: number }> {
  let longest = 0;
  let last = performance.now();
  let working = true;
  const tick = () => {
    longest = Math.max(longest, performance.now() - last);
    last = performance.now();
    if (working) setImmediate(tick);
  };
  setImmediate(tick);
  const answer = await work();
  working = false;
  tick();
  return { answer, longest };
}

async function worst(times: number, work: (turn: number) => Promise<unknown>): Promise<number> {
  let longest = 0;
  for (let turn = 0; turn < times; turn += 1) {
    const started = performance.now();
    await work(turn);
    longest = Math.max(longest, performance.now() - started);
  }
  return longest;
}

async function measure(kind: string, store: Store): Promise<void> {
  const all = await store.list({ limit: 100 });
  expect(all.runs).toHaveLength(100);
  const cursors = ["1", "25", "50", "99"].map((percent) => {
    const number = String(Math.floor((million * Number(percent)) / 100));
    return `01kj00${number.padStart(20, "0")}`;
  });
  const queries: [string, Omit<RunQuery, "limit">][] = [
    ["first page", {}],
    ["failed", { states: ["Failed"] }],
    ["live", { states: ["Queued", "Pending", "Running"] }],
    ["of a name", { name: "report-77" }],
    ["of a connector and namespace", { connector: "team-7/prod", namespace: "batch-7" }],
    ["of a connector, failed", { connector: "team-7/prod", states: ["Failed"] }],
  ];
  for (const [name, query] of queries) {
    await store.list({ ...query, limit: 100 });
    const longest = await usual(100, () => store.list({ ...query, limit: 100 }));
    figure(`history of a million, ${kind}, page of 100, ${name}, p95`, longest, "ms", { atMost: 50 });
  }
  let page = 0;
  const deep = await usual(100, () => store.list({ limit: 100, cursor: cursors[(page += 1) % cursors.length] ?? "" }));
  figure(`history of a million, ${kind}, page of 100, anywhere, p95`, deep, "ms", { atMost: 50 });

  // The worst question there is: two things that many runs have, and none has both.
  const questions: Omit<RunQuery, "limit">[] = [
    { name: "report-7", states: ["Succeeded"], namespace: "batch-8" },
    { states: ["Succeeded"], cleanup: "Pending" },
    { states: ["Succeeded"], connector: "team-7/prod", namespace: "batch-8" },
    { states: ["Succeeded", "Failed"], connector: "nobody/none" },
  ];
  const crossed = await standstill(() => worst(4, (turn) => store.list({ ...questions[turn], limit: 100 })));
  figure(`history of a million, ${kind}, what nothing fits`, crossed.answer, "ms", { atMost: 2000 });
  figure(`history of a million, ${kind}, stands still for, meanwhile`, crossed.longest, "ms", { atMost: 50 });
  const counted = await standstill(() => worst(1, () => store.count()));
  figure(`history of a million, ${kind}, runs by state`, counted.answer, "ms", { atMost: 1000 });
  figure(`history of a million, ${kind}, stands still for, meanwhile, counting`, counted.longest, "ms", { atMost: 50 });

  await store.renew("bench", 600);
  const made = await Promise.all(
    Array.from({ length: 1000 }, (_, count) => store.create(testRun(count, { state: "Running" }), {}, "bench")),
  );
  let saves = 0;
  const started = performance.now();
  await Promise.all(
    made.map(async ({ record }) => {
      for (let turn = 0; turn < 5; turn += 1, saves += 1) {
        const event = { at: record.since, type: "state", message: `turn ${turn}`, data: {} } as const;
        record = await store.save(record, [event], "bench");
      }
    }),
  );
  figure(
    `history of a million, ${kind}, saves with an event`,
    saves / ((performance.now() - started) / 1000),
    "per s",
    { atLeast: 500 },
  );
  const alone = await worst(50, async (turn) => store.create(testRun(5000 + turn), {}, "bench"));
  figure(`history of a million, ${kind}, one create, worst of 50`, alone, "ms", { atMost: 50 });
  const renewing = await worst(5, () => store.renew("bench", 600));
  figure(`history of a million, ${kind}, renewing 1,050 leases, worst of 5`, renewing, "ms", { atMost: 50 });
  const claiming = await worst(5, () => store.claim("other", 100, 600));
  figure(`history of a million, ${kind}, claiming, worst of 5`, claiming, "ms", { atMost: 50 });
}

async function template(store: Store): Promise<string> {
  const record = testRun(1, { id: "01aaaaaaaaaaaaaaaaaaaaaaaa", state: "Succeeded", cleanup: { state: "Done" } });
  await store.create(record, {}, "bench");
  return record.id;
}

test("SQLite", async () => {
  const folder = mkdtempSync(join(tmpdir(), "history-"));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  const file = join(folder, "runs.db");
  const store = await openSqliteStore({ file, log: silentLog });
  onTestFinished(() => store.stop());
  const id = await template(store);
  const numbers = `(WITH RECURSIVE count(n) AS (VALUES (1) UNION ALL SELECT n + 1 FROM count WHERE n < ${million}) SELECT n FROM count)`;
  const database = new DatabaseSync(file);
  database.exec("PRAGMA cache_size = -400000");
  for (const sql of copies("", (n) => `printf('%020d', ${n})`, numbers, id)) database.exec(sql);
  database.exec("PRAGMA wal_checkpoint(TRUNCATE)");
  database.close();
  await measure("SQLite", store);
});

test("PostgreSQL", async () => {
  const postgres = await startPostgres({ settings: ["max_wal_size=2GB", "shared_buffers=256MB"] });
  onTestFinished(() => postgres.stop());
  const url = await postgres.createDatabase();
  const store = await openStore(url, { log: silentLog });
  onTestFinished(() => store.stop());
  const id = await template(store);
  const numbers = `generate_series(1, ${million}) AS n`;
  const database = new URL(url.reveal()).pathname.slice(1);
  const digits = (n: string) => `lpad(${n}::text, 20, '0')`;
  for (const sql of copies("kube_connector_jobs.", digits, numbers, id)) await postgres.sql(sql, database);
  await postgres.sql("VACUUM ANALYZE", database);
  await postgres.sql("CHECKPOINT", database);
  await measure("PostgreSQL", store);
});
