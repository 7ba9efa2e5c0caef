import { pino } from "pino";

/** The names that a log line may carry. A closed set, so that no line ever gets a free-form field with a secret in it. */
export type LogFields = Partial<
  Record<
    | "room"
    | "connector"
    | "connectorUid"
    | "namespace"
    | "name"
    | "uid"
    | "kind"
    | "key"
    | "class"
    | "pod"
    | "user"
    | "door"
    | "verb"
    | "path"
    | "host"
    | "address"
    | "remote"
    | "method"
    | "volume"
    | "target"
    | "code"
    | "reason"
    | "request"
    | "status"
    | "decision"
    | "from"
    | "to"
    | "signal"
    | "file"
    | "version"
    | "node"
    | "identity"
    | "connectorSource",
    string | number
  > &
    Record<
      "count" | "bytesIn" | "bytesOut" | "milliseconds" | "seconds" | "attempt" | "resourceVersion",
      number | string
    > &
    Record<"error", unknown>
>;

/**
 * Where a component says what it does. Sentences are constant; what varies is in the fields. Passed in, never global.
 */
export interface Log {
  debug(sentence: string, fields?: LogFields): void;
  info(sentence: string, fields?: LogFields): void;
  warn(sentence: string, fields?: LogFields): void;
  error(sentence: string, fields?: LogFields): void;
  /** The same log with fields that each line carries. */
  with(fields: LogFields): Log;
}

export const logLevels = ["debug", "info", "warn", "error"] as const;
export type LogLevel = (typeof logLevels)[number];

/** What is logged of an error: the chain of messages and codes, no other property (one might hold a header). */
export function describeError(error: unknown): string {
  const parts: string[] = [];
  for (
    let cause = error;
    cause !== undefined && parts.length < 5;
    cause = cause instanceof Error ? cause.cause : undefined
  ) {
    parts.push(cause instanceof Error ? `${cause.name}: ${cause.message}` : typeof cause);
  }
  return parts.join("; because of ");
}

/** A log that throws lines away. */
export const silentLog: Log = { debug() {}, info() {}, warn() {}, error() {}, with: () => silentLog };

/**
 * A log of JSON lines by pino, for main.ts and for tests: to standard output, or to `destination`. To a file descriptor
 * lines may go some milliseconds late, several in one write.
 */
export function createJsonLog(
  level: LogLevel,
  fields: LogFields,
  destination: number | { write(line: string): void } = 1,
): Log {
  const options: pino.LoggerOptions = {
    level,
    base: fields,
    timestamp: pino.stdTimeFunctions.isoTime,
    formatters: { level: (label) => ({ level: label }) },
    serializers: { error: describeError },
  };
  if (typeof destination !== "number") return fromPino(pino(options, destination), () => undefined);
  const { write, flush } = gatherLines(pino.destination(destination));
  return fromPino(pino(options, { write }), flush);
}

/** Milliseconds that a line waits for others. */
const gathering = 10;

/** One write for the lines of a moment: with one for each, a busy proxy spends a tenth of its time there. */
function gatherLines(destination: { write(lines: string): unknown }): {
  write: (line: string) => void;
  flush: () => void;
} {
  let lines = "";
  const flush = () => {
    const gathered = lines;
    lines = "";
    if (gathered !== "") destination.write(gathered);
  };
  return {
    write(line) {
      if (lines === "") setTimeout(flush, gathering);
      lines += line;
      if (lines.length > 65_536) flush();
    },
    flush,
  };
}

/** `flush` is called after what must not be lost when the process dies at once. */
function fromPino(logger: pino.Logger, flush: () => void): Log {
  return {
    debug: (sentence, fields) => logger.debug(fields ?? {}, sentence),
    info: (sentence, fields) => logger.info(fields ?? {}, sentence),
    warn: (sentence, fields) => {
      logger.warn(fields ?? {}, sentence);
      flush();
    },
    error: (sentence, fields) => {
      logger.error(fields ?? {}, sentence);
      flush();
    },
    with: (fields) => fromPino(logger.child(fields), flush),
  };
}
