import { type ResolvedConnector, Secret } from "@kube-connector/core";
import { Refusal } from "./answers.ts";
import { type Header, type RequestHead, type ResponseHead, trimBlanks } from "./http1/head.ts";

// Drop first, then inject: which headers of the caller never reach the target, and which of ours do.

const droppedFromRequests = new Set([
  "connection",
  "keep-alive",
  "te",
  "trailer",
  "upgrade",
  "http2-settings",
  "authorization",
  "cookie",
  "forwarded",
]);
const droppedRequestPrefixes = ["proxy-", "x-remote-", "x-forwarded-", "x-original-"];

const droppedFromResponses = new Set(["connection", "keep-alive", "upgrade", "alt-svc", "set-cookie"]);

/** Names that say where a message ends or whom it is for: never in a trailer, never named by Connection. */
const framingNames = new Set(["host", "content-length", "transfer-encoding"]);

/** An item of Sec-WebSocket-Protocol that is a credential: browsers send their bearer token so. */
const bearerProtocol = "base64url.bearer.authorization.k8s.io.";

/** Whether a request header of that lower-case name is kept from the target. */
export function isDroppedFromRequest(lower: string): boolean {
  return droppedFromRequests.has(lower) || droppedRequestPrefixes.some((prefix) => lower.startsWith(prefix));
}

export function isDroppedFromResponse(lower: string): boolean {
  return droppedFromResponses.has(lower) || lower.startsWith("proxy-");
}

export function mayTrailRequest(lower: string): boolean {
  return !framingNames.has(lower) && !isDroppedFromRequest(lower) && !isImpersonation(lower) && lower !== "expect";
}

export function mayTrailResponse(lower: string): boolean {
  return !framingNames.has(lower) && !isDroppedFromResponse(lower);
}

function isImpersonation(lower: string): boolean {
  return lower.startsWith("impersonate-");
}

/**
 * The bearer token of a request: exactly one Authorization header, `Bearer` and a token that is not empty. Undefined
 * otherwise, whatever else is there.
 */
export function bearerToken(headers: readonly Header[]): string | undefined {
  let found: string | undefined;
  for (const { lower, value } of headers) {
    if (lower !== "authorization") continue;
    if (found !== undefined) return undefined;
    found = value;
  }
  return /^bearer +([\x21-\x7e]+)$/i.exec(found ?? "")?.[1];
}

/** What the proxy adds to a request. */
export interface Injected {
  /** The target's Host. */
  host: string;
  /** The stored token, revealed for this write. */
  token: string;
  /** The protocol to upgrade to, as the client wrote it. */
  upgrade: string | undefined;
}

/**
 * The header lines that go upstream, each ended by CRLF: the caller's without what is dropped, then ours. Refusal: 403
 * for any Impersonate-* (to drop it would run the call with more rights than its sender asked for), 400 when Connection
 * names what it must not, 500 when the result would not hold exactly our Authorization.
 */
export function upstreamHeaderLines(head: RequestHead, injected: Injected): string {
  refuseImpersonation(head);
  let lines = `Host: ${injected.host}\r\nAuthorization: Bearer ${injected.token}\r\n`;
  for (const header of head.headers) {
    if (header.lower === "host" || isDroppedFromRequest(header.lower)) continue;
    if (head.connection.has(header.lower)) continue;
    const value = header.lower === "sec-websocket-protocol" ? withoutBearer(header.value) : header.value;
    if (value !== undefined) lines += `${header.name}: ${value}\r\n`;
  }
  if (injected.upgrade !== undefined) lines += `Connection: Upgrade\r\nUpgrade: ${injected.upgrade}\r\n`;
  if (countAuthorization(lines) !== 1) {
    throw new Refusal(500, "The proxy would have sent another Authorization header than its own; please report this");
  }
  return lines;
}

/** The header lines that went upstream last from one client, and what they were made of. */
export class LastUpstreamLines {
  #headers: readonly Header[] | undefined;
  #connector: ResolvedConnector | undefined;
  #upgrade: string | undefined;
  #lines: Secret | undefined;

