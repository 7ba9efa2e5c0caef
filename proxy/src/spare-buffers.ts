/** Buffers that wait to be used again, of one kind. */
const most = 64;

/** A buffer, and what says that nobody will look at it any more. */
export interface SpareBuffer {
  bytes: Buffer;
  /** A second call does nothing. Whoever is not sure never calls it; that costs a buffer and nothing else. */
  release: () => void;
}

/** Buffers that are used again once they are released: for bytes on their way, of which there are many and none for long. */
export class SpareBuffers {
  readonly #size: number;
  readonly #free: Buffer[] = [];

  constructor(size: number) {
    this.#size = size;
  }

  take(): SpareBuffer {
    const bytes = this.#free.pop() ?? Buffer.allocUnsafeSlow(this.#size);
    let released = false;
    const release = () => {
      if (released) return;
      released = true;
      if (this.#free.length < most) this.#free.push(bytes);
    };
    return { bytes, release };
  }
}
