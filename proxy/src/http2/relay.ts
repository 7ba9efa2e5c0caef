import type { TLSSocket } from "node:tls";
import type { ResolvedConnector } from "@kube-connector/core";
import { Refusal } from "../answers.ts";
import type { Collaborators } from "../gate.ts";
import type { RequestHead } from "../http1/head.ts";
import { policyHolds } from "../http1/judged.ts";
import {
  type Admitted,
  announceRequest,
  currentConnector,
  goneOutcome,
  type Outcome,
  reportRequest,
  type Reporters,
  unreadRequest,
} from "../http1/request.ts";
import type { OpenStream } from "../open-streams.ts";
import { clientReads } from "../read-buffer.ts";
import { ClientSide, streamLimit } from "./client-side.ts";
import type { RelayCore } from "./core.ts";
import { type ErrorName, Http2Error } from "./errors.ts";
import { endStreamCleanly } from "./ending.ts";
import { openStreamOf } from "./open-stream.ts";
import { ownAnswer } from "./message.ts";
import type { Flow } from "./flow.ts";
import { Peer, settingNames, windowLimit } from "./peer.ts";
import { RequestTokens } from "./request-tokens.ts";
import { decide, type Passed } from "./steps.ts";
import { reviewStream } from "./review.ts";
import type { Stream } from "./stream.ts";
import { StreamTable } from "./stream-table.ts";
import { connectAhead, leaveIfChanged } from "./target-connection.ts";
import { TargetSide } from "./target-side.ts";

/** Bytes of bodies that a client may send us before the target takes them, of all its streams. */
const uploadAhead = 262_144;
/** Bytes that wait for one side, at which the other is paused; bytes at which a client that does not read is cut. */
const pauseAt = 262_144;
const cutAt = 4_194_304;
/** Bytes of answers that wait for windows which a client took back, at which the target is paused. */
const queueLimit = 1_048_576;

/** announced: a GOAWAY that names no last stream went out. leaving: one that names it. */
type Life =
  | { name: "serving" }
  | { name: "announced"; until: number }
  | { name: "leaving"; last: number }
  /** Our last word is written. */
  | { name: "closing"; until: number }
  | { name: "closed" };

/** One client connection that speaks HTTP/2, and its one connection to the target. */
export class Http2Connection implements RelayCore {
  readonly admitted: Admitted;
  readonly collaborators: Collaborators;
  readonly streams = new StreamTable();
  readonly tokens = new RequestTokens();
  readonly client: Peer;
  readonly #socket: TLSSocket;
  readonly #onClosed: (connection: Http2Connection) => void;
  readonly #reporters: Reporters;
  readonly #fromClient: ClientSide;
  readonly #target: TargetSide;
  #life: Life = { name: "serving" };
  #idleSince: number;
  /** When the client began to owe us the rest of something, and how many frames there were then. */
  #insideSince = Number.POSITIVE_INFINITY;
  #framesThen = -1;

