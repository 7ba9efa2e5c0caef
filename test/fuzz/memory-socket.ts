import { Duplex } from "node:stream";
import type { TLSSocket } from "node:tls";

/** One end of a connection in memory: what is pushed is read from it, what is written to it is kept. */
export class MemorySocket extends Duplex {
  /** All that was written, as Latin-1. */
  written = "";
  /** Whether what was written has come to its end, as against broken off. */
  isEnded = false;

  /** A narrow one is full, and drains again, with each write. */
  constructor(options: { narrow?: boolean } = {}) {
    super(options.narrow === true ? { writableHighWaterMark: 1 } : {});
  }

  override _read(): void {}

  override _write(chunk: Buffer, _encoding: string, done: () => void): void {
    this.written += chunk.toString("latin1");
    done();
  }

  override _final(done: () => void): void {
    this.isEnded = true;
    done();
  }

  /** Bytes, as Latin-1, or the end, for whoever reads from here and still does. */
  give(bytes: string | null): void {
    if (!this.destroyed && !this.readableEnded) this.push(bytes === null ? null : Buffer.from(bytes, "latin1"));
  }

  /** For who wants TLS: they use nothing of it but the stream. */
  get asTls(): TLSSocket {
    return this as unknown as TLSSocket;
  }
}

/**
 * Ends when all has been done that can be done without anything new. An answer goes out at the end of its turn of the event
 * loop, the request that waited behind it at the end of the next one.
 */
export async function settled(): Promise<void> {
  for (let turn = 0; turn < 4; turn += 1) await new Promise((resolve) => setImmediate(resolve));
}
