import { Refusal } from "../answers.ts";
import { type BodyKind, parseFieldLine } from "./head.ts";

/** Most bytes of all trailer lines of one body, with the empty one: Go's net/http reads no more, and breaks off. */
const trailerLimit = 4096;

/** A trailer line, or its beginning: what of it has come goes on before its end is there. */
const startOfLine = /^[\t\x20-\x7e\x80-\xff]*(?:\r\n?)?$/;

type Step = "size" | "sizeEnd" | "data" | "dataCr" | "dataLf" | "trailer" | "done";

/**
 * Follows one body through the bytes that carry it, without keeping or changing any: it says which of them belong to the
 * body, and throws a Refusal when they are no such body. The bytes pass on as they came, chunk framing included, so what
 * the other side reads is exactly what was judged here.
 */
export class BodyFramer {
  #kind: BodyKind = "none";
  #step: Step = "done";
  /** Bytes that the body, or the current chunk, still has. */
  #left = 0;
  #digits = 0;
  #trailer = "";
  #trailerBytes = 0;
  readonly #mayTrail: (lowerName: string) => boolean;

  /** `mayTrail` says which names a trailer may have. */
  constructor(mayTrail: (lowerName: string) => boolean) {
    this.#mayTrail = mayTrail;
  }

  begin(kind: BodyKind, length: number): void {
    this.#kind = kind;
    this.#left = kind === "length" ? length : 0;
    this.#digits = 0;
    this.#trailer = "";
    this.#trailerBytes = 0;
    this.#step = kind === "none" ? "done" : kind === "chunked" ? "size" : "data";
  }

  get done(): boolean {
    return this.#step === "done";
  }

  /** Whether only the end of the connection ends it. */
  get endsWithConnection(): boolean {
    return this.#kind === "eof";
  }

  get isChunked(): boolean {
    return this.#kind === "chunked";
  }

  /** Whether the last chunk could be written here: a chunked body that is between two chunks. */
  get betweenChunks(): boolean {
    return this.#kind === "chunked" && this.#step === "size" && this.#digits === 0;
  }

  /** Takes the bytes from `from` on that belong to the body; answers the offset of the first that does not. */
  take(bytes: Buffer, from: number): number {
    if (this.#kind === "eof") return bytes.length;
    if (this.#kind === "length") return this.#takeLength(bytes, from);
    let offset = from;
    while (offset < bytes.length && this.#step !== "done") offset = this.#takeChunked(bytes, offset);
    return offset;
  }

  #takeLength(bytes: Buffer, from: number): number {
    const count = Math.min(this.#left, bytes.length - from);
    this.#left -= count;
    if (this.#left === 0) this.#step = "done";
    return from + count;
  }

  #takeChunked(bytes: Buffer, offset: number): number {
    const byte = bytes[offset] ?? 0;
    switch (this.#step) {
      case "size":
        this.#takeSize(byte);
        return offset + 1;
      case "sizeEnd":
        expect(byte === 0x0a);
        this.#step = this.#left === 0 ? "trailer" : "data";
        return offset + 1;
      case "data": {
        const count = Math.min(this.#left, bytes.length - offset);
        this.#left -= count;
        if (this.#left === 0) this.#step = "dataCr";
        return offset + count;
      }
      case "dataCr":
        expect(byte === 0x0d);
        this.#step = "dataLf";
        return offset + 1;
      case "dataLf":
        expect(byte === 0x0a);
        this.#step = "size";
        this.#digits = 0;
        return offset + 1;
      case "trailer":
        return this.#takeTrailer(bytes, offset);
      case "done":
      default:
        return offset;
    }
  }

  /** A size is 1 to 12 hex digits and CRLF: no sign, no blank, no extension. */
  #takeSize(byte: number): void {
    if (byte === 0x0d && this.#digits > 0) {
      this.#step = "sizeEnd";
      return;
    }
    const value = hexValue(byte);
    expect(value >= 0 && this.#digits < 12);
    this.#left = this.#left * 16 + value;
    this.#digits += 1;
  }

  #takeTrailer(bytes: Buffer, offset: number): number {
    const lineEnd = bytes.indexOf(0x0a, offset);
    const end = lineEnd < 0 ? bytes.length : lineEnd + 1;
    this.#trailerBytes += end - offset;
    expect(this.#trailerBytes <= trailerLimit);
    this.#trailer += bytes.toString("latin1", offset, end);
    expect(startOfLine.test(this.#trailer));
    if (lineEnd < 0) return end;
    expect(this.#trailer.endsWith("\r\n"));
    const line = this.#trailer.slice(0, -2);
    this.#trailer = "";
    if (line === "") {
      this.#step = "done";
      return end;
    }
    const { name, lower } = parseFieldLine(line);
    if (!this.#mayTrail(lower)) {
      throw new Refusal(400, `The HTTP message is malformed: its trailers may not hold ${name}`);
    }
    return end;
  }
}

function hexValue(byte: number): number {
  if (byte >= 0x30 && byte <= 0x39) return byte - 0x30;
  const lower = byte | 0x20;
  return lower >= 0x61 && lower <= 0x66 ? lower - 0x57 : -1;
}

function expect(holds: boolean): void {
  if (!holds) throw new Refusal(400, "The HTTP message is malformed: its chunked body is not framed correctly");
}
