import { Refusal } from "../answers.ts";

// The strict reader of message heads: text → parts, or a Refusal. It takes the intersection of what parsers agree on
// (RFC 9112), so that no two of them can see different messages in the same bytes.

/** One header line. Lines of one name stay apart and in order. */
export interface Header {
  /** As it was written. */
  name: string;
  lower: string;
  /** Without the white space round it; Latin-1, so that any byte of a value survives. */
  value: string;
  /** The whole line as it came, without its end; undefined for a line of ours. */
  line?: string;
}

/** How the end of a body is known. `none` also stands for `Content-Length: 0` in a request. */
export type BodyKind = "none" | "length" | "chunked" | "eof";

interface Framing {
  headers: readonly Header[];
  body: BodyKind;
  /** Bytes, for `length`; else 0. */
  length: number;
  /** The items of all Connection lines, in lower case. */
  connection: ReadonlySet<string>;
}

export interface RequestHead extends Framing {
  method: string;
  /** As it was written, origin-form (authority-form for CONNECT). */
  target: string;
  /** The one Host line; "" for a CONNECT without. */
  host: string;
}

export interface ResponseHead extends Framing {
  status: number;
  /** The reason phrase; may be empty. */
  phrase: string;
  /** Whether it said HTTP/1.0. */
  old: boolean;
  /** Bytes before its header lines, as it came. */
  linesAt: number;
}

const token = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;
/** Every byte that a line must not have: controls but TAB, thereby NUL and CR or LF on their own. */
const badByte = /[^\t\x20-\x7e\x80-\xff]/;

/** The names of most header lines, in the usual spellings, with their lower case: to look one up is quicker than to judge it. */
const usualNames = new Map(
  [
    "Accept Accept-Encoding Accept-Ranges Audit-Id Authorization Cache-Control Connection Content-Encoding Content-Length",
    "Content-Type Date ETag Host Kubectl-Command Kubectl-Session Last-Modified Origin Priority Server Traceparent",
    "Transfer-Encoding Upgrade User-Agent Vary Warning X-Kubernetes-Pf-Flowschema-Uid X-Kubernetes-Pf-Prioritylevel-Uid",
    "X-Content-Type-Options Sec-WebSocket-Key Sec-WebSocket-Protocol Sec-WebSocket-Version X-Stream-Protocol-Version",
  ]
    .flatMap((names) => names.split(" "))
    .flatMap((name) => [name, name.toLowerCase()])
    .map((name) => [name, name.toLowerCase()] as const),
);

/** Each as the text that all requests of that method share, whose hash is known. */
const methods = new Map(
  ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"].map((method) => [method, method] as const),
);

/**
 * The header lines that were read last in one direction of a connection. The same ones come again and again, a token being
 * most of their bytes: the same text is the same lines, and a line that is the same as the last head's in its place is the
 * same line, so neither is read again.
 */
export class LastLines {
  #text: string | undefined;
  #fields: Fields | undefined;
  #bytes: Buffer | undefined;

  /** They and the empty line behind them, once they have come twice: whoever finds them again need not make a text of them. */
  get bytes(): Buffer | undefined {
    return this.#bytes;
  }

  parse(text: string | undefined): Fields {
    if (this.#fields === undefined || this.#text !== text) {
      this.#fields = parseFields(text, this.#fields);
      this.#text = text;
      this.#bytes = undefined;
    } else if (text !== undefined) this.#bytes ??= Buffer.from(`${text}\r\n\r\n`, "latin1");
    return this.#fields;
  }

  /** What was read in them; undefined before the first. */
  get fields(): Fields | undefined {
    return this.#fields;
  }
}

/**
 * The head of a request without its final empty line → its parts. With `last`, equal header lines are the same `headers`
 * array; `again` says that they are the last ones, and the text the first line alone. Refusal: 400, 405, 417, 505.
 */
export function parseRequestHead(text: string, last?: LastLines, again = false): RequestHead {
  const { first, rest } = cutFirstLine(text);
  const { method, target } = parseRequestLine(first, false);
  if (!methods.has(method)) throw new Refusal(405, `The method ${method} is not accepted`);
  if (!target.startsWith("/")) throw bad("the request target should be a path that begins with /");
  const fields = fieldsOf(rest, last, again);
  if (fields.hosts !== 1) throw bad("there should be exactly one Host header");
  if (fields.expect !== undefined && fields.expect.toLowerCase() !== "100-continue") {
    throw new Refusal(417, "Expect should be 100-continue or left out");
  }
  const body = fields.chunked ? "chunked" : fields.length > 0 ? "length" : "none";
  const { headers, length, connection, host } = fields;
  return { method, target, host, headers, body, length: body === "length" ? length : 0, connection };
}

