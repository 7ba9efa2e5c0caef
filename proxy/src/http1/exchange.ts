import type { Secret } from "@kube-connector/core";
import { Refusal } from "../answers.ts";
import { TlsRefusal } from "../dial.ts";
import type { Collaborators } from "../gate.ts";
import { MetadataAnswer } from "../metadata/answer.ts";
import { clientHeaderLines, mayTrailRequest, mayTrailResponse } from "../headers.ts";
import { spareBuffers } from "../spare-buffers.ts";
import type { UpstreamConnection, UpstreamUser } from "../upstream.ts";
import { isSwitchTo } from "../upgrade.ts";
import { headForClient, type HeadForClient, headText, linesOfOurs, tokenRefused, withBody } from "./answer-text.ts";
import { BodyFramer } from "./body.ts";
import type { Allowed, ExchangeClient } from "./exchange-client.ts";
import { parseResponseHead, type ResponseHead } from "./head.ts";
import type { Inbox } from "./inbox.ts";
import { holdForTurn } from "./turn.ts";

/** Most interim (1xx) answers before the final one. */
const interimLimit = 8;

type ExchangeCollaborators = Pick<Collaborators, "upstreams" | "clock" | "metrics" | "limits">;

/** Of most requests; it is done from the beginning. */
const noBody = new BodyFramer(() => false);

type State =
  | { name: "dialling"; abort: AbortController }
  | { name: "awaitingHead"; upstream: UpstreamConnection; fresh: boolean }
  | { name: "answering"; upstream: UpstreamConnection; keep: boolean; close: boolean }
  | { name: "over" };

/** One request and its answer: leases an upstream connection for as long as it takes, and judges both directions. */
export class Exchange implements UpstreamUser {
  /** Of the final answer's head; 0 before. */
  status = 0;
  /** Body bytes from and to the client. */
  bytesIn = 0;
  bytesOut = 0;
  /** Milliseconds from the request's head until its head was written upstream. */
  added: number | undefined;
  readonly requestBody: BodyFramer;
  readonly #answerBody = new BodyFramer(mayTrailResponse);
  /** What has come of an answer's head; the client connection's, as it has one exchange at a time. */
  readonly #inbox: Inbox;
  readonly #client: ExchangeClient;
  readonly #with: ExchangeCollaborators;
  #request: Allowed;
  #state: State = { name: "over" };
  #interim = 0;
  /** Set while an answer is being reduced. */
  #reduced: MetadataAnswer | undefined;
  #headText = "";
  #retried = false;

  constructor(request: Allowed, client: ExchangeClient, collaborators: ExchangeCollaborators) {
    this.#request = request;
    this.#client = client;
    this.#with = collaborators;
    this.#inbox = client.answers;
    this.#inbox.clear();
    const { body, length } = request.head;
    if (body === "none") this.requestBody = noBody;
    else {
      this.requestBody = new BodyFramer(mayTrailRequest);
      this.requestBody.begin(body, length);
    }
  }

  /** Leases a connection and sends the head. */
  begin(): void {
    try {
      this.#token(); // before a connection is taken for nothing
      const pool = this.#with.upstreams.poolFor(this.#request.connector);
      const made = this.#retried ? undefined : (this.#client.admitted.ahead?.take(pool, this) ?? pool.takeIdle(this));
      if (made !== undefined && !(made instanceof Promise)) {
        this.#send(made, false);
        return;
      }
      const abort = new AbortController();
      this.#state = { name: "dialling", abort };
      (made ?? pool.dial(this, abort.signal)).then(
        (upstream) => {
          if (abort.signal.aborted) upstream.destroy();
          else this.#trySend(upstream);
        },
        (error: unknown) => {
          if (!abort.signal.aborted) this.#dialFailed(error);
        },
      );
    } catch (error) {
      this.#fail(error);
    }
  }

