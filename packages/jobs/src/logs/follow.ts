import type { Readable } from "node:stream";
import { backoff, type Clock, Fault, type Log, sleep } from "@kube-connector/core";
import type { LogQuery } from "../kube.ts";
import type { ContainerNews } from "./instances.ts";
import type { GapReason } from "./line.ts";
import { stampAt } from "./line.ts";
import type { Masks } from "./mask.ts";
import type { Part } from "./part.ts";
import { createResumeFilter } from "./resume.ts";
import type { Slot, Slots } from "./slots.ts";
import { createIntake, type Intake } from "./intake.ts";

/** Opens a container's log with `timestamps=true`; rejects with a Fault. */
export type OpenLog = (namespace: string, pod: string, query: LogQuery, signal: AbortSignal) => Promise<Readable>;

/** What all streams of a run share. */
export interface FollowRoom {
  run: string;
  namespace: string;
  open: OpenLog;
  slots: Slots;
  clock: Clock;
  log: Log;
  random: () => number;
  masks: Masks;
  lineBytes: number;
  /** Bytes that the run may still store. */
  budget: { left: number };
  /** Lines are missing here. */
  onGap(part: Part, reason: GapReason): void;
  /** The part has more lines; `lines` of them came just now. */
  onLines(part: Part, lines: number): void;
  /** Something else changed that the live log may have waited for. */
  onChange(): void;
}

/**
 * Milliseconds after a stream's end in which the container's end must be seen, for the two to belong together, and for which a
 * stream may go on after the container's end without being confirmed.
 */
const endSeenWithin = 5_000;
/** Milliseconds without a byte after which the stream of a container that has ended is given up. */
const silentAfterEnd = 10_000;
/** Milliseconds in which a restart must be seen, before a stream that does not fit counts as rotated. */
const restartSeenWithin = 2_000;
/** A container's end is told in whole seconds, cut off. */
const wholeSecond = 1_000;
/** Milliseconds for which 403 must be the answer to be believed. */
const forbiddenFor = 15_000;
/** Refusals (400) of a container that has ended, before its log counts as not to be had. */
const refusals = 3;

const podNotFound = /pods "[^"]*" not found/;

type Outcome = "clean" | "broken" | "unfit";

/**
 * Reads the log of one run of one container to its end, whatever breaks. The end of a stream proves nothing: kubelets and
 * balancers cut streams, and an API server ends one cleanly, behind a whole line, when the kubelet behind it goes away. So the
 * log is complete when a stream ended cleanly and the container's end was known by then. If it was not, as times have whole
 * seconds and are the node's, or if any stream was cut, one more that was opened after the end must bring nothing new.
 */
export class Follow {
  readonly part: Part;
  /** Ends when the part is closed, or the reading was stopped. */
  readonly done: Promise<void>;
  /** idle: waits for its turn; nobody waits for its lines then. */
  state: "following" | "reconnecting" | "idle" | "closed" = "following";
  /** Why the part cannot be written, while that is so. */
  problem: Fault | undefined;
  readonly #room: FollowRoom;
  readonly #stopping = new AbortController();
  #expired = false;
  #news: ContainerNews;
  #gone = false;
  #changed: () => void = () => undefined;
  /** Ends the stream that is open. */
  #attempt: AbortController | undefined;
  #failures = 0;
  #refused = 0;
  /** When (monotonic) the first refusal came after which nothing was opened. */
  #forbiddenSince: number | undefined;
  /** The container's restarts when a stream did not fit. */
  #suspected = -1;
  /** Whether a stream of it ended before the log did: then another one's end must be confirmed. */
  #doubt = false;
  /** When (monotonic) the container's end was first known. */
  #overSince: number | undefined;
  /** When it ended, milliseconds since 1970; NaN when that is not known. */
  #endedAt = Number.NaN;
  /** When (monotonic) a stream ended as a log does, so that its confirmation alone is missing. */
  #likelyAt: number | undefined;
  /** Where the last stream ended that ended well: bytes without a newline, and lines of ours that it had not sent. */
  #place = "";

  constructor(part: Part, news: ContainerNews, room: FollowRoom) {
    this.part = part;
    this.#news = news;
    this.#room = room;
    this.#noteEnd();
    this.done = this.#run();
  }

