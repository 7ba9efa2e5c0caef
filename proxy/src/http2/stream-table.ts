import { Lane } from "./flow.ts";
import type { Stream } from "./stream.ts";
import { StreamsById } from "./streams-by-id.ts";

/** Of so many streams that closed last is remembered how. */
const remembered = 256;

/** The streams of one connection by the client's ids, and the two directions in which their bodies go. */
export class StreamTable {
  readonly open = new StreamsById();
  readonly toTarget = new Lane();
  readonly toClient = new Lane();
  /** Ids of streams that closed, negative for a reset; round and round: a Map of them would be rebuilt again and again. */
  readonly #closed: number[] = [];
  #closings = 0;

  add(stream: Stream): void {
    this.open.add(stream.id, stream);
  }

  /** `reset`: by us, so that frames of it may still be under way; `done`: the client knows that it is over. */
  close(id: number, how: "reset" | "done"): void {
    this.open.delete(id);
    this.#closed[this.#closings++ % remembered] = how === "reset" ? -id : id;
  }

  /** Undefined when it was never used, or long ago. */
  howClosed(id: number): "reset" | "done" | undefined {
    if (this.#closed.includes(-id)) return "reset";
    return this.#closed.includes(id) ? "done" : undefined;
  }
}
