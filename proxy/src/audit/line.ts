/**
 * A line of ASCII, put together piece by piece in one buffer that is used for each line again. A text of as many pieces has
 * to be made flat before it can be written, which took half of the time of a line, and most of its garbage.
 */
export class Line {
  #bytes = Buffer.allocUnsafeSlow(8192);
  #length = 0;

  /** Bytes so far. */
  get length(): number {
    return this.#length;
  }

  clear(): void {
    this.#length = 0;
  }

  /** Adds ASCII as it is. */
  add(text: string): void {
    const end = this.#length + text.length;
    if (end > this.#bytes.length) this.#grow(end);
    if (text.length < 20) for (let at = 0; at < text.length; at++) this.#bytes[this.#length + at] = text.charCodeAt(at);
    else this.#bytes.write(text, this.#length, "latin1");
    this.#length = end;
  }

  /** Adds a whole number from 0 to 999,999 with all six digits. */
  addSixDigits(value: number): void {
    const end = this.#length + 6;
    if (end > this.#bytes.length) this.#grow(end);
    let left = value;
    for (let at = end - 1; at >= this.#length; at -= 1) {
      const rest = Math.floor(left / 10);
      this.#bytes[at] = 0x30 + left - rest * 10;
      left = rest;
    }
    this.#length = end;
  }

  copyTo(bytes: Buffer, at: number): void {
    this.#bytes.copy(bytes, at, 0, this.#length);
  }

  toString(): string {
    return this.#bytes.toString("latin1", 0, this.#length);
  }

  #grow(needed: number): void {
    const grown = Buffer.allocUnsafeSlow(2 * needed);
    this.copyTo(grown, 0);
    this.#bytes = grown;
  }
}
