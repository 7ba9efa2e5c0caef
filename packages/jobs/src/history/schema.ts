import { randomInt } from "node:crypto";
import { Fault } from "@kube-connector/core";
import type { Database } from "./database.ts";

/** What brings the tables from one version to the next: the first makes version 1. Never changed, only added to. */
function migrations(database: Database): string[][] {
  const { schema, textType: text } = database;
  return [
    [
      `CREATE TABLE ${schema}runs (
        id ${text} PRIMARY KEY, connector ${text} NOT NULL, namespace ${text} NOT NULL, name ${text} NOT NULL,
        run_key ${text} UNIQUE, owner ${text}, version integer NOT NULL, events integer NOT NULL,
        asked_cancel text, asked_suspend text,
        state ${text} NOT NULL, cleanup ${text} NOT NULL, ended ${text}, done integer NOT NULL)`,
      // Apart, so that the rows that are walked and claimed are many to a page.
      `CREATE TABLE ${schema}records (run ${text} PRIMARY KEY, summary text NOT NULL, details text NOT NULL)`,
      `CREATE INDEX runs_state ON ${schema}runs (state, id)`,
      `CREATE INDEX runs_connector ON ${schema}runs (connector, id)`,
      `CREATE INDEX runs_namespace ON ${schema}runs (namespace, id)`,
      `CREATE INDEX runs_name ON ${schema}runs (name, id)`,
      `CREATE INDEX runs_cleanup ON ${schema}runs (cleanup, id)`,
      `CREATE INDEX runs_open ON ${schema}runs (id, owner) WHERE done = 0`,
      `CREATE INDEX runs_owner ON ${schema}runs (owner) WHERE owner IS NOT NULL`,
      `CREATE INDEX runs_asked ON ${schema}runs (owner) WHERE asked_cancel IS NOT NULL OR asked_suspend IS NOT NULL`,
      // A lease is the owner's, and covers all runs it has: renewing is one row, however many they are.
      `CREATE TABLE ${schema}owners (owner ${text} PRIMARY KEY, lease_until bigint NOT NULL)`,
      `CREATE TABLE ${schema}events (run ${text} NOT NULL, number integer NOT NULL, at ${text} NOT NULL,
        type ${text} NOT NULL, event text NOT NULL, PRIMARY KEY (run, number))`,
      `CREATE TABLE ${schema}places (connector ${text} NOT NULL, namespace ${text} NOT NULL, PRIMARY KEY (connector, namespace))`,
      `CREATE TABLE ${schema}idempotency (key ${text} PRIMARY KEY, digest ${text} NOT NULL, run ${text} NOT NULL)`,
      `CREATE INDEX idempotency_run ON ${schema}idempotency (run)`,
      `CREATE TABLE ${schema}snapshots (connector ${text} NOT NULL, kind ${text} NOT NULL, namespace ${text} NOT NULL,
        name ${text} NOT NULL, manifest text NOT NULL, PRIMARY KEY (connector, kind, namespace, name))`,
    ],
  ];
}

/**
 * Brings the tables to this program's version, or makes them; several processes may do so at once. Answers with the
 * engine's id. A store of a newer program is refused and left as it is.
 */
export async function migrate(database: Database): Promise<string> {
  const { schema, textType: text } = database;
  return await database.write(async (query) => {
    for (const statement of database.beforeMigration) await query(statement);
    await query(`CREATE TABLE IF NOT EXISTS ${schema}meta (name ${text} PRIMARY KEY, value text NOT NULL)`);
    const rows = await query<{ name: string; value: string }>(`SELECT name, value FROM ${schema}meta`);
    const meta = new Map(rows.map(({ name, value }) => [name, value]));
    const steps = migrations(database);
    const version = Number(meta.get("schema") ?? 0);
    if (version > steps.length) {
      throw new Fault(
        "invalid_argument",
        `The history ${database.place} was written by a newer kube-connector (its schema is ${version}, this program ` +
          `knows ${steps.length}): use that version again, or another place for the history`,
      );
    }
    const set = `INSERT INTO ${schema}meta (name, value) VALUES (?, ?)
      ON CONFLICT (name) DO UPDATE SET value = excluded.value`;
    for (const statement of steps.slice(version).flat()) await query(statement);
    if (version < steps.length) await query(set, ["schema", String(steps.length)]);
    const engine = meta.get("engine") ?? randomEngine();
    if (!meta.has("engine")) await query(set, ["engine", engine]);
    return engine;
  });
}

function randomEngine(): string {
  return Array.from({ length: 10 }, () => "abcdefghijklmnopqrstuvwxyz0123456789".charAt(randomInt(36))).join("");
}