  /** The container has a new status. */
  tell(news: ContainerNews): void {
    this.#news = news;
    this.#noteEnd();
    this.#changed();
  }

  /** Its pod is no more. */
  gone(): void {
    this.#gone = true;
    this.#noteEnd();
    this.#changed();
  }

  /** Reads no more; what is missing is missing. */
  expire(): void {
    this.#expired = true;
    this.stop();
  }

  /** Reads no more; a later process goes on. */
  stop(): void {
    this.#stopping.abort();
    this.#changed();
  }

  async #run(): Promise<void> {
    const { signal } = this.#stopping;
    const { clock, random } = this.#room;
    while (!this.part.facts.closed) {
      try {
        if (signal.aborted) {
          if (this.#expired) await this.#close("Unreadable");
          break;
        }
        const wait = await this.#once(signal);
        this.problem = undefined;
        if (wait > 0) await sleep(clock, wait, signal);
      } catch (error) {
        this.#report(error);
        if (signal.aborted) break;
        this.#setState("reconnecting");
        await sleep(clock, backoff(this.#failures++, 800, 30_000, random), signal);
      }
    }
    this.#setState(this.part.facts.closed ? "closed" : "idle");
  }

  #report(error: unknown): void {
    const fault = Fault.from(error, "Cannot write the log");
    if (this.problem === undefined)
      this.#room.log.error("The log of a container cannot be written", this.#fields(error));
    this.problem = fault;
  }

  #fields(error?: unknown) {
    const { pod } = this.part.facts;
    return { pod, name: this.part.facts.container, ...(error === undefined ? {} : { error }) };
  }

