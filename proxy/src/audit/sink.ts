import type { FileHandle } from "node:fs/promises";
import { open, stat } from "node:fs/promises";
import { write } from "node:fs";
import { type Clock, errnoOf, Fault, type Log, type Running, sleep } from "@kube-connector/core";
import type { ProxyMetrics } from "../metrics.ts";
import type { Line } from "./line.ts";

/** Where audit lines go. Memory is bounded, the event loop is never blocked, and what is lost is counted. */
export interface AuditSink extends Running {
  /** Takes one line, with its line end, and keeps nothing of it but its bytes. */
  write(line: Line): void;
  /** A sentence while lines cannot be written, or wait for too long or in too great a number. */
  whyDown(): string | undefined;
}

export interface AuditSinkOptions {
  /** A file that lines are appended to, or a descriptor that is open (1: standard output). */
  to: { file: string } | { descriptor: number };
  clock: Clock;
  log: Log;
  metrics: Pick<ProxyMetrics, "audited">;
  bounds?: Partial<AuditBounds>;
}

/** Bytes and milliseconds. */
export interface AuditBounds {
  /** Above this much waiting nothing new is let through: room for the last lines of what is open. */
  full: number;
  /** Above this much lines are lost. */
  most: number;
  /** How long lines are collected before they are written together. */
  collect: number;
  /** A write that takes longer has failed. */
  patience: number;
  /** Until a failed write is tried again, and a file is looked at for having been moved away. */
  again: number;
  /** How long the end waits for the last lines. */
  end: number;
}

const defaultBounds: AuditBounds = {
  full: 8_388_608,
  most: 16_777_216,
  collect: 10,
  patience: 10_000,
  again: 1_000,
  end: 5_000,
};

/** Bytes of one write, unless one line is longer. */
const chunkSize = 262_144;
/** Chunks that are kept for the next lines, so many as a busy proxy fills while one is written. */
const spareLimit = 4;

/** Lines that are written together; encoded as they come, since texts that wait are dear to the garbage collector. */
interface Chunk {
  bytes: Buffer<ArrayBuffer>;
  used: number;
  lines: number;
}

/** Opens it. Fault when a file cannot be opened: a process whose audit log cannot be written should not start. */
export async function startAuditSink(options: AuditSinkOptions): Promise<AuditSink> {
  const sink = new Sink(options);
  await sink.open();
  return sink;
}

class Sink implements AuditSink {
  readonly done: Promise<void>;
  readonly #options: AuditSinkOptions;
  readonly #bounds: AuditBounds;
  /** Full ones, the oldest first. */
  #full: Chunk[] = [];
  #filling: Chunk = { bytes: Buffer.allocUnsafeSlow(chunkSize), used: 0, lines: 0 };
  /** Of chunks that were written, for the next ones: new ones would make V8 look through the whole heap again and again. */
  readonly #spare: Buffer<ArrayBuffer>[] = [];
  /** Bytes in all of them, and in the one that is being written. */
  #waiting = 0;
  #file: { handle: FileHandle; inode: number } | undefined;
  #lookedAt = 0;
  #writing = false;
  /** When the write in hand began, or the first one that failed. */
  #since: number | undefined;
  #failing = false;
  #lost = 0;
  /** Lines of the chunk in hand. */
  #inHand = 0;
  #isOver = false;
  #collecting: (() => void) | undefined;
  #stopping: Promise<void> | undefined;
  #resolveDone: () => void = () => undefined;

  constructor(options: AuditSinkOptions) {
    this.#options = options;
    this.#bounds = { ...defaultBounds, ...options.bounds };
    this.done = new Promise((resolve) => {
      this.#resolveDone = resolve;
    });
  }

  async open(): Promise<void> {
    const { to } = this.#options;
    if (!("file" in to)) return;
    try {
      await this.#openFile(to.file);
    } catch (error) {
      throw Fault.from(error, `Cannot open the audit log ${to.file}`);
    }
  }

