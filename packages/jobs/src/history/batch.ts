import { Fault } from "@kube-connector/core";
import type { RunRecord } from "../run.ts";
import type { Database, Query, Value } from "./database.ts";
import {
  cancelText,
  jsonText,
  type RunRow,
  readRecord,
  refuseNul,
  savedColumns,
  savedValues,
  selectRuns,
  suspendText,
  wideValues,
} from "./rows.ts";
import type { NewEvent, RunKeys } from "./store.ts";

// The two writes that come in crowds, many at a time: a few statements for all of them, in one transaction.

export interface Creation {
  kind: "create";
  record: RunRecord;
  keys: RunKeys;
  owner: string;
  values: readonly Value[];
  wide: { summary: string; details: string };
}

export interface Saving {
  kind: "save";
  record: RunRecord;
  owner: string;
  values: readonly Value[];
  wide: { summary: string; details: string };
  /** Of each new event: at, type, and the rest as text. */
  events: readonly (readonly Value[])[];
}

// Both hold the record's text as it was when they were asked for: what is changed later is not in it, and what cannot be
// written fails before it is among others.

export function creation(record: RunRecord, keys: RunKeys, owner: string): Creation {
  const names = [record.id, record.connector, record.namespace, record.name, owner];
  refuseNul("A run", [...names, keys.runKey, keys.idempotency?.key, keys.idempotency?.digest]);
  return { kind: "create", record, keys, owner, values: savedValues(record), wide: wideValues(record) };
}

export function saving(record: RunRecord, events: readonly NewEvent[], owner: string): Saving {
  const texts = events.map(({ at, type, ...rest }) => [at, type, jsonText(rest)]);
  return { kind: "save", record, owner, values: savedValues(record), wide: wideValues(record), events: texts };
}

export interface Created {
  record: RunRecord;
  created: boolean;
}

/** For each of them what it comes to; a Fault is that one's alone. */
export async function createAll(
  database: Database,
  query: Query,
  creations: readonly Creation[],
): Promise<(Created | Fault)[]> {
  const { schema } = database;
  // In the order of keys, so that two processes that create the same runs do not wait for each other in a circle.
  const keyed = creations
    .flatMap(({ record, keys }) => (keys.idempotency ? [{ ...keys.idempotency, run: record.id }] : []))
    .sort((a, b) => (a.key < b.key ? -1 : 1));
  const known = new Map<string, { digest: string; run: string }>();
  if (keyed.length > 0) {
    await query(
      `INSERT INTO ${schema}idempotency (key, digest, run) VALUES ${marks(keyed.length, 3)} ON CONFLICT (key) DO NOTHING`,
      keyed.flatMap(({ key, digest, run }) => [key, digest, run]),
    );
    const rows = await query<{ key: string; digest: string; run: string }>(
      `SELECT key, digest, run FROM ${schema}idempotency WHERE key IN ${marks(1, keyed.length)}`,
      keyed.map(({ key }) => key),
    );
    for (const { key, digest, run } of rows) known.set(key, { digest, run });
  }
  const before = ({ record, keys }: Creation) => {
    const same = keys.idempotency && known.get(keys.idempotency.key);
    return same?.run === record.id ? undefined : same;
  };
  const fresh = creations.filter((creation) => before(creation) === undefined);
  const inserted = await insertRuns(schema, query, fresh);
  const byKey = await runsByKey(schema, query, fresh);
  const answers: (Created | Fault)[] = [];
  for (const creation of creations) {
    const { record, keys } = creation;
    const earlier = before(creation);
    if (earlier === undefined && inserted.delete(record.id)) {
      answers.push({ record, created: true });
      continue;
    }
    const found = earlier?.run ?? (keys.runKey === undefined ? undefined : byKey.get(keys.runKey));
    if (earlier !== undefined && earlier.digest !== keys.idempotency?.digest) {
      answers.push(new Fault("conflict", `The Idempotency-Key was used for another request, which made run ${found}`));
    } else if (found === undefined) {
      answers.push(new Fault("conflict", `There is a run ${record.id} already`));
    } else {
      if (earlier === undefined && keys.idempotency) {
        await query(`UPDATE ${schema}idempotency SET run = ? WHERE key = ?`, [found, keys.idempotency.key]);
      }
      const rows = await query<RunRow>(`${selectRuns(schema, "record")} WHERE runs.id = ?`, [found]);
      const gone = new Fault("conflict", `Run ${found}, which had the same key, was removed just now; ask again`);
      answers.push(rows[0] ? { record: readRecord(rows[0]), created: false } : gone);
    }
  }
  return answers;
}

async function insertRuns(schema: string, query: Query, creations: readonly Creation[]): Promise<Set<string>> {
  if (creations.length === 0) return new Set();
  const columns = ["id", "connector", "namespace", "name", "run_key", "owner", "version", "events"];
  const all = [...columns, ...Object.keys(savedColumns)];
  const ordered = creations.toSorted((a, b) => ((a.keys.runKey ?? "") < (b.keys.runKey ?? "") ? -1 : 1));
  const rows = await query<{ id: string }>(
    `INSERT INTO ${schema}runs (${all.join(", ")}) VALUES ${marks(ordered.length, all.length)}
      ON CONFLICT DO NOTHING RETURNING id`,
    ordered.flatMap(({ record, keys, owner, values }) => [
      record.id,
      record.connector,
      record.namespace,
      record.name,
      keys.runKey ?? null,
      owner,
      record.version,
      0,
      ...values,
    ]),
  );
  const ids = new Set(rows.map(({ id }) => id));
  const news = creations.filter(({ record }) => ids.has(record.id));
  if (news.length > 0) {
    await query(
      `INSERT INTO ${schema}records (run, summary, details) VALUES ${marks(news.length, 3)}`,
      news.flatMap(({ record, wide }) => [record.id, wide.summary, wide.details]),
    );
    const places = new Map(
      news.map(({ record: { connector, namespace } }) => [`${connector} ${namespace}`, [connector, namespace]]),
    );
    const sorted = [...places].sort(([a], [b]) => (a < b ? -1 : 1));
    await query(
      `INSERT INTO ${schema}places (connector, namespace) VALUES ${marks(sorted.length, 2)} ON CONFLICT DO NOTHING`,
      sorted.flatMap(([, place]) => place),
    );
  }
  return ids;
}

