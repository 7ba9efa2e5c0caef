/** Most bytes of a TLS record. */
export const recordSize = 16_384;

/** Buffers of one kind that wait to be used again. */
const most = 64;

/** Bytes on their way, and what says that nobody will look at them any more. */
export interface SpareBuffer {
  bytes: Buffer;
  /** For the callback of their write. A second call does nothing. Whoever is not sure never calls it; that costs a buffer and nothing else. */
  release: () => void;
}

/**
 * Buffers for bytes on their way, of which there are many and none for long: they are used again once they are released. New
 * ones made V8 look through the whole heap 25 times a second, as it counts their bytes.
 */
export class SpareBuffers {
  readonly #free: Buffer[] = [];

  /** A buffer of at least that length; most are of `recordSize`. */
  take(length: number): SpareBuffer {
    if (length > recordSize) return { bytes: Buffer.allocUnsafeSlow(length), release: nothing };
    const bytes = this.#free.pop() ?? Buffer.allocUnsafeSlow(recordSize);
    let released = false;
    const release = () => {
      if (released) return;
      released = true;
      if (this.#free.length < most) this.#free.push(bytes);
    };
    return { bytes, release };
  }

  /** Bytes that were only lent, from one offset to another, as bytes of their own. */
  copy(lent: Buffer, from = 0, to = lent.length): SpareBuffer {
    const { bytes, release } = this.take(to - from);
    lent.copy(bytes, 0, from, to);
    return { bytes: to - from === bytes.length ? bytes : bytes.subarray(0, to - from), release };
  }
}

const nothing = () => undefined;

/** For all that passes, either way. */
export const spareBuffers = new SpareBuffers();