/** The head of a CONNECT, as clients send it to the forward door: HTTP/1.0 is fine there (Python until 3.11). */
export function parseConnectHead(text: string): RequestHead {
  const { first, rest } = cutFirstLine(text);
  const { method, target } = parseRequestLine(first, true);
  const fields = parseFields(rest);
  if (fields.hosts > 1) throw bad("there should be one Host header");
  if (method === "CONNECT" && (fields.chunked || fields.length > 0)) throw bad("a CONNECT should have no body");
  const { headers, connection, host } = fields;
  return { method, target, host, headers, body: "none", length: 0, connection };
}

/**
 * The head of an answer without its final empty line → its parts, with `last` and `again` as for a request. Throws a Refusal
 * that the caller turns into a 502.
 */
export function parseResponseHead(text: string, requestMethod: string, last?: LastLines, again = false): ResponseHead {
  const { first, rest } = cutFirstLine(text);
  const { old, status, phrase } = first === usual.line ? usual : parseStatusLine(first);
  const fields = fieldsOf(rest, last, again);
  if (old && fields.chunked) throw bad("HTTP/1.0 has no chunked bodies");
  const bodiless = requestMethod === "HEAD" || status < 200 || status === 204 || status === 304;
  const body =
    bodiless || fields.length === 0 ? "none" : fields.chunked ? "chunked" : fields.length > 0 ? "length" : "eof";
  const { headers, length, connection } = fields;
  const linesAt = first.length + 2;
  return { status, phrase, old, linesAt, headers, body, length: body === "length" ? length : 0, connection };
}

/** The status line of most answers, which needs no reading. */
const usual = { line: "HTTP/1.1 200 OK", old: false, status: 200, phrase: "OK" };

function parseStatusLine(line: string): { old: boolean; status: number; phrase: string } {
  const match = /^HTTP\/1\.([01]) ([1-9]\d\d)(?: (.*))?$/.exec(line);
  if (match === null || badByte.test(line)) throw bad("its first line is no HTTP/1.1 status line");
  return { old: match[1] === "0", status: Number(match[2]), phrase: match[3] ?? "" };
}

function fieldsOf(text: string | undefined, last: LastLines | undefined, again: boolean): Fields {
  if (last === undefined) return parseFields(text);
  return (again ? last.fields : undefined) ?? last.parse(text);
}

/** `rest` is the header lines with the CRLF between them; undefined when there are none. */
function cutFirstLine(text: string): { first: string; rest: string | undefined } {
  const end = text.indexOf("\r\n");
  return end < 0 ? { first: text, rest: undefined } : { first: text.slice(0, end), rest: text.slice(end + 2) };
}

function parseRequestLine(line: string, oldIsFine: boolean): { method: string; target: string } {
  const methodEnd = line.indexOf(" ");
  const targetEnd = line.indexOf(" ", methodEnd + 1);
  const written = line.slice(0, methodEnd);
  const method = methods.get(written) ?? written;
  const target = line.slice(methodEnd + 1, targetEnd);
  const version = line.slice(targetEnd + 1);
  // Without a first blank there is no second one after it: the search began at 0 and found nothing either.
  if (targetEnd < 0 || version.includes(" ")) {
    throw bad("its first line should be METHOD TARGET HTTP/1.1, with single spaces");
  }
  if (!(methods.has(method) || token.test(method)) || target === "" || badByte.test(line) || target.includes("\t")) {
    throw bad("its first line has characters that may not stand there");
  }
  if (version === "HTTP/1.1" || (oldIsFine && version === "HTTP/1.0")) return { method, target };
  if (/^HTTP\/\d\.\d$/.test(version)) throw new Refusal(505, "The request should be HTTP/1.1");
  throw bad("its first line should end in HTTP/1.1");
}

interface Fields {
  headers: Header[];
  /** -1 without a Content-Length. */
  length: number;
  chunked: boolean;
  connection: Set<string>;
  host: string;
  hosts: number;
  expect: string | undefined;
}

/** What says where a message ends has no place behind its end. */
const untrailable = new Set(["content-length", "transfer-encoding", "trailer"]);

/** Stands where there is no Connection line; nothing is ever added to it. */
const noNames = new Set<string>();

