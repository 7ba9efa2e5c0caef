import type { Secret } from "@kube-connector/core";
import type { Caller } from "../authenticate.ts";
import type { Refusal } from "../answers.ts";
import type { Collaborators } from "../gate.ts";
import type { Door } from "../metrics.ts";
import { wantedUpgrade } from "../upgrade.ts";
import type { RequestHead } from "./head.ts";
import type { Judged } from "./judged.ts";

/** Which connector a connection is for, and how it came in. */
export interface Admitted {
  door: Door;
  /** `namespace/name`. */
  key: string;
  /** A connector of the same name with another uid is another one. */
  uid: string;
  remote: string;
}

/** One request in hand. Times are monotonic milliseconds. */
export interface RequestInHand {
  readonly method: string;
  /** Without the query, for the log. */
  readonly path: string;
  readonly started: number;
  readonly upgrade: string | undefined;
  /** Whether the connection can go on after a refusal: no body, nothing that may follow uninvited. */
  readonly reusable: boolean;
  readonly wantsClose: boolean;
  /** Who sent it, and by which token; undefined until it was let through. */
  sender: { token: Secret; caller: Caller } | undefined;
  /** Set once the policy has let it pass. */
  judged: Judged | undefined;
  watch: boolean;
  /** When its caller was last asked about, and last found to be allowed. */
  askedAt: number;
  allowedAt: number;
}

export function requestInHand(head: RequestHead, now: number): RequestInHand {
  const upgrade = wantedUpgrade(head);
  const wantsClose = head.connection.has("close");
  return {
    method: head.method,
    path: head.target.split("?", 1)[0] ?? "",
    started: now,
    upgrade,
    reusable: head.body === "none" && upgrade === undefined && !wantsClose,
    wantsClose,
    sender: undefined,
    judged: undefined,
    watch: false,
    askedAt: now,
    allowedAt: now,
  };
}

/** Stands for a request whose head could not be read. */
export function unreadRequest(now: number): RequestInHand {
  return {
    method: "-",
    path: "-",
    started: now,
    upgrade: undefined,
    reusable: false,
    wantsClose: true,
    sender: undefined,
    judged: undefined,
    watch: false,
    askedAt: now,
    allowedAt: now,
  };
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

/** Counts an ended request and writes its one line: never a header, a query or a body. */
export function reportRequest(
  request: RequestInHand,
  outcome: Outcome,
  by: Pick<Collaborators, "metrics" | "log" | "clock"> & { admitted: Admitted },
): void {
  const milliseconds = by.clock.monotonic() - request.started;
  const { door, key, remote } = by.admitted;
  const { method, path } = request;
  const { status, refusal, bytesIn, bytesOut } = outcome;
  by.metrics.requestEnded({ connector: key, door, verb: method, code: status, seconds: milliseconds / 1000 });
  const fields = { connector: key, door, method, path, status, remote, bytesIn, bytesOut };
  const took = { ...fields, milliseconds: Math.round(milliseconds * 10) / 10 };
  if (refusal === undefined) by.log.info("Request answered", took);
  else if (refusal.http < 500) by.log.info("Request refused", { ...took, reason: refusal.message });
  else by.log.warn("Request refused", { ...took, reason: refusal.message, error: refusal });
}
