import { newline, stampLength } from "./line.ts";
import type { Head } from "./order.ts";

/** Where in a time the dot before the nanoseconds is. */
const fraction = 19;

/** Fills what it can of the buffer from that place of a file. */
export type ReadAt = (buffer: Buffer, at: number) => Promise<number>;

/** Reads the records of a part, or the lines of a merged file, one after the other. Holds one block of it. */
export class Cursor implements Head {
  second = 0;
  nanos = 0;
  readonly order: number;
  /** The record at the head: bytes `start` to `end` (with its newline) of `block`. */
  block: Buffer = Buffer.alloc(0);
  start = 0;
  end = 0;
  readonly #read: ReadAt;
  readonly #blockBytes: number;
  /** Place in the file of the block's first byte, and bytes of the block that are filled. */
  #at: number;
  #filled = 0;

  constructor(read: ReadAt, options: { at?: number; order?: number; blockBytes?: number } = {}) {
    this.#read = read;
    this.#at = options.at ?? 0;
    this.order = options.order ?? 0;
    this.#blockBytes = options.blockBytes ?? 65_536;
  }

  /** Place in the file of the record at the head, and of what follows it. */
  get place(): number {
    return this.#at + this.start;
  }
  get next(): number {
    return this.#at + this.end;
  }

  /** Goes on to the next record if it is in the block already. */
  step(): boolean {
    const end = this.block.indexOf(newline, this.end);
    if (end < 0 || end >= this.#filled) return false;
    this.start = this.end;
    this.end = end + 1;
    this.#readTime();
    return true;
  }

  /** Numbers and no text, as they are made and compared for each line of a log. */
  #readTime(): void {
    const { block, start } = this;
    let second = 0;
    for (let at = start; at < start + fraction; at += 1) {
      const digit = (block[at] as number) - 0x30;
      // The signs between them are no digits.
      if (digit >= 0 && digit <= 9) second = second * 10 + digit;
    }
    let nanos = 0;
    for (let at = start + fraction + 1; at < start + stampLength - 1; at += 1)
      nanos = nanos * 10 + (block[at] as number) - 0x30;
    if (second < this.second || (second === this.second && nanos < this.nanos)) return;
    this.second = second;
    this.nanos = nanos;
  }

  /** Goes on to the next record that ends at or before `limit`; false when there is none (yet). */
  async advance(limit: number): Promise<boolean> {
    if (this.step()) return true;
    for (;;) {
      const rest = this.#filled - this.end;
      const more = Math.min(limit - (this.#at + this.#filled), Math.max(this.#blockBytes, rest));
      if (more <= 0) return false;
      const block = this.block.length >= rest + more ? this.block : Buffer.allocUnsafeSlow(rest + more);
      this.block.copy(block, 0, this.end, this.#filled);
      this.block = block;
      this.#at += this.end;
      this.start = 0;
      this.end = 0;
      this.#filled = rest + (await this.#read(block.subarray(rest, rest + more), this.#at + rest));
      if (this.step()) return true;
      if (this.#filled === rest) return false;
    }
  }

  /** Gives the memory back; what was not taken is read again. */
  drop(): void {
    this.#at += this.end;
    this.start = 0;
    this.end = 0;
    this.#filled = 0;
    this.block = Buffer.alloc(0);
  }
}

/** The lines of a file before `end`, the last one first, without their newlines, each with its place. */
export async function* linesBackwards(read: ReadAt, end: number): AsyncGenerator<{ line: Buffer; at: number }> {
  let tail: Buffer = Buffer.alloc(0);
  let at = end;
  let size = 16_384;
  while (at > 0) {
    const from = Math.max(0, at - size);
    const block = Buffer.allocUnsafe(at - from);
    await read(block, from);
    let rest: Buffer = Buffer.concat([block, tail]);
    for (;;) {
      // The last byte is the newline of the last line.
      const before = rest.length < 2 ? -1 : rest.lastIndexOf(newline, rest.length - 2);
      if (before < 0) break;
      yield { line: rest.subarray(before + 1, -1), at: from + before + 1 };
      rest = rest.subarray(0, before + 1);
    }
    tail = rest;
    at = from;
    size = Math.min(size * 4, 1_048_576);
  }
  if (tail.length > 0) yield { line: tail.subarray(0, -1), at: 0 };
}