  /** As `upstreamHeaderLines`, whose answer follows from these alone: a connector never changes, a new version is another one. */
  of(head: RequestHead, connector: ResolvedConnector, token: Secret, upgrade: string | undefined): Secret {
    const same = this.#headers === head.headers && this.#connector === connector && this.#upgrade === upgrade;
    if (same && this.#lines !== undefined) return this.#lines;
    const injected = { host: connector.target.hostHeader, token: token.reveal(), upgrade };
    const lines = new Secret(upstreamHeaderLines(head, injected));
    this.#headers = head.headers;
    this.#connector = connector;
    this.#upgrade = upgrade;
    this.#lines = lines;
    return lines;
  }
}

/** Looks at the text itself, whatever made it. Line by line: a regular expression took longer than all the rest. */
function countAuthorization(lines: string): number {
  let count = 0;
  for (let start = 0, end = lines.indexOf("\n"); end >= 0; start = end + 1, end = lines.indexOf("\n", start)) {
    if ((lines.charCodeAt(start) | 0x20) !== 0x61) continue; // "a" or "A"
    const colon = lines.indexOf(":", start);
    if (lines.slice(start, colon).trim().toLowerCase() === "authorization") count += 1;
  }
  return count;
}

export function refuseImpersonation(head: RequestHead): void {
  const named =
    head.headers.find(({ lower }) => isImpersonation(lower))?.name ?? [...head.connection].find(isImpersonation);
  if (named !== undefined) {
    throw new Refusal(
      403,
      `The header ${named} is refused: impersonation does not pass a connector. Leave --as, --as-group and --as-uid out`,
    );
  }
  if (head.connection.size === 0) return;
  const framing = [...framingNames].find((name) => head.connection.has(name));
  if (framing !== undefined) throw new Refusal(400, `Connection may not name ${framing}`);
}

/** The subprotocols without a bearer token; undefined when none is left. */
export function withoutBearer(value: string): string | undefined {
  if (!value.toLowerCase().includes(bearerProtocol)) return value;
  const kept = value
    .split(",")
    .map((item) => trimBlanks(item, 0))
    .filter((item) => item !== "" && !item.toLowerCase().startsWith(bearerProtocol));
  return kept.length === 0 ? undefined : kept.join(", ");
}

/** A 204 or 1xx has no framing headers (RFC 9110, 8.6); where one is sent, clients disagree on what it means. */
function hasNoFraming({ status }: ResponseHead): boolean {
  return status < 200 || status === 204;
}

function isForClient(lower: string, head: ResponseHead): boolean {
  if (framingNames.has(lower)) return !hasNoFraming(head);
  return !isDroppedFromResponse(lower) && !head.connection.has(lower);
}

/** The header lines of an answer that the client gets, each ended by CRLF; Connection is the relay's to add. */
export function clientHeaderLines(head: ResponseHead): string {
  let lines = "";
  for (const { name, lower, value } of head.headers) if (isForClient(lower, head)) lines += `${name}: ${value}\r\n`;
  return lines;
}

/** One header line that the client does not get: bytes, its line end included, and how many of other lines are before it. */
export interface Cut {
  at: number;
  length: number;
}

/** Most cuts of one head: each moves what is before it. */
const mostCuts = 8;

/**
 * What to cut out of an answer's header lines, as they came, for the rest to be exactly `clientHeaderLines`; undefined where
 * one of them is written in another way than we write it, or there is too much to cut.
 */
export function clientHeaderCuts(head: ResponseHead): readonly Cut[] | undefined {
  let cuts = noCuts;
  let at = 0;
  for (const { name, lower, value, line } of head.headers) {
    if (line === undefined) return undefined;
    const length = line.length + 2;
    if (!isForClient(lower, head)) {
      if (cuts.length === mostCuts) return undefined;
      cuts = [...cuts, { at, length }];
    } else if (line.length !== name.length + 2 + value.length || line.charCodeAt(name.length + 1) !== 0x20) {
      return undefined;
    }
    at += length;
  }
  return cuts;
}

const noCuts: readonly Cut[] = [];

/** The cuts of the answer that came last: for the same header lines they are the same. */
export class LastClientCuts {
  #headers: readonly Header[] | undefined;
  #status = 0;
  #cuts: readonly Cut[] | undefined;

  /** As `clientHeaderCuts`. */
  of(head: ResponseHead): readonly Cut[] | undefined {
    if (this.#headers === head.headers && this.#status === head.status) return this.#cuts;
    this.#cuts = clientHeaderCuts(head);
    this.#headers = head.headers;
    this.#status = head.status;
    return this.#cuts;
  }
}
