import { type ClientHttp2Stream, constants, type IncomingHttpHeaders, type ServerHttp2Stream } from "node:http2";
import type { ResolvedConnector } from "@kube-connector/core";
import { Refusal } from "../answers.ts";
import type { RequestHead } from "../http1/head.ts";
import { policyHolds } from "../http1/judged.ts";
import {
  announceRequest,
  goneOutcome,
  type Outcome,
  reportRequest,
  type Reporters,
  requestAnswered,
  type RequestInHand,
} from "../http1/request.ts";
import { interimLimit } from "../http2/answer-head.ts";
import type { RelayCore } from "../http2/core.ts";
import { type ErrorName, errorCodes, Http2Error } from "../http2/errors.ts";
import type { Field } from "../http2/field.ts";
import {
  type AnswerHead,
  badAnswer,
  ownAnswer,
  readAnswer,
  readAnswerTrailers,
  readRequestTrailers,
} from "../http2/message.ts";
import { shownStream } from "../http2/open-stream.ts";
import { decide, type Passed } from "../http2/steps.ts";
import type { Allowed, Phase } from "../http2/stream.ts";
import {
  answerCannotPass,
  closedEarly,
  connectorToRetryWith,
  errorToPassOn,
  isHarmless,
  tokenRefused,
  warningField,
} from "../http2/verdicts.ts";
import type { OpenStream } from "../open-streams.ts";
import { carry, StreamEnd } from "./body.ts";
import { fieldsOf, headersOf, linesOf, sizeOf } from "./fields.ts";

/** The target's headers pass as they are. */
const noDate = { sendDate: false };

/** What a stream knows of its connection, and asks it to do. */
export interface StreamHost
  extends Pick<RelayCore, "admitted" | "collaborators" | "tokens" | "now" | "currentConnector" | "leave"> {
  readonly reporters: Reporters;
  /** As that stream's own. */
  refuse(stream: NodeStream, refusal: Refusal): void;
  /** To the target with a request that was let through. */
  send(stream: NodeStream, connector: ResolvedConnector): void;
  /** What a lost connection to the target may be: undefined while it is there, then whether it has answered before. */
  lostTarget(): { answered: boolean } | undefined;
  /** The target has answered something. */
  targetAnswered(): void;
  streamClosed(stream: NodeStream): void;
  /** The client has ended a stream before its time, or made us end it. */
  wasReset(): void;
}

/** One request and its answer, on node:http2's stream of the client and that of the target. */
export class NodeStream {
  readonly request: RequestInHand;
  readonly client: ServerHttp2Stream;
  phase: Phase = "deciding";
  allowed: Allowed | undefined;
  /** Of the final answer; 0 before. */
  status = 0;
  interim = 0;
  retried = false;
  readonly #host: StreamHost;
  readonly #requestEnd: StreamEnd;
  #target: ClientHttp2Stream | undefined;
  #bytesIn = 0;
  #bytesOut = 0;
  #added: number | undefined;
  /** When the request's body last moved. */
  #bodyAt: number;
  #counted = false;
  #hasLength = false;
  /** Whether the whole answer came, and whether it is out. */
  #answered = false;
  #isOut = false;
  /** Whether the target has answered and wants nothing more of the request. */
  #uploadUnwanted = false;
  #trailersToTarget: Field[] = [];
  #trailersToClient: Field[] = [];

