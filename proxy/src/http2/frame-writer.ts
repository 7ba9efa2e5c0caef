import type { Socket } from "node:net";
import { type ErrorName, errorCodes } from "./errors.ts";
import { flags, frameLimit, frameTypes, preface } from "./frames.ts";
import type { EncodedBlock } from "./hpack-encoder.ts";

const bufferSize = 65_536;
/** Buffers that are kept for the next write, of all connections together. */
const spareLimit = 64;
const spare: Buffer[] = [];

/** Blocks of so few bytes are copied one by one: to make a view of them takes longer. */
const shortBlock = 256;

/** Writers that have something to send at the end of this turn of the event loop. */
let waiting: FrameWriter[] = [];

function sendAll(): void {
  const writers = waiting;
  waiting = [];
  for (const writer of writers) writer.flush();
}

/**
 * Writes frames to one socket: what comes in one turn of the event loop goes out in one write, for the TLS record costs
 * more than all the rest of a small answer.
 */
export class FrameWriter {
  readonly #socket: Socket;
  #buffer: Buffer | undefined;
  #used = 0;
  #scheduled = false;

  constructor(socket: Socket) {
    this.#socket = socket;
  }

  /** Bytes that the socket has not taken yet. */
  get pending(): number {
    return this.#socket.writableLength + this.#used;
  }

  preface(): void {
    this.#bytes(preface);
  }

  data(id: number, bytes: Buffer, endStream: boolean): void {
    for (let at = 0; ; at += frameLimit) {
      const piece = bytes.length <= frameLimit ? bytes : bytes.subarray(at, at + frameLimit);
      const last = at + frameLimit >= bytes.length;
      this.#head(piece.length, frameTypes.data, last && endStream ? flags.endStream : 0, id);
      this.#bytes(piece);
      if (last) return;
    }
  }

  headers(id: number, { bytes, length }: EncodedBlock, endStream: boolean): void {
    const end = endStream ? flags.endStream : 0;
    if (length <= shortBlock) {
      this.#head(length, frameTypes.headers, flags.endHeaders | end, id);
      const buffer = this.#room(length);
      for (let at = 0; at < length; at++) buffer[this.#used + at] = bytes[at] as number;
      this.#used += length;
      return;
    }
    for (let at = 0; at < length; at += frameLimit) {
      const piece = bytes.subarray(at, Math.min(at + frameLimit, length));
      const last = at + frameLimit >= length ? flags.endHeaders : 0;
      if (at === 0) this.#head(piece.length, frameTypes.headers, last | end, id);
      else this.#head(piece.length, frameTypes.continuation, last, id);
      this.#bytes(piece);
    }
  }

  settings(settings: readonly (readonly [setting: number, value: number])[]): void {
    this.#head(settings.length * 6, frameTypes.settings, 0, 0);
    for (const [setting, value] of settings) {
      const buffer = this.#room(6);
      this.#used = buffer.writeUInt16BE(setting, this.#used);
      this.#used = buffer.writeUInt32BE(value, this.#used);
    }
  }

  settingsAck(): void {
    this.#head(0, frameTypes.settings, flags.ack, 0);
  }

  ping(payload: Buffer, ack: boolean): void {
    this.#head(8, frameTypes.ping, ack ? flags.ack : 0, 0);
    this.#bytes(payload);
  }

  windowUpdate(id: number, increment: number): void {
    this.#head(4, frameTypes.windowUpdate, 0, id);
    this.#number(increment);
  }

  reset(id: number, code: number): void {
    this.#head(4, frameTypes.reset, 0, id);
    this.#number(code);
  }

  goAway(last: number, code: ErrorName): void {
    this.#head(8, frameTypes.goAway, 0, 0);
    this.#number(last);
    this.#number(errorCodes[code]);
  }

  /** Hands what was written to the socket. */
  flush(): void {
    this.#scheduled = false;
    const buffer = this.#buffer;
    const used = this.#used;
    this.#buffer = undefined;
    this.#used = 0;
    if (buffer === undefined) return;
    const recycle = () => {
      if (spare.length < spareLimit) spare.push(buffer);
    };
    if (used === 0 || this.#socket.destroyed || this.#socket.writableEnded) recycle();
    else this.#socket.write(buffer.subarray(0, used), recycle);
  }

  #head(length: number, type: number, flag: number, id: number): void {
    const buffer = this.#room(9);
    const at = this.#used;
    buffer[at] = length >>> 16;
    buffer[at + 1] = length >>> 8;
    buffer[at + 2] = length;
    buffer[at + 3] = type;
    buffer[at + 4] = flag;
    buffer[at + 5] = id >>> 24;
    buffer[at + 6] = id >>> 16;
    buffer[at + 7] = id >>> 8;
    buffer[at + 8] = id;
    this.#used = at + 9;
  }

  #number(value: number): void {
    this.#used = this.#room(4).writeUInt32BE(value, this.#used);
  }

  #bytes(bytes: Buffer): void {
    for (let at = 0; at < bytes.length; ) {
      const buffer = this.#room(1);
      const count = bytes.copy(buffer, this.#used, at);
      this.#used += count;
      at += count;
    }
  }

  /** A buffer with room for so many bytes at #used; it will be sent at the end of this turn. */
  #room(bytes: number): Buffer {
    if (this.#buffer !== undefined && this.#used + bytes > bufferSize) this.flush();
    this.#buffer ??= spare.pop() ?? Buffer.allocUnsafeSlow(bufferSize);
    if (!this.#scheduled) {
      this.#scheduled = true;
      if (waiting.push(this) === 1) setImmediate(sendAll);
    }
    return this.#buffer;
  }
}
