import type { ResolvedConnector } from "@kube-connector/core";
import type { Refusal } from "../answers.ts";
import type { Collaborators } from "../gate.ts";
import type { RequestHead } from "../http1/head.ts";
import type { Admitted } from "../http1/request.ts";
import type { ErrorName, Http2Error } from "./errors.ts";
import type { Peer } from "./peer.ts";
import type { RequestTokens } from "./request-tokens.ts";
import type { Stream } from "./stream.ts";
import type { StreamTable } from "./stream-table.ts";

/** What the two sides of a relay know of it and ask it to do. */
export interface RelayCore {
  readonly admitted: Admitted;
  readonly collaborators: Collaborators;
  readonly streams: StreamTable;
  readonly client: Peer;
  readonly tokens: RequestTokens;
  now(): number;
  /** The connector as it is now, if it still is the same one. */
  currentConnector(): ResolvedConnector | undefined;
  /** Who and may, and then to the target. */
  serve(stream: Stream, head: RequestHead): void;
  /** Answers in our own words; when an answer has begun, breaks it off instead. */
  refuse(stream: Stream, refusal: Refusal): void;
  /** A request that never became a stream. */
  reportUnread(error: Http2Error): void;
  /** Ends a stream on both sides; the client is told by a code why, and the audit log by a word. */
  breakOff(stream: Stream, code: ErrorName, why?: string): void;
  /** Tells of the start of an answer that lasts long. */
  announce(stream: Stream): void;
  /** Both directions are over, or the client has ended it. */
  closed(stream: Stream, how: "reset" | "done"): void;
  /** The client has taken it back: nobody wants the answer. */
  cancelled(stream: Stream): void;
  /** Lets each side send what the other takes. */
  topUp(stream?: Stream): void;
  /** Pauses or resumes each side by what the other takes. */
  regulate(): void;
  /** No new streams; those that are open go on. */
  leave(): void;
  /** The client answered the PING that follows a GOAWAY. */
  ponged(): void;
  /** Whether streams with that id are still taken. */
  takes(id: number): boolean;
  /** The client's first window of streams has changed by so much. */
  clientWindowChanged(change: number): void;
}
