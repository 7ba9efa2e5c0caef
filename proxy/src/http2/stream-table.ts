import { Lane } from "./flow.ts";
import type { Stream } from "./stream.ts";

/** Streams that closed, of which is remembered how. */
const remembered = 256;

/** The streams of one connection by the client's ids, and the two directions in which their bodies go. */
export class StreamTable {
  readonly open = new Map<number, Stream>();
  readonly toTarget = new Lane();
  readonly toClient = new Lane();
  readonly #closed = new Map<number, "reset" | "done">();

  add(stream: Stream): void {
    this.open.set(stream.id, stream);
  }

  /** `reset`: by us, so that frames of it may still be under way; `done`: the client knows that it is over. */
  close(id: number, how: "reset" | "done"): void {
    this.open.delete(id);
    this.#closed.set(id, how);
    if (this.#closed.size <= remembered) return;
    for (const oldest of this.#closed.keys()) {
      this.#closed.delete(oldest);
      return;
    }
  }

  /** Undefined when it was never used, or long ago. */
  howClosed(id: number): "reset" | "done" | undefined {
    return this.#closed.get(id);
  }
}
