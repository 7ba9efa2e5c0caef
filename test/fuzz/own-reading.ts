// oxlint-disable import/no-relative-packages -- what is fuzzed is inside of the proxy, not in its index
import { mayTrailRequest, mayTrailResponse } from "../../proxy/src/headers.ts";
import { BodyFramer } from "../../proxy/src/http1/body.ts";
import { type Header, parseRequestHead, parseResponseHead } from "../../proxy/src/http1/head.ts";
import { Unchunker } from "../../proxy/src/metadata/unchunk.ts";
// oxlint-enable import/no-relative-packages
import { type Connection, type Lines, sortedLines } from "./reading.ts";

/** A message as the proxy's own framer reads it. */
export interface OwnMessage {
  method: string;
  target: string;
  status: number;
  headers: Lines;
  body: string;
  /** The body with its framing. */
  raw: string;
  complete: boolean;
}

export interface OwnReading {
  interim: number[];
  messages: OwnMessage[];
  /** Bytes that are in no message. */
  left: string;
}

/** What the framer makes of bytes that the proxy has written. Throws a Refusal when it would not let them pass itself. */
export function readOwn({ kind, method, bytes, cut }: Connection): OwnReading {
  const reading: OwnReading = { interim: [], messages: [], left: bytes };
  for (;;) {
    const end = reading.left.indexOf("\r\n\r\n");
    if (end < 0 || (kind === "answer" && reading.messages.length > 0)) return reading;
    const headText = reading.left.slice(0, end);
    const head = kind === "requests" ? parseRequestHead(headText) : parseResponseHead(headText, method);
    reading.left = reading.left.slice(end + 4);
    const status = "status" in head ? head.status : 0;
    if (kind === "answer" && status < 200 && status !== 101) {
      reading.interim.push(status);
      continue;
    }
    const framer = new BodyFramer(kind === "requests" ? mayTrailRequest : mayTrailResponse);
    framer.begin(head.body, head.length);
    const rest = Buffer.from(reading.left, "latin1");
    const taken = framer.done ? 0 : framer.take(rest, 0);
    const raw = rest.subarray(0, taken);
    reading.left = reading.left.slice(taken);
    reading.messages.push({
      method: "method" in head ? head.method : "",
      target: "target" in head ? head.target : "",
      status,
      headers: sortedLines(head.headers.map(({ name, value }: Header) => [name, value])),
      body: (framer.isChunked ? Buffer.concat(new Unchunker().take(raw)) : raw).toString("latin1"),
      raw: raw.toString("latin1"),
      complete: framer.done || (framer.endsWithConnection && !cut),
    });
  }
}
