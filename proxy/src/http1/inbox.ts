/** Most heads of requests are no longer, as most of them have a token. Bytes. */
const requestHead = 2048;
/** Most heads of answers; a small body behind one should not become a text as well. */
export const answerHead = 512;

const nothing = Buffer.alloc(0);

/** A head without its final empty line: its text, or where its other lines are the last ones `again`, its first line. */
export interface TakenHead {
  text: string;
  again: boolean;
  /** Bytes of all its lines. */
  size: number;
}

/**
 * Bytes that have come and that nobody has taken yet. One chunk is kept as it is; more are gathered in a buffer that
 * doubles, so that a message in one-byte pieces costs no more than its length.
 */
export class Inbox {
  #bytes: Buffer | undefined;
  #start = 0;
  #end = 0;
  /** Whether #bytes is ours to write into. */
  #owned = false;
  /** Where the next search for the end of a head begins. */
  #searched = 0;
  readonly #usualHead: number;

  constructor(usualHead = requestHead) {
    this.#usualHead = usualHead;
  }

  get length(): number {
    return this.#end - this.#start;
  }

  add(chunk: Buffer): void {
    if (this.#bytes === undefined) {
      this.#bytes = chunk;
      this.#start = 0;
      this.#end = chunk.length;
      this.#searched = 0;
      this.#owned = false;
      return;
    }
    const length = this.length;
    if (!this.#owned || this.#end + chunk.length > this.#bytes.length) {
      const grown = Buffer.allocUnsafeSlow(Math.max(2 * (length + chunk.length), 1024));
      this.#bytes.copy(grown, 0, this.#start, this.#end);
      this.#searched -= this.#start;
      this.#bytes = grown;
      this.#start = 0;
      this.#end = length;
      this.#owned = true;
    }
    chunk.copy(this.#bytes, this.#end);
    this.#end += chunk.length;
  }

  /** What waits is kept in bytes of its own, as those that came were only lent. */
  keep(): void {
    if (this.#bytes === undefined || this.#owned) return;
    const bytes = Buffer.allocUnsafeSlow(this.length);
    this.#bytes.copy(bytes, 0, this.#start, this.#end);
    this.#searched -= this.#start;
    this.#end -= this.#start;
    this.#start = 0;
    this.#bytes = bytes;
    this.#owned = true;
  }

  /** Everything that waits; the inbox is empty afterwards. */
  takeAll(): Buffer {
    const all = this.#bytes?.subarray(this.#start, this.#end) ?? nothing;
    this.clear();
    return all;
  }

  clear(): void {
    this.#bytes = undefined;
    this.#start = 0;
    this.#end = 0;
  }

  /**
   * The head at the front, without its final empty line, as Latin-1; it is taken out. `incomplete` when its end has not
   * come, `bareLf` when a line ends without CR (then the end may never come). `last`: header lines and their empty line,
   * which most heads have `again`.
   */
  takeHead(last?: Buffer): TakenHead | "incomplete" | "bareLf" {
    const bytes = this.#bytes;
    if (bytes === undefined) return "incomplete";
    if (this.#searched <= this.#start) {
      const first = last === undefined ? undefined : this.#firstLineBefore(bytes, last);
      if (first !== undefined && last !== undefined) {
        this.#skip(first.length + 2 + last.length);
        return { text: first, size: first.length + last.length - 2, again: true };
      }
      // Most heads have come whole. To look for the end in a text is much cheaper than in a Buffer.
      const text = bytes.toString("latin1", this.#start, Math.min(this.#end, this.#start + this.#usualHead));
      const end = text.indexOf("\r\n\r\n");
      if (end >= 0) return this.#took(text.slice(0, end));
    }
    const found = bytes.subarray(0, this.#end).indexOf("\r\n\r\n", Math.max(this.#searched, this.#start), "latin1");
    if (found < 0) {
      const bare = this.#hasBareLf(bytes);
      this.#searched = Math.max(this.#start, this.#end - 3);
      return bare ? "bareLf" : "incomplete";
    }
    return this.#took(bytes.toString("latin1", this.#start, found));
  }

  /** The first line, if exactly those lines are behind it. */
  #firstLineBefore(bytes: Buffer, lines: Buffer): string | undefined {
    const lf = bytes.indexOf(0x0a, this.#start);
    const end = lf + 1 + lines.length;
    const fits = lf > this.#start && end <= this.#end && bytes[lf - 1] === 0x0d;
    if (!fits || bytes.compare(lines, 0, lines.length, lf + 1, end) !== 0) return undefined;
    return bytes.toString("latin1", this.#start, lf - 1);
  }

  /** A head is out, and the four bytes that end it. */
  #took(text: string): TakenHead {
    this.#skip(text.length + 4);
    return { text, size: text.length, again: false };
  }

  #skip(count: number): void {
    this.#start += count;
    this.#searched = this.#start;
    if (this.#start === this.#end) this.clear();
  }

  #hasBareLf(bytes: Buffer): boolean {
    const view = bytes.subarray(0, this.#end);
    let at = view.indexOf(0x0a, Math.max(this.#searched, this.#start));
    while (at >= 0) {
      if (at === this.#start || view[at - 1] !== 0x0d) return true;
      at = view.indexOf(0x0a, at + 1);
    }
    return false;
  }
}
