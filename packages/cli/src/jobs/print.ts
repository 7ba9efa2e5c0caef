import { forTerminal } from "@kube-connector/jobs";
import { stringify } from "yaml";
import type { Output } from "./commands.ts";

export type Write = (text: string) => void;

/**
 * Writes to a stream. What programs and clusters have said is among it, so a terminal gets no control characters but tab and
 * colour.
 */
export function writeTo(stream: { isTTY?: boolean; write(text: string): unknown }): Write {
  if (stream.isTTY !== true) return (text) => void stream.write(text);
  return (text) => void stream.write(text.split("\n").map(forTerminal).join("\n"));
}

/** On one line. */
export function oneLine(text: string): string {
  return text.replaceAll(/\s*[\r\n]+\s*/g, " ").trim();
}

/** A value as JSON, one object, or YAML. */
export function printValue(write: Write, output: Output, value: unknown): void {
  write(output === "yaml" ? stringify(value) : `${JSON.stringify(value, undefined, output === "ndjson" ? 0 : 2)}\n`);
}

/** Columns as wide as their widest cell, two spaces between them, their names at the top. */
export function printTable(write: Write, columns: readonly string[], rows: readonly (readonly string[])[]): void {
  const all = [columns, ...rows];
  const widths = columns.map((_, at) => Math.max(...all.map((row) => (row[at] ?? "").length)));
  for (const row of all) {
    write(`${row.map((cell, at) => (at === row.length - 1 ? cell : cell.padEnd(widths[at] ?? 0))).join("  ")}\n`);
  }
}

/** `42s`, `5m`, `3h`, `2d`: how long ago, or how long it took. */
export function age(milliseconds: number): string {
  const seconds = Math.max(0, Math.round(milliseconds / 1000));
  if (seconds < 120) return `${seconds}s`;
  if (seconds < 7200) return `${Math.floor(seconds / 60)}m`;
  if (seconds < 172_800) return `${Math.floor(seconds / 3600)}h`;
  return `${Math.floor(seconds / 86_400)}d`;
}

/** Bytes of a log as the lines in them. */
export async function* wholeLines(pieces: AsyncIterable<Buffer>): AsyncGenerator<string[]> {
  // A server's pieces may end within a character.
  const decoder = new TextDecoder();
  let rest = "";
  for await (const piece of pieces) {
    const lines = (rest + decoder.decode(piece, { stream: true })).split("\n");
    rest = lines.pop() ?? "";
    if (lines.length > 0) yield lines;
  }
}
