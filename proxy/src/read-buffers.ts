import type { OnReadOpts } from "node:net";
import { SpareBuffers } from "./spare-buffers.ts";

/**
 * Gets what was read. `release` says that nobody will look at the bytes any more, so that others may be written over them:
 * for the callback of the write that passes them on. Whoever keeps them, or is not sure, never calls it; that costs a
 * buffer and nothing else.
 */
export type OnBytes = (bytes: Buffer, release: () => void) => void;

/** Most bytes of a TLS record. */
const size = 16_384;

/**
 * Reading round Node's stream machinery, for sockets with one reader: no stream state per read, and no new buffer for each
 * piece of a long answer. New ones made V8 look through the whole heap 25 times a second, as it counts their bytes.
 * All sockets read into one buffer, so what came is copied before anybody sees it, or lent.
 */
export class ReadBuffers {
  readonly #into = Buffer.allocUnsafeSlow(size);
  readonly #spare = new SpareBuffers(size);

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
    const release = () => undefined;
    return {
      buffer: this.#into,
      callback: (count) => {
        onBytes(this.#into.subarray(0, count), release);
        return true;
      },
    };
  }

  #handOut(count: number, onBytes: OnBytes): void {
    const { bytes, release } = this.#spare.take();
    this.#into.copy(bytes, 0, 0, count);
    onBytes(count === size ? bytes : bytes.subarray(0, count), release);
  }
}
