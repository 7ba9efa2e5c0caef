import { Fault } from "@kube-connector/core";
import { type RunEvent, type RunRecord, type RunState, runStates, terminalStates } from "../run.ts";
import { type Created, type Creation, createAll, creation, marks, type Saving, saveAll, saving } from "./batch.ts";
import type { Database, Query, Value } from "./database.ts";
import { createGatherer } from "./gather.ts";
import { orderWalk, planWalk, probeSql, windowSql } from "./listing.ts";
import { cancelText, jsonText, type RunRow, readRecord, readSummary, selectRuns, suspendText } from "./rows.ts";
import { migrate } from "./schema.ts";
import type { RunQuery, RunSummary, SnapshotKey, Store } from "./store.ts";

/** Runs deleted in one transaction, so that none blocks for long. */
const removedAtOnce = 50;

interface Place {
  connector: string;
  namespace: string;
}

interface Piece {
  runs: number | string;
  lowest: string | null;
}

/** Runs counted in one statement. */
const countedAtOnce = 30_000;

/** The store on an open database, whose tables it brings up to date. The database is the store's then: stop ends it. */
export async function openSqlStore(database: Database): Promise<Store> {
  const engine = await migrate(database);
  const { schema: s, now, lockFreeRows } = database;
  const recordSql = selectRuns(s, "record");
  const writes = createGatherer<Creation | Saving, Created | RunRecord>({
    most: 100,
    keyOf: ({ record }) => record.id,
    write: (items) =>
      database.write(async (query) => {
        const created = await createAll(database, query, ofKind(items, "create"));
        const saved = await saveAll(database, query, ofKind(items, "save"));
        return items.map(({ kind }) => (kind === "create" ? created.shift() : saved.shift()) as Created | RunRecord);
      }),
  });
  let stopping: Promise<void> | undefined;

  const open = () => {
    if (stopping) throw new Fault("unavailable", "The history is closed: the process is stopping");
  };
  const read = async <Row>(sql: string, values: readonly Value[] = []) => {
    open();
    return await database.read<Row>(sql, values);
  };
  const write = async <T>(work: (query: Query) => Promise<T>) => {
    open();
    return await database.write(work);
  };

  async function list(query: RunQuery): Promise<{ runs: RunSummary[]; next?: string }> {
    open();
    let walk = planWalk(query);
    if (walk.filters.length > 1) {
      const probe = probeSql(walk, `${s}runs`);
      const [probes] = await read<Record<string, number | string>>(probe.sql, probe.values);
      walk = orderWalk(walk, probes ?? {});
    }
    const ids: string[] = [];
    let more = true;
    while (more && ids.length <= walk.limit) {
      const { sql, values, rows } = windowSql(walk, `${s}runs`);
      const found = await read<{ id: string; fits: number }>(sql, values);
      for (const { id, fits } of found) if (fits === 1) ids.push(id);
      more = found.length === rows;
      walk.below = found.at(-1)?.id ?? "";
      // Between windows others have their turn.
      if (more && ids.length <= walk.limit) await new Promise((resolve) => setImmediate(resolve));
    }
    const page = ids.slice(0, walk.limit);
    const last = page.at(-1);
    if (last === undefined) return { runs: [] };
    const rows = await read<RunRow>(
      `${selectRuns(s, "summary")} WHERE runs.id IN ${marks(1, page.length)} ORDER BY runs.id DESC`,
      page,
    );
    return { runs: rows.map(readSummary), ...(ids.length > page.length && { next: last }) };
  }

  async function count(): Promise<Partial<Record<RunState, number>>> {
    const counts: Partial<Record<RunState, number>> = {};
    for (const state of runStates) {
      // In pieces, so that no statement takes long.
      const sql = `SELECT count(*) AS runs, min(id) AS lowest FROM
        (SELECT id FROM ${s}runs WHERE state = ? AND id < ? ORDER BY id DESC LIMIT ${countedAtOnce}) AS piece`;
      let below: string | null = "~";
      while (below !== null) {
        const rows: Piece[] = await read<Piece>(sql, [state, below]);
        const piece = rows[0];
        const runs = Number(piece?.runs ?? 0);
        if (runs > 0) counts[state] = (counts[state] ?? 0) + runs;
        below = runs < countedAtOnce ? null : (piece?.lowest ?? null);
        if (below !== null) await new Promise((resolve) => setImmediate(resolve));
      }
    }
    return counts;
  }

  async function request(id: string, asked: { cancel?: RunRecord["cancel"]; suspend?: boolean }): Promise<RunRecord> {
    const [row] = await write(async (query) => {
      await query(
        `UPDATE ${s}runs SET asked_cancel = COALESCE(CAST(? AS text), asked_cancel),
          asked_suspend = COALESCE(CAST(? AS text), asked_suspend) WHERE id = ?`,
        [cancelText(asked.cancel), suspendText(asked.suspend), id],
      );
      return await query<RunRow>(`${recordSql} WHERE runs.id = ?`, [id]);
    });
    if (row === undefined) throw new Fault("not_found", `There is no run ${id}`);
    return readRecord(row);
  }

  async function renewLease(query: Query, owner: string, seconds: number): Promise<void> {
    await query(
      `INSERT INTO ${s}owners (owner, lease_until) VALUES (?, ${now} + CAST(? AS bigint))
        ON CONFLICT (owner) DO UPDATE SET lease_until = excluded.lease_until`,
      [owner, Math.round(seconds * 1000)],
    );
  }

  /** Of owners whose lease has ended: runs that nobody will claim are free again, and who has none left is deleted. */
  async function forget(query: Query, owners: readonly string[]): Promise<void> {
    const these = `owner IN ${marks(1, owners.length)}`;
    await query(
      `UPDATE ${s}runs SET owner = NULL WHERE id IN (SELECT id FROM ${s}runs WHERE ${these} AND done = 1 LIMIT 100)`,
      owners,
    );
    await query(
      `DELETE FROM ${s}owners WHERE ${these} AND NOT EXISTS (SELECT 1 FROM ${s}runs AS r WHERE r.owner = owners.owner)`,
      owners,
    );
  }

  async function claim(
    owner: string,
    limit: number,
    leaseSeconds: number,
    ids?: readonly string[],
  ): Promise<RunRecord[]> {
    if (ids?.length === 0) return [];
    return await write(async (query) => {
      await renewLease(query, owner, leaseSeconds);
      // Locked, so that none of them is renewed while its runs are taken; one that is being renewed is passed over.
      const dead = await query<{ owner: string }>(
        `SELECT owner FROM ${s}owners WHERE lease_until <= ${now} AND owner <> ? LIMIT 100${lockFreeRows}`,
        [owner],
      );
      const theirs = dead.map((row) => row.owner);
      const alive = theirs.length === 0 ? "" : ` AND o.owner NOT IN ${marks(1, theirs.length)}`;
      const which = ids === undefined ? "done = 0" : `id IN ${marks(1, ids.length)}`;
      const isFree = `(owner IS NULL OR owner <> ?)
          AND NOT EXISTS (SELECT 1 FROM ${s}owners AS o WHERE o.owner = runs.owner${alive})`;
      const free = await query<{ id: string }>(
        `SELECT id FROM ${s}runs WHERE ${which} AND ${isFree} ORDER BY id LIMIT ?${lockFreeRows}`,
        [...(ids ?? []), owner, ...theirs, limit],
      );
      if (theirs.length > 0) await forget(query, theirs);
      if (free.length === 0) return [];
      // Looked at again, now that nobody else can change them: an owner that came while they were being found was not seen.
      const updated = await query<{ id: string }>(
        `UPDATE ${s}runs SET owner = ? WHERE id IN ${marks(1, free.length)} AND ${isFree} RETURNING id`,
        [owner, ...free.map(({ id }) => id), owner, ...theirs],
      );
      if (updated.length === 0) return [];
      const taken = updated.map(({ id }) => id);
      const rows = await query<RunRow>(
        `${recordSql} WHERE runs.id IN ${marks(1, taken.length)} ORDER BY runs.id`,
        taken,
      );
      return rows.map(readRecord);
    });
  }

  async function release(owner: string, ids?: readonly string[]): Promise<void> {
    if (ids?.length === 0) return;
    const which = ids === undefined ? "" : ` AND id IN ${marks(1, ids.length)}`;
    await write(async (query) => {
      await query(`UPDATE ${s}runs SET owner = NULL WHERE owner = ?${which}`, [owner, ...(ids ?? [])]);
      if (ids === undefined) await query(`DELETE FROM ${s}owners WHERE owner = ?`, [owner]);
    });
  }

  async function removeSome(ids: readonly string[]): Promise<string[]> {
    return await write(async (query) => {
      const rows = await query<{ id: string }>(
        `DELETE FROM ${s}runs WHERE id IN ${marks(1, ids.length)} AND state IN ${marks(1, terminalStates.length)}
          RETURNING id`,
        [...ids, ...terminalStates],
      );
      const gone = rows.map(({ id }) => id);
      if (gone.length > 0) {
        await query(`DELETE FROM ${s}records WHERE run IN ${marks(1, gone.length)}`, gone);
        await query(`DELETE FROM ${s}events WHERE run IN ${marks(1, gone.length)}`, gone);
        await query(`DELETE FROM ${s}idempotency WHERE run IN ${marks(1, gone.length)}`, gone);
      }
      return gone;
    });
  }

  const place = ({ connector, kind, namespace, name }: SnapshotKey) => [connector, kind, namespace, name];

  return {
    engine,
    async create(record, keys, owner) {
      open();
      return (await writes.add(creation(record, keys, owner))) as Created;
    },
    async read(id) {
      const rows = await read<RunRow>(`${recordSql} WHERE runs.id = ?`, [id]);
      return rows[0] && readRecord(rows[0]);
    },
    list,
    places: () => read<Place>(`SELECT connector, namespace FROM ${s}places ORDER BY connector, namespace`),
    count,
    async save(record, events, owner) {
      open();
      return (await writes.add(saving(record, events, owner))) as RunRecord;
    },
    request,
    async requests(owner) {
      const rows = await read<{ id: string }>(
        `SELECT id FROM ${s}runs WHERE owner = ? AND (asked_cancel IS NOT NULL OR asked_suspend IS NOT NULL) ORDER BY id`,
        [owner],
      );
      return rows.map(({ id }) => id);
    },
    async events(id, after, limit) {
      const rows = await read<{ number: number; at: string; type: RunEvent["type"]; event: string }>(
        `SELECT number, at, type, event FROM ${s}events WHERE run = ? AND number > ? ORDER BY number LIMIT ?`,
        [id, after, limit],
      );
      return rows.map(({ number, at, type, event }) => ({
        number,
        at,
        type,
        ...(JSON.parse(event) as Pick<RunEvent, "message" | "data">),
      }));
    },
    claim,
    renew: (owner, leaseSeconds) =>
      write(async (query) => {
        await renewLease(query, owner, leaseSeconds);
        const rows = await query<{ id: string }>(`SELECT id FROM ${s}runs WHERE owner = ? ORDER BY id`, [owner]);
        return rows.map(({ id }) => id);
      }),
    release,
    async saveSnapshot(key, manifest) {
      const text = jsonText(manifest);
      await write((query) =>
        query(
          `INSERT INTO ${s}snapshots (connector, kind, namespace, name, manifest) VALUES ${marks(1, 5)}
            ON CONFLICT (connector, kind, namespace, name) DO UPDATE SET manifest = excluded.manifest`,
          [...place(key), text],
        ),
      );
    },
    async readSnapshot(key) {
      const [row] = await read<{ manifest: string }>(
        `SELECT manifest FROM ${s}snapshots WHERE connector = ? AND kind = ? AND namespace = ? AND name = ?`,
        place(key),
      );
      return row && (JSON.parse(row.manifest) as Record<string, unknown>);
    },
    async remove(ids) {
      const gone: string[] = [];
      for (let from = 0; from < ids.length; from += removedAtOnce) {
        gone.push(...(await removeSome(ids.slice(from, from + removedAtOnce))));
      }
      return gone;
    },
    stop() {
      stopping ??= writes.settle().then(() => database.stop());
      return stopping;
    },
  };
}

function ofKind<Kind extends "create" | "save">(items: readonly (Creation | Saving)[], kind: Kind) {
  return items.filter((item): item is Extract<Creation | Saving, { kind: Kind }> => item.kind === kind);
}
