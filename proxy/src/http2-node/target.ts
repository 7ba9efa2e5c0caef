import http2, { type ClientHttp2Session } from "node:http2";
import type { ResolvedConnector } from "@kube-connector/core";
import { Refusal } from "../answers.ts";
import type { RelayCore } from "../http2/core.ts";
import type { Field } from "../http2/field.ts";
import { authorityField, UpstreamFields } from "../http2/message.ts";
import { mayBeHeldBack } from "../http2/verdicts.ts";
import type { Pool, UpstreamConnection, UpstreamUser } from "../upstream.ts";
import { linesOf } from "./fields.ts";
import { clientOptions, connectionWindow } from "./session-options.ts";
import type { NodeStream } from "./stream.ts";

type State =
  | { name: "none" }
  | { name: "dialling"; pool: Pool; abort: AbortController }
  | { name: "open"; pool: Pool; session: ClientHttp2Session; authority: Field }
  /** It takes nothing new, or is not there any more. */
  | { name: "gone" };

type Host = Pick<RelayCore, "admitted" | "collaborators" | "now" | "leave"> & { streams: ReadonlySet<NodeStream> };

/** The one connection to the target that a client's connection has. */
export class NodeTarget implements UpstreamUser {
  /** Whether it has ever answered. */
  hasAnswered = false;
  readonly #host: Host;
  readonly #fields = new UpstreamFields();
  #state: State = { name: "none" };
  #session: ClientHttp2Session | undefined;
  #isLost = false;
  #upstream: UpstreamConnection | undefined;
  #waiting: NodeStream[] = [];
  /** What came before there was a session to take it. */
  #early: Buffer[] = [];

  constructor(host: Host) {
    this.#host = host;
  }

  /** Begins to connect, so that the first request need not wait for it. */
  prepare(connector: ResolvedConnector): void {
    if (this.#state.name !== "none") return;
    const pool = this.#host.collaborators.upstreams.poolFor(connector);
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
        for (const stream of this.#takeWaiting()) stream.refuse(refusal);
      },
    );
  }

  /** Whether it was there and is not any more. */
  get isLost(): boolean {
    // What breaks the rules ends its streams before it says so.
    return this.#isLost || this.#session?.destroyed === true;
  }

  /** Whether that version of the connector is reached by this connection. */
  serves(connector: ResolvedConnector): boolean {
    const state = this.#state;
    return !("pool" in state) || state.pool === this.#host.collaborators.upstreams.poolFor(connector);
  }

  /** Sends a request that was let through; nghttp2 waits where the target takes no more at once. */
  send(stream: NodeStream, connector: ResolvedConnector): void {
    const state = this.#state;
    if (state.name === "gone" || !this.serves(connector)) {
      stream.breakOff("REFUSED_STREAM");
      this.#host.leave();
      return;
    }
    stream.phase = "waiting";
    if (state.name === "open") this.#open(stream, state);
    else {
      this.#waiting.push(stream);
      this.prepare(connector);
    }
  }

  #takeWaiting(): NodeStream[] {
    const waiting = this.#waiting.filter(({ phase }) => phase === "waiting");
    this.#waiting = [];
    return waiting;
  }

  #connected(pool: Pool, upstream: UpstreamConnection, connector: ResolvedConnector): void {
    const { socket } = upstream;
    const early = [...upstream.early, ...this.#early];
    if (early.length > 0) socket.unshift(Buffer.concat(early));
    const { log, limits } = this.#host.collaborators;
    const session = http2.connect(connector.target.url, {
      ...clientOptions(limits.head),
      createConnection: () => socket,
    });
    const state: State = { name: "open", pool, session, authority: authorityField(connector) };
    this.#state = state;
    this.#session = session;
    this.#upstream = upstream;
    session.setLocalWindowSize(connectionWindow);
    session.on("error", (error) => {
      const fields = { connector: this.#host.admitted.key, reason: error.message };
      if (!this.#isLost) log.warn("A connection to a target that speaks HTTP/2 failed", fields);
      this.end();
    });
    session.on("goaway", () => this.#leave());
    // We have forbidden it to push.
    session.on("stream", () => this.end());
    session.on("close", () => this.end());
    for (const stream of this.#takeWaiting()) this.#open(stream, state);
  }

  #open(stream: NodeStream, { session, authority }: State & { name: "open" }): void {
    if (session.closed || session.destroyed) {
      stream.breakOff("REFUSED_STREAM");
      this.#leave();
      return;
    }
    try {
      const fields = this.#fields.of(stream.allowed, authority);
      const endStream = stream.isWithoutBody;
      stream.opened(session.request(linesOf(fields), { endStream, waitForTrailers: !endStream }));
    } catch (error) {
      stream.refuse(error instanceof Refusal ? error : new Refusal(400, "The request cannot be sent on", error));
    }
  }

  /** It takes nothing new; what is open goes on. */
  #leave(): void {
    this.#state = { name: "gone" };
    for (const stream of this.#takeWaiting()) stream.breakOff("REFUSED_STREAM");
    this.#host.leave();
  }

  /** Called about once a second. A PING is answered, and what the target has held back comes with that. */
  tick(now: number): void {
    const some = [...this.#host.streams].some((stream) => stream.phase === "open" && mayBeHeldBack(stream, now));
    if (some && this.#session?.destroyed === false) this.#session.ping(() => undefined);
  }

  /** Ends the connection, also one that is not ready yet; what is open fails. */
  end(): void {
    const state = this.#state;
    const upstream = this.#upstream;
    this.#upstream = undefined;
    if (state.name === "dialling") state.abort.abort();
    if (upstream !== undefined) {
      this.#isLost = true;
      upstream.destroy();
    }
    this.#leave();
  }

  // What comes before node:http2 has the socket, and what it does not hear.

  upstreamData(bytes: Buffer): void {
    this.#early.push(Buffer.from(bytes));
  }
  upstreamEnded(): void {
    this.end();
  }
  upstreamClosed(): void {
    this.end();
  }
  upstreamDrained(): void {}
}
