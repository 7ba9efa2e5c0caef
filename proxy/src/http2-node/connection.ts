import {
  type IncomingHttpHeaders,
  performServerHandshake,
  type ServerHttp2Session,
  type ServerHttp2Stream,
} from "node:http2";
import type { TLSSocket } from "node:tls";
import type { ResolvedConnector } from "@kube-connector/core";
import { Refusal } from "../answers.ts";
import type { Collaborators } from "../gate.ts";
import {
  type Admitted,
  currentConnector,
  reportRequest,
  type Reporters,
  requestInHand,
  unreadRequest,
} from "../http1/request.ts";
import { Budget } from "../http2/budget.ts";
import { type ErrorName, errorCodes, Http2Error } from "../http2/errors.ts";
import { RequestReader } from "../http2/message.ts";
import { windowLimit } from "../http2/peer.ts";
import { RequestTokens } from "../http2/request-tokens.ts";
import { reviewStream } from "../http2/review.ts";
import { connectAhead, leaveIfChanged } from "../http2/target-connection.ts";
import type { OpenStream } from "../open-streams.ts";
import { fieldsOf, sizeOf } from "./fields.ts";
import { connectionWindow, serverOptions } from "./session-options.ts";
import { NodeStream, type StreamHost } from "./stream.ts";
import { NodeTarget } from "./target.ts";

/** announced: a GOAWAY that names no last stream went out. leaving: one that names it. */
type Life =
  | { name: "serving" }
  | { name: "announced"; until: number }
  | { name: "leaving" }
  /** No stream is open, and our last word is written. */
  | { name: "closing"; until: number }
  | { name: "closed" };

/**
 * One client connection that speaks HTTP/2, and its one connection to the target, both by node:http2. It is what
 * `Http2Connection` is by our own frames: to the outside, and in all that decides about a request.
 */
export class NodeHttp2Connection implements StreamHost {
  readonly admitted: Admitted;
  readonly collaborators: Collaborators;
  readonly reporters: Reporters;
  readonly tokens = new RequestTokens();
  readonly #requests = new RequestReader();
  readonly streams = new Set<NodeStream>();
  readonly #socket: TLSSocket;
  readonly #session: ServerHttp2Session;
  readonly #onClosed: (connection: NodeHttp2Connection) => void;
  readonly #target: NodeTarget;
  readonly #budget: Budget;
  #life: Life = { name: "serving" };
  #idleSince: number;
  #hasGreeted = false;

  constructor(
    socket: TLSSocket,
    admitted: Admitted,
    collaborators: Collaborators,
    onClosed: (connection: NodeHttp2Connection) => void,
  ) {
    this.#socket = socket;
    this.admitted = admitted;
    this.collaborators = collaborators;
    this.#onClosed = onClosed;
    this.#idleSince = this.now();
    const { limits, metrics, log, clock, audit } = collaborators;
    this.reporters = { metrics, log, clock, audit, admitted, protocol: "h2" };
    this.#budget = new Budget(() => this.now());
    this.#target = new NodeTarget(this);
    socket.on("error", () => undefined); // "close" follows and does the work
    socket.on("end", () => this.cut());
    socket.on("close", () => this.#closed());
    this.#session = performServerHandshake(socket, serverOptions(limits.head));
    this.#session.setLocalWindowSize(connectionWindow);
    this.#session.on("error", (error) => this.#failed(error));
    this.#session.on("stream", (stream, headers, flags, lines) => this.#request(stream, headers, flags, lines));
    this.#session.on("remoteSettings", () => {
      if (this.#hasGreeted) this.#spend("settings");
      this.#hasGreeted = true;
    });
    this.#session.on("ping", () => this.#spend("ping"));
    this.#session.on("goaway", () => this.leave());
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

  #failed(error: Error): void {
    const fields = { connector: this.admitted.key, remote: this.admitted.remote, reason: error.message };
    this.collaborators.log.info("A client's HTTP/2 connection failed", fields);
  }

