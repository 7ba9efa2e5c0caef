import type { ResolvedConnector } from "@kube-connector/core";
import { Refusal } from "../answers.ts";
import type { Pool, UpstreamConnection, UpstreamUser } from "../upstream.ts";
import { passHead, passInterim } from "./answer-head.ts";
import type { RelayCore } from "./core.ts";
import { Http2Error } from "./errors.ts";
import type { Field } from "./field.ts";
import { protocolError } from "./frames.ts";
import type { FieldList } from "./hpack-decoder.ts";
import {
  type AnswerHead,
  authorityField,
  badAnswer,
  readAnswer,
  readAnswerTrailers,
  UpstreamFields,
} from "./message.ts";
import { Peer, type PeerListener, settingNames, windowLimit } from "./peer.ts";
import type { Stream } from "./stream.ts";
import { StreamsById } from "./streams-by-id.ts";
import {
  answerCannotPass,
  closedEarly,
  connectorToRetryWith,
  errorToPassOn,
  isHarmless,
  mayBeHeldBack,
} from "./verdicts.ts";

const idLimit = 0x7fff_0000;

type State =
  | { name: "none" }
  | { name: "dialling"; pool: Pool; abort: AbortController }
  | { name: "open"; pool: Pool; upstream: UpstreamConnection; peer: Peer; authority: Field }
  /** It takes nothing new, or is not there any more. */
  | { name: "gone" };

/** The one connection to the target that a client's connection has, and what the target says on it. */
export class TargetSide implements PeerListener, UpstreamUser {
  readonly #relay: RelayCore;
  readonly #byId = new StreamsById();
  readonly #fields = new UpstreamFields();
  #waiting: Stream[] = [];
  #state: State = { name: "none" };
  /** Stays after a GOAWAY, for what is still open. */
  #peer: Peer | undefined;
  #upstream: UpstreamConnection | undefined;
  #nextId = 1;
  #answered = 0;
  /** What new streams there begin with. */
  #granted = 0;
  #dataEnds = false;

  constructor(relay: RelayCore) {
    this.#relay = relay;
  }

  get peer(): Peer | undefined {
    return this.#peer;
  }

