/** Characters that are written one by one. */
const few = 20;

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
    // A call into Node is dearer than a few characters.
    if (text.length > few) this.#bytes.write(text, this.#length, "latin1");
    else for (let at = 0; at < text.length; at += 1) this.#bytes[this.#length + at] = text.charCodeAt(at);
    this.#length = end;
  }

  /** Adds ASCII that is bytes already: half the price of a text of the same length, and less again of one that was put together. */
  addBytes(bytes: Buffer): void {
    const end = this.#length + bytes.length;
    if (end > this.#bytes.length) this.#grow(end);
    this.#bytes.set(bytes, this.#length);
    this.#length = end;
  }

  /** Adds any text as it stands in JSON between its quotes. Most are short and need no escape: one look at each character does it. */
  addEscaped(text: string): void {
    const end = this.#length + text.length;
    if (end > this.#bytes.length) this.#grow(end);
    for (let at = 0; at < text.length; at += 1) {
      const code = text.charCodeAt(at);
      if (code < 0x20 || code > 0x7e || code === 0x22 || code === 0x5c) {
        this.add(asciiJson(text).slice(1, -1));
        return;
      }
      this.#bytes[this.#length + at] = code;
    }
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

/** A text of ASCII alone as bytes. */
export function asciiBytes(text: string): Buffer {
  return Buffer.from(text, "latin1");
}

/** Anything as JSON in ASCII. */
export function asciiJson(value: unknown): string {
  return JSON.stringify(value).replaceAll(
    /[\u007f-\uffff]/g,
    (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}
