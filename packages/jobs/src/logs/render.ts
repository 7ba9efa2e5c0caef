import { piece, stampLength, text } from "./line.ts";

const split = Buffer.from("!split\n");
const none = Buffer.alloc(0);

/**
 * Lines of a merged file that are to be written together. Of a line that came in pieces each piece that goes on is announced:
 * `!split` says that the next line of that container has its end in the one after it.
 */
export class Lines {
  #bytes: Buffer;
  #length = 0;
  /** Lines of text, and marks of gaps. */
  text = 0;
  gaps = 0;

  /** Room for so many bytes at once; it grows by itself. */
  constructor(capacity = 0) {
    this.#bytes = capacity === 0 ? none : Buffer.allocUnsafeSlow(capacity);
  }

  get length(): number {
    return this.#length;
  }

  /** What is to be written; good until the next call. */
  bytes(): Buffer {
    return this.#bytes.subarray(0, this.#length);
  }

  clear(): void {
    this.#length = 0;
    this.text = 0;
    this.gaps = 0;
  }

  /** Gives the memory back until the next line; nothing is kept then. */
  drop(): void {
    this.clear();
    this.#bytes = none;
  }

  /** Adds the record at `start` to `end` of the block; `label` with its brackets. */
  add(block: Buffer, start: number, end: number, label: Buffer): void {
    const kind = block[start + stampLength];
    const most = 2 * (end - start + label.length + split.length);
    if (this.#length + most > this.#bytes.length) this.#grow(most);
    const to = this.#bytes;
    let at = this.#length;
    if (kind === piece) {
      at += block.copy(to, at, start, start + stampLength);
      at += label.copy(to, at);
      at += split.copy(to, at);
    }
    at += block.copy(to, at, start, start + stampLength);
    at += label.copy(to, at);
    const body = at;
    at += block.copy(to, at, start + stampLength, end);
    if (kind === piece) to[body] = text;
    this.#length = at;
    if (to[body] === text) this.text += 1;
    else if (to.toString("latin1", body, body + 5) === "!gap ") this.gaps += 1;
  }

  /** Adds a line that is none of a container. */
  addPlain(line: string): void {
    const bytes = Buffer.from(line);
    if (this.#length + bytes.length > this.#bytes.length) this.#grow(bytes.length);
    this.#length += bytes.copy(this.#bytes, this.#length);
  }

  #grow(more: number): void {
    const grown = Buffer.allocUnsafeSlow(Math.max(2 * this.#bytes.length, this.#length + more));
    this.#bytes.copy(grown, 0, 0, this.#length);
    this.#bytes = grown;
  }
}

/** A label as lines have it; in memory of its own, as a small part of Node's pool would keep all 8 KiB of that. */
export function bracketed(label: string): Buffer {
  const shown = ` [${label}]`;
  const bytes = Buffer.allocUnsafeSlow(Buffer.byteLength(shown));
  bytes.write(shown);
  return bytes;
}
