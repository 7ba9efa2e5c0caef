/** Most heads of requests are no longer, as most of them have a token. Bytes. */
const requestHead = 2048;
/** Most heads of answers; a small body behind one should not become a text as well. */
export const answerHead = 512;

const nothing = Buffer.alloc(0);

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
   * come, `bareLf` when a line ends without CR (then the end may never come).
   */
  takeHead(): { text: string } | "incomplete" | "bareLf" {
    const bytes = this.#bytes;
    if (bytes === undefined) return "incomplete";
    if (this.#searched <= this.#start) {
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

  /** A head is out, and the four bytes that end it. */
  #took(text: string): { text: string } {
    this.#start += text.length + 4;
    this.#searched = this.#start;
    if (this.#start === this.#end) this.clear();
    return { text };
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
