import { Http2Error } from "./errors.ts";

/** RFC 9113, 6. */
export const frameTypes = {
  data: 0,
  headers: 1,
  priority: 2,
  reset: 3,
  settings: 4,
  pushPromise: 5,
  ping: 6,
  goAway: 7,
  windowUpdate: 8,
  continuation: 9,
} as const;

export const flags = { endStream: 1, ack: 1, endHeaders: 4, padded: 8, priority: 0x20 } as const;

/** What a client says first. */
export const preface = Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "latin1");

/** Largest payload, both ways: what HTTP/2 begins with, and what we never raise. */
export const frameLimit = 16_384;

const headerSize = 9;
/** Of one header block, in its pieces: CONTINUATION frames and bytes. */
const continuationLimit = 8;
const blockLimit = 65_536;

/** Where a header block is: a view of each would cost more than to decode it. */
export interface HeaderBlock {
  bytes: Buffer;
  from: number;
  to: number;
  /** The stream that its priority names; -1 without. */
  dependsOn: number;
}

/** Takes what a FrameReader reads. Buffers are valid until the call returns. */
export interface FrameSink {
  /** A whole frame other than DATA, HEADERS, CONTINUATION. */
  frame(type: number, flag: number, id: number, payload: Buffer): void;
  /** A whole header block. */
  headers(id: number, endStream: boolean, block: HeaderBlock): void;
  /** A DATA frame begins; `length` is what it costs of the windows. */
  dataBegins(id: number, length: number, endStream: boolean): void;
  /** Bytes of it as they come; `last` with the final ones, which may be none. */
  dataBytes(id: number, bytes: Buffer, last: boolean): void;
}

/**
 * Cuts bytes into frames. DATA passes as it comes; everything else is given whole, header blocks put together. Http2Error
 * for what no frame may be. Frames in one-byte pieces cost no more than their length.
 */
export class FrameReader {
  readonly #sink: FrameSink;
  /** A frame that is not all there: its bytes, gathered. */
  #held: Buffer = Buffer.alloc(0);
  #heldLength = 0;
  /** A DATA frame under way. */
  #dataId = 0;
  #dataLeft = 0;
  /** A header block under way. */
  #blockId = 0;
  #blockEnds = false;
  #blockDependsOn = -1;
  #block: Buffer[] = [];
  #blockSize = 0;
  #begun = false;
  /** Frames that came whole. */
  frames = 0;

  constructor(sink: FrameSink) {
    this.#sink = sink;
  }

  /** Whether the other side owes the rest of a frame or of a header block. */
  get isInside(): boolean {
    return this.#heldLength > 0 || this.#blockId > 0;
  }

  /** The stream whose DATA frame has not all come; 0: none. */
  get dataUnderWay(): number {
    return this.#dataLeft > 0 ? this.#dataId : 0;
  }

  read(bytes: Buffer): void {
    let at = 0;
    if (this.#heldLength > 0) at = this.#fill(bytes);
    while (at < bytes.length) {
      if (this.#dataLeft > 0) {
        at = this.#data(bytes, at);
        continue;
      }
      const left = bytes.length - at;
      const size = left < headerSize ? headerSize : this.#sizeOf(bytes, at);
      if (left < size) {
        this.#hold(bytes, at, size);
        return;
      }
      this.#frame(bytes, at, size);
      at += size;
    }
  }

  /** Bytes that must be there before the frame at `at` can be taken: all, or of DATA without padding the header. */
  #sizeOf(bytes: Buffer, at: number): number {
    const length = ((bytes[at] as number) << 16) | ((bytes[at + 1] as number) << 8) | (bytes[at + 2] as number);
    const type = bytes[at + 3] as number;
    if (length > frameLimit) throw new Http2Error("FRAME_SIZE_ERROR", `a frame is larger than ${frameLimit} bytes`);
    if (!this.#begun && type !== frameTypes.settings) throw protocolError("the first frame is no SETTINGS");
    const streams = type === frameTypes.data && ((bytes[at + 4] as number) & flags.padded) === 0;
    return streams ? headerSize : headerSize + length;
  }

  #hold(bytes: Buffer, at: number, size: number): void {
    const left = bytes.length - at;
    if (this.#held.length < size) {
      const grown = Buffer.allocUnsafeSlow(size);
      this.#held.copy(grown, 0, 0, this.#heldLength);
      this.#held = grown;
    }
    bytes.copy(this.#held, this.#heldLength, at);
    this.#heldLength += left;
  }

  /** Completes the frame that is held; answers where the next begins. */
  #fill(bytes: Buffer): number {
    let at = 0;
    for (;;) {
      const known = this.#heldLength >= headerSize;
      const size = known ? this.#sizeOf(this.#held, 0) : headerSize;
      if (known && this.#heldLength >= size) {
        const frame = this.#held;
        this.#heldLength = 0;
        this.#held = Buffer.alloc(0);
        this.#frame(frame, 0, size);
        return at;
      }
      const count = Math.min(size - this.#heldLength, bytes.length - at);
      if (count === 0) return at;
      this.#hold(bytes.subarray(at, at + count), 0, size);
      at += count;
    }
  }

  #frame(bytes: Buffer, at: number, size: number): void {
    const type = bytes[at + 3] as number;
    const flag = bytes[at + 4] as number;
    const id = bytes.readUInt32BE(at + 5) & 0x7fff_ffff;
    this.#begun = true;
    this.frames += 1;
    if (this.#blockId > 0 && (type !== frameTypes.continuation || id !== this.#blockId)) {
      throw protocolError("a header block was interrupted");
    }
    if (type === frameTypes.data) {
      this.#beginData(bytes, at, size, flag, id);
      return;
    }
    if (type === frameTypes.headers) {
      this.#beginBlock({ bytes, from: at + headerSize, to: at + size, dependsOn: -1 }, flag, id);
      return;
    }
    const payload = bytes.subarray(at + headerSize, at + size);
    if (type === frameTypes.continuation) this.#continueBlock(payload, flag);
    else this.#sink.frame(type, flag, id, payload);
  }

