import type { Socket } from "node:net";
import { Budget } from "./budget.ts";
import { errorCodes, type ErrorName, Http2Error } from "./errors.ts";
import {
  FrameReader,
  type FrameSink,
  type HeaderBlock,
  flags,
  frameLimit,
  frameTypes,
  preface,
  protocolError,
} from "./frames.ts";
import { FrameWriter } from "./frame-writer.ts";
import { type FieldList, HpackDecoder } from "./hpack-decoder.ts";
import { HpackEncoder } from "./hpack-encoder.ts";

/** What windows begin with, and what none may exceed (RFC 9113, 6.9). */
export const firstWindow = 65_535;
export const windowLimit = 0x7fff_ffff;

export const settingNames = {
  headerTableSize: 1,
  enablePush: 2,
  maxConcurrentStreams: 3,
  initialWindowSize: 4,
  maxFrameSize: 5,
  maxHeaderListSize: 6,
} as const;

/** Hears what concerns streams; the rest a Peer does by itself. An Http2Error with a stream ends that stream alone. */
export interface PeerListener {
  headers(id: number, endStream: boolean, list: FieldList, dependsOn: number): void;
  /** `length` is already taken from the connection's window. */
  dataBegins(id: number, length: number, endStream: boolean): void;
  dataBytes(id: number, bytes: Buffer, last: boolean): void;
  reset(id: number, code: number): void;
  streamWindow(id: number, increment: number): void;
  /** The connection's send window grew. */
  connectionWindow(): void;
  /** SETTINGS came; the first window of streams changed by so much. */
  settings(windowChange: number): void;
  goAway(last: number, code: number): void;
  pong(): void;
  streamError(error: Http2Error): void;
}

/** One side of the relay: an HTTP/2 connection with its windows, tables, settings and budget. */
export class Peer implements FrameSink {
  readonly socket: Socket;
  readonly writer: FrameWriter;
  readonly encoder = new HpackEncoder();
  readonly budget: Budget;
  /** What the connection may still carry from us, and what of it we still take. */
  sendWindow = firstWindow;
  receiveWindow = firstWindow;
  /** What each stream's window towards the other side begins with. */
  streamWindow = firstWindow;
  /** What the other side takes at once; 100 until it has said. */
  maxStreams = 100;
  readonly #listener: PeerListener;
  readonly #reader: FrameReader;
  readonly #decoder: HpackDecoder;
  #prefaceLeft: number;
  #settingsSent = 0;
  #seenSettings = false;
  /** Of the DATA frame under way: nothing of a body so far, and no end of it. */
  #dataIsEmpty = false;

  constructor(
    socket: Socket,
    listener: PeerListener,
    options: { sendsPreface: boolean; listLimit: number; now: () => number },
  ) {
    this.socket = socket;
    this.writer = new FrameWriter(socket);
    this.budget = new Budget(options.now);
    this.#listener = listener;
    this.#reader = new FrameReader(this);
    this.#decoder = new HpackDecoder(options.listLimit);
    this.#prefaceLeft = options.sendsPreface ? preface.length : 0;
  }

  /** Whether it owes us bytes: of its preface, its SETTINGS, a frame or a header block. */
  get isInside(): boolean {
    return this.#prefaceLeft > 0 || !this.#seenSettings || this.#reader.isInside;
  }

  /** Frames that came whole. */
  get frames(): number {
    return this.#reader.frames;
  }

  /** The stream whose DATA frame has not all come; 0: none. */
  get dataUnderWay(): number {
    return this.#reader.dataUnderWay;
  }