  constructor(client: ServerHttp2Stream, request: RequestInHand, host: StreamHost, flags: number) {
    this.client = client;
    this.request = request;
    this.#host = host;
    this.#bodyAt = request.started;
    this.#requestEnd = new StreamEnd(client, flags);
    // Whatever happens to it, "close" follows.
    client.on("error", () => undefined);
    client.once("close", () => this.#clientClosed());
    client.once("aborted", () => this.#clientClosed());
    client.once("trailers", (headers, _, lines) => this.#requestTrailers(headers, lines));
    client.on("wantTrailers", () => this.#lastOfAnswer());
  }

  /** What is told of it so far. */
  get outcome(): Outcome {
    return { status: this.status, bytesIn: this.#bytesIn, bytesOut: this.#bytesOut };
  }

  // The steps.

  serve(head: RequestHead): void {
    decide<NodeStream>(this.#host, this, head, (_, passed) => this.#send(passed));
  }

  #send(passed: Passed): void {
    if (passed === "onlyOverHttp1") {
      // A new connection gets HTTP/1.1.
      this.breakOff("REFUSED_STREAM", "NeedsHttp1");
      this.#host.leave();
      return;
    }
    if (this.request.watch) this.#host.collaborators.metrics.streams("watch", 1);
    this.#counted = this.request.watch;
    this.allowed = passed;
    this.#host.send(this, passed.connector);
  }

  /** Whether the target gets HEADERS alone. */
  get isWithoutBody(): boolean {
    return this.allowed?.head.body === "none";
  }

  /** The target has it. */
  opened(target: ClientHttp2Stream): void {
    const { metrics } = this.#host.collaborators;
    const { client } = this;
    const end = new StreamEnd(target);
    const isOurs = () => this.#target === target && this.phase === "open";
    this.phase = "open";
    this.#target = target;
    this.#bodyAt = this.#host.now();
    this.#added = this.#bodyAt - this.request.started;
    metrics.latencyAdded(this.#added / 1000);
    target.on("error", () => undefined); // "close" follows
    target.once("close", () => {
      if (isOurs()) this.#targetClosed(target);
    });
    const heard = (headers: IncomingHttpHeaders, flags: number, lines: readonly string[]) => {
      if (isOurs()) this.#heard(fieldsOf(lines, headers), (flags & constants.NGHTTP2_FLAG_END_STREAM) !== 0);
    };
    target.on("headers", heard).on("response", heard).on("trailers", heard);
    target.on("wantTrailers", () => target.sendTrailers(headersOf(this.#trailersToTarget)));
    carry({
      from: target,
      to: client,
      end,
      isWanted: () => isOurs() && this.status > 0 && !this.#answered,
      onBytes: (count) => {
        this.#bytesOut += count;
        metrics.bytes("out", count);
      },
      onEnd: () => void (this.#answered = true),
    });
    if (this.isWithoutBody) return;
    carry({
      from: client,
      to: target,
      end: this.#requestEnd,
      isWanted: () => isOurs() && !this.#uploadUnwanted,
      onBytes: (count) => {
        this.#bodyAt = this.#host.now();
        this.#bytesIn += count;
        metrics.bytes("in", count);
      },
      onEnd: () => undefined,
    });
  }

  #requestTrailers(headers: IncomingHttpHeaders, lines: readonly string[]): void {
    try {
      this.#trailersToTarget = readRequestTrailers(fieldsOf(lines, headers), this.client.id ?? 0);
    } catch (error) {
      if (!(error instanceof Http2Error)) throw error;
      this.#host.wasReset();
      this.breakOff(error.code);
    }
  }

  // What the target says.

  #heard(fields: Field[], isLast: boolean): void {
    try {
      if (sizeOf(fields) > this.#host.collaborators.limits.head) {
        throw new Refusal(431, "The HTTP message's head is too large");
      }
      if (this.status === 0) this.#head(readAnswer(fields), isLast);
      else if (!isLast) throw badAnswer("its trailers do not end it");
      else this.#trailersToClient = readAnswerTrailers(fields);
    } catch (error) {
      // node:http2 throws where it would not send what was read.
      this.refuse(answerCannotPass(this, error instanceof Refusal ? error : badAnswer("it cannot be sent on")));
    }
  }

  #head(answer: AnswerHead, isLast: boolean): void {
    if (answer.status < 200) {
      this.interim += 1;
      if (isLast || this.interim > interimLimit) throw badAnswer("it has too many interim answers, or only one");
      this.client.additionalHeaders(headersOf(answer.headers));
      return;
    }
    const fresh = connectorToRetryWith(this, answer.status, this.#host.currentConnector());
    if (fresh !== undefined && this.allowed !== undefined) {
      this.retried = true;
      this.allowed = { ...this.allowed, connector: fresh };
      this.#dropTarget();
      this.#host.send(this, fresh);
      return;
    }
    this.#host.targetAnswered();
    const bodiless = this.request.method === "HEAD" || answer.status === 204 || answer.status === 304;
    this.#passHead(answer, isLast || bodiless);
  }

  #passHead(answer: AnswerHead, endStream: boolean): void {
    const { headers } = answer;
    if (this.allowed?.warning !== undefined) headers.push(warningField(this.allowed.warning));
    if (this.allowed !== undefined && answer.status === 401) headers.push(tokenRefused(this.allowed.connector));
    this.client.respond(linesOf(headers), { endStream, waitForTrailers: !endStream, ...noDate });
    this.status = answer.status;
    this.#hasLength = answer.length >= 0;
    this.#answered = endStream;
    this.#isOut = endStream;
    this.allowed = undefined;
    requestAnswered(this.request, answer, this.#added);
    announceRequest(this.request, this.outcome, this.#host.reporters);
  }

  /** The answer is out but for its trailers. */
  #lastOfAnswer(): void {
    this.client.sendTrailers(headersOf(this.#trailersToClient));
    // After node:http2 has written them.
    setImmediate(() => setImmediate(() => this.#out()));
  }

  #out(): void {
    this.#isOut = true;
    this.#closeHalf();
  }

  /** Of a request that goes on after its answer nothing more is wanted, as soon as the target has said so. */
  #closeHalf(): void {
    const isOver = this.#isOut && (this.#uploadUnwanted || this.phase === "own");
    if (isOver && !this.client.closed) this.client.close(errorCodes.NO_ERROR);
  }

  #targetClosed(target: ClientHttp2Stream): void {
    this.#target = undefined;
    if (this.#answered) {
      this.#uploadUnwanted = true;
      this.client.resume();
      this.#closeHalf();
      return;
    }
    const lost = this.#host.lostTarget();
    const code = target.rstCode;
    if (lost !== undefined) {
      // A connection that has served before may have been closed for its age: the client asks again by itself.
      if (this.status === 0 && isHarmless(this) && lost.answered) this.breakOff("REFUSED_STREAM");
      else this.refuse(closedEarly(this));
    } else if (code === errorCodes.PROTOCOL_ERROR && this.status === 0) {
      // nghttp2 says no more of an answer that it does not take.
      this.refuse(answerCannotPass(this, badAnswer("it is against the rules of HTTP/2")));
    } else this.breakOff(errorToPassOn(code), "AnswerBrokenOff");
  }

  // The ends.

  /** Answers in our own words; when an answer has begun, breaks it off instead. */
  refuse(refusal: Refusal): void {
    if (this.phase === "closed" || this.phase === "own") return;
    if (this.status > 0 || this.client.headersSent || this.client.closed) {
      this.breakOff("INTERNAL_ERROR", "AnswerBrokenOff");
      return;
    }
    this.phase = "own";
    this.#dropTarget();
    this.#report({ ...this.outcome, status: refusal.http, refusal, bytesOut: 0 });
    const { fields, body } = ownAnswer(refusal, this.request.method);
    this.client.respond(linesOf(fields), { endStream: body === "", ...noDate });
    if (body === "") this.#out();
    else this.client.once("finish", () => setImmediate(() => this.#out())).end(body);
    // What still comes of the request is thrown away.
    this.client.resume();
  }

  /** Ends it on both sides; the client is told by a code why, and the audit log by a word. */
  breakOff(code: ErrorName, why?: string): void {
    if (this.phase === "closed") return;
    this.request.endedBy ??= why ?? code;
    this.closed();
    this.client.close(errorCodes[code]);
  }

  #clientClosed(): void {
    const whole = (this.#answered || this.phase === "own") && this.client.rstCode === errorCodes.NO_ERROR;
    if (this.phase === "closed") return;
    if (!whole) {
      this.request.endedBy ??= "ClientGone";
      this.#host.wasReset();
    }
    this.closed();
  }

  /** It is over. */
  closed(): void {
    if (this.phase === "closed") return;
    const own = this.phase === "own";
    this.phase = "closed";
    this.#dropTarget();
    if (this.#counted) this.#host.collaborators.metrics.streams("watch", -1);
    if (!own) this.#report(goneOutcome(this.outcome));
    this.#host.streamClosed(this);
  }

  #dropTarget(): void {
    const target = this.#target;
    this.#target = undefined;
    target?.close(errorCodes.CANCEL);
  }

  /** For a drain, as in the own relay; whether a chunk of it is half here node:http2 does not tell. */
  endCleanly(): boolean {
    const { request, client } = this;
    if (this.phase === "own") return true;
    request.endedBy ??= "Draining";
    if (this.status > 0 && !this.#hasLength && !this.#answered) {
      if (client.writableLength > 0) return false;
      this.#answered = true;
      this.#uploadUnwanted = true;
      this.#dropTarget();
      client.end();
    } else if (this.status === 0 && this.interim === 0 && (request.method === "GET" || request.method === "HEAD")) {
      this.refuse(new Refusal(503, "The proxy is stopping; try again"));
    } else this.breakOff("CANCEL");
    return true;
  }

  /** Called about once a second; whether its caller should be asked about again. */
  tick(now: number): boolean {
    const { collaborators, reporters } = this.#host;
    const { timeouts } = collaborators;
    if (this.phase !== "own" && !policyHolds(this.request, this.#host.currentConnector(), collaborators)) {
      this.breakOff("CANCEL", "NoLongerAllowed");
      return false;
    }
    if (this.phase !== "open") return false;
    announceRequest(this.request, this.outcome, reporters);
    const owes = !this.#requestEnd.wasSent && !this.#uploadUnwanted && this.#target?.writableNeedDrain === false;
    if (!owes) this.#bodyAt = now;
    if (now - this.#bodyAt >= timeouts.requestBody) {
      this.breakOff("CANCEL", "RequestBodyTimeout");
      return false;
    }
    return now - this.request.askedAt >= timeouts.review;
  }

  openStream(now: number): OpenStream {
    return shownStream(this, this.#waiting(), { admitted: this.#host.admitted, now });
  }

  #waiting(): Pick<OpenStream, "state" | "waitsFor"> {
    if (this.phase === "deciding") return { state: "who and may they", waitsFor: "review" };
    if (this.phase === "waiting") return { state: "connecting to the target", waitsFor: "target" };
    if (this.phase === "own") return { state: "closing", waitsFor: "client" };
    if (this.status > 0) return { state: "answering", waitsFor: this.client.writableNeedDrain ? "client" : "target" };
    const isSending = !this.#requestEnd.wasSent && this.#target?.writableNeedDrain === false;
    return isSending ? { state: "request body", waitsFor: "client" } : { state: "no answer yet", waitsFor: "target" };
  }

  #report(outcome: Outcome): void {
    reportRequest(this.request, outcome, this.#host.reporters);
  }
}
