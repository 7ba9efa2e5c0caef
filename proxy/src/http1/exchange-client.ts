import type { TLSSocket } from "node:tls";
import type { ResolvedConnector } from "@kube-connector/core";
import type { Refusal } from "../answers.ts";
import type { Reduction } from "../metadata/answer.ts";
import type { UpstreamTarget } from "../target.ts";
import type { UpstreamConnection } from "../upstream.ts";
import type { RequestHead, ResponseHead } from "./head.ts";
import type { Inbox } from "./inbox.ts";
import type { LastHeads } from "./last-heads.ts";
import type { Admitted } from "./request.ts";

/** What goes upstream: a request that was let through. */
export interface Allowed {
  head: RequestHead;
  connector: ResolvedConnector;
  target: UpstreamTarget;
  /** The protocol to upgrade to; undefined for a plain request. */
  upgrade: string | undefined;
  /** When its head had come, in monotonic milliseconds. */
  started: number;
  /** A sentence for the answer's Warning header. */
  warning?: string | undefined;
  /** Set when the answer may hold only metadata. */
  reduction?: Reduction | undefined;
}

/** The client connection that an exchange works for. */
export interface ExchangeClient {
  readonly socket: TLSSocket;
  readonly admitted: Admitted;
  readonly last: LastHeads;
  /** What has come of an answer's head. */
  readonly answers: Inbox;
  /** The upstream connection is there, or can take more: give it body bytes that wait. */
  exchangeTakesBody(): void;
  /** The final answer's head has come. */
  exchangeBegan(head: ResponseHead): void;
  /** The final answer's head is about to go out: whether the connection must end after it. */
  mustClose(): boolean;
  /** The answer is out, whole. */
  exchangeAnswered(close: boolean): void;
  /** No byte of an answer went out: refuse the request. */
  exchangeFailed(refusal: Refusal): void;
  /** The answer broke off in the middle: the client must not take it for whole. */
  exchangeBroken(): void;
  /** The target has switched protocols; `early` are the first bytes it sent after its 101. */
  exchangeSwitched(upstream: UpstreamConnection, early: Buffer): void;
  /** The connector as it is now, if it still is the same one. */
  currentConnector(): ResolvedConnector | undefined;
}