/** `last` is the text of the lines of another head and what was read in them, in their order. */
function parseFields(text: string | undefined, last?: Fields): Fields {
  const fields: Fields = {
    headers: [],
    length: -1,
    chunked: false,
    connection: noNames,
    host: "",
    hosts: 0,
    expect: undefined,
  };
  if (text === undefined) return fields;
  for (let start = 0; start <= text.length; ) {
    let header = last?.headers[fields.headers.length];
    let line = header?.line;
    if (header === undefined || line === undefined || !isLineAt(text, start, line)) {
      line = text.slice(start, lineEnd(text, start));
      header = parseFieldLine(line);
    }
    fields.headers.push(header);
    noteField(fields, header, line);
    start += line.length + 2;
  }
  if (fields.chunked && fields.length >= 0) throw bad("it has both Content-Length and Transfer-Encoding");
  return fields;
}

/** Whether exactly that line, which has no line end in it, stands there. */
function isLineAt(text: string, start: number, line: string): boolean {
  if (!text.startsWith(line, start)) return false;
  const end = start + line.length;
  return end === text.length || (text.charCodeAt(end) === 0x0d && text.charCodeAt(end + 1) === 0x0a);
}

/** V8 looks for one character quickly, for two slowly. A LF without its CR stays in the line, which may not have it. */
function lineEnd(text: string, start: number): number {
  let lf = text.indexOf("\n", start);
  while (lf > 0 && text.charCodeAt(lf - 1) !== 0x0d) lf = text.indexOf("\n", lf + 1);
  return lf > 0 ? lf - 1 : text.length;
}

function noteField(fields: Fields, { lower, value }: Header, line: string): void {
  switch (lower) {
    case "content-length":
      refuseTab(line);
      if (fields.length >= 0) throw bad("it has more than one Content-Length");
      if (!/^\d{1,15}$/.test(value)) throw bad("its Content-Length is no plain number of at most 15 digits");
      fields.length = Number(value);
      break;
    case "transfer-encoding":
      refuseTab(line);
      if (fields.chunked) throw bad("it has more than one Transfer-Encoding");
      if (value.toLowerCase() !== "chunked") throw bad("its Transfer-Encoding should be chunked");
      fields.chunked = true;
      break;
    case "connection":
      if (fields.connection === noNames) fields.connection = new Set();
      for (const item of parseList(value)) fields.connection.add(item.toLowerCase());
      break;
    case "host":
      fields.host = value;
      fields.hosts += 1;
      break;
    case "trailer":
      // Go's net/http refuses such a message, others read it.
      if (value.split(",").some((item) => untrailable.has(trimBlanks(item, 0).toLowerCase()))) {
        throw bad("its Trailer header names what may not be in a trailer");
      }
      break;
    case "expect":
      fields.expect = fields.expect === undefined ? value : `${fields.expect}, ${value}`;
      break;
    default:
  }
}

/** node:http takes `chunked` with a tab behind it for an unknown coding. */
function refuseTab(line: string): void {
  if (line.includes("\t")) throw bad("its length or coding has a tab beside it");
}

/** One `name: value` line of a head or a trailer. */
export function parseFieldLine(line: string): Header {
  const colon = line.indexOf(":");
  const name = line.slice(0, Math.max(colon, 0));
  const lower = usualNames.get(name) ?? lowerName(name, line);
  if (badByte.test(line)) throw bad(`the header ${name} has control characters`);
  return { name, lower, value: trimBlanks(line, colon + 1), line };
}

function lowerName(name: string, line: string): string {
  if (token.test(name)) return name.toLowerCase();
  throw bad(
    /^[ \t]/.test(line) ? "a header line is folded over two lines" : "a header's name has characters it may not have",
  );
}

/** The items of a comma-separated list of tokens (Connection). Empty items are fine (RFC 9110, 5.6.1). */
function parseList(value: string): string[] {
  if (token.test(value)) return [value];
  const items = value.split(",").map((item) => trimBlanks(item, 0));
  const filled = items.filter((item) => item !== "");
  if (!filled.every((item) => token.test(item))) throw bad("its Connection header is no list of names");
  return filled;
}

/** Cuts spaces and tabs only: String.trim() would cut the byte 0xA0 as well. */
export function trimBlanks(text: string, from: number): string {
  let start = from;
  let end = text.length;
  while (start < end && isBlank(text.charCodeAt(start))) start += 1;
  while (end > start && isBlank(text.charCodeAt(end - 1))) end -= 1;
  return text.slice(start, end);
}

function isBlank(code: number): boolean {
  return code === 0x20 || code === 0x09;
}

function bad(what: string): Refusal {
  return new Refusal(400, `The HTTP message is malformed: ${what}`);
}
