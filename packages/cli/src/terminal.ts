import type { Log, LogFields, LogLevel } from "@kube-connector/core";

/** What a command says to the person: a line to standard output. */
export type Say = (line: string) => void;

const ranks: Record<LogLevel, number> = { debug: 0, info: 1, warn: 2, error: 3 };

/** A log for people: one line of text each, for the terminal of a command. `describe` shows an error. */
export function createTextLog(
  level: LogLevel,
  write: (line: string) => void,
  describe: (error: unknown) => string,
  fields: LogFields = {},
): Log {
  const at = (rank: LogLevel) => (sentence: string, more?: LogFields) => {
    if (ranks[rank] < ranks[level]) return;
    const shown = Object.entries({ ...fields, ...more })
      .filter(([, value]) => value !== undefined)
      .map(([name, value]) => `${name}: ${name === "error" ? describe(value) : String(value)}`);
    write(`${rank}: ${sentence}${shown.length === 0 ? "" : ` (${shown.join(", ")})`}`);
  };
  return {
    debug: at("debug"),
    info: at("info"),
    warn: at("warn"),
    error: at("error"),
    with: (more) => createTextLog(level, write, describe, { ...fields, ...more }),
  };
}

/** A path as a shell takes it. */
export function quoted(path: string): string {
  return /^[\w@%+=:,./-]+$/.test(path) ? path : `'${path.replaceAll("'", String.raw`'\''`)}'`;
}
