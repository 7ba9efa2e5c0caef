import { backoff, type Clock, type Log, sleep } from "@kube-connector/core";
import type { Bell } from "./bell.ts";
import { Cursor } from "./cursor.ts";
import type { LogFiles, WritableFile } from "./files.ts";
import { isStamp, labelAt, stampLength, text } from "./line.ts";
import { Heads, isEarlier, type Silent, waitFor } from "./order.ts";
import type { Part } from "./part.ts";
import { bracketed, Lines } from "./render.ts";

// The live log: merged from the parts while they grow. It is read back when a process begins, so that what is in it is not
// written twice; its lines say from which part they are, and so how far each part has been taken.

/** How a part's stream is doing. */
export type StreamState = "following" | "reconnecting" | "idle" | "closed";

export interface LiveOptions {
  run: string;
  path: string;
  /** The first line. */
  header: string;
  files: LogFiles;
  clock: Clock;
  log: Log;
  bell: Bell;
  onProgress(lines: number, bytes: number): void;
}

interface Source {
  part: Part;
  label: Buffer;
  state: () => StreamState;
  cursor: Cursor;
  /** Up to where the part had grown, and when. */
  arrivals: { end: number; at: number }[];
  second: number;
  nanos: number;
  order: number;
  /** Whether it stands among the heads. */
  waiting: boolean;
}

/** Milliseconds in which the news of several parts are gathered. */
const gathering = 10;
const blockBytes = 1_048_576;

export class Live {
  /** Lines of text, and bytes, that are in the file. */
  lines = 0;
  bytes = 0;
  readonly done: Promise<void>;
  readonly #options: LiveOptions;
  readonly #file: WritableFile;
  readonly #sources = new Map<Part, Source>();
  readonly #heads = new Heads<Source>();
  readonly #grown = new Set<Source>();
  readonly #out = new Lines();
  readonly #stopping = new AbortController();
  /** Bytes of each part that the file had when it was opened. */
  readonly #taken = new Map<string, number>();
  #ended = false;
  #ending: string | undefined;
  #wake: () => void = () => undefined;
  #woken = false;

  private constructor(options: LiveOptions, file: WritableFile) {
    this.#options = options;
    this.#file = file;
    this.done = Promise.resolve();
  }

  /** Opens the file and reads what it has. Rejects with Node's errors. */
  static async start(options: LiveOptions): Promise<Live> {
    const live = new Live(options, await options.files.open(options.path));
    try {
      await live.#recover();
    } catch (error) {
      await live.#file.close().catch(() => undefined);
      throw error;
    }
    (live as { done: Promise<void> }).done = live.#run();
    return live;
  }

  /** Takes a part in. */
  add(part: Part, state: () => StreamState): void {
    const at = this.#taken.get(part.label) ?? 0;
    const order = this.#sources.size;
    const source: Source = {
      part,
      label: bracketed(part.label),
      state,
      cursor: part.cursor(at, order),
      arrivals: [],
      second: 0,
      nanos: 0,
      order,
      waiting: false,
    };
    this.#sources.set(part, source);
    this.grew(part);
  }

  /** The part has more than before. */
  grew(part: Part): void {
    const source = this.#sources.get(part);
    if (source === undefined) return;
    this.#grown.add(source);
    const at = this.#options.clock.monotonic();
    const latest = source.arrivals.at(-1);
    if (latest !== undefined && at - latest.at < gathering) latest.end = part.whole;
    else source.arrivals.push({ end: part.whole, at });
    this.wake();
  }

  wake(): void {
    this.#woken = true;
    this.#wake();
  }

  /** Writes what is left of the parts, all of which are closed, and the last line. */
  async end(line: string): Promise<void> {
    this.#ending = line;
    this.wake();
    await this.done;
  }

