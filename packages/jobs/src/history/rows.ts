import { Fault } from "@kube-connector/core";
import { isTerminal, type RunRecord } from "../run.ts";
import type { Value } from "./database.ts";
import type { RunSummary } from "./store.ts";

// A record as two rows: a narrow one of what the database selects by, and a wide one. In the wide one what is listed
// (`summary`) is apart from what is long (`details`); both are JSON that the database never looks into. They are text and not jsonb, as jsonb refuses what
// containers do print: U+0000 and half surrogates.

export interface RunRow {
  id: string;
  version: number;
  asked_cancel: string | null;
  asked_suspend: string | null;
  summary: string;
  details: string;
}

/** The SELECT for `RunRow`s, or for those without `details`; what follows is its WHERE. */
export function selectRuns(schema: string, part: "record" | "summary"): string {
  return `SELECT runs.id, runs.version, runs.asked_cancel, runs.asked_suspend, w.summary${part === "record" ? ", w.details" : ""}
    FROM ${schema}runs JOIN ${schema}records AS w ON w.run = runs.id`;
}

/** The columns of the narrow row that each save may change, with the types that their values have in SQL. */
export const savedColumns = { state: "text", cleanup: "text", ended: "text", done: "integer" } as const;

/** Values of `savedColumns`, in their order. */
export function savedValues(record: RunRecord): Value[] {
  const done = isTerminal(record.state) && record.cleanup.state !== "Pending";
  return [record.state, record.cleanup.state, record.endedAt ?? null, done ? 1 : 0];
}

/** The wide row. */
export function wideValues(record: RunRecord): { summary: string; details: string } {
  const { definition, attempts, outputs, version: _, ...short } = record;
  const last = attempts.at(-1);
  const summary = { ...short, attempt: last?.number ?? 0, ...(last && { job: last.job }) };
  return { summary: jsonText(summary), details: jsonText({ definition, attempts, outputs }) };
}

/** The record of a row, with what was asked of the run and is in no save yet. */
export function readRecord(row: RunRow): RunRecord {
  const { attempt: _attempt, job: _job, ...short } = readSummary(row);
  return { ...short, ...(JSON.parse(row.details) as Pick<RunRecord, "definition" | "attempts">) };
}

export function readSummary(row: Omit<RunRow, "details">): RunSummary {
  return {
    ...(JSON.parse(row.summary) as Omit<RunSummary, "version">),
    version: row.version,
    ...(row.asked_cancel !== null && { cancel: JSON.parse(row.asked_cancel) as NonNullable<RunRecord["cancel"]> }),
    ...(row.asked_suspend !== null && { suspend: row.asked_suspend === "true" }),
  };
}

/** A Fault like all others for what JSON does not know: a circle, a bigint. */
export function jsonText(value: unknown): string {
  try {
    return JSON.stringify(value);
  } catch (error) {
    throw Fault.from(error, "What is to be kept cannot be written as JSON");
  }
}

/** A request as text; the same request always gives the same text. */
export function cancelText(cancel: RunRecord["cancel"]): string | null {
  if (cancel === undefined) return null;
  const { at, propagation, force } = cancel;
  return JSON.stringify({ at, propagation, force });
}

export function suspendText(suspend: boolean | undefined): string | null {
  return suspend === undefined ? null : String(suspend);
}

/** Texts that are columns or keys: PostgreSQL takes no U+0000 there, so nobody does. */
export function refuseNul(what: string, texts: readonly (string | undefined)[]): void {
  if (texts.some((text) => text?.includes("\0"))) {
    throw new Fault(
      "invalid_argument",
      `${what} cannot be kept: a name or key holds the character U+0000; leave it out`,
    );
  }
}
