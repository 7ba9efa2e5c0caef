import { once } from "node:events";
import type { Response } from "express";
import type { Jobs } from "../jobs.ts";
import type { LineFilter } from "../logs/line.ts";

/** Milliseconds between two signs of life. */
const pingEvery = 15_000;

/** Where a reader of a run's events stopped: the last event's number, and the byte of live.log to go on from. */
export interface EventPosition {
  event: number;
  offset: number;
}

/** `12:3456`, as in the `id` of a server-sent event; undefined when it is no such text. */
export function parsePosition(text: string): EventPosition | undefined {
  const match = /^(\d{1,9}):(\d{1,15})$/.exec(text);
  return match === null ? undefined : { event: Number(match[1]), offset: Number(match[2]) };
}

/**
 * Writes a run's events and log lines as server-sent events, until both are complete or the reader has gone. Each reader is read
 * for from the disk at its own pace. https://html.spec.whatwg.org/multipage/server-sent-events.html
 */
export async function sendEvents(
  response: Response,
  options: { jobs: Jobs; run: string; from: EventPosition; filter: LineFilter; withLogs: boolean; signal: AbortSignal },
): Promise<void> {
  const { jobs, run, from, filter, withLogs } = options;
  const gone = new AbortController();
  response.once("close", () => gone.abort());
  const signal = AbortSignal.any([options.signal, gone.signal]);
  const at = { ...from };
  const write = async (text: string) => {
    if (!signal.aborted && !response.write(text)) await once(response, "drain", { signal }).catch(() => undefined);
  };
  const send = (type: string, data: unknown) =>
    write(`event: ${type}\nid: ${at.event}:${at.offset}\ndata: ${JSON.stringify(data)}\n\n`);

  response.writeHead(200, {
    "content-type": "text/event-stream",
    "cache-control": "no-store",
    "x-accel-buffering": "no",
  });
  response.flushHeaders();
  const ping = setInterval(() => {
    if (!response.writableNeedDrain) response.write(": ping\n\n");
  }, pingEvery);
  ping.unref();
  // The end is told last: after it a reader has everything.
  let last: unknown;
  try {
    await Promise.all([
      (async () => {
        for await (const event of jobs.follow(run, from.event, signal)) {
          if (event.type === "end") {
            last = event;
            return;
          }
          at.event = event.number;
          await send(event.type, event);
        }
      })(),
      (async () => {
        if (!withLogs) return;
        for await (const piece of jobs.followLog(run, { offset: from.offset, filter, signal })) {
          at.offset = piece.next;
          if (piece.lines.length > 0) await send("log", { lines: piece.lines });
        }
      })(),
    ]);
    if (last !== undefined) {
      at.event = (last as { number: number }).number;
      await send("end", last);
    }
  } finally {
    // When one of the two has failed, the other is to stop as well.
    gone.abort();
    clearInterval(ping);
    response.end();
  }
}
