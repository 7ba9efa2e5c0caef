// Bodies that say whose they are: 64-byte lines, each with the mark of the request that they belong to. Whoever reads one
// compares each byte, so a body that holds a piece of another, or a piece of its own at a wrong place, is seen.

/** Bytes of a line. */
export const lineLength = 64;
/** Bytes of a pattern that are made once; a multiple of a line. */
const block = 16_384;

/** Data of somebody else, or in the wrong place: what may never happen. */
export class MixedUp extends Error {}

/** The bytes that belong to one mark. */
export class Pattern {
  readonly mark: string;
  readonly #block: Buffer;

  constructor(mark: string) {
    this.mark = mark;
    this.#block = Buffer.alloc(block, `${mark} `.padEnd(lineLength - 1, ".").concat("\n"));
  }

  /** That many bytes from `offset` on, at most a block of them. */
  bytes(offset: number, length: number): Buffer {
    const from = offset % lineLength;
    return this.#block.subarray(from, Math.min(from + length, block));
  }

  /** Throws MixedUp when these are not the bytes at that offset. */
  check(offset: number, bytes: Buffer): void {
    for (let at = 0; at < bytes.length; ) {
      const wanted = this.bytes(offset + at, bytes.length - at);
      const got = bytes.subarray(at, at + wanted.length);
      if (!got.equals(wanted)) {
        throw new MixedUp(
          `${this.mark} got at ${offset + at}: ${JSON.stringify(got.toString("latin1").slice(0, 150))}`,
        );
      }
      at += wanted.length;
    }
  }
}

/** Where a pattern is written to. */
interface Sink {
  write(bytes: Buffer): boolean;
  once(event: "drain" | "close", listener: () => void): unknown;
  off(event: "drain" | "close", listener: () => void): unknown;
}

/** Ends when that can be written again, or is gone. */
export function drained(sink: Sink): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      sink.off("drain", done);
      sink.off("close", done);
      resolve();
    };
    sink.once("drain", done);
    sink.once("close", done);
  });
}