  write(line: Line): void {
    if (this.#isOver || this.#waiting + line.length > this.#bounds.most) {
      this.#lose(1);
      return;
    }
    if (this.#filling.used + line.length > this.#filling.bytes.length) this.#nextFilling(line.length);
    const chunk = this.#filling;
    line.copyTo(chunk.bytes, chunk.used);
    chunk.used += line.length;
    chunk.lines += 1;
    this.#waiting += line.length;
    if (!this.#writing) this.#collect();
  }

  /** Many lines in one write, as each goes by another thread and back. */
  #collect(): void {
    this.#collecting ??= this.#options.clock.after(this.#bounds.collect, () => this.#begin());
  }

  whyDown(): string | undefined {
    if (this.#failing) return "The audit log cannot be written";
    const { full, patience } = this.#bounds;
    const slow = this.#since !== undefined && this.#options.clock.monotonic() - this.#since > patience;
    return slow || this.#waiting > full ? "The audit log is not written fast enough" : undefined;
  }

  stop(): Promise<void> {
    this.#stopping ??= this.#end();
    return this.#stopping;
  }

  async #end(): Promise<void> {
    const { clock, log } = this.#options;
    this.#begin();
    const deadline = clock.monotonic() + this.#bounds.end;
    while (this.#waiting > 0 && clock.monotonic() < deadline && !this.#failing) await sleepReferenced(clock, 10);
    const left = [...this.#full, this.#filling].reduce((sum, { lines }) => sum + lines, this.#inHand);
    if (left > 0) {
      this.#lose(left);
      log.error("The last audit events could not be written", { count: this.#lost });
    }
    this.#full = [];
    this.#isOver = true;
    if (!this.#writing) await this.#closeFile();
    this.#resolveDone();
  }

  #begin(): void {
    this.#collecting?.();
    this.#collecting = undefined;
    if (this.#writing) return;
    this.#writing = true;
    this.#writeAll().then(
      () => {
        this.#writing = false;
        if (this.#hasLines) this.#collect();
      },
      (error: unknown) => {
        this.#writing = false;
        this.#options.log.error("The audit log ended", { error });
        this.#failing = true;
      },
    );
  }

  /**
   * Writes what waits, and goes on while that is a chunk's worth. What cannot be written is tried again, so that lines keep
   * their order.
   */
  async #writeAll(): Promise<void> {
    while (this.#hasLines) {
      const chunk = this.#takeChunk();
      const bytes = chunk.bytes.subarray(0, chunk.used);
      let offset = 0;
      this.#inHand = chunk.lines;
      while (offset < bytes.length) {
        try {
          offset += await this.#writeSome(bytes, offset);
          this.#succeeded();
        } catch (error) {
          await this.#failed(error);
          if (this.#stopping !== undefined && this.#failing) return;
        }
      }
      this.#inHand = 0;
      this.#waiting -= bytes.length;
      if (chunk.bytes.length === chunkSize && this.#spare.length < spareLimit) this.#spare.push(chunk.bytes);
      this.#options.metrics.audited("written", chunk.lines);
      if (this.#full.length === 0 && this.#stopping === undefined) return;
    }
  }

  get #hasLines(): boolean {
    return this.#full.length > 0 || this.#filling.lines > 0;
  }

  #takeChunk(): Chunk {
    const oldest = this.#full.shift();
    if (oldest !== undefined) return oldest;
    const chunk = this.#filling;
    this.#filling = this.#createChunk(chunkSize);
    return chunk;
  }

  #nextFilling(size: number): void {
    if (this.#filling.lines > 0) this.#full.push(this.#filling);
    this.#filling = this.#createChunk(Math.max(chunkSize, size));
  }

  #createChunk(size: number): Chunk {
    const spare = size === chunkSize ? this.#spare.pop() : undefined;
    return { bytes: spare ?? Buffer.allocUnsafeSlow(size), used: 0, lines: 0 };
  }

  async #writeSome(bytes: Buffer, offset: number): Promise<number> {
    const { to, clock } = this.#options;
    this.#since ??= clock.monotonic();
    const descriptor = "file" in to ? await this.#fileNow(to.file) : to.descriptor;
    return await new Promise((resolve, reject) => {
      write(descriptor, bytes, offset, bytes.length - offset, null, (error, count) => {
        if (error === null) resolve(count);
        else reject(error);
      });
    });
  }

  #succeeded(): void {
    this.#since = undefined;
    if (!this.#failing) return;
    this.#failing = false;
    this.#options.log.info("The audit log can be written again", { count: this.#lost });
    this.#lost = 0;
  }

  async #failed(error: unknown): Promise<void> {
    const { clock, log } = this.#options;
    // A pipe that takes nothing at the moment: whoever reads it is slow.
    if (errnoOf(error) === "EAGAIN") {
      await sleepReferenced(clock, 10);
      return;
    }
    if (!this.#failing) log.error("The audit log cannot be written; requests are refused until it can be", { error });
    this.#failing = true;
    await this.#closeFile();
    if (this.#stopping === undefined) await sleep(clock, this.#bounds.again);
  }

  #lose(count: number): void {
    if (this.#lost === 0) this.#options.log.error("Audit events are lost, because too many wait to be written");
    this.#lost += count;
    this.#options.metrics.audited("lost", count);
  }

  /** The descriptor of the file of that name: a new one when the old one was moved away. */
  async #fileNow(path: string): Promise<number> {
    const now = this.#options.clock.monotonic();
    if (this.#file !== undefined && now - this.#lookedAt >= this.#bounds.again) {
      this.#lookedAt = now;
      const found = await stat(path).catch(() => undefined);
      if (found?.ino !== this.#file.inode) await this.#closeFile();
    }
    return (this.#file ?? (await this.#openFile(path))).handle.fd;
  }

  async #openFile(path: string): Promise<{ handle: FileHandle; inode: number }> {
    const handle = await open(path, "a", 0o600);
    const { ino: inode } = await handle.stat();
    this.#file = { handle, inode };
    return this.#file;
  }

  async #closeFile(): Promise<void> {
    const file = this.#file;
    this.#file = undefined;
    await file?.handle.close().catch(() => undefined);
  }
}

/** The clock's timers keep no process alive; the last lines should. */
async function sleepReferenced(clock: Clock, milliseconds: number): Promise<void> {
  const hold = setInterval(() => undefined, 1_000);
  try {
    await sleep(clock, milliseconds);
  } finally {
    clearInterval(hold);
  }
}
