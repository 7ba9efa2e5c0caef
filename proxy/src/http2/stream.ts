import type { ResolvedConnector } from "@kube-connector/core";
import type { RequestHead } from "../http1/head.ts";
import type { Outcome, RequestInHand } from "../http1/request.ts";
import type { UpstreamTarget } from "../target.ts";
import { Flow, type Lane } from "./flow.ts";

/** A request that was let through. It is kept until its answer begins. */
export interface Allowed {
  head: RequestHead;
  connector: ResolvedConnector;
  target: UpstreamTarget;
  /** A sentence for the answer's Warning header. */
  warning: string | undefined;
}

/**
 * deciding: who and may. waiting: for a connection to the target, or for a place on it. open: the target has it.
 * own: the answer is ours. closed: over on both sides.
 */
export type Phase = "deciding" | "waiting" | "open" | "own" | "closed";

/** Whoever carries streams hears when both directions of one have ended. */
export interface StreamOwner {
  streamEnded(stream: Stream): void;
}

/** One request and its answer, with its id on either side. */
export class Stream {
  readonly id: number;
  readonly request: RequestInHand;
  /** On the target's side; 0 while it is not there. */
  targetId = 0;
  phase: Phase = "deciding";
  allowed: Allowed | undefined;
  /** Whether the side has sent its END_STREAM. */
  clientEnded = false;
  targetEnded = false;
  /** Of the final answer; 0 before. */
  status = 0;
  /** 1xx answers so far. */
  interim = 0;
  /** Bytes that Content-Length still promises; -1: it promised nothing. */
  requestLeft = -1;
  answerLeft = -1;
  /** Milliseconds from the request's head until its head was written upstream. */
  added: number | undefined;
  retried = false;
  /** The target has answered and wants nothing more of the request. */
  uploadUnwanted = false;
  counted = false;
  /** When the request's body last moved. */
  bodyAt: number;
  readonly toTarget: Flow;
  readonly toClient: Flow;
  readonly #owner: StreamOwner;

  constructor(
    id: number,
    request: RequestInHand,
    options: { toTarget: Lane; toClient: Lane; clientWindow: number; granted: number; owner: StreamOwner },
  ) {
    this.id = id;
    this.request = request;
    this.bodyAt = request.started;
    this.#owner = options.owner;
    // Until the target has the stream, the client may send what it began with.
    this.toTarget = new Flow(options.toTarget, { window: options.granted, granted: options.granted }, this);
    this.toClient = new Flow(options.toClient, { window: options.clientWindow, granted: 0 }, this);
  }

  /** What is told of it so far. */
  get outcome(): Outcome {
    return { status: this.status, bytesIn: this.toTarget.bytes, bytesOut: this.toClient.bytes };
  }

  flowEnded(): void {
    if (this.toClient.ended && (this.toTarget.ended || this.uploadUnwanted || this.phase === "own")) {
      this.#owner.streamEnded(this);
    }
  }
}