  constructor(
    socket: TLSSocket,
    admitted: Admitted,
    collaborators: Collaborators,
    onClosed: (connection: Http2Connection) => void,
  ) {
    this.#socket = socket;
    this.admitted = admitted;
    this.collaborators = collaborators;
    this.#onClosed = onClosed;
    this.#idleSince = this.now();
    const { limits, metrics, log, clock, audit } = collaborators;
    this.#reporters = { metrics, log, clock, audit, admitted, protocol: "h2" };
    this.#fromClient = new ClientSide(this);
    this.client = new Peer(socket, this.#fromClient, {
      sendsPreface: true,
      listLimit: limits.head,
      now: () => this.now(),
    });
    this.streams.toClient.to = this.client;
    this.#target = new TargetSide(this);
    this.client.sendSettings([
      [settingNames.maxConcurrentStreams, streamLimit],
      [settingNames.maxHeaderListSize, limits.head],
    ]);
    this.topUp();
    socket.on("error", () => undefined); // "close" follows and does the work
    clientReads.readFrom(socket, (bytes) => this.#received(bytes));
    socket.on("end", () => this.cut());
    socket.on("drain", () => this.regulate());
    socket.on("close", () => this.#closed());
    connectAhead(this, this.#target);
    // It may have changed during the handshake.
    this.connectorChanged();
  }

  now(): number {
    return this.collaborators.clock.monotonic();
  }

  currentConnector(): ResolvedConnector | undefined {
    return currentConnector(this.admitted, this.collaborators.connectors);
  }

  #received(bytes: Buffer): void {
    if (this.#life.name === "closing" || this.#life.name === "closed") return;
    try {
      this.client.read(bytes);
    } catch (error) {
      this.#fail(error);
      return;
    }
    this.regulate();
  }

  /** Each side is read as long as the other takes what it says. */
  regulate(): void {
    const target = this.#target.peer;
    if (this.client.writer.pending > cutAt) {
      this.cut();
      return;
    }
    this.client.setPaused(target !== undefined && target.writer.pending > pauseAt);
    target?.setPaused(this.client.writer.pending > pauseAt || this.streams.toClient.queued > queueLimit);
  }

  /** A connection error: the client hears which, and everything ends. */
  #fail(thrown: unknown): void {
    const { log } = this.collaborators;
    const fields = { connector: this.admitted.key, remote: this.admitted.remote };
    if (thrown instanceof Http2Error) {
      log.info("A client broke the rules of HTTP/2", { ...fields, reason: thrown.message });
      this.#end(thrown.code);
    } else {
      log.error("An HTTP/2 connection failed in the proxy", { ...fields, error: thrown });
      this.#end("INTERNAL_ERROR");
    }
  }

  // The steps.

  serve(stream: Stream, head: RequestHead): void {
    decide(this, stream, head, this.#send);
  }

  readonly #send = (stream: Stream, passed: Passed): void => {
    if (passed === "onlyOverHttp1") {
      // A new connection gets HTTP/1.1.
      this.breakOff(stream, "REFUSED_STREAM", "NeedsHttp1");
      this.leave();
      return;
    }
    if (stream.request.watch) this.collaborators.metrics.streams("watch", 1);
    stream.counted = stream.request.watch;
    stream.allowed = passed;
    this.#target.send(stream, passed.connector);
  };

  refuse(stream: Stream, refusal: Refusal): void {
    if (stream.phase === "closed" || stream.phase === "own") return;
    if (stream.status > 0) {
      this.breakOff(stream, "INTERNAL_ERROR", "AnswerBrokenOff");
      return;
    }
    stream.phase = "own";
    this.#drop(stream.toTarget);
    this.#target.drop(stream);
    this.#report(stream, { status: refusal.http, refusal, bytesIn: stream.toTarget.bytes, bytesOut: 0 });
    const { fields, body } = ownAnswer(refusal, stream.request.method);
    this.client.writer.headers(stream.id, this.client.encoder.encode(fields), body === "");
    stream.toClient.open(stream.id, body === "");
    if (body !== "") stream.toClient.push(Buffer.from(body), true);
  }

  breakOff(stream: Stream, code: ErrorName, why?: string): void {
    if (stream.phase === "closed") return;
    stream.request.endedBy ??= why ?? code;
    this.client.resetStream(stream.id, code);
    this.closed(stream, "reset");
  }

  cancelled(stream: Stream): void {
    stream.request.endedBy ??= "ClientGone";
    this.closed(stream, "done");
  }

  closed(stream: Stream, how: "reset" | "done"): void {
    if (stream.phase === "closed") return;
    const own = stream.phase === "own";
    stream.phase = "closed";
    this.streams.close(stream.id, how);
    this.#drop(stream.toTarget);
    this.#drop(stream.toClient);
    this.#target.drop(stream);
    if (stream.counted) this.collaborators.metrics.streams("watch", -1);
    if (!own) this.#report(stream, goneOutcome(stream.outcome));
    if (this.streams.open.size > 0) return;
    this.#idleSince = this.now();
    if (this.#life.name === "leaving") this.#end("NO_ERROR");
  }

  // Windows.

  /** What waited counted against all other streams: they have its room now. */
  #drop(flow: Flow): void {
    const { queued } = flow;
    flow.drop();
    if (queued === 0) return;
    this.topUp();
    this.regulate();
  }

  topUp(stream?: Stream): void {
    const target = this.#target.peer;
    this.client.topUp(Math.max(target?.sendWindow ?? 0, uploadAhead) - this.streams.toTarget.queued);
    target?.topUp(this.client.sendWindow - this.streams.toClient.queued);
    if (stream === undefined || stream.phase === "own" || stream.phase === "closed") return;
    if (stream.phase === "open") this.#target.topUp(stream);
    const { toTarget, clientEnded } = stream;
    const increment = Math.min(toTarget.wanted, windowLimit) - toTarget.granted;
    if (clientEnded || stream.uploadUnwanted || increment <= 0) return;
    toTarget.granted += increment;
    this.client.writer.windowUpdate(stream.id, increment);
  }

  clientWindowChanged(change: number): void {
    this.#target.clientWindowChanged(change);
  }

  // The ends.

  takes(id: number): boolean {
    if (this.#life.name === "leaving") return id <= this.#life.last;
    return this.#life.name === "serving" || this.#life.name === "announced";
  }

  leave(): void {
    if (this.#life.name !== "serving" && this.#life.name !== "announced") return;
    const last = this.#fromClient.lastId;
    this.#life = { name: "leaving", last };
    this.client.writer.goAway(last, "NO_ERROR");
    if (this.streams.open.size === 0) this.#end("NO_ERROR");
  }

  ponged(): void {
    if (this.#life.name === "announced") this.leave();
  }

  /** Says so, then closes. */
  #end(code: ErrorName): void {
    if (this.#life.name === "closing" || this.#life.name === "closed") return;
    if (this.#life.name !== "leaving" || code !== "NO_ERROR") this.client.writer.goAway(this.#fromClient.lastId, code);
    this.#life = { name: "closing", until: this.now() + this.collaborators.timeouts.linger };
    this.#dropAll(code === "NO_ERROR" ? "ClientGone" : code);
    this.client.writer.flush();
    this.#socket.end();
    this.#socket.resume();
  }

  #dropAll(why: string): void {
    for (const stream of this.streams.open.all()) {
      stream.request.endedBy ??= why;
      this.closed(stream, "done");
    }
    this.#target.end();
  }

  /** Ends the connection at once. */
  cut(why?: string): void {
    this.#socket.destroy();
    this.#closed(why);
  }

  #closed(why = "ClientGone"): void {
    if (this.#life.name === "closed") return;
    this.#life = { name: "closed" };
    this.#dropAll(why);
    this.#onClosed(this);
  }

  // Time and orders from outside.

  /** Called about once a second. */
  tick(now: number): void {
    const { timeouts } = this.collaborators;
    const life = this.#life;
    if ((life.name === "closing" && now >= life.until) || life.name === "closed") {
      this.cut();
      return;
    }
    if (life.name === "announced" && now >= life.until) this.leave();
    if (this.collaborators.isDraining()) this.#drain(now);
    if (this.#isSlow(now)) {
      this.#fail(new Http2Error("PROTOCOL_ERROR", "the rest of a frame did not come in time"));
      return;
    }
    if (this.streams.open.size === 0 && now - this.#idleSince >= timeouts.idleClient) this.leave();
    for (const stream of this.streams.open.all()) this.#tickStream(stream, now);
    this.#target.tick(now);
  }

  #isSlow(now: number): boolean {
    const { frames, isInside } = this.client;
    if (!isInside || frames !== this.#framesThen) {
      this.#framesThen = frames;
      this.#insideSince = isInside ? now : Number.POSITIVE_INFINITY;
    }
    return now - this.#insideSince >= this.collaborators.timeouts.requestHead;
  }

  #tickStream(stream: Stream, now: number): void {
    const { timeouts } = this.collaborators;
    if (stream.phase !== "own" && !policyHolds(stream.request, this.currentConnector(), this.collaborators)) {
      this.breakOff(stream, "CANCEL", "NoLongerAllowed");
      return;
    }
    if (stream.phase !== "open") return;
    this.announce(stream);
    const owes =
      !stream.clientEnded && !stream.uploadUnwanted && stream.toTarget.granted > 0 && !this.#socket.isPaused();
    if (!owes) stream.bodyAt = now;
    if (now - stream.bodyAt >= timeouts.requestBody) this.breakOff(stream, "CANCEL", "RequestBodyTimeout");
    else if (now - stream.request.askedAt >= timeouts.review) void reviewStream(this, stream, now);
  }

  /** The connector has a new version. */
  connectorChanged(): void {
    leaveIfChanged(this, this.#target);
  }

  /** Each client is told to go elsewhere; one that has just come in may have its answer, if it is quick to ask. */
  #drain(now: number): void {
    if (this.streams.open.size > 0 || now - this.#idleSince >= this.collaborators.timeouts.linger) this.endIfIdle();
  }

  /** No new streams soon, and the end when there are none. The client is told before, so that none is lost. */
  endIfIdle(): void {
    if (this.#life.name !== "serving") return;
    if (this.streams.open.size === 0) {
      this.leave();
      return;
    }
    this.#life = { name: "announced", until: this.now() + 1000 };
    this.client.writer.goAway(windowLimit, "NO_ERROR");
    this.client.writer.ping(Buffer.from("draining"), false);
  }

  /** The proxy is about to end: `tick` does what is needed. */
  hurry(): void {}

  /** Ends what is in hand, cleanly where that can be; false while it should be tried again, a frame being on its way. */
  endStream(): boolean {
    this.leave();
    let done = true;
    for (const stream of this.streams.open.all()) {
      if (!endStreamCleanly(this, stream, this.#target.isBetweenFrames(stream))) done = false;
    }
    return done;
  }

  openStream(now: number): OpenStream[] {
    return [...this.streams.open.all()].map((stream) => openStreamOf(stream, this.admitted, now));
  }

  // What is told of it.

  announce(stream: Stream): void {
    announceRequest(stream.request, stream.outcome, this.#reporters);
  }

  #report(stream: Stream, outcome: Outcome): void {
    reportRequest(stream.request, outcome, this.#reporters);
  }

  reportUnread(error: Http2Error): void {
    const refusal = new Refusal(400, `The request is refused: ${error.message}`);
    reportRequest(unreadRequest(this.now()), { status: 400, refusal, bytesIn: 0, bytesOut: 0 }, this.#reporters);
  }
}