  #setState(state: Follow["state"]): void {
    if (this.state === state) return;
    this.state = state;
    this.#room.onChange();
  }

  /** Whether this run of the container has begun anew since. */
  get #restarted(): boolean {
    return this.#news.restart > this.part.facts.restart;
  }

  get #over(): boolean {
    return this.#gone || this.#restarted || this.#news.ended !== undefined;
  }

  #noteEnd(): void {
    if (this.#over) this.#overSince ??= this.#room.clock.monotonic();
    const { restart, ended, previousEnded } = this.#news;
    const back = restart - this.part.facts.restart;
    // A status tells of the run before until its node has removed that one.
    this.#endedAt = Date.parse((back === 0 ? ended : back === 1 ? previousEnded : "") ?? "") || this.#endedAt;
  }

  /** Reads one stream, when its turn has come. Answers with the milliseconds to wait before the next. */
  async #once(signal: AbortSignal): Promise<number> {
    if (this.part.facts.limited) return this.#close();
    const slot = await this.#enter(signal);
    if (slot === undefined) return 0;
    try {
      return await this.#stream(signal);
    } finally {
      slot.release();
    }
  }

  /** Undefined when it was stopped, or the container has ended meanwhile: what is left of it does not wait for those that go on. */
  async #enter(signal: AbortSignal): Promise<Slot | undefined> {
    const { run, slots } = this.#room;
    const brief = this.#over;
    if (!brief && slots.full()) this.#setState("idle");
    const slot = slots.acquire(run, brief ? undefined : () => this.#attempt?.abort());
    this.#changed = () => {
      if (signal.aborted || (!brief && this.#over)) slot.leave();
    };
    return (await slot.entered) ? slot : undefined;
  }

  /** Opens a stream and reads it to its end. */
  async #stream(signal: AbortSignal): Promise<number> {
    const { part } = this;
    const { facts } = part;
    const room = this.#room;
    room.budget.left += await part.cutBack();
    const filter = createResumeFilter(await part.resumePoint());
    const attempt = new AbortController();
    this.#attempt = attempt;
    const both = AbortSignal.any([signal, attempt.signal]);
    // Of a container that is just being started again we would get the new log, and take it for the old one's.
    if (this.#news.unsettled) await this.#waitUntil(() => !this.#news.unsettled || this.#gone, restartSeenWithin);
    if (this.#news.restart > facts.restart + 1) return this.#close("RestartMissed");
    const { restart } = this.#news;
    const previous = this.#restarted;
    const over = this.#over;
    const { container, pod } = facts;
    const query: LogQuery = { container, ...(previous ? { previous } : {}), ...(over ? {} : { follow: true }) };
    if (filter.sinceTime !== undefined) query.sinceTime = filter.sinceTime;
    const doing = `Cannot open the log of ${part.label}`;
    const stream = await room.open(room.namespace, pod, query, both).catch((error) => Fault.from(error, doing));
    if (stream instanceof Fault) {
      if (signal.aborted || attempt.signal.aborted) return 1;
      return await this.#refusal(stream, { previous, over });
    }
    this.#forbiddenSince = undefined;
    // Nothing says whose a first stream is: it is the next run's when that began after the last news, so more is waited for.
    const mayBeNext = filter.sinceTime === undefined && !previous && this.#news.restarts;
    stream.on("error", () => undefined);
    if (mayBeNext) await this.#waitUntil(() => this.#restarted || this.#gone, restartSeenWithin);
    const openedAt = room.clock.monotonic();
    const sure = this.#suspected === restart;
    const isOurs = (stamp: string) => !mayBeNext || this.#isOurs(stamp);
    const intake = createIntake({ part, filter, room, sure, resumed: filter.sinceTime !== undefined, isOurs });
    const outcome = await this.#read(stream, intake, attempt);
    if (intake.kept()) this.#failures = 0;
    if (outcome === "unfit") return await this.#suspect(restart);
    const knownFor = room.clock.monotonic() - Math.max(openedAt, this.#overSince ?? Infinity);
    const known = this.#overSince !== undefined && knownFor < endSeenWithin;
    const ended = outcome === "clean" && (this.#over || (await this.#endSeen()));
    if (ended && intake.removed()) {
      return await this.#closeShort(this.#restarted ? "RestartMissed" : "Unreadable");
    }
    if (ended && filter.pending() > 0 && !sure) return await this.#suspect(restart);
    if (ended && (facts.limited || this.#isAll(intake, { over, known, pending: filter.pending() }))) {
      await intake.end();
      if (filter.pending() > 0) await this.#gap("Rotated");
      if (intake.dropped() > 0) await part.mark(`dropped ${intake.dropped()} lines`, stampAt(room.clock.now()));
      return await this.#close();
    }
    this.#doubt ||= !attempt.signal.aborted;
    if (attempt.signal.aborted) return 1;
    this.#setState("reconnecting");
    if (this.#isLikely) return 1;
    return backoff(this.#failures++, 800, 30_000, room.random);
  }

  /** Whether a stream's first line, of that time, is ours: by what is known now our run had not ended before it. */
  #isOurs(stamp: string): boolean {
    return !this.#restarted || Date.parse(stamp) < this.#endedAt + wholeSecond;
  }

  /** Takes a stream's bytes until it ends. Rejects only when they cannot be stored. */
  async #read(stream: Readable, intake: Intake, attempt: AbortController): Promise<Outcome> {
    const { clock } = this.#room;
    let heard = clock.monotonic();
    let cancel = () => {};
    const check = () => {
      if (this.#over && clock.monotonic() - heard >= silentAfterEnd) attempt.abort();
      else cancel = clock.after(silentAfterEnd, check);
    };
    check();
    const abort = () => stream.destroy(new Error("the stream is read no longer"));
    attempt.signal.addEventListener("abort", abort, { once: true });
    this.#stopping.signal.addEventListener("abort", abort, { once: true });
    if (attempt.signal.aborted || this.#stopping.signal.aborted) abort();
    this.#setState("following");
    let storing = false;
    try {
      for await (const chunk of stream) {
        heard = clock.monotonic();
        storing = true;
        if (!(await intake.take(chunk as Buffer))) return "unfit";
        storing = false;
      }
      return "clean";
    } catch (error) {
      if (storing) throw error;
      return "broken";
    } finally {
      cancel();
      attempt.signal.removeEventListener("abort", abort);
      this.#stopping.signal.removeEventListener("abort", abort);
      stream.destroy();
    }
  }

  /** After a stream's clean end: whether the container is seen to have ended, and not after the stream. */
  async #endSeen(): Promise<boolean> {
    const at = this.#room.clock.now();
    await this.#waitUntil(() => this.#over, endSeenWithin);
    return this.#over && !(this.#endedAt > at);
  }

  /**
   * Whether a clean end after the container's is the log's. It is not believed where that one's was not known yet, within a
   * line, nor where streams were cut before, until another stream ends in the same place and brings nothing new. `over`:
   * the end was known when the stream was opened; `known`: when it ended, and not for long.
   */
  #isAll(intake: Intake, { over, known, pending }: { over: boolean; known: boolean; pending: number }): boolean {
    const place = `${intake.unfinished()} ${pending}`;
    const isLikely = !this.#doubt && place === "0 0";
    if (isLikely && known) return true;
    this.#likelyAt = isLikely ? this.#room.clock.monotonic() : undefined;
    const confirmed = over && !intake.kept() && place === this.#place;
    this.#place = place;
    return confirmed;
  }

  get #isLikely(): boolean {
    return this.#likelyAt !== undefined && this.#room.clock.monotonic() - this.#likelyAt < endSeenWithin;
  }

  /** The log cannot be had any more. Of one that was read to what is likely its end a moment ago, nothing is missing. */
  #closeShort(reason: GapReason): Promise<0> {
    return this.#close(this.#isLikely ? undefined : this.#news.evicted ? "Evicted" : reason);
  }

  /**
   * The stream does not go on where we stopped. Either the kubelet has rotated what lay between away, or the container has
   * restarted and we do not know it yet: then these lines are another run's.
   */
  async #suspect(restart: number): Promise<number> {
    this.#suspected = restart;
    this.#setState("reconnecting");
    await this.#waitUntil(() => this.#news.restart > restart, restartSeenWithin);
    return 1;
  }

  /** Waits for news until that holds, so many milliseconds at most. */
  async #waitUntil(holds: () => boolean, milliseconds: number): Promise<void> {
    const { clock } = this.#room;
    const { signal } = this.#stopping;
    const until = clock.monotonic() + milliseconds;
    while (!holds() && !signal.aborted && clock.monotonic() < until) {
      const news = new AbortController();
      this.#changed = () => news.abort();
      await sleep(clock, until - clock.monotonic(), AbortSignal.any([signal, news.signal]));
    }
  }

  /** No stream: answers with the milliseconds until the next try, or closes the part. */
  async #refusal(fault: Fault, { previous, over }: { previous: boolean; over: boolean }): Promise<number> {
    const status = fault.answer?.status;
    // A kubelet that has just begun does not know its pods yet and says 404 too; the API server names the pod.
    if (status === 404 && (this.#gone || podNotFound.test(fault.message))) return this.#closeShort("PodDeleted");
    if (status === 403 && this.#isForbidden()) return this.#close("Forbidden");
    // 204: an API server that knows of no node yet has no log, and says so as if it were empty.
    const isEarly = status === 400 || status === 204 || status === 403;
    if (status === 400 && over && ++this.#refused >= refusals)
      return this.#closeShort(previous ? "RestartMissed" : "Unreadable");
    // Before its start, there is nothing that others would have to wait for.
    this.#setState(isEarly ? "idle" : "reconnecting");
    this.#room.log.debug("A log cannot be opened and is tried again", this.#fields(fault));
    const seconds = fault.answer?.retryAfterSeconds;
    const wait = backoff(this.#failures++, 800, isEarly ? 5_000 : 30_000, this.#room.random);
    return seconds === undefined ? wait : Math.max(wait, seconds * 1000);
  }

  /** An API server that has just begun refuses what it has no rules for yet, so one refusal says nothing. */
  #isForbidden(): boolean {
    const now = this.#room.clock.monotonic();
    this.#forbiddenSince ??= now;
    return now - this.#forbiddenSince >= forbiddenFor;
  }

  async #gap(reason: GapReason): Promise<void> {
    if (await this.part.mark(`gap ${reason}`, stampAt(this.#room.clock.now()))) this.#room.onGap(this.part, reason);
  }

  /** Nothing more comes. */
  async #close(reason?: GapReason): Promise<0> {
    if (reason !== undefined) await this.#gap(reason);
    await this.part.sync();
    await this.part.save({ closed: true });
    this.#setState("closed");
    return 0;
  }
}
