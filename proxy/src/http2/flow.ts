import type { Field } from "./field.ts";
import type { Peer } from "./peer.ts";

const nothing = Buffer.alloc(0);

/** One direction of a connection: all bodies that go to one side. */
export class Lane {
  /** The side they go to; undefined while there is none. */
  to: Peer | undefined;
  /** Bytes that wait for a window, of all streams. */
  queued = 0;
  readonly waiting = new Set<Flow>();

  /** Sends what the windows allow, each stream in its turn. */
  flush(): void {
    for (const flow of this.waiting) {
      if (this.to === undefined || this.to.sendWindow <= 0) return;
      flow.flush();
    }
  }
}

/**
 * One direction of one stream. Bytes pass at once as long as the receiver's windows allow, and nothing waits then: the
 * sender is let to send what the receiver takes. They wait only where that could not be known yet.
 */
export class Flow {
  /** What the stream may still carry to the receiver. */
  window: number;
  /** What its sender may still send us on this stream. */
  granted: number;
  /** Bytes of the body that came. */
  bytes = 0;
  /** Whether its end has been sent on. */
  ended = false;
  readonly #lane: Lane;
  readonly #onEnd: { flowEnded(flow: Flow): void };
  /** The stream's id at the receiver; 0: not open there. */
  #id = 0;
  #queue: Buffer[] | undefined;
  #queued = 0;
  /** How it ends when the queue is empty: not yet, by the last bytes, by trailers. */
  #end: "open" | "last" | Field[] = "open";

  constructor(lane: Lane, windows: { window: number; granted: number }, onEnd: { flowEnded(flow: Flow): void }) {
    this.#lane = lane;
    this.window = windows.window;
    this.granted = windows.granted;
    this.#onEnd = onEnd;
  }

  get queued(): number {
    return this.#queued;
  }

  /** What the sender should be let to send in all. */
  get wanted(): number {
    return this.window - this.#queued;
  }

  /** Whether it ends without a byte or a trailer, as far as has come. */
  get isEmptyAndOver(): boolean {
    return this.#end === "last" && this.#queued === 0;
  }

  /** From now on it has a stream at the receiver. With `ended` the headers have already ended it. */
  open(id: number, ended: boolean): void {
    this.#id = id;
    if (ended) this.#ended();
    else this.flush();
  }

  push(bytes: Buffer, last: boolean): void {
    this.bytes += bytes.length;
    const { to } = this.#lane;
    const { length } = bytes;
    if (this.#id > 0 && to !== undefined && this.#queued === 0 && length <= this.window && length <= to.sendWindow) {
      if (length > 0 || last) to.writer.data(this.#id, bytes, last);
      this.window -= length;
      to.sendWindow -= length;
      if (last) this.#ended();
      return;
    }
    if (length > 0) {
      // The bytes lie in a buffer that others will use.
      (this.#queue ??= []).push(Buffer.from(bytes));
      this.#queued += length;
      this.#lane.queued += length;
      this.#lane.waiting.add(this);
    }
    if (last) this.#end = "last";
    this.flush();
  }

  /** Ends it after what waits. */
  finish(): void {
    this.#end = "last";
    this.flush();
  }

  /** Ends it with these fields after what waits. */
  trail(fields: Field[]): void {
    this.#end = fields;
    this.flush();
  }

  /** Sends what the windows allow. */
  flush(): void {
    const { to } = this.#lane;
    if (this.#id === 0 || to === undefined || this.ended) return;
    while (this.#queued > 0) {
      const allowed = Math.min(this.window, to.sendWindow);
      if (allowed <= 0) return;
      this.#sendOne(to, allowed);
      if (this.ended) return;
    }
    if (this.#end === "open") return;
    if (this.#end === "last") to.writer.data(this.#id, nothing, true);
    else to.writer.headers(this.#id, to.encoder.encode(this.#end), true);
    this.#ended();
  }

  #sendOne(to: Peer, allowed: number): void {
    const queue = this.#queue ?? [];
    const first = queue[0] ?? Buffer.alloc(0);
    const piece = first.length <= allowed ? first : first.subarray(0, allowed);
    if (piece === first) queue.shift();
    else queue[0] = first.subarray(allowed);
    this.#queued -= piece.length;
    this.#lane.queued -= piece.length;
    this.window -= piece.length;
    to.sendWindow -= piece.length;
    const last = this.#queued === 0 && this.#end === "last";
    to.writer.data(this.#id, piece, last);
    if (this.#queued === 0) this.#lane.waiting.delete(this);
    if (last) this.#ended();
  }

  #ended(): void {
    this.ended = true;
    this.#onEnd.flowEnded(this);
  }

  /** Nobody wants it any more. */
  drop(): void {
    this.#lane.waiting.delete(this);
    this.#lane.queued -= this.#queued;
    this.#queued = 0;
    this.#queue = undefined;
    this.#id = 0;
  }
}
