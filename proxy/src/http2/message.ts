import type { ResolvedConnector } from "@kube-connector/core";
import { answerText, Refusal } from "../answers.ts";
import {
  isDroppedFromRequest,
  isDroppedFromResponse,
  mayTrailRequest,
  mayTrailResponse,
  refuseImpersonation,
  withoutBearer,
} from "../headers.ts";
import type { RequestHead } from "../http1/head.ts";
import type { UpstreamTarget } from "../target.ts";
import { Http2Error } from "./errors.ts";
import { Field, indexedField, isPseudo, plainField, secretField, staticTable } from "./field.ts";

// Header lists → heads as the rest of the proxy knows them, and back. What HTTP/2 calls malformed ends the stream.

const methods = new Set(["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]);
/** These mean something to one connection, and HTTP/2 has none of it (RFC 9113, 8.2.2). */
const connectionNames = new Set(["connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"]);
const none: ReadonlySet<string> = new Set();
const schemeHttps = staticTable[6] as Field;

interface Pseudo {
  ":method"?: string;
  ":scheme"?: string;
  ":authority"?: string;
  ":path"?: string;
  ":status"?: string;
}
const requestPseudo = new Set([":method", ":scheme", ":authority", ":path"]);
const responsePseudo = new Set([":status"]);

/** The pseudo-headers and the others. `malformed` makes the error. */
function split(fields: readonly Field[], known: ReadonlySet<string>, malformed: (what: string) => Error) {
  const pseudo: Pseudo = {};
  const headers: Field[] = [];
  for (const field of fields) {
    if (field.malformed) throw malformed("a header has characters that it may not have");
    if (!isPseudo(field)) {
      headers.push(field);
      continue;
    }
    const name = field.name as keyof Pseudo;
    if (!known.has(name) || headers.length > 0 || pseudo[name] !== undefined) {
      throw malformed("a pseudo-header is unknown, doubled or after a header");
    }
    pseudo[name] = field.value;
  }
  return { pseudo, headers };
}

/** What Content-Length says; -1 without. */
function contentLength(headers: readonly Field[], malformed: (what: string) => Error): number {
  let length = -1;
  for (const { name, value } of headers) {
    if (name !== "content-length") continue;
    if (length >= 0 || !/^\d{1,15}$/.test(value)) throw malformed("its Content-Length is doubled or no plain number");
    length = Number(value);
  }
  return length;
}

/** A request's header list → its head, and its Content-Length or -1. Http2Error with the stream; Refusal: 400, 405, 417. */
export function readRequest(
  fields: readonly Field[],
  stream: { id: number; ended: boolean },
): { head: RequestHead; length: number } {
  const malformed = (what: string) => new Http2Error("PROTOCOL_ERROR", `A malformed request: ${what}`, stream.id);
  const { pseudo, headers } = split(fields, requestPseudo, malformed);
  const { ":method": method, ":scheme": scheme, ":path": target, ":authority": authority } = pseudo;
  const hosts = headers.filter(({ name }) => name === "host");
  for (const { name, value } of headers) {
    if (connectionNames.has(name)) throw malformed(`it has the header ${name}`);
    if (name === "te" && value !== "trailers") throw malformed("TE may only say trailers");
    if (name === "expect" && value.toLowerCase() !== "100-continue") {
      throw new Refusal(417, "Expect should be 100-continue or left out");
    }
  }
  const length = contentLength(headers, malformed);
  if (stream.ended && length > 0) throw malformed("it ends before the body that its Content-Length promises");
  if (method === undefined) throw malformed("it has no :method");
  if (!methods.has(method)) throw new Refusal(405, `The method ${method.slice(0, 40)} is not accepted`);
  if (scheme === undefined || !/^https?$/.test(scheme)) throw malformed("its :scheme is not https");
  if (target === undefined || target === "") throw malformed("it has no :path");
  const host = authority ?? hosts[0]?.value;
  if (host === undefined || hosts.length > 1 || (hosts[0] !== undefined && hosts[0].value !== host)) {
    throw new Refusal(400, "The request should name its host once, in :authority");
  }
  const body = stream.ended ? "none" : length >= 0 ? "length" : "chunked";
  return { head: { method, target, host, headers, body, length: Math.max(length, 0), connection: none }, length };
}

/** What goes to the target: the caller's headers without what is dropped, then ours. Refusal: 403. */
export function upstreamFields(
  head: RequestHead,
  to: { target: UpstreamTarget; connector: ResolvedConnector; token: string; authority: Field },
): Field[] {
  refuseImpersonation(head);
  const { target, token, authority } = to;
  const fields = [
    plainField(":method", head.method),
    schemeHttps,
    authority,
    plainField(":path", target.path + target.query),
    secretField("authorization", `Bearer ${token}`),
  ];
  for (const header of head.headers) {
    const { lower } = header;
    if (lower === "te") fields.push(plainField(lower, header.value));
    if (lower === "host" || isDroppedFromRequest(lower)) continue;
    const value = lower === "sec-websocket-protocol" ? withoutBearer(header.value) : header.value;
    if (value === undefined) continue;
    // A field as it came keeps its place in the table; one that a rule has put there is new.
    const same = header instanceof Field && value === header.value;
    fields.push(same ? header : plainField(lower, value));
  }
  if (fields.filter(({ name }) => name === "authorization").length !== 1) {
    throw new Refusal(500, "The proxy would have sent another Authorization header than its own; please report this");
  }
  return fields;
}

export interface AnswerHead {
  status: number;
  /** -1 without a Content-Length. */
  length: number;
  headers: Field[];
}

/** An answer's header list → its head, and only what may pass. Throws a Refusal that the caller turns into a 502. */
export function readAnswer(fields: readonly Field[]): AnswerHead {
  const { pseudo, headers } = split(fields, responsePseudo, badAnswer);
  const status = pseudo[":status"];
  if (status === undefined || !/^[1-9]\d\d$/.test(status) || status === "101") throw badAnswer("its :status is none");
  if (headers.some(({ name }) => name === "transfer-encoding")) throw badAnswer("it has a Transfer-Encoding");
  const length = contentLength(headers, badAnswer);
  const bodiless = Number(status) < 200 || status === "204";
  const passed = headers.filter(({ name }) => !isDroppedFromResponse(name) && !(bodiless && name === "content-length"));
  return { status: Number(status), length, headers: passed };
}

export function answerFields(answer: AnswerHead, more: readonly Field[]): Field[] {
  return [statusField(answer.status), ...answer.headers, ...more];
}

/** The trailers of a request. Http2Error with the stream. */
export function readRequestTrailers(fields: Field[], id: number): Field[] {
  const bad = fields.find((field) => field.malformed || isPseudo(field) || !mayTrailRequest(field.name));
  if (bad !== undefined) throw new Http2Error("PROTOCOL_ERROR", "a request's trailers hold what they may not", id);
  return fields;
}

/** The trailers of an answer. Throws a Refusal. */
export function readAnswerTrailers(fields: Field[]): Field[] {
  const bad = fields.find((field) => field.malformed || isPseudo(field) || !mayTrailResponse(field.name));
  if (bad !== undefined) throw badAnswer("its trailers hold what they may not");
  return fields;
}

/** Our own answer: the same text as over HTTP/1.1, taken apart. */
export function ownAnswer(refusal: Refusal, method: string): { fields: Field[]; body: string } {
  const text = answerText(refusal, { method, close: false });
  const end = text.indexOf("\r\n\r\n");
  const fields = [statusField(refusal.http)];
  for (const line of text.slice(0, end).split("\r\n").slice(1)) {
    const colon = line.indexOf(":");
    fields.push(plainField(line.slice(0, colon).toLowerCase(), line.slice(colon + 2)));
  }
  return { fields, body: text.slice(end + 4) };
}

const statusFields = new Map(
  staticTable.filter(({ name }) => name === ":status").map((field) => [Number(field.value), field]),
);

function statusField(status: number): Field {
  return statusFields.get(status) ?? plainField(":status", String(status));
}

/** The target's name, as each request of one connection has it. */
export function authorityField(connector: ResolvedConnector): Field {
  return indexedField(":authority", connector.target.hostHeader);
}

export function badAnswer(what: string): Refusal {
  return new Refusal(400, `The HTTP message is malformed: ${what}`);
}