async function runsByKey(
  schema: string,
  query: Query,
  creations: readonly Creation[],
): Promise<ReadonlyMap<string, string>> {
  const keys = creations.flatMap(({ keys: { runKey } }) => (runKey === undefined ? [] : [runKey]));
  if (keys.length === 0) return new Map();
  const rows = await query<{ run_key: string; id: string }>(
    `SELECT run_key, id FROM ${schema}runs WHERE run_key IN ${marks(1, keys.length)}`,
    keys,
  );
  return new Map(rows.map((row) => [row.run_key, row.id]));
}

/** For each of them its new version, or why it was not kept. No run is among them twice. */
export async function saveAll(
  database: Database,
  query: Query,
  savings: readonly Saving[],
): Promise<(RunRecord | Fault)[]> {
  if (savings.length === 0) return [];
  const { schema, now } = database;
  const types = { id: "text", version: "integer", owner: "text", added: "integer", cancel: "text", suspend: "text" };
  const columns = { ...types, ...savedColumns };
  const set = Object.keys(savedColumns).map((column) => `${column} = v.${column}`);
  // The first row tells PostgreSQL the types of all.
  const casts = `(${Object.values(columns)
    .map((type) => `CAST(? AS ${type})`)
    .join(", ")})`;
  const others = savings.length > 1 ? `, ${marks(savings.length - 1, Object.keys(columns).length)}` : "";
  const rows = await query<{ id: string; events: number }>(
    `WITH v (${Object.keys(columns).join(", ")}) AS (VALUES ${casts}${others})
      UPDATE ${schema}runs SET version = v.version + 1, events = runs.events + v.added,
        asked_cancel = CASE WHEN runs.asked_cancel = v.cancel THEN NULL ELSE runs.asked_cancel END,
        asked_suspend = CASE WHEN runs.asked_suspend = v.suspend THEN NULL ELSE runs.asked_suspend END,
        ${set.join(", ")}
      FROM v WHERE runs.id = v.id AND runs.version = v.version AND runs.owner = v.owner
        AND EXISTS (SELECT 1 FROM ${schema}owners AS o WHERE o.owner = v.owner AND o.lease_until > ${now})
      RETURNING runs.id, runs.events`,
    savings.flatMap(({ record, events, owner, values }) => [
      record.id,
      record.version,
      owner,
      events.length,
      cancelText(record.cancel),
      suspendText(record.suspend),
      ...values,
    ]),
  );
  const kept = new Map(rows.map(({ id, events }) => [id, events]));
  const keeping = savings.filter(({ record }) => kept.has(record.id));
  if (keeping.length > 0) {
    await query(
      `WITH v (run, summary, details) AS (VALUES ${marks(keeping.length, 3)})
        UPDATE ${schema}records SET summary = v.summary, details = v.details FROM v WHERE records.run = v.run`,
      keeping.flatMap(({ record, wide }) => [record.id, wide.summary, wide.details]),
    );
  }
  const values: Value[][] = [];
  for (const { record, events } of savings) {
    const last = kept.get(record.id);
    if (last === undefined) continue;
    for (const [index, event] of events.entries()) {
      values.push([record.id, last - events.length + index + 1, ...event]);
    }
  }
  for (let from = 0; from < values.length; from += 1000) {
    const some = values.slice(from, from + 1000);
    await query(
      `INSERT INTO ${schema}events (run, number, at, type, event) VALUES ${marks(some.length, 5)}`,
      some.flat(),
    );
  }
  const answers: (RunRecord | Fault)[] = [];
  for (const saving of savings) {
    const { record } = saving;
    const isKept = kept.has(record.id);
    answers.push(isKept ? { ...record, version: record.version + 1 } : await whyNotSaved(schema, query, saving));
  }
  return answers;
}

async function whyNotSaved(schema: string, query: Query, { record, owner }: Saving): Promise<Fault> {
  const sql = `SELECT version, owner FROM ${schema}runs WHERE id = ?`;
  const [row] = await query<{ version: number; owner: string | null }>(sql, [record.id]);
  if (row === undefined) return new Fault("not_found", `There is no run ${record.id}`);
  if (row.owner !== owner) return new Fault("conflict", `Run ${record.id} is in the hands of another process by now`);
  if (row.version === record.version) {
    return new Fault("conflict", `The lease on run ${record.id} ran out before it was renewed`);
  }
  const versions = `from version ${record.version}, but version ${row.version} is stored`;
  return new Fault("conflict", `Run ${record.id} was not kept: it was made ${versions}`);
}

/** `(?, ?), (?, ?)` for two rows of two. */
export function marks(rows: number, columns: number): string {
  const row = `(${Array.from({ length: columns }, () => "?").join(", ")})`;
  return Array.from({ length: rows }, () => row).join(", ");
}
