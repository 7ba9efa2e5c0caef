import { Fault } from "@kube-connector/core";
import type { Value } from "./database.ts";
import type { RunQuery } from "./store.ts";

// Pages by id, newest first. One index is walked, that of the filter which the fewest runs fit, a bounded window of it at a
// time; what else is asked for is seen in the rows. So the time of one statement does not grow with the history.

/** Rows looked at in one statement, when not each of them fits. */
const windowRows = 2_000;

/** Rows counted, to learn which filter few of them fit. */
const probedRows = 5_000;

interface Filter {
  column: string;
  /** Any of them fits. */
  values: readonly string[];
}

export interface Walk {
  /** Each has an index. The first one's is walked, for each of its values; with none it is id's. */
  filters: readonly Filter[];
  endedBefore?: string;
  /** Ids below this one. */
  below?: string;
  limit: number;
}

/** Checks a query and says how it is walked. */
export function planWalk(query: RunQuery): Walk {
  const { limit, cursor, endedBefore } = query;
  if (!Number.isInteger(limit) || limit < 1 || limit > 1000) {
    throw new Fault("invalid_argument", "Runs cannot be listed: limit must be 1 to 1000");
  }
  if (cursor !== undefined && !/^[0-9a-hjkmnp-tv-z]{26}$/.test(cursor)) {
    throw new Fault("invalid_argument", "Runs cannot be listed: cursor is not one that an earlier page gave");
  }
  const millis = endedBefore === undefined ? undefined : Date.parse(endedBefore);
  if (Number.isNaN(millis)) {
    throw new Fault("invalid_argument", "Runs cannot be listed: endedBefore is no time like 2026-03-01T10:00:00.000Z");
  }
  const one = (column: string, value: string | undefined) => (value === undefined ? [] : [{ column, values: [value] }]);
  const states = query.states?.length ? { column: "state", values: [...new Set(query.states)] } : undefined;
  const filters = [
    ...one("name", query.name),
    ...one("namespace", query.namespace),
    ...(states ? [states] : []),
    ...one("connector", query.connector),
    ...one("cleanup", query.cleanup),
  ];
  // What ended before a time was made before it, and ids begin with the time they were made.
  const bounds = [cursor, millis === undefined ? undefined : timePrefix(millis)].filter((id) => id !== undefined);
  return {
    filters,
    ...(millis !== undefined && { endedBefore: new Date(millis).toISOString() }),
    ...(bounds.length > 0 && { below: bounds.sort()[0] }),
    limit,
  };
}

/** The statement that says, for each filter, how many rows fit it, at most `probedRows`: one row, `fits0` and so on. */
export function probeSql({ filters }: Walk, runs: string): { sql: string; values: Value[] } {
  const probes = filters.map(
    ({ column, values }, index) =>
      `(SELECT count(*) FROM (SELECT 1 FROM ${runs} WHERE ${column} IN (${values.map(() => "?").join(", ")})
        LIMIT ${probedRows}) AS probe${index}) AS fits${index}`,
  );
  return { sql: `SELECT ${probes.join(", ")}`, values: filters.flatMap(({ values }) => values) };
}

/** The walk along the filter that the fewest rows fit. */
export function orderWalk(walk: Walk, probes: Readonly<Record<string, number | string>>): Walk {
  const found = walk.filters.map((filter, index) => ({ filter, rows: Number(probes[`fits${index}`]) }));
  return { ...walk, filters: found.sort((a, b) => a.rows - b.rows).map(({ filter }) => filter) };
}

/** The statement for one window: rows `id, fits`, newest first; fewer than `rows` of them when nothing is below. */
export function windowSql(walk: Walk, runs: string): { sql: string; values: Value[]; rows: number } {
  const { below, endedBefore } = walk;
  const [along, ...filters] = walk.filters;
  const all = filters.length === 0 && endedBefore === undefined;
  const lanes = along ? along.values.map((value) => ({ column: along.column, value })) : [undefined];
  const rows = all ? walk.limit + 1 : Math.ceil(windowRows / lanes.length);
  const fits = filters.map(({ column, values }) => `${column} IN (${values.map(() => "?").join(", ")})`);
  if (endedBefore !== undefined) fits.push("ended < ?");
  const wheres = (lane: { column: string } | undefined) => [
    ...(lane ? [`${lane.column} = ?`] : []),
    ...(below === undefined ? [] : ["id < ?"]),
  ];
  const laneSql = (lane: { column: string } | undefined, index: number) =>
    `SELECT * FROM (SELECT id, state, namespace, connector, name, cleanup, ended FROM ${runs}
      WHERE ${["TRUE", ...wheres(lane)].join(" AND ")} ORDER BY id DESC LIMIT ?) AS lane${index}`;
  return {
    sql: `SELECT id, ${fits.length === 0 ? "1" : `CASE WHEN ${fits.join(" AND ")} THEN 1 ELSE 0 END`} AS fits
      FROM (${lanes.map(laneSql).join(" UNION ALL ")}) AS found ORDER BY id DESC LIMIT ?`,
    values: [
      ...filters.flatMap(({ values }) => values),
      ...(endedBefore === undefined ? [] : [endedBefore]),
      ...lanes.flatMap((lane) => [...(lane ? [lane.value] : []), ...(below === undefined ? [] : [below]), rows]),
      rows,
    ],
    rows,
  };
}

/** The first 10 characters of the ids made at that time, in milliseconds. */
export function timePrefix(millis: number): string {
  let text = "";
  for (let rest = Math.max(0, millis), digit = 0; digit < 10; digit += 1, rest = Math.floor(rest / 32)) {
    text = "0123456789abcdefghjkmnpqrstvwxyz".charAt(rest % 32) + text;
  }
  return text;
}
