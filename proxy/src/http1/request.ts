import type { ResolvedConnector, Secret } from "@kube-connector/core";
import type { AheadConnection } from "../ahead.ts";
import { Refusal, reasonOf } from "../answers.ts";
import { levelBeside, noAudit } from "../audit/audit.ts";
import { type AuditRecord, targetAuditIdOf, traceparentOf } from "../audit/record.ts";
import type { Caller } from "../authenticate.ts";
import type { Collaborators } from "../gate.ts";
import type { Admission } from "../limits/callers.ts";
import type { Door } from "../metrics.ts";
import type { RequestInfo } from "../request-info.ts";
import { wantedUpgrade } from "../upgrade.ts";
import { newRequestId } from "../request-id.ts";
import { type LastLines, parseRequestHead, type RequestHead, type ResponseHead } from "./head.ts";
import type { Inbox } from "./inbox.ts";
import { type Judged, policyMark } from "./judged.ts";

/** Which connector a connection is for, and how it came in. */
export interface Admitted {
  door: Door;
  /** `namespace/name`. */
  key: string;
  /** A connector of the same name with another uid is another one. */
  uid: string;
  remote: string;
  /** The connection to the target that was begun when its client came. */
  ahead?: AheadConnection | undefined;
}

/** The connector as it is now, if it still is the same one. */
export function currentConnector(
  { key, uid }: Pick<Admitted, "key" | "uid">,
  connectors: Collaborators["connectors"],
): ResolvedConnector | undefined {
  const connector = connectors.get(key);
  return connector?.uid === uid ? connector : undefined;
}

/** One request in hand; without a head it stands for one that could not be read. Times are monotonic milliseconds. */
export class RequestInHand {
  readonly method: string = "-";
  /** Without the query, for the log; without the connector's prefix as soon as that is known. */
  path = "-";
  readonly started: number;
  readonly upgrade: string | undefined;
  /** Whether the connection can go on after a refusal: no body, nothing that may follow uninvited. */
  readonly reusable: boolean = false;
  readonly wantsClose: boolean = true;
  /** Who sent it, and by which token; undefined until it was let through. */
  sender: { token: Secret; caller: Caller } | undefined;
  /** The version that it was judged by. */
  connector: ResolvedConnector | undefined;
  /** What it asks for. */
  info: RequestInfo | undefined;
  /** Set once the policy has let it pass. */
  judged: Judged | undefined;
  /** Its place among what its caller has in progress. */
  admission: Admission | undefined;
  readonly traceparent: string | undefined;
  targetAuditId: string | undefined;
  /** Milliseconds from its head until its head was written upstream; undefined while there is no answer. */
  added: number | undefined;
  /** Whether the audit log has a line of its start. */
  announced = false;
  /** One word for what ended it before its answer was whole. */
  endedBy: string | undefined;
  watch = false;
  /** When its caller was last asked about, and last found to be allowed. */
  askedAt: number;
  allowedAt: number;
  #id: string | undefined;

  constructor(started: number, head?: RequestHead) {
    this.started = started;
    this.askedAt = started;
    this.allowedAt = started;
    if (head === undefined) return;
    const query = head.target.indexOf("?");
    this.method = head.method;
    this.path = query < 0 ? head.target : head.target.slice(0, query);
    this.upgrade = wantedUpgrade(head);
    this.wantsClose = head.connection.has("close");
    this.reusable = head.body === "none" && this.upgrade === undefined && !this.wantsClose;
    this.traceparent = traceparentOf(head.headers);
  }