  /** Writes no more; a later process goes on. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    this.wake();
    await this.done;
  }

  async #run(): Promise<void> {
    const { clock } = this.#options;
    const { signal } = this.#stopping;
    for (let failures = 0; !signal.aborted && !this.#ended; ) {
      try {
        this.#woken = false;
        const wait = await this.#pass();
        // There are as many of these as live runs, and most have nothing to write.
        this.#out.drop();
        failures = 0;
        if (this.#ending !== undefined && wait === Infinity && !this.#woken) await this.#finish(this.#ending);
        else await this.#pause(wait);
      } catch (error) {
        if (failures === 0) this.#options.log.error("The live log of a run cannot be written", { error });
        if (this.#ending !== undefined) break;
        failures += 1;
        await sleep(clock, backoff(failures, 800, 30_000), signal);
      }
    }
    await Promise.allSettled([this.#file.close(), ...[...this.#sources.keys()].map((part) => part.release())]);
  }

  /** Until something changes, or the first line has waited long enough. */
  async #pause(wait: number): Promise<void> {
    const { clock } = this.#options;
    const { signal } = this.#stopping;
    // A plain promise, as each run that says nothing waits here; `stop` wakes it too.
    if (!this.#woken) {
      await new Promise<void>((resolve) => {
        const cancel = wait === Infinity ? () => undefined : clock.after(wait, resolve);
        this.#wake = () => {
          cancel();
          resolve();
        };
      });
      this.#wake = () => undefined;
    }
    await sleep(clock, gathering, signal);
  }

  /** Writes all lines that may be written. Answers with the milliseconds that the next one must wait; Infinity: none does. */
  async #pass(): Promise<number> {
    await this.#flush();
    for (const source of this.#grown) {
      if (!source.waiting && (await source.cursor.advance(source.part.whole))) this.#enter(source);
      this.#grown.delete(source);
    }
    const silent = this.#silent();
    const now = this.#options.clock.monotonic();
    for (let first = this.#heads.first(); first !== undefined; first = this.#heads.first()) {
      const { cursor } = first;
      const wait = waitFor(first, now - arrivalOf(first, now), silent);
      if (wait > 0) {
        await this.#flush();
        return wait;
      }
      this.#out.add(cursor.block, cursor.start, cursor.end, first.label);
      if (cursor.step()) {
        first.second = cursor.second;
        first.nanos = cursor.nanos;
        this.#heads.sink();
      } else {
        // In this order, so that a read that fails is done again and the line is not.
        this.#heads.pop();
        first.waiting = false;
        this.#grown.add(first);
        if (await cursor.advance(first.part.whole)) this.#enter(first);
        this.#grown.delete(first);
        if (!first.waiting) {
          cursor.drop();
          this.#quiet(first, silent);
        }
      }
      if (this.#out.length >= blockBytes) await this.#flush();
    }
    await this.#flush();
    return Infinity;
  }

  #enter(source: Source): void {
    source.second = source.cursor.second;
    source.nanos = source.cursor.nanos;
    source.waiting = true;
    this.#heads.push(source);
  }

  /** Of the parts without a line at hand, the one that is behind most, of each kind. */
  #silent(): Silent[] {
    const silent: Silent[] = [];
    for (const source of this.#sources.values()) if (!source.waiting) this.#quiet(source, silent);
    return silent;
  }

  #quiet(source: Source, silent: Silent[]): void {
    const state = source.state();
    if (state === "closed") void source.part.release();
    if (state === "closed" || state === "idle") return;
    const reconnecting = state === "reconnecting";
    const known = silent.find((one) => one.reconnecting === reconnecting);
    const { second, nanos } = source.cursor;
    if (known === undefined) silent.push({ second, nanos, reconnecting });
    else if (isEarlier(source.cursor, known)) Object.assign(known, { second, nanos });
  }

  async #flush(): Promise<void> {
    if (this.#out.length === 0) return;
    await this.#file.write(this.#out.bytes(), this.bytes);
    this.bytes += this.#out.length;
    this.lines += this.#out.text;
    this.#out.clear();
    this.#options.bell.ring(this.#options.run);
    this.#options.onProgress(this.lines, this.bytes);
  }

  async #finish(line: string): Promise<void> {
    this.#out.addPlain(line);
    await this.#flush();
    this.#ended = true;
  }

  /** Learns from the file how far each part was taken, and cuts off what a death left half written. */
  async #recover(): Promise<void> {
    const { header } = this.#options;
    const { size } = this.#file;
    const cursor = new Cursor((buffer, at) => this.#file.read(buffer, at), { blockBytes });
    let good = 0;
    while (await cursor.advance(size)) {
      const { block, start, end } = cursor;
      const label = labelAt(block, start);
      if (label !== "") {
        const sign = start + stampLength + label.length + 3;
        if (!isStamp(block, start) || sign >= end) break;
        // It belongs to the line after it, and is written again with that one.
        if (block.toString("latin1", sign, end) === "!split\n") continue;
        this.#taken.set(label, (this.#taken.get(label) ?? 0) + (end - start) - (label.length + 3));
        if (block[sign] === text) this.lines += 1;
      } else if (block.toString("latin1", start, start + 5) === "#end ") this.#ended = true;
      good = cursor.next;
    }
    if (good < size) await this.#file.truncate(good);
    this.bytes = good;
    if (good > 0) return;
    await this.#file.truncate(0);
    this.#out.addPlain(header);
    await this.#flush();
  }
}

/** When the line at its head came. */
function arrivalOf(source: Source, now: number): number {
  const { arrivals, cursor } = source;
  while (arrivals.length > 1 && (arrivals[0]?.end ?? 0) < cursor.next) arrivals.shift();
  return arrivals[0]?.at ?? now;
}