  #trySend(upstream: UpstreamConnection): void {
    try {
      this.#send(upstream, true);
    } catch (error) {
      this.#fail(error);
    }
  }

  #send(upstream: UpstreamConnection, fresh: boolean): void {
    this.#state = { name: "awaitingHead", upstream, fresh };
    const { head, connector, target, upgrade, started } = this.#request;
    const lines = this.#client.last.toTarget.of(head, connector, this.#token(), upgrade);
    const text = `${head.method} ${target.path}${target.query} HTTP/1.1\r\n${lines.reveal()}\r\n`;
    // What of the body is there already goes out with the head.
    holdForTurn(upstream.socket);
    upstream.socket.write(text, "latin1");
    if (!this.requestBody.done) this.#client.exchangeTakesBody();
    this.added = this.#with.clock.monotonic() - started;
    this.#with.metrics.latencyAdded(this.added / 1000);
  }

  /** The stored token. Refusal: 503 when there is none. */
  #token(): Secret {
    const { token, unavailable, namespace, name } = this.#request.connector;
    if (token !== undefined) return token;
    throw new Refusal(503, unavailable ?? `The connector ${namespace}/${name} has no token`);
  }

  get phase(): State["name"] {
    return this.#state.name;
  }

  /** Whether body bytes are wanted now. */
  get takesBody(): boolean {
    return !this.requestBody.done && (this.#state.name === "awaitingHead" || this.#state.name === "answering");
  }

  /** Passes on what belongs to the body, and keeps nothing of the bytes; answers the offset of the first byte that does not. */
  body(bytes: Buffer): number {
    const state = this.#state;
    if (state.name !== "awaitingHead" && state.name !== "answering") return 0;
    let end: number;
    try {
      end = this.requestBody.take(bytes, 0);
    } catch (error) {
      this.#fail(error);
      return bytes.length;
    }
    this.bytesIn += end;
    this.#with.metrics.bytes("in", end);
    const own = spareBuffers.copy(bytes, 0, end);
    if (!state.upstream.socket.write(own.bytes, own.release)) this.#client.socket.pause();
    return end;
  }

  /** The client's write buffer is empty again. */
  clientDrained(): void {
    if (this.#state.name === "awaitingHead" || this.#state.name === "answering") this.#state.upstream.socket.resume();
  }

  /** Nobody wants the answer any more. */
  abort(): void {
    const state = this.#state;
    this.#state = { name: "over" };
    if (state.name === "dialling") state.abort.abort();
    else if (state.name !== "over") state.upstream.destroy();
  }

  /**
   * For a drain: ends a chunked answer between two chunks as if the target had ended it; a watch that ends so is taken up
   * again by its client. A read that has no answer yet gets a 503, which its client tries again; all else is cut. False
   * within a chunk: its end is on its way.
   */
  endCleanly(): boolean {
    const mayEnd = this.#reduced?.mayEnd ?? this.#answerBody.betweenChunks;
    if (this.#state.name === "answering" && mayEnd) {
      this.abort();
      this.#client.socket.write("0\r\n\r\n");
      this.#client.exchangeAnswered(true);
      return true;
    }
    if (this.#state.name === "answering" && this.#answerBody.isChunked) return false;
    const { method } = this.#request.head;
    const isRead = method === "GET" || method === "HEAD";
    if (this.#state.name !== "answering" && isRead && this.#interim === 0) {
      this.#fail(new Refusal(503, "The proxy is stopping; try again"));
    } else {
      this.abort();
      this.#client.exchangeBroken();
    }
    return true;
  }

  upstreamDrained(): void {
    this.#client.socket.resume();
  }

  upstreamData(bytes: Buffer): void {
    try {
      if (this.#state.name === "awaitingHead") this.#readHeads(bytes);
      else if (this.#state.name === "answering") this.#passBody(bytes, 0);
    } catch (error) {
      this.#badAnswer(error);
    }
  }

  upstreamEnded(): void {
    const state = this.#state;
    if (state.name === "answering" && this.#answerBody.endsWithConnection) {
      this.#state = { name: "over" };
      state.upstream.destroy();
      this.#client.exchangeAnswered(true);
    } else if (state.name !== "over") {
      this.upstreamClosed();
    }
  }

  upstreamClosed(): void {
    const state = this.#state;
    if (state.name === "answering") {
      this.abort();
      this.#client.exchangeBroken();
    } else if (state.name === "awaitingHead") {
      const { authority } = this.#request.connector.target;
      if (!state.fresh && this.#retry()) return;
      this.#fail(new Refusal(502, `The target cluster at ${authority} closed the connection before it answered`));
    }
  }

  #dialFailed(error: unknown): void {
    if (!(error instanceof TlsRefusal) && this.#retry()) return;
    this.#fail(error);
  }

  /** Once, for a request that has no effect and no body, while no byte of an answer has come. */
  #retry(): boolean {
    const { head, upgrade } = this.#request;
    const harmless = head.method === "GET" || head.method === "HEAD" || head.method === "OPTIONS";
    const silent = this.#inbox.length === 0 && this.#interim === 0;
    if (this.#retried || !harmless || !silent || head.body !== "none" || upgrade !== undefined) return false;
    this.#retried = true;
    this.abort();
    this.begin();
    return true;
  }

  /** A 401 to a token that has been replaced meanwhile. */
  #retryWithNewToken(head: ResponseHead): boolean {
    if (head.status !== 401) return false;
    const current = this.#client.currentConnector();
    const used = this.#request.connector;
    if (current?.token === undefined || current.token.equals(used.token)) return false;
    if (current.target.url !== used.target.url) return false;
    this.#request = { ...this.#request, connector: current };
    return this.#retry();
  }

  #readHeads(bytes: Buffer): void {
    // Most heads come whole, and first.
    let came = this.#inbox.length === 0 ? bytes : undefined;
    const last = this.#client.last.answers;
    this.#inbox.add(bytes);
    while (this.#state.name === "awaitingHead") {
      const taken = this.#inbox.takeHead(last.bytes);
      if (taken === "bareLf") throw new Refusal(400, "The HTTP message is malformed: a line ends without CR");
      const size = taken === "incomplete" ? this.#inbox.length : taken.size;
      if (size > this.#with.limits.head) throw new Refusal(431, "The HTTP message's head is too large");
      if (taken === "incomplete") break;
      const head = parseResponseHead(taken.text, this.#request.head.method, last, taken.again);
      if (head.status === 101) this.#switch(head, this.#state.upstream);
      else if (head.status < 200) this.#passInterim(head);
      else if (came === undefined) this.#passHead(head, this.#inbox.takeAll(), 0, this.#state);
      else {
        this.#inbox.clear();
        this.#passHead(head, came, size + 4, this.#state);
      }
      came = undefined;
    }
    this.#inbox.keep();
  }

  #passInterim(head: ResponseHead): void {
    this.#interim += 1;
    if (this.#interim > interimLimit) throw new Refusal(400, "The HTTP message comes after too many interim answers");
    this.#client.socket.write(headText(head, clientHeaderLines(head), ""), "latin1");
  }

  /** The final answer's head: it is at the beginning of `bytes` if its body begins behind it, at `bodyAt`, and else before them. */
  #passHead(head: ResponseHead, bytes: Buffer, bodyAt: number, state: { upstream: UpstreamConnection }): void {
    if (this.#retryWithNewToken(head)) return;
    const { reduction, warning } = this.#request;
    if (reduction !== undefined) this.#reduced = new MetadataAnswer(head, reduction);
    this.#answerBody.begin(head.body, head.length);
    this.status = head.status;
    // After a refused upgrade or half a body nobody can be sure of what the two sides take the next bytes for.
    const unsure = head.body === "eof" || !this.requestBody.done || this.#request.upgrade !== undefined;
    const keep = !unsure && !head.old && !head.connection.has("close");
    const close = unsure || this.#client.mustClose();
    this.#state = { name: "answering", upstream: state.upstream, keep, close };
    this.#client.exchangeBegan(head);
    const refused = head.status === 401 ? tokenRefused(this.#request.connector) : undefined;
    const more = linesOfOurs({ warnings: [warning, refused], close });
    const asItCame = bodyAt > 0 && this.#reduced === undefined ? this.#client.last.toClient : undefined;
    const sent = headForClient(this.#reduced?.head ?? head, more, asItCame);
    if (typeof sent === "string") this.#headText = sent;
    this.#passBody(bytes, bodyAt, sent);
  }

  /** Writes what of the bytes from `from` on belongs to the body, in one piece with the head when there is one. */
  #passBody(bytes: Buffer, from: number, head?: HeadForClient): void {
    const state = this.#state;
    if (state.name !== "answering") return;
    const end = this.#answerBody.done ? from : this.#answerBody.take(bytes, from);
    const { socket } = this.#client;
    let count = end - from;
    let flowing = true;
    if (this.#reduced !== undefined) {
      const text = this.#reduced.take(this.#headText, bytes.subarray(from, end), this.#answerBody.done);
      count = text.length;
      if (count > 0) flowing = socket.write(text);
    } else if (head !== undefined || count > 0) {
      const sent = head === undefined ? spareBuffers.copy(bytes, from, end) : withBody(head, bytes, from, end);
      flowing = socket.write(sent.bytes, sent.release);
    }
    this.bytesOut += count;
    this.#with.metrics.bytes("out", count);
    if (this.#answerBody.done) this.#answered(end < bytes.length);
    else if (!flowing) state.upstream.socket.pause();
  }

  #answered(leftOver: boolean): void {
    const state = this.#state;
    if (state.name !== "answering") return;
    this.#state = { name: "over" };
    if (state.keep && !leftOver && this.requestBody.done) state.upstream.giveBack();
    else state.upstream.destroy();
    this.#client.exchangeAnswered(state.close || !this.requestBody.done);
  }

  #switch(head: ResponseHead, upstream: UpstreamConnection): void {
    const { upgrade } = this.#request;
    if (upgrade === undefined || !isSwitchTo(head, upgrade)) {
      throw new Refusal(400, "The HTTP message switches to a protocol that was not asked for");
    }
    this.status = 101;
    this.#client.exchangeBegan(head);
    this.#state = { name: "over" };
    const more = `Connection: Upgrade\r\nUpgrade: ${upgrade}\r\n`;
    this.#client.socket.write(headText(head, clientHeaderLines(head), more), "latin1");
    this.#client.exchangeSwitched(upstream, this.#inbox.takeAll());
  }

  get #headIsOut(): boolean {
    return this.#state.name === "answering" && this.#reduced?.started !== false;
  }

  #badAnswer(error: unknown): void {
    if (this.#headIsOut) {
      this.abort();
      this.#client.exchangeBroken();
      return;
    }
    const { authority } = this.#request.connector.target;
    const why = error instanceof Refusal ? error.message : "It could not be read";
    this.#fail(new Refusal(502, `The target cluster at ${authority} sent an answer that cannot pass. ${why}`, error));
  }

  /** Ends the exchange with a refusal, or by cutting the answer where its head is out. */
  #fail(error: unknown): void {
    const headIsOut = this.#headIsOut;
    this.abort();
    if (headIsOut) this.#client.exchangeBroken();
    else this.#client.exchangeFailed(error instanceof Refusal ? error : new Refusal(500, "The proxy failed", error));
  }
}
