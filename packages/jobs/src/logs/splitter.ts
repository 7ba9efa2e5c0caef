import { isStamp, newline, normalizeStamp, piece, recordOf, stampLength, text } from "./line.ts";
import type { Masks } from "./mask.ts";

/** What became of a line of the kubelet's answer. */
export interface StreamLine {
  /** Absent: the kubelet wrote a line of its own, without time; `record` is its text. */
  stamp: string | undefined;
  /** To be written into the part as it is. */
  record: Buffer;
  /** Of a line that is too long: whether this is its first and its last piece. */
  first: boolean;
  last: boolean;
}

/** The longest time with its space that is looked for. */
const longestStamp = 40;

/**
 * Cuts the kubelet's bytes (`timestamps=true`) into records. A line of more than `lineBytes` comes in pieces; secrets are
 * hidden in the whole of it, wherever the chunks or the pieces are cut.
 */
export class LineSplitter {
  readonly #lineBytes: number;
  readonly #masks: Masks;
  #chunks: Buffer[] = [];
  #length = 0;
  #unfinished = 0;
  /** Set while the pieces of a long line are given out. */
  #long: string | undefined;

  constructor(lineBytes: number, masks: Masks) {
    this.#lineBytes = lineBytes;
    this.#masks = masks;
  }

  feed(chunk: Buffer, take: (line: StreamLine) => void): void {
    let start = 0;
    // Most chunks hold no secret; then lines are passed on without a copy.
    const clean = this.#masks.longest === 0 || !this.#masks.found(chunk);
    for (let end = chunk.indexOf(newline); end >= 0; end = chunk.indexOf(newline, start)) {
      if (this.#length === 0 && this.#long === undefined) this.#takeWhole(chunk.subarray(start, end + 1), clean, take);
      else {
        this.#chunks.push(chunk.subarray(start, end + 1));
        this.#takeWhole(this.#join(), false, take);
      }
      start = end + 1;
    }
    this.#unfinished = chunk.length - start + (start === 0 ? this.#unfinished : 0);
    if (start === chunk.length) return;
    this.#chunks.push(chunk.subarray(start));
    this.#length += chunk.length - start;
    if (this.#length > longestStamp + 2 * this.#lineBytes + 2 * this.#masks.longest) this.#takeBeginning(take);
  }

  /** The last line, when the program ended without a newline and the stream ended well. */
  end(take: (line: StreamLine) => void): void {
    if (this.#length === 0 && this.#long === undefined) return;
    this.#chunks.push(Buffer.of(newline));
    this.#takeWhole(this.#join(), false, take);
  }

  /** Bytes that came of a line that has no end yet. */
  get unfinished(): number {
    return this.#unfinished;
  }

  #join(): Buffer {
    const joined = this.#chunks.length === 1 ? (this.#chunks[0] as Buffer) : Buffer.concat(this.#chunks);
    this.#chunks = [];
    this.#length = 0;
    return joined;
  }

  /** A line with its newline, or the rest of a long one. */
  #takeWhole(line: Buffer, clean: boolean, take: (line: StreamLine) => void): void {
    const short = line.length <= this.#lineBytes + stampLength + 2;
    if (clean && short && this.#long === undefined && line[stampLength] === text && isStamp(line, 0)) {
      take({ stamp: line.toString("latin1", 0, stampLength), record: line, first: true, last: true });
      return;
    }
    const { stamp, first, body } = this.#open(line.subarray(0, -1));
    const masked = this.#masks.apply(body);
    this.#long = undefined;
    if (stamp === undefined) take({ stamp, record: masked.subarray(0, this.#lineBytes), first: true, last: true });
    else this.#takePieces(stamp, masked, { first, last: true }, take);
  }

  /** Gives out what is known of a line that is too long already. */
  #takeBeginning(take: (line: StreamLine) => void): void {
    const { stamp, first, body } = this.#open(this.#join());
    // A line of the kubelet's own without an end in sight: its beginning says enough.
    if (stamp === undefined) return this.#keep(body.subarray(0, this.#lineBytes));
    const { masked, rest } = this.#masks.applyToBeginning(body);
    const pieces = Math.floor(masked.length / this.#lineBytes);
    const cut = this.#takePieces(stamp, masked, { first, last: false, pieces }, take);
    const left = Buffer.concat([masked.subarray(cut), rest]);
    if (cut === 0 && first) return this.#keep(Buffer.concat([Buffer.from(`${stamp} `), left]));
    this.#long = stamp;
    this.#keep(left);
  }

  #keep(bytes: Buffer): void {
    this.#chunks = [Buffer.from(bytes)];
    this.#length = bytes.length;
  }

  /** Time and text of what is at hand. */
  #open(bytes: Buffer): { stamp: string | undefined; first: boolean; body: Buffer } {
    if (this.#long !== undefined) return { stamp: this.#long, first: false, body: bytes };
    const space = bytes.subarray(0, longestStamp).indexOf(0x20);
    const end = space < 0 ? Math.min(bytes.length, longestStamp) : space;
    const stamp = normalizeStamp(bytes.toString("latin1", 0, end));
    return { stamp, first: true, body: stamp === undefined ? bytes : bytes.subarray(end + 1) };
  }

  /** Answers with the bytes that were given out. */
  #takePieces(
    stamp: string,
    body: Buffer,
    of: { first: boolean; last: boolean; pieces?: number },
    take: (line: StreamLine) => void,
  ): number {
    let { first } = of;
    let from = 0;
    for (let count = 0; of.last ? body.length - from > this.#lineBytes : count < (of.pieces ?? 0); count += 1) {
      const to = characterStart(body, from + this.#lineBytes);
      take({ stamp, record: recordOf(stamp, piece, body.subarray(from, to)), first, last: false });
      first = false;
      from = to;
    }
    if (!of.last) return from;
    take({ stamp, record: recordOf(stamp, text, body.subarray(from)), first, last: true });
    return body.length;
  }
}

/** The place at or at most three bytes before `at` where a UTF-8 character begins; `at` when the bytes are no text. */
function characterStart(bytes: Buffer, at: number): number {
  for (let back = 0; back < 4; back += 1) if (((bytes[at - back] ?? 0) & 0xc0) !== 0x80) return at - back;
  return at;
}
