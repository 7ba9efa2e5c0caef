import type { ResolvedConnector } from "@kube-connector/core";
import { Refusal } from "./answers.ts";
import type { RequestHead } from "./http1/head.ts";
import type { Door } from "./metrics.ts";

// Which requests are for the one target, and under which path it gets them. What could be read in two ways is refused, so
// that the path that is judged is the path that the target sees.

/** Most parameters of a query. */
const parameterLimit = 1000;

/** `path` goes upstream; `judged` is what follows the prefix, for logs and rules. Both without the query. */
export interface UpstreamTarget {
  path: string;
  judged: string;
  /** With its question mark, byte for byte; "" without. */
  query: string;
}

/** The request target of a request → what the target is asked for. Refusal: 400, 404. */
export function upstreamTarget(requestTarget: string, door: Door, prefix: string): UpstreamTarget {
  const mark = requestTarget.indexOf("?");
  const path = mark < 0 ? requestTarget : requestTarget.slice(0, mark);
  const query = mark < 0 ? "" : requestTarget.slice(mark);
  checkPath(path);
  if (query !== "") checkQuery(query.slice(1));
  if (door === "reverse" || prefix === "") return { path: prefix + path, judged: path, query };
  if (path !== prefix && !path.startsWith(`${prefix}/`)) {
    throw new Refusal(404, `The path should begin with ${prefix}, the prefix of the connector's address`);
  }
  return { path, judged: path.slice(prefix.length) || "/", query };
}

/** Most paths: nothing that is looked for below can be in one, neither an escape nor a segment that begins with a dot. */
const plainPath = /^(?:\/[A-Za-z0-9_-][A-Za-z0-9._-]*)+$/;

function checkPath(path: string): void {
  if (plainPath.test(path)) return;
  if (!path.startsWith("/")) throw badPath("it should begin with /");
  if (/[^\x21-\x7e]/.test(path)) throw badPath("characters outside of ASCII should be percent-encoded");
  if (/[;\\#]/.test(path)) throw badPath("it may not hold ; \\ or #");
  // No URI has these, and Go's servers write them in another way when they pass a path on.
  const odd = /["<>^`{|}]/.exec(path)?.[0];
  if (odd !== undefined) throw badPath(`${odd} should be percent-encoded`);
  if (path.includes("//")) throw badPath("it may not hold an empty segment (//)");
  if (path.includes("%")) checkEscapes(path, badPath);
  if (/\/\.{1,2}(\/|$)/.test(path)) throw badPath('it may not hold the segments "." and ".."');
}

/** Escapes that decode to a separator, a control or what needs no escape make one path look like another. */
function checkEscapes(path: string, wrong: (what: string) => Refusal): void {
  let decoded: string;
  try {
    decoded = decodeURIComponent(path);
  } catch {
    throw wrong("a percent escape in it is malformed or no UTF-8");
  }
  for (const [escape] of path.matchAll(/%[0-9a-f]{2}/gi)) {
    const code = Number.parseInt(escape.slice(1), 16);
    if (code < 0x20 || code === 0x7f) throw wrong("it may not hold escaped control characters");
    const character = String.fromCharCode(code);
    if ("/\\%;".includes(character)) throw wrong(`it may not hold an escaped ${character}`);
    if (/[A-Za-z0-9._~-]/.test(character)) throw wrong(`${escape} should be written as ${character}`);
  }
  if (/[\u0080-\u009f]/.test(decoded)) throw wrong("it may not hold escaped control characters");
}

function checkQuery(query: string): void {
  const wrong = (what: string) => new Refusal(400, `The query of the request cannot be used: ${what}`);
  if (/[^\x21-\x7e]/.test(query) || query.includes("#")) throw wrong("some characters should be percent-encoded");
  if (query.includes(";")) throw wrong("it may not hold a bare ;");
  if (/%(?![0-9a-f]{2})/i.test(query)) throw wrong("a percent escape in it is malformed");
  let parameters = 1;
  for (let at = query.indexOf("&"); at >= 0; at = query.indexOf("&", at + 1)) parameters += 1;
  if (parameters > parameterLimit) throw wrong(`it has more than ${parameterLimit} parameters`);
}

function badPath(what: string): Refusal {
  return new Refusal(400, `The path of the request cannot be used: ${what}`);
}

/** A Refusal (421) unless the Host header names the connector: its target, or on the reverse door its service. */
export function checkHost(host: string, door: Door, connector: ResolvedConnector): void {
  const named = host.toLowerCase();
  if (door === "forward") {
    const { authority, hostHeader } = connector.target;
    if (named === authority || named === hostHeader) return;
    throw new Refusal(421, `The Host header should be ${hostHeader}, the target of this connector`);
  }
  const colon = named.lastIndexOf(":");
  const name = colon >= 0 && /^:\d{1,5}$/.test(named.slice(colon)) ? named.slice(0, colon) : named;
  if (connector.serviceNames.some((one) => one.toLowerCase() === name)) return;
  throw new Refusal(421, `The Host header should be ${connector.serviceNames[0] ?? "the connector's service"}`);
}

/** The header lines of one connection whose Host was last found to name the connector: of the same ones it is the same. */
export class LastHost {
  #headers: RequestHead["headers"] | undefined;
  #connector: ResolvedConnector | undefined;

  /** As `checkHost`. */
  check({ headers, host }: RequestHead, door: Door, connector: ResolvedConnector): void {
    if (this.#headers === headers && this.#connector === connector) return;
    checkHost(host, door, connector);
    this.#headers = headers;
    this.#connector = connector;
  }
}

/** A Refusal (403) unless a CONNECT asks for exactly the connector's target. */
export function checkConnectTarget(authority: string, connector: ResolvedConnector): void {
  if (authority.toLowerCase() === connector.target.authority) return;
  throw new Refusal(
    403,
    `connector ${connector.namespace}/${connector.name} reaches only ${connector.target.authority}`,
  );
}
