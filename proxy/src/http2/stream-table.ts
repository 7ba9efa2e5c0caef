import { Lane } from "./flow.ts";
import type { Stream } from "./stream.ts";

/** Of at least so many streams that closed last is remembered how. */
const remembered = 256;

/** The streams of one connection by the client's ids, and the two directions in which their bodies go. */
export class StreamTable {
  readonly open = new Map<number, Stream>();
  readonly toTarget = new Lane();
  readonly toClient = new Lane();
  #closed = new Map<number, "reset" | "done">();
  #closedBefore: ReadonlyMap<number, "reset" | "done"> = new Map();

  add(stream: Stream): void {
    this.open.set(stream.id, stream);
  }

  /** `reset`: by us, so that frames of it may still be under way; `done`: the client knows that it is over. */
  close(id: number, how: "reset" | "done"): void {
    this.open.delete(id);
    this.#closed.set(id, how);
    if (this.#closed.size < remembered) return;
    this.#closedBefore = this.#closed;
    this.#closed = new Map();
  }

  /** Undefined when it was never used, or long ago. */
  howClosed(id: number): "reset" | "done" | undefined {
    return this.#closed.get(id) ?? this.#closedBefore.get(id);
  }
}