  /** Begins to connect, so that the first request need not wait for it. */
  prepare(connector: ResolvedConnector): void {
    if (this.#state.name !== "none") return;
    const pool = this.#relay.collaborators.upstreams.poolFor(connector);
    const abort = new AbortController();
    this.#state = { name: "dialling", pool, abort };
    pool.dialHttp2(this, abort.signal).then(
      (upstream) => {
        if (abort.signal.aborted) upstream.destroy();
        else this.#connected(pool, upstream, connector);
      },
      (error: unknown) => {
        if (abort.signal.aborted) return;
        this.#state = { name: "none" };
        const refusal = error instanceof Refusal ? error : new Refusal(500, "The proxy failed", error);
        for (const stream of this.#takeWaiting()) this.#relay.refuse(stream, refusal);
      },
    );
  }

  /** Whether that version of the connector is reached by this connection. */
  serves(connector: ResolvedConnector): boolean {
    const state = this.#state;
    return !("pool" in state) || state.pool === this.#relay.collaborators.upstreams.poolFor(connector);
  }

  /** Whether no DATA frame of that stream is half here. */
  isBetweenFrames(stream: Stream): boolean {
    return this.#peer !== undefined && this.#peer.dataUnderWay !== stream.targetId;
  }

  /** Sends a request that was let through, as soon as there is a place for it. */
  send(stream: Stream, connector: ResolvedConnector): void {
    const state = this.#state;
    if (state.name === "gone" || !this.serves(connector)) {
      this.#relay.breakOff(stream, "REFUSED_STREAM");
      this.#relay.leave();
      return;
    }
    stream.phase = "waiting";
    if (state.name === "open" && this.#waiting.length === 0 && this.#byId.size < state.peer.maxStreams) {
      this.#open(stream, state);
      return;
    }
    this.#waiting.push(stream);
    if (state.name === "none") this.prepare(connector);
    else this.#fill();
  }

  #takeWaiting(): Stream[] {
    const waiting = this.#waiting.filter(({ phase }) => phase === "waiting");
    this.#waiting = [];
    return waiting;
  }

  #connected(pool: Pool, upstream: UpstreamConnection, connector: ResolvedConnector): void {
    const { client, streams, collaborators } = this.#relay;
    const listLimit = collaborators.limits.head;
    const options = { sendsPreface: false, listLimit, now: () => this.#relay.now() };
    const peer = new Peer(upstream.socket, this, options);
    this.#state = { name: "open", pool, upstream, peer, authority: authorityField(connector) };
    this.#peer = peer;
    this.#upstream = upstream;
    streams.toTarget.to = peer;
    this.#granted = client.streamWindow;
    peer.writer.preface();
    peer.sendSettings([
      [settingNames.enablePush, 0],
      [settingNames.initialWindowSize, this.#granted],
      [settingNames.maxHeaderListSize, listLimit],
    ]);
    this.#relay.topUp();
    this.#fill();
    for (const bytes of upstream.early) this.upstreamData(bytes);
  }

  /** Opens what waits, as many as the target takes at once. */
  #fill(): void {
    while (this.#waiting.length > 0 && this.#state.name === "open" && this.#byId.size < this.#state.peer.maxStreams) {
      const stream = this.#waiting.shift();
      if (stream?.phase === "waiting") this.#open(stream, this.#state);
    }
  }

  #open(stream: Stream, { peer, authority }: State & { name: "open" }): void {
    let fields: Field[];
    try {
      fields = this.#fields.of(stream.allowed, authority);
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      this.#relay.refuse(stream, error);
      return;
    }
    const id = this.#nextId;
    this.#nextId += 2;
    stream.phase = "open";
    stream.targetId = id;
    stream.bodyAt = this.#relay.now();
    stream.added = stream.bodyAt - stream.request.started;
    this.#byId.add(id, stream);
    const { toTarget, toClient } = stream;
    const ended = toTarget.isEmptyAndOver;
    peer.writer.headers(id, peer.encoder.encode(fields), ended);
    toTarget.window = peer.streamWindow;
    toClient.granted = this.#granted;
    toTarget.open(id, ended);
    this.#relay.topUp(stream);
    this.#relay.collaborators.metrics.latencyAdded(stream.added / 1000);
    if (this.#nextId > idLimit) this.#relay.leave();
  }

  /** Called about once a second. A PING is answered, and what the target has held back comes with that. */
  tick(now: number): void {
    const some = [...this.#byId.all()].some((stream) => mayBeHeldBack(stream, now));
    if (some) this.#peer?.writer.ping(Buffer.alloc(8), false);
  }

  /** The stream is over for us; the target is told if it is not over there. */
  drop(stream: Stream): void {
    if (!this.#byId.delete(stream.targetId)) return;
    if (!(stream.targetEnded && stream.toTarget.ended)) this.#peer?.resetStream(stream.targetId, "CANCEL");
    this.#fill();
  }

  /** What streams begin with at the client has changed; so has what the target may send on each. */
  clientWindowChanged(change: number): void {
    if (this.#peer === undefined) return;
    this.#granted += change;
    for (const { toClient } of this.#byId.all()) toClient.granted += change;
    this.#peer.sendSettings([[settingNames.initialWindowSize, this.#granted]]);
  }

  topUp(stream: Stream): void {
    const { toClient } = stream;
    const increment = Math.min(toClient.wanted, windowLimit) - toClient.granted;
    if (increment <= 0 || stream.targetEnded) return;
    toClient.granted += increment;
    this.#peer?.writer.windowUpdate(stream.targetId, increment);
  }

  // What comes from the target.

  /** The bytes are lent: whatever is kept of them is copied. */
  upstreamData(bytes: Buffer): void {
    try {
      this.#peer?.read(bytes);
    } catch (error) {
      this.#failed(error);
      this.end();
    }
    this.#relay.topUp();
    this.#relay.regulate();
  }

  #failed(thrown: unknown): void {
    const { log } = this.#relay.collaborators;
    const fields = { connector: this.#relay.admitted.key };
    const isTheirs = thrown instanceof Http2Error;
    if (isTheirs) log.warn("A target broke the rules of HTTP/2", { ...fields, reason: thrown.message });
    else log.error("An HTTP/2 connection failed in the proxy", { ...fields, error: thrown });
    this.#peer?.writer.goAway(0, isTheirs ? thrown.code : "INTERNAL_ERROR");
    this.#peer?.writer.flush();
  }

  upstreamEnded(): void {
    this.end();
  }
  upstreamClosed(): void {
    this.end();
  }
  upstreamDrained(): void {
    this.#relay.regulate();
  }

  /** Ends the connection, also one that is not ready yet; what is open fails. */
  end(): void {
    const state = this.#state;
    const upstream = this.#upstream;
    this.#state = { name: "gone" };
    this.#upstream = undefined;
    this.#peer = undefined;
    this.#relay.streams.toTarget.to = undefined;
    if (state.name === "dialling") state.abort.abort();
    upstream?.destroy();
    const open = [...this.#byId.all()];
    this.#byId.clear();
    for (const stream of open) this.#lost(stream);
    for (const stream of this.#takeWaiting()) this.#relay.breakOff(stream, "REFUSED_STREAM");
    this.#relay.leave();
    this.#relay.regulate();
  }

  #lost(stream: Stream): void {
    if (stream.targetEnded) {
      // The rest of its answer is with us.
      this.#wantNoMore(stream);
      return;
    }
    // A connection that has served before may have been closed for its age: the client asks again by itself.
    if (stream.status === 0 && isHarmless(stream) && this.#answered > 0) this.#relay.breakOff(stream, "REFUSED_STREAM");
    else this.#relay.refuse(stream, closedEarly(stream));
  }

  headers(id: number, endStream: boolean, list: FieldList): void {
    const stream = this.#known(id);
    if (stream === undefined) return;
    if (stream.targetEnded) throw protocolError("HEADERS after the end of an answer");
    try {
      if (list.tooLarge) throw new Refusal(431, "The HTTP message's head is too large");
      if (stream.status === 0) this.#head(stream, readAnswer(list.fields), endStream);
      else this.#trailers(stream, readAnswerTrailers(list.fields), endStream);
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      this.#bad(stream, error);
    }
  }

  #head(stream: Stream, answer: AnswerHead, endStream: boolean): void {
    if (answer.status < 200) passInterim(this.#relay, stream, answer, endStream);
    else if (!this.#retryWithNewToken(stream, answer.status)) {
      this.#answered += 1;
      passHead(this.#relay, stream, answer, endStream);
    }
  }

  #trailers(stream: Stream, fields: Field[], endStream: boolean): void {
    if (!endStream) throw badAnswer("its trailers do not end it");
    if (stream.answerLeft > 0) throw badAnswer("it ends before its Content-Length");
    stream.targetEnded = true;
    stream.toClient.trail(fields);
  }

  #retryWithNewToken(stream: Stream, status: number): boolean {
    const connector = connectorToRetryWith(stream, status, this.#relay.currentConnector());
    if (connector === undefined || stream.allowed === undefined) return false;
    stream.retried = true;
    stream.allowed = { ...stream.allowed, connector };
    this.drop(stream);
    this.send(stream, connector);
    return true;
  }

  #bad(stream: Stream, error: Refusal): void {
    this.#relay.refuse(stream, answerCannotPass(stream, error));
  }

  /** Undefined for a stream that nobody wants any more. */
  #known(id: number): Stream | undefined {
    if (id >= this.#nextId || id % 2 === 0) throw protocolError("a frame belongs to a stream that was never opened");
    return this.#byId.get(id);
  }

  dataBegins(id: number, length: number, endStream: boolean): void {
    this.#dataEnds = endStream;
    const stream = this.#known(id);
    if (stream === undefined) return;
    if (stream.targetEnded) throw protocolError("DATA after the end of an answer");
    stream.toClient.granted -= length;
    if (stream.status === 0) this.#bad(stream, badAnswer("a body comes before its head"));
  }

  dataBytes(id: number, bytes: Buffer, last: boolean): void {
    const stream = this.#byId.get(id);
    if (stream === undefined || stream.targetEnded) return;
    const end = last && this.#dataEnds;
    if (stream.answerLeft >= 0) {
      stream.answerLeft -= bytes.length;
      if (stream.answerLeft < 0 || (end && stream.answerLeft > 0)) {
        this.#bad(stream, badAnswer("its body is not as long as its Content-Length says"));
        return;
      }
    }
    stream.targetEnded = end;
    this.#relay.collaborators.metrics.bytes("out", bytes.length);
    stream.toClient.push(bytes, end);
    if (last && !end) this.topUp(stream);
  }

  reset(id: number, code: number): void {
    this.#peer?.budget.spend("reset");
    const stream = this.#known(id);
    if (stream === undefined) return;
    this.#byId.delete(id);
    this.#fill();
    if (stream.targetEnded) {
      this.#wantNoMore(stream);
      return;
    }
    this.#relay.breakOff(stream, errorToPassOn(code), "AnswerBrokenOff");
  }

  /** It has answered and takes no more of the request; what waits of the answer still goes out. */
  #wantNoMore(stream: Stream): void {
    stream.uploadUnwanted = true;
    stream.toTarget.drop();
    stream.flowEnded();
  }

  streamWindow(id: number, increment: number): void {
    const stream = this.#known(id);
    if (stream === undefined) return;
    stream.toTarget.window += increment;
    if (stream.toTarget.window > windowLimit) throw new Http2Error("FLOW_CONTROL_ERROR", "a window overflows");
    stream.toTarget.flush();
    this.#relay.topUp(stream);
  }

  connectionWindow(): void {
    this.#relay.streams.toTarget.flush();
    this.#relay.topUp();
  }

  settings(windowChange: number): void {
    for (const stream of this.#byId.all()) {
      stream.toTarget.window += windowChange;
      stream.toTarget.flush();
      this.#relay.topUp(stream);
    }
    this.#fill();
  }

  goAway(last: number): void {
    this.#state = { name: "gone" };
    for (const stream of this.#byId.all()) {
      const id = stream.targetId;
      if (id > last && this.#byId.delete(id)) this.#relay.breakOff(stream, "REFUSED_STREAM");
    }
    for (const stream of this.#takeWaiting()) this.#relay.breakOff(stream, "REFUSED_STREAM");
    this.#relay.leave();
  }

  pong(): void {}

  streamError(error: Http2Error): void {
    const stream = this.#byId.get(error.stream);
    if (stream !== undefined) this.#bad(stream, badAnswer(error.message));
  }
}
