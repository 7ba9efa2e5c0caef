import type { OnReadOpts } from "node:net";

/**
 * Gets what was read. `release` says that nobody will look at the bytes any more, so that others may be written over them:
 * for the callback of the write that passes them on. Whoever keeps them, or is not sure, never calls it; that costs a
 * buffer and nothing else.
 */
export type OnBytes = (bytes: Buffer, release: () => void) => void;

/** Most bytes of a TLS record. */
const size = 16_384;
/** Fewer than this come from Node's own pool of small buffers. */
const small = 4096;
/** Buffers that wait to be used again. */
const most = 64;

/**
 * Reading round Node's stream machinery, for sockets with one reader: no stream state per read, and no new buffer for each
 * piece of a long answer. New ones made V8 look through the whole heap 25 times a second, as it counts their bytes.
 * All sockets read into one buffer, so what came is copied before anybody sees it, or lent.
 */
export class ReadBuffers {
  readonly #into = Buffer.allocUnsafeSlow(size);
  readonly #free: Buffer[] = [];

  /** What tls.connect takes as `onread`, in place of "data" events. */
  reader(onBytes: OnBytes): OnReadOpts {
    return {
      buffer: this.#into,
      callback: (count) => {
        this.#handOut(count, onBytes);
        return true;
      },
    };
  }

  /** The same for one who keeps nothing: the bytes are lent until the call returns, so that nothing is copied. */
  lender(onBytes: OnBytes): OnReadOpts {
    return {
      buffer: this.#into,
      callback: (count) => {
        onBytes(this.#into.subarray(0, count), nothing);
        return true;
      },
    };
  }

  #handOut(count: number, onBytes: OnBytes): void {
    if (count < small) {
      const bytes = Buffer.allocUnsafe(count);
      this.#into.copy(bytes, 0, 0, count);
      onBytes(bytes, nothing);
      return;
    }
    const whole = this.#free.pop() ?? Buffer.allocUnsafeSlow(size);
    this.#into.copy(whole, 0, 0, count);
    let released = false;
    onBytes(count === size ? whole : whole.subarray(0, count), () => {
      if (released) return;
      released = true;
      if (this.#free.length < most) this.#free.push(whole);
    });
  }
}

function nothing(): void {}