  /** A UUID: the lines that the audit log has of it share it. */
  get id(): string {
    return (this.#id ??= newRequestId());
  }
}

/** The next head of an inbox; undefined while it is not whole. Refusal: 400, 431 above `limit` bytes, and the parser's. */
export function takeRequestHead(inbox: Inbox, limit: number, last: LastLines): RequestHead | undefined {
  const taken = inbox.takeHead(last.bytes);
  if (taken === "bareLf") throw new Refusal(400, "The HTTP message is malformed: a line ends without CR");
  const size = taken === "incomplete" ? inbox.length : taken.size;
  if (size > limit) throw new Refusal(431, `The headers of the request are larger than ${limit} bytes`);
  return taken === "incomplete" ? undefined : parseRequestHead(taken.text, last, taken.again);
}

export function requestInHand(head: RequestHead, now: number): RequestInHand {
  return new RequestInHand(now, head);
}

/** Stands for a request whose head could not be read. */
export function unreadRequest(now: number): RequestInHand {
  return new RequestInHand(now);
}

/** How a request ended. */
export interface Outcome {
  status: number;
  /** Set when the answer is ours. */
  refusal?: Refusal;
  /** Of the bodies. */
  bytesIn: number;
  bytesOut: number;
}

/** In logs and metrics: the client was gone before an answer began, as nginx has it. */
const goneStatus = 499;

/** How a request ended whose client did not wait for the end of its answer. */
export function goneOutcome(so: Outcome = { status: 0, bytesIn: 0, bytesOut: 0 }): Outcome {
  return { status: so.status || goneStatus, bytesIn: so.bytesIn, bytesOut: so.bytesOut };
}

/** What is told of a request, and to whom. */
export type Reporters = Pick<Collaborators, "metrics" | "log" | "clock" | "audit"> & {
  admitted: Admitted;
  /** http/1.1 unless told. */
  protocol?: "h2";
};

/** How long a request lasts until the audit log gets a line of its start; a watch or an upgrade gets it at once. */
const longRequest = 10_000;

/** The target's answer has begun. */
export function requestAnswered(
  request: RequestInHand,
  head: Pick<ResponseHead, "headers">,
  added: number | undefined,
): void {
  request.added = added;
  request.targetAuditId = targetAuditIdOf(head.headers, request.connector?.token);
}

/** Tells of the start of a request that lasts long, once; called again and again. */
export function announceRequest(request: RequestInHand, so: Outcome, by: Reporters): void {
  if (request.announced || so.status === 0) return;
  const isLong = request.watch || so.status === 101 || by.clock.monotonic() - request.started >= longRequest;
  if (!isLong) return;
  request.announced = true;
  by.audit.record(recordOf(request, so, "ResponseStarted", by));
}

/** Counts an ended request and writes its one line: never a header, a query or a body. Answers what time it is. */
export function reportRequest(request: RequestInHand, outcome: Outcome, by: Reporters): number {
  request.admission?.end();
  const now = by.clock.monotonic();
  const milliseconds = now - request.started;
  const { door, key, remote } = by.admitted;
  const { method, path } = request;
  const { status, refusal, bytesIn, bytesOut } = outcome;
  by.metrics.requestEnded({ connector: key, door, verb: method, code: status, seconds: milliseconds / 1000 });
  if (by.audit !== noAudit) by.audit.record(recordOf(request, outcome, "ResponseComplete", by, milliseconds));
  if (refusal !== undefined && refusal.http >= 500) {
    const fields = { connector: key, door, method, path, status, remote, request: request.id };
    by.log.warn("Request refused", { ...fields, reason: refusal.message, error: refusal });
    return now;
  }
  const level = levelBeside(by.audit);
  const took = Math.round(milliseconds * 10) / 10;
  const fields = { connector: key, door, method, path, status, remote, bytesIn, bytesOut, milliseconds: took };
  if (refusal === undefined) by.log[level]("Request answered", fields);
  else by.log[level]("Request refused", { ...fields, reason: refusal.message });
  return now;
}

function recordOf(
  request: RequestInHand,
  so: Outcome,
  stage: AuditRecord["stage"],
  by: Reporters,
  milliseconds = by.clock.monotonic() - request.started,
): AuditRecord {
  const { admitted } = by;
  const { refusal } = so;
  return {
    id: request.id,
    stage,
    decision: decisionOf(request, so),
    door: admitted.door,
    remote: admitted.remote,
    connector: request.connector ?? connectorOf(admitted),
    caller: request.sender?.caller,
    method: request.method,
    path: request.path,
    info: request.info,
    code: so.status,
    reason: refusal === undefined ? request.endedBy : reasonOf(refusal),
    message: refusal?.message,
    bytesIn: so.bytesIn,
    bytesOut: so.bytesOut,
    milliseconds,
    addedMilliseconds: request.added,
    protocol: by.protocol ?? "http/1.1",
    upgrade: request.upgrade,
    policy: policyMark(request.judged),
    targetAuditId: request.targetAuditId,
    traceparent: request.traceparent,
  };
}

function decisionOf(request: RequestInHand, { refusal }: Outcome): AuditRecord["decision"] {
  if (refusal !== undefined) return refusal.http < 500 ? "deny" : "error";
  return request.admission === undefined ? "error" : "allow";
}

function connectorOf({ key, uid }: Admitted): { namespace: string; name: string; uid: string } {
  const [namespace = "", name = ""] = key.split("/");
  return { namespace, name, uid };
}