  #spend(on: Parameters<Budget["spend"]>[0]): void {
    try {
      this.#budget.spend(on);
    } catch (error) {
      if (!(error instanceof Http2Error)) throw error;
      this.#end(error);
    }
  }

  // What a stream asks for.

  wasReset(): void {
    // The streams of a connection that ends are reset too.
    if (!this.#session.destroyed && !this.#socket.destroyed) this.#spend("reset");
  }

  send(stream: NodeStream, connector: ResolvedConnector): void {
    this.#target.send(stream, connector);
  }

  lostTarget(): { answered: boolean } | undefined {
    return this.#target.isLost ? { answered: this.#target.hasAnswered } : undefined;
  }

  targetAnswered(): void {
    this.#target.hasAnswered = true;
  }

  streamClosed(stream: NodeStream): void {
    this.streams.delete(stream);
    if (this.streams.size > 0) return;
    this.#idleSince = this.now();
    if (this.#life.name === "leaving") this.#close();
  }

  #request(client: ServerHttp2Stream, headers: IncomingHttpHeaders, flags: number, lines: readonly string[]): void {
    const { limits } = this.collaborators;
    const open = (request: ReturnType<typeof unreadRequest>) => {
      const stream = new NodeStream(client, request, this, flags);
      this.streams.add(stream);
      return stream;
    };
    try {
      const fields = fieldsOf(lines, headers);
      if (sizeOf(fields) > limits.head) {
        throw new Refusal(431, `The headers of the request are larger than ${limits.head} bytes`);
      }
      const { head } = this.#requests.read(fields, { id: client.id ?? 0, ended: client.endAfterHeaders });
      open(requestInHand(head, this.now())).serve(head);
    } catch (error) {
      if (error instanceof Refusal) {
        open(unreadRequest(this.now())).refuse(error);
        return;
      }
      if (!(error instanceof Http2Error)) throw error;
      const refusal = new Refusal(400, `The request is refused: ${error.message}`);
      reportRequest(unreadRequest(this.now()), { status: 400, refusal, bytesIn: 0, bytesOut: 0 }, this.reporters);
      client.on("error", () => undefined).close(errorCodes[error.code]);
      this.wasReset();
    }
  }

  refuse(stream: NodeStream, refusal: Refusal): void {
    stream.refuse(refusal);
  }

  breakOff(stream: NodeStream, code: ErrorName, why?: string): void {
    stream.breakOff(code, why);
  }

  // The ends.

  /** No new streams; those that are open go on. */
  leave(): void {
    if (this.#life.name !== "serving" && this.#life.name !== "announced") return;
    this.#life = { name: "leaving" };
    // Not from within a callback of nghttp2's.
    setImmediate(() => this.#session.close());
    if (this.streams.size === 0) this.#close();
  }

  #close(): void {
    this.#life = { name: "closing", until: this.now() + this.collaborators.timeouts.linger };
    this.#target.end();
  }

  /** A connection error of our own finding: the client hears which, and everything ends. */
  #end(error: Http2Error): void {
    if (this.#life.name === "closing" || this.#life.name === "closed") return;
    this.#close();
    this.#dropAll(error.code);
    // Not from within a callback of nghttp2's.
    setImmediate(() => this.#session.destroy(error, errorCodes[error.code]));
  }

  #dropAll(why: string): void {
    for (const stream of this.streams) {
      stream.request.endedBy ??= why;
      stream.closed();
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
    const silence = now - this.#idleSince;
    if (!this.#hasGreeted && silence >= timeouts.requestHead) this.cut();
    if (this.streams.size === 0 && silence >= timeouts.idleClient) this.leave();
    for (const stream of this.streams) if (stream.tick(now)) void reviewStream(this, stream, now);
    this.#target.tick(now);
  }

  /** The connector has a new version. */
  connectorChanged(): void {
    leaveIfChanged(this, this.#target);
  }

  /** Each client is told to go elsewhere; one that has just come in may have its answer, if it is quick to ask. */
  #drain(now: number): void {
    if (this.streams.size > 0 || now - this.#idleSince >= this.collaborators.timeouts.linger) this.endIfIdle();
  }

  /** No new streams soon, and the end when there are none. The client is told before, so that none is lost. */
  endIfIdle(): void {
    if (this.#life.name !== "serving") return;
    if (this.streams.size === 0) {
      this.leave();
      return;
    }
    this.#life = { name: "announced", until: this.now() + 1000 };
    this.#session.goaway(errorCodes.NO_ERROR, windowLimit);
    this.#session.ping(Buffer.from("draining"), () => {
      if (this.#life.name === "announced") this.leave();
    });
  }

  /** The proxy is about to end: `tick` does what is needed. */
  hurry(): void {}

  /** Ends what is in hand, cleanly where that can be; false while it should be tried again, its client having to read. */
  endStream(): boolean {
    this.leave();
    let done = true;
    for (const stream of this.streams) if (!stream.endCleanly()) done = false;
    return done;
  }

  openStream(now: number): OpenStream[] {
    return [...this.streams].map((stream) => stream.openStream(now));
  }
}
