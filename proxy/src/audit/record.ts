import type { RequestInfo } from "../request-info.ts";
import type { Caller } from "../authenticate.ts";
import type { Door } from "../metrics.ts";

// What the data path tells of one request or tunnel. Whoever carries bytes fills it in; what it looks like in the audit
// log is event.ts's to say.

/** One line of the audit log. Never in it: a header's value, a token, a query, a body. */
export interface AuditRecord {
  /** A UUID; the lines of one request share it. */
  id: string;
  /** ResponseStarted is the first line of what lasts long; each request and tunnel has one ResponseComplete. */
  stage: "ResponseStarted" | "ResponseComplete";
  /** allow: passed on, whatever the target answered; deny: we said no; error: we could not do it. */
  decision: "allow" | "deny" | "error";
  door: Door;
  remote: string;
  connector: { namespace: string; name: string; uid: string } | undefined;
  /** Undefined until somebody is authenticated. */
  caller: Caller | undefined;
  /** The HTTP method; CONNECT for a tunnel, "-" where it could not be read. */
  method: string;
  /** Below the connector's prefix, without the query; of a tunnel host:port; "-" where it could not be read. */
  path: string;
  info: RequestInfo | undefined;
  /** 0: there was none. */
  code: number;
  /** One word for why the answer is ours, or what ended a stream. */
  reason?: string | undefined;
  /** What the caller was told; only where the answer is ours. */
  message?: string | undefined;
  bytesIn: number;
  bytesOut: number;
  /** Since the request's head had come. */
  milliseconds: number;
  /** Until its head was written upstream; undefined when it was not. */
  addedMilliseconds?: number | undefined;
  /** h1, h2; and what it was upgraded to. */
  protocol?: string | undefined;
  upgrade?: string | undefined;
  /** What the policy did to a request that passed: warned of it, or let only metadata of its answer through. */
  policy?: "Warn" | "MetadataOnly" | undefined;
  /** The target's Audit-Id and the caller's traceparent, as they are checked below. */
  targetAuditId?: string | undefined;
  traceparent?: string | undefined;
  /** What other steps have to say, under proxy.connectors.cpaas.io/. */
  annotations?: Readonly<Record<string, string>> | undefined;
}

/** The one traceparent of a request (W3C Trace Context), when it is one; else it may be anything, and is not told. */
export function traceparentOf(headers: readonly { lower: string; value: string }[]): string | undefined {
  let found: string | undefined;
  for (const { lower, value } of headers) {
    if (lower !== "traceparent") continue;
    if (found !== undefined) return undefined;
    found = value;
  }
  return found !== undefined && /^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$/.test(found) ? found : undefined;
}

/**
 * The target's Audit-Id, when it is a UUID as API servers make them, and not the stored token in another place: a target
 * knows that token, and could say it anywhere.
 */
export function targetAuditIdOf(
  headers: readonly { lower: string; value: string }[],
  token: { reveal(): string } | undefined,
): string | undefined {
  const found = headers.find(({ lower }) => lower === "audit-id")?.value;
  if (found === undefined || !/^[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}$/i.test(found)) return undefined;
  return token?.reveal().includes(found) === true ? undefined : found;
}
