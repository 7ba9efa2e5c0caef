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
import { Http2Error } from "./errors.ts";
import { Field, indexedField, isPseudo, plainField, secretField, staticTable } from "./field.ts";
import type { Allowed } from "./stream.ts";

// Header lists → heads as the rest of the proxy knows them, and back. What HTTP/2 calls malformed ends the stream.

/** The methods that are accepted, as they go to the target. */
const methodFields = new Map(
  ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"].map((method) => [
    method,
    staticTable.find(({ name, value }) => name === ":method" && value === method) ?? plainField(":method", method),
  ]),
);
/** These mean something to one connection, and HTTP/2 has none of it (RFC 9113, 8.2.2). */
const connectionNames = new Set(["connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"]);
const none: ReadonlySet<string> = new Set();
const schemeHttps = staticTable[6] as Field;

/** What a request's header list says besides its path, and where in the list that stands. */
interface RequestParts {
  method: string;
  host: string;
  headers: readonly Field[];
  /** Content-Length; -1 without. */
  length: number;
  pathAt: number;
}

/**
 * Reads the header lists of one connection's requests. Clients send the same fields with each request, save for the path; so
 * of a list that is the last one in all else, what was found out about the last one is true again.
 */
export class RequestReader {
  #last: { fields: readonly Field[]; parts: RequestParts } | undefined;

  /** A request's head, of equal fields with the same `headers`, and its Content-Length or -1. Errors as `readParts`. */
  read(fields: readonly Field[], stream: { id: number; ended: boolean }): { head: RequestHead; length: number } {
    const malformed = (what: string) => new Http2Error("PROTOCOL_ERROR", `A malformed request: ${what}`, stream.id);
    const known = this.#last !== undefined && isSameButPath(this.#last, fields);
    const parts = known && this.#last !== undefined ? this.#last.parts : readParts(fields, malformed);
    if (!known) this.#last = { fields, parts };
    const { method, host, headers, length } = parts;
    const target = fields[parts.pathAt]?.value ?? "";
    if (target === "") throw malformed("it has no :path");
    if (stream.ended && length > 0) throw malformed("it ends before the body that its Content-Length promises");
    const body = stream.ended ? "none" : length >= 0 ? "length" : "chunked";
    return { head: { method, target, host, headers, body, length: Math.max(length, 0), connection: none }, length };
  }
}

/** Whether the same fields stand in the same places, but for what :path says. */
function isSameButPath(last: { fields: readonly Field[]; parts: RequestParts }, fields: readonly Field[]): boolean {
  if (fields.length !== last.fields.length) return false;
  for (let at = 0; at < fields.length; at++) {
    const [before, now] = [last.fields[at], fields[at]];
    if (before === now) continue;
    if (before === undefined || now === undefined || now.malformed || before.name !== now.name) return false;
    if (at !== last.parts.pathAt && (before.value !== now.value || before.indexing !== now.indexing)) return false;
  }
  return true;
}

/** All that a request's fields say but its path. Http2Error with the stream; Refusal: 400, 405, 417. */
function readParts(fields: readonly Field[], malformed: (what: string) => Http2Error): RequestParts {
  const headers: Field[] = [];
  let method: string | undefined;
  let scheme: string | undefined;
  let authority: string | undefined;
  let host: string | undefined;
  let pathAt = -1;
  let length = -1;
  for (const [at, field] of fields.entries()) {
    const { name, value } = field;
    if (field.malformed) throw malformed("a header has characters that it may not have");
    if (isPseudo(field)) {
      if (headers.length > 0) throw malformed("a pseudo-header comes after a header");
      if (name === ":method" && method === undefined) method = value;
      else if (name === ":scheme" && scheme === undefined) scheme = value;
      else if (name === ":authority" && authority === undefined) authority = value;
      else if (name === ":path" && pathAt < 0) pathAt = at;
      else throw malformed("a pseudo-header is unknown or doubled");
      continue;
    }
    headers.push(field);
    if (connectionNames.has(name)) throw malformed(`it has the header ${name}`);
    if (name === "te" && value !== "trailers") throw malformed("TE may only say trailers");
    if (name === "content-length") length = contentLength(value, length, malformed);
    if (name === "expect" && value.toLowerCase() !== "100-continue") {
      throw new Refusal(417, "Expect should be 100-continue or left out");
    }
    if (name !== "host") continue;
    if (host !== undefined) throw hostRefusal();
    host = value;
  }
  if (method === undefined) throw malformed("it has no :method");
  if (!methodFields.has(method)) throw new Refusal(405, `The method ${method.slice(0, 40)} is not accepted`);
  if (scheme !== "https" && scheme !== "http") throw malformed("its :scheme is not https");
  const named = authority ?? host;
  if (named === undefined || (host !== undefined && host !== named)) throw hostRefusal();
  return { method, host: named, headers, length, pathAt };
}

