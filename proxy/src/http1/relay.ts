import type { TLSSocket } from "node:tls";
import type { ResolvedConnector } from "@kube-connector/core";
import { answerText, Refusal, refusalOf } from "../answers.ts";
import type { Caller } from "../authenticate.ts";
import { type Collaborators, passGate } from "../gate.ts";
import type { OpenStream } from "../open-streams.ts";
import { clientReads } from "../read-buffer.ts";
import { Splice } from "../upgrade.ts";
import type { UpstreamConnection } from "../upstream.ts";
import { type Asked, readAsked } from "./asked.ts";
import { Exchange } from "./exchange.ts";
import type { ExchangeClient } from "./exchange-client.ts";
import type { RequestHead, ResponseHead } from "./head.ts";
import { answerHead, Inbox } from "./inbox.ts";
import { judgeRequest, policyHolds } from "./judged.ts";
import { LastHeads } from "./last-heads.ts";
import { openStreamOf } from "./open-stream.ts";
import {
  type Admitted,
  announceRequest,
  currentConnector,
  goneOutcome,
  type Outcome,
  type RequestInHand,
  reportRequest,
  requestAnswered,
  type Reporters,
  requestInHand,
  takeRequestHead,
  unreadRequest,
} from "./request.ts";
import { reviewRequest } from "./review.ts";
import type { State } from "./state.ts";

/** One client connection inside TLS: reads requests one after the other and passes each through the steps. */
export class ClientConnection implements ExchangeClient {
  readonly socket: TLSSocket;
  readonly admitted: Admitted;
  readonly last = new LastHeads();
  readonly answers = new Inbox(answerHead);
  readonly #with: Collaborators;
  readonly #reporters: Reporters;
  readonly #opened: number;
  readonly #inbox = new Inbox();
  readonly #onClosed: (connection: ClientConnection) => void;
  #state: State;
  #isReading = false;