  /** Http2Error: what ends the connection. */
  read(bytes: Buffer): void {
    let at = 0;
    for (; this.#prefaceLeft > 0 && at < bytes.length; at++, this.#prefaceLeft--) {
      if (bytes[at] !== preface[preface.length - this.#prefaceLeft]) throw protocolError("no HTTP/2 preface");
    }
    this.#reader.read(at === 0 ? bytes : bytes.subarray(at));
  }

  /** Whether it is read. */
  setPaused(paused: boolean): void {
    if (paused === this.socket.isPaused()) return;
    if (paused) this.socket.pause();
    else this.socket.resume();
  }

  sendSettings(settings: readonly (readonly [number, number])[]): void {
    this.#settingsSent += 1;
    this.writer.settings(settings);
  }

  /** Lets the other side send so much in all, when it has used half of that: each step may cost a write of its own. */
  topUp(wanted: number): void {
    const increment = Math.min(wanted, windowLimit) - this.receiveWindow;
    if (increment <= 0 || increment < this.receiveWindow) return;
    this.receiveWindow += increment;
    this.writer.windowUpdate(0, increment);
  }

  resetStream(id: number, code: ErrorName): void {
    this.writer.reset(id, errorCodes[code]);
  }

  // What the reader says.

  headers(id: number, endStream: boolean, { bytes, from, to, dependsOn }: HeaderBlock): void {
    const list = this.#decoder.decode(bytes, from, to);
    try {
      this.#listener.headers(id, endStream, list, dependsOn);
    } catch (error) {
      this.#streamError(error);
    }
  }

  dataBegins(id: number, length: number, endStream: boolean): void {
    this.receiveWindow -= length;
    if (this.receiveWindow < 0) throw new Http2Error("FLOW_CONTROL_ERROR", "DATA beyond the connection's window");
    this.#dataIsEmpty = !endStream;
    try {
      this.#listener.dataBegins(id, length, endStream);
    } catch (error) {
      this.#streamError(error);
    }
  }

  dataBytes(id: number, bytes: Buffer, last: boolean): void {
    if (bytes.length > 0) this.#dataIsEmpty = false;
    if (last && this.#dataIsEmpty) this.budget.spend("emptyData");
    try {
      this.#listener.dataBytes(id, bytes, last);
    } catch (error) {
      this.#streamError(error);
    }
  }

  frame(type: number, flag: number, id: number, payload: Buffer): void {
    try {
      this.#take(type, flag, id, payload);
    } catch (error) {
      this.#streamError(error);
    }
  }

  /** What concerns one stream ends that alone. */
  #streamError(thrown: unknown): void {
    if (!(thrown instanceof Http2Error) || thrown.stream === 0) throw thrown;
    this.#listener.streamError(thrown);
  }

  #take(type: number, flag: number, id: number, payload: Buffer): void {
    switch (type) {
      case frameTypes.settings:
        this.#settings(flag, id, payload);
        return;
      case frameTypes.ping:
        this.#ping(flag, id, payload);
        return;
      case frameTypes.windowUpdate:
        this.#windowUpdate(id, payload);
        return;
      case frameTypes.reset:
        if (payload.length !== 4) throw wrongSize("RST_STREAM");
        if (id === 0) throw protocolError("RST_STREAM belongs to a stream");
        this.#listener.reset(id, payload.readUInt32BE(0));
        return;
      case frameTypes.goAway:
        if (payload.length < 8) throw wrongSize("GOAWAY");
        if (id !== 0) throw protocolError("GOAWAY belongs to no stream");
        this.#listener.goAway(payload.readUInt32BE(0) & 0x7fff_ffff, payload.readUInt32BE(4));
        return;
      case frameTypes.priority:
        this.#priority(id, payload);
        return;
      case frameTypes.pushPromise:
        throw protocolError("PUSH_PROMISE is not accepted");
      default:
        this.budget.spend("unknown");
    }
  }

  #settings(flag: number, id: number, payload: Buffer): void {
    if (id !== 0) throw protocolError("SETTINGS belong to no stream");
    this.#seenSettings = true;
    if ((flag & flags.ack) !== 0) {
      if (payload.length > 0) throw wrongSize("an acknowledgement of SETTINGS");
      if (this.#settingsSent === 0) throw protocolError("SETTINGS were acknowledged that were never sent");
      this.#settingsSent -= 1;
      return;
    }
    this.budget.spend("settings");
    if (payload.length % 6 !== 0) throw wrongSize("SETTINGS");
    const before = this.streamWindow;
    for (let at = 0; at < payload.length; at += 6)
      this.#setting(payload.readUInt16BE(at), payload.readUInt32BE(at + 2));
    this.writer.settingsAck();
    this.#listener.settings(this.streamWindow - before);
  }

  #setting(setting: number, value: number): void {
    switch (setting) {
      case settingNames.headerTableSize:
        this.encoder.limitTable(value);
        return;
      case settingNames.enablePush:
        if (value > 1) throw protocolError("ENABLE_PUSH is 0 or 1");
        return;
      case settingNames.maxConcurrentStreams:
        this.maxStreams = value;
        return;
      case settingNames.initialWindowSize:
        if (value > windowLimit) throw new Http2Error("FLOW_CONTROL_ERROR", "INITIAL_WINDOW_SIZE is too large");
        this.streamWindow = value;
        return;
      case settingNames.maxFrameSize:
        // We never send larger frames than the smallest that it may name.
        if (value < frameLimit || value > 0xff_ffff) throw protocolError("MAX_FRAME_SIZE is out of range");
        return;
      default:
    }
  }

  #ping(flag: number, id: number, payload: Buffer): void {
    if (payload.length !== 8) throw wrongSize("PING");
    if (id !== 0) throw protocolError("PING belongs to no stream");
    this.budget.spend("ping");
    if ((flag & flags.ack) === 0) this.writer.ping(payload, true);
    else this.#listener.pong();
  }

  #windowUpdate(id: number, payload: Buffer): void {
    if (payload.length !== 4) throw wrongSize("WINDOW_UPDATE");
    this.budget.spend("windowUpdate");
    const increment = payload.readUInt32BE(0) & 0x7fff_ffff;
    if (increment === 0) throw new Http2Error("PROTOCOL_ERROR", "a WINDOW_UPDATE of 0", id);
    if (id > 0) {
      this.#listener.streamWindow(id, increment);
      return;
    }
    this.sendWindow += increment;
    if (this.sendWindow > windowLimit) throw new Http2Error("FLOW_CONTROL_ERROR", "the connection's window overflows");
    this.#listener.connectionWindow();
  }

  #priority(id: number, payload: Buffer): void {
    if (id === 0) throw protocolError("PRIORITY belongs to a stream");
    this.budget.spend("priority");
    if (payload.length !== 5) throw new Http2Error("FRAME_SIZE_ERROR", "PRIORITY has another length than 5", id);
    const dependsOn = payload.readUInt32BE(0) & 0x7fff_ffff;
    if (dependsOn === id) throw new Http2Error("PROTOCOL_ERROR", "a stream depends on itself", id);
  }
}

function wrongSize(what: string): Http2Error {
  return new Http2Error("FRAME_SIZE_ERROR", `${what} has a length that it may not have`);
}
