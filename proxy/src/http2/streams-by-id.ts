import type { Stream } from "./stream.ts";

/**
 * Streams by their ids on one side. A Map that loses its last entry is made anew, and one that gets its first again grows: of
 * a connection with one stream at a time, as many clients have it, that one is kept beside it.
 */
export class StreamsById {
  readonly #others = new Map<number, Stream>();
  #one: Stream | undefined;
  #idOfOne = 0;

  get size(): number {
    return this.#others.size + (this.#one === undefined ? 0 : 1);
  }

  get(id: number): Stream | undefined {
    return this.#one !== undefined && this.#idOfOne === id ? this.#one : this.#others.get(id);
  }

  /** For an id that is not there. */
  add(id: number, stream: Stream): void {
    if (this.#one !== undefined) {
      this.#others.set(id, stream);
      return;
    }
    this.#one = stream;
    this.#idOfOne = id;
  }

  /** Whether it was there. */
  delete(id: number): boolean {
    if (this.#one === undefined || this.#idOfOne !== id) return this.#others.size > 0 && this.#others.delete(id);
    this.#one = undefined;
    return true;
  }

  /** All; one that is deleted meanwhile is left out. */
  *all(): Generator<Stream> {
    if (this.#one !== undefined) yield this.#one;
    yield* this.#others.values();
  }

  clear(): void {
    this.#one = undefined;
    this.#others.clear();
  }
}