  constructor(
    socket: TLSSocket,
    admitted: Admitted,
    collaborators: Collaborators,
    onClosed: (connection: ClientConnection) => void,
  ) {
    this.socket = socket;
    this.admitted = admitted;
    this.#with = collaborators;
    const { metrics, log, clock, audit } = collaborators;
    this.#reporters = { metrics, log, clock, audit, admitted };
    this.#onClosed = onClosed;
    this.#opened = this.#now();
    this.#state = { name: "waiting", until: this.#now() + collaborators.timeouts.idleClient, begun: false };
    socket.on("error", () => undefined); // "close" follows and does the work
    clientReads.readFrom(socket, this.#received);
    socket.on("end", () => this.#ended());
    socket.on("drain", () => this.#drained());
    socket.on("finish", () => this.#finished());
    socket.on("close", () => this.#closed());
  }

  #now(): number {
    return this.#with.clock.monotonic();
  }

  #setState(next: State): void {
    const before = this.#state;
    this.#state = next;
    if (before.name === "spliced") this.#with.metrics.streams("splice", -1);
    if (next.name === "spliced") this.#with.metrics.streams("splice", 1);
    if (before.name === "exchanging" && before.request.watch) this.#with.metrics.streams("watch", -1);
    if (next.name === "exchanging" && next.request.watch) this.#with.metrics.streams("watch", 1);
  }

  // What comes from the client, and the steps that it passes.

  readonly #received = (bytes: Buffer): void => {
    const state = this.#state;
    switch (state.name) {
      case "waiting":
        this.#inbox.add(bytes);
        this.#readHead();
        this.#inbox.keep();
        return;
      case "exchanging":
        this.#passBody(state, bytes);
        return;
      case "spliced":
        state.splice.clientData(bytes);
        return;
      case "deciding":
        this.#hold(bytes);
        return;
      case "closing":
      case "closed":
    }
  };

  /** Bytes, lent to us, that come before their turn wait, up to one head's worth; then the client is paused. */
  #hold(bytes?: Buffer): void {
    if (bytes !== undefined && bytes.length > 0) this.#inbox.add(bytes);
    this.#inbox.keep();
    if (this.#inbox.length > this.#with.limits.head) this.socket.pause();
  }

  #passBody(state: State & { name: "exchanging" }, bytes: Buffer): void {
    if (!state.exchange.takesBody || this.#inbox.length > 0) {
      this.#hold(bytes);
      return;
    }
    state.bodyAt = this.#now();
    const end = state.exchange.body(bytes);
    if (end < bytes.length && this.#state === state) this.#hold(bytes.subarray(end));
  }

  exchangeTakesBody(): void {
    const state = this.#state;
    if (state.name !== "exchanging") return;
    state.bodyAt = this.#now();
    const waiting = this.#inbox.takeAll();
    this.socket.resume();
    if (waiting.length > 0) this.#passBody(state, waiting);
  }

  /** Reads what waits, request by request. One that is refused at once leads back here; then the loop below goes on. */
  #readHead(): void {
    if (this.#isReading) return;
    this.#isReading = true;
    while (this.#state.name === "waiting" && this.#inbox.length > 0 && this.#readOne(this.#state));
    this.#isReading = false;
  }

  /** False when there is no whole head. */
  #readOne(state: State & { name: "waiting" }): boolean {
    if (this.socket.writableNeedDrain) {
      this.#hold();
      return false;
    }
    try {
      const head = takeRequestHead(this.#inbox, this.#with.limits.head, this.last.requests);
      if (head !== undefined) {
        this.#serve(head);
        return true;
      }
      if (!state.begun) {
        this.#setState({ name: "waiting", until: this.#now() + this.#with.timeouts.requestHead, begun: true });
      }
    } catch (error) {
      this.#refuse(unreadRequest(this.#now()), refusalOf(error));
    }
    return false;
  }

  #serve(head: RequestHead): void {
    const request = requestInHand(head, this.#now());
    this.#setState({ name: "deciding", request });
    try {
      const { admitted, last } = this;
      const asked = readAsked(request, head, { admitted, last, connector: this.currentConnector() });
      const caller = passGate(asked.token, asked.connector, this.#with);
      if (caller instanceof Promise) void this.#admitLater(request, head, asked, caller);
      else this.#admit(request, head, asked, caller, request.started);
    } catch (error) {
      this.#decideAgainst(request, error);
    }
  }

  async #admitLater(request: RequestInHand, head: RequestHead, asked: Asked, caller: Promise<Caller>): Promise<void> {
    try {
      this.#admit(request, head, asked, await caller, this.#now());
    } catch (error) {
      this.#decideAgainst(request, error);
    }
  }

  #decideAgainst(request: RequestInHand, error: unknown): void {
    if (this.#state.name === "deciding" && this.#state.request === request) this.#refuse(request, refusalOf(error));
  }

  #admit(request: RequestInHand, head: RequestHead, asked: Asked, caller: Caller, now: number): void {
    if (this.#state.name !== "deciding" || this.#state.request !== request) return;
    const { connector, target, info, token } = asked;
    request.sender = { token, caller };
    this.#with.audit.check();
    request.admission = this.#with.limiter.admit(caller, connector, now);
    request.watch = info.verb === "watch";
    request.allowedAt = now;
    const { head: sent, warning, reduction } = judgeRequest(request, head, { info, connector }, this.#with);
    const { upgrade, started } = request;
    const allowed = { head: sent, connector, target, upgrade, started, warning, reduction };
    const exchange = new Exchange(allowed, this, this.#with);
    this.#setState({ name: "exchanging", request, exchange, bodyAt: now });
    exchange.begin();
  }

  currentConnector(): ResolvedConnector | undefined {
    return currentConnector(this.admitted, this.#with.connectors);
  }

  #refuse(request: RequestInHand, refusal: Refusal): void {
    const close = !request.reusable || this.#with.isDraining();
    const now = this.#report(request, { status: refusal.http, refusal, bytesIn: 0, bytesOut: 0 });
    this.socket.write(answerText(refusal, { method: request.method, close }));
    if (close) this.#close();
    else this.#nextRequest(now);
  }

  // What the exchange says.

  exchangeBegan(head: ResponseHead): void {
    const state = this.#state;
    if (state.name !== "exchanging") return;
    requestAnswered(state.request, head, state.exchange.added);
    // What else lasts long shows with time.
    if (state.request.watch || head.status === 101) announceRequest(state.request, state.exchange, this.#reporters);
  }

  mustClose(): boolean {
    const state = this.#state;
    return this.#with.isDraining() || (state.name === "exchanging" && state.request.wantsClose);
  }

  exchangeAnswered(close: boolean): void {
    const state = this.#state;
    if (state.name !== "exchanging") return;
    const now = this.#report(state.request, state.exchange);
    if (close || this.#with.isDraining()) this.#close();
    else this.#nextRequest(now);
  }

  exchangeFailed(refusal: Refusal): void {
    if (this.#state.name === "exchanging") this.#refuse(this.#state.request, refusal);
  }

  exchangeBroken(): void {
    this.cut("AnswerBrokenOff");
  }

  exchangeSwitched(upstream: UpstreamConnection, early: Buffer): void {
    const state = this.#state;
    if (state.name !== "exchanging") {
      upstream.destroy();
      return;
    }
    const splice = new Splice(this.socket, upstream, {
      metrics: this.#with.metrics,
      onClosed: () => this.#spliceClosed(splice),
    });
    this.#setState({ name: "spliced", request: state.request, splice });
    splice.begin(early);
    if (this.#inbox.length > 0) this.#received(this.#inbox.takeAll());
  }

  #spliceClosed(splice: Splice): void {
    if (this.#state.name !== "spliced") return;
    // Both directions ended well: let what is buffered go out. Else the client must see that it broke off.
    if (splice.target.readableEnded) this.#close();
    else this.cut("AnswerBrokenOff");
  }

  // The ends.

  #nextRequest(now: number): void {
    this.#setState({ name: "waiting", until: now + this.#with.timeouts.idleClient, begun: false });
    if (this.socket.isPaused()) this.socket.resume();
    this.#readHead();
  }

  /** Sends what is written, then closes. */
  #close(): void {
    if (this.#state.name === "spliced") this.#reportSplice(this.#state);
    this.#inbox.clear();
    this.#setState({ name: "closing", until: Number.POSITIVE_INFINITY });
    this.socket.end();
    this.socket.resume();
    if (this.socket.writableFinished) this.#finished();
  }

  #finished(): void {
    if (this.#state.name === "closing") this.#state.until = this.#now() + this.#with.timeouts.linger;
  }

  /** Ends the connection at once, so that the client sees an answer broken off and no clean end. */
  cut(why?: string): void {
    if ("request" in this.#state) this.#state.request.endedBy ??= why;
    this.socket.destroy();
    this.#closed();
  }

  #ended(): void {
    // A half-closed stream goes on; of a half-closed HTTP connection nobody waits for the answer.
    if (this.#state.name === "spliced") this.#state.splice.clientEnded();
    else this.cut();
  }

  #drained(): void {
    const state = this.#state;
    if (state.name === "exchanging") state.exchange.clientDrained();
    if (state.name === "spliced") state.splice.clientDrained();
    if (state.name !== "waiting") return;
    this.socket.resume();
    this.#readHead();
  }

  #closed(): void {
    const state = this.#state;
    if (state.name === "closed") return;
    if ("request" in state) state.request.endedBy ??= "ClientGone";
    if (state.name === "spliced") this.#reportSplice(state);
    if (state.name === "deciding") this.#report(state.request, goneOutcome());
    if (state.name === "exchanging") this.#report(state.request, goneOutcome(state.exchange));
    this.#setState({ name: "closed" });
    if (state.name === "exchanging") state.exchange.abort();
    if (state.name === "spliced") state.splice.end();
    this.#inbox.clear();
    this.#onClosed(this);
  }

  // Time and orders from outside.

  /** Called about once a second: looks at what the present state waits for. */
  tick(now: number): void {
    const state = this.#state;
    if (state.name === "closing" && now >= state.until) this.cut();
    else if (state.name === "waiting" && now >= state.until) {
      if (state.begun)
        this.#refuse(unreadRequest(this.#now()), new Refusal(408, "The request's headers did not come in time"));
      else this.#close();
    } else if (state.name === "exchanging") {
      if (!state.exchange.takesBody || this.socket.isPaused()) state.bodyAt = now;
      if (now - state.bodyAt >= this.#with.timeouts.requestBody) this.cut("RequestBodyTimeout");
      announceRequest(state.request, state.exchange, this.#reporters);
    }
    if (state.name === "exchanging" || state.name === "spliced") {
      if (!policyHolds(state.request, this.currentConnector(), this.#with)) this.cut("NoLongerAllowed");
      else if (now - state.request.askedAt >= this.#with.timeouts.review) void this.#review(state.request, now);
    }
  }

  /** Asks again whether the caller of an open stream may have it. */
  async #review(request: RequestInHand, now: number): Promise<void> {
    request.askedAt = now;
    const no = await reviewRequest(request, this.currentConnector(), this.#with);
    if (no === undefined || !("request" in this.#state) || this.#state.request !== request) return;
    const fields = { connector: this.admitted.key, method: request.method, path: request.path, error: no.error };
    this.#with.log.info("A stream was ended because its caller may not have it any more", fields);
    this.cut(no.why);
  }

  openStream(now: number): OpenStream {
    return openStreamOf(this.#state, { socket: this.socket, admitted: this.admitted, opened: this.#opened }, now);
  }

  /** Ends the connection if no request is in hand. */
  endIfIdle(): void {
    if (this.#state.name === "waiting" && this.#inbox.length === 0) this.#close();
  }

  /** The proxy is about to end: a client that has just come in may have its answer, if it is quick to ask. */
  hurry(): void {
    if (this.#state.name === "waiting") this.#state.until = this.#now() + this.#with.timeouts.linger;
  }

  /** Ends what is in hand, cleanly where that can be; false while it should be tried again, a chunk being on its way. */
  endStream(): boolean {
    const state = this.#state;
    if ("request" in state) state.request.endedBy ??= "Draining";
    if (state.name === "exchanging") return state.exchange.endCleanly();
    this.cut();
    return true;
  }

  // What is told of it.

  #report(request: RequestInHand, outcome: Outcome): number {
    return reportRequest(request, outcome, this.#reporters);
  }

  #reportSplice({ request, splice }: State & { name: "spliced" }): void {
    this.#report(request, { status: 101, bytesIn: splice.counts.in, bytesOut: splice.counts.out });
  }
}