function hostRefusal(): Refusal {
  return new Refusal(400, "The request should name its host once, in :authority");
}

/** What Content-Length says; `before`: what one said already, or -1. */
function contentLength(value: string, before: number, malformed: (what: string) => Error): number {
  if (before >= 0 || !/^\d{1,15}$/.test(value)) throw malformed("its Content-Length is doubled or no plain number");
  return Number(value);
}

/** What one connection sends to the target of its clients' headers: of the same ones the same fields. */
export class UpstreamFields {
  #headers: RequestHead["headers"] | undefined;
  #passed: readonly Field[] = [];

  /** What goes to the target: ours, and the caller's headers without what is dropped. Refusal: 403, 503. */
  of(allowed: Pick<Allowed, "head" | "target" | "connector"> | undefined, authority: Field): Field[] {
    const token = allowed?.connector.token;
    if (allowed === undefined || token === undefined) throw new Refusal(503, "The connector has no token");
    const { head, target } = allowed;
    if (this.#headers !== head.headers) {
      this.#passed = passedFields(head);
      this.#headers = head.headers;
    }
    const fields = [
      methodFields.get(head.method) ?? plainField(":method", head.method),
      schemeHttps,
      authority,
      plainField(":path", target.path + target.query),
      secretField("authorization", `Bearer ${token.reveal()}`),
    ];
    for (const field of this.#passed) fields.push(field);
    return fields;
  }
}

/** The caller's headers without what is dropped. Refusal: 403. */
function passedFields(head: RequestHead): Field[] {
  refuseImpersonation(head);
  const fields: Field[] = [];
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
  if (fields.some(({ name }) => name === "authorization")) {
    throw new Refusal(500, "The proxy would have sent another Authorization header than its own; please report this");
  }
  return fields;
}

export interface AnswerHead {
  status: number;
  /** -1 without a Content-Length. */
  length: number;
  /** Its :status, and of its headers those that may pass. */
  headers: Field[];
}

/** An answer's header list → its head, and only what may pass. Throws a Refusal that the caller turns into a 502. */
export function readAnswer(fields: readonly Field[]): AnswerHead {
  let status = 0;
  let length = -1;
  const headers: Field[] = [];
  for (const field of fields) {
    const { name, value } = field;
    if (field.malformed) throw badAnswer("a header has characters that it may not have");
    if (isPseudo(field)) {
      if (name !== ":status" || status > 0) throw badAnswer("a pseudo-header is unknown, doubled or after a header");
      status = usualStatuses.get(field) ?? statusOf(value);
      headers.push(statusField(status));
      continue;
    }
    if (status === 0) throw badAnswer("it does not begin with its :status");
    if (name === "transfer-encoding") throw badAnswer("it has a Transfer-Encoding");
    if (name === "content-length") {
      length = contentLength(value, length, badAnswer);
      if (status < 200 || status === 204) continue;
    }
    if (!isDroppedFromResponse(name)) headers.push(field);
  }
  if (status === 0) throw badAnswer("it has no :status");
  return { status, length, headers };
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

const usualStatuses = new Map(
  staticTable.filter(({ name }) => name === ":status").map((field) => [field, Number(field.value)]),
);
const statusFields = new Map([...usualStatuses].map(([field, status]) => [status, field]));

function statusOf(value: string): number {
  if (!/^[1-9]\d\d$/.test(value) || value === "101") throw badAnswer("its :status is none");
  return Number(value);
}

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