  #beginData(bytes: Buffer, at: number, size: number, flag: number, id: number): void {
    if (id === 0) throw protocolError("DATA belongs to a stream");
    const endStream = (flag & flags.endStream) !== 0;
    if ((flag & flags.padded) !== 0) {
      const content = withoutPadding({ bytes, from: at + headerSize, to: at + size });
      this.#sink.dataBegins(id, size - headerSize, endStream);
      this.#sink.dataBytes(id, bytes.subarray(content.from, content.to), true);
      return;
    }
    const length = ((bytes[at] as number) << 16) | ((bytes[at + 1] as number) << 8) | (bytes[at + 2] as number);
    this.#dataId = id;
    this.#dataLeft = length;
    this.#sink.dataBegins(id, length, endStream);
    if (length === 0) this.#sink.dataBytes(id, bytes.subarray(0, 0), true);
  }

  #data(bytes: Buffer, at: number): number {
    const count = Math.min(this.#dataLeft, bytes.length - at);
    this.#dataLeft -= count;
    this.#sink.dataBytes(this.#dataId, bytes.subarray(at, at + count), this.#dataLeft === 0);
    return at + count;
  }

  #beginBlock(block: HeaderBlock, flag: number, id: number): void {
    if (id === 0) throw protocolError("HEADERS belong to a stream");
    if ((flag & flags.padded) !== 0) withoutPadding(block);
    if ((flag & flags.priority) !== 0) {
      if (block.to - block.from < 5) {
        throw new Http2Error("FRAME_SIZE_ERROR", "HEADERS have no room for their priority");
      }
      block.dependsOn = block.bytes.readUInt32BE(block.from) & 0x7fff_ffff;
      block.from += 5;
    }
    const endStream = (flag & flags.endStream) !== 0;
    if ((flag & flags.endHeaders) !== 0) {
      this.#sink.headers(id, endStream, block);
      return;
    }
    this.#blockId = id;
    this.#blockEnds = endStream;
    this.#blockDependsOn = block.dependsOn;
    this.#block = [Buffer.from(block.bytes.subarray(block.from, block.to))];
    this.#blockSize = block.to - block.from;
  }

  #continueBlock(payload: Buffer, flag: number): void {
    if (this.#blockId === 0) throw protocolError("CONTINUATION continues nothing");
    this.#blockSize += payload.length;
    if (this.#block.length > continuationLimit || this.#blockSize > blockLimit) {
      throw new Http2Error("ENHANCE_YOUR_CALM", "a header block has too many pieces or bytes");
    }
    this.#block.push(Buffer.from(payload));
    if ((flag & flags.endHeaders) === 0) return;
    const id = this.#blockId;
    const bytes = Buffer.concat(this.#block);
    this.#blockId = 0;
    this.#block = [];
    this.#sink.headers(id, this.#blockEnds, { bytes, from: 0, to: bytes.length, dependsOn: this.#blockDependsOn });
  }
}

/** Leaves a padded payload's padding out. */
function withoutPadding<P extends { bytes: Buffer; from: number; to: number }>(payload: P): P {
  const length = payload.to - payload.from;
  if (length === 0) throw new Http2Error("FRAME_SIZE_ERROR", "a padded frame does not say how much");
  const padding = payload.bytes[payload.from] as number;
  if (padding >= length) throw protocolError("padding is longer than its frame");
  payload.from += 1;
  payload.to -= padding;
  return payload;
}

export function protocolError(what: string): Http2Error {
  return new Http2Error("PROTOCOL_ERROR", what);
}
