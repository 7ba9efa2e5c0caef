import type { Caller } from "./authenticate.ts";
import type { Door } from "./metrics.ts";

// What /debug/streams shows: what is open, since when, and for whom it waits. Never a token, a header or a query.

export interface OpenStream {
  /** The audit log's auditID; undefined between two requests. */
  id?: string | undefined;
  /** `namespace/name`; undefined before CONNECT was let through. */
  connector?: string | undefined;
  door: Door;
  protocol: "connect" | "http/1.1" | "h2";
  remote: string;
  /** Seconds since the request's head came, or since the connection is there. */
  seconds: number;
  /** What is going on, and who has to move next. */
  state: string;
  waitsFor: "client" | "target" | "review" | "both";
  method?: string | undefined;
  /** Below the connector's prefix. */
  path?: string | undefined;
  user?: string | undefined;
  /** `namespace/name`. */
  pod?: string | undefined;
  bytesIn?: number | undefined;
  bytesOut?: number | undefined;
}

/** Most streams that are written out, the oldest first: 20,000 of them would hold up everything else. */
const shown = 1000;

/** JSON for people: how many are in which state, then each. */
export function openStreamsText(streams: readonly OpenStream[]): string {
  const states: Record<string, number> = {};
  for (const { state } of streams) states[state] = (states[state] ?? 0) + 1;
  const oldest = streams.toSorted((a, b) => b.seconds - a.seconds).slice(0, shown);
  const parts = [`"open": ${streams.length}`, `"states": ${JSON.stringify(states)}`];
  const lines = oldest.map((stream) => `\n  ${JSON.stringify(stream)}`);
  return `{${parts.join(", ")}, "oldest": [${lines.join(",")}\n]}\n`;
}

/** The fields about a caller. */
export function callerFields(caller: Caller | undefined): Pick<OpenStream, "user" | "pod"> {
  if (caller === undefined) return {};
  const { user, pod, namespace = "" } = caller;
  return pod === undefined ? { user } : { user, pod: `${namespace}/${pod.name}` };
}

/** Seconds with one digit. */
export function secondsSince(then: number, now: number): number {
  return Math.round((now - then) / 100) / 10;
}
