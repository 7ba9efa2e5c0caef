import type { Field } from "./field.ts";

/** Bytes of a dynamic table at most, in both directions: what HTTP/2 begins with, and what we never raise. */
export const tableLimit = 4096;

/** More than `tableLimit` / 32 fields cannot be in a table. */
const slots = 128;

/** A dynamic table (RFC 7541, 2.3.2) as a ring. Fields are numbered in the order in which they came in. */
export class DynamicTable {
  /** It grows to `slots` as fields come in: most connections are short. */
  readonly #ring: (Field | undefined)[] = [];
  #size = 0;
  #capacity = tableLimit;
  /** The number that the next field will have, and that of the oldest which is in. */
  #next = 0;
  #oldest = 0;

  get capacity(): number {
    return this.#capacity;
  }
  get size(): number {
    return this.#size;
  }

  /** The one that came in last is 0; undefined when there is none. */
  at(index: number): Field | undefined {
    const number = this.#next - 1 - index;
    return number < this.#oldest ? undefined : this.#ring[number % slots];
  }

  /** What `at` would need to find the field with that number; -1 when it is not in. */
  indexOf(number: number): number {
    return number >= this.#oldest && number < this.#next ? this.#next - 1 - number : -1;
  }

  /** Takes a field in, for which others may have to go; its number, or -1 when it is larger than the whole table. */
  add(field: Field): number {
    const { size } = field;
    this.#evict(Math.max(this.#capacity - size, 0));
    if (size > this.#capacity) return -1;
    this.#ring[this.#next % slots] = field;
    this.#size += size;
    return this.#next++;
  }

  /** Bytes, at most `tableLimit`. */
  resize(capacity: number): void {
    this.#capacity = Math.min(capacity, tableLimit);
    this.#evict(this.#capacity);
  }

  #evict(room: number): void {
    while (this.#size > room) {
      const slot = this.#oldest % slots;
      this.#size -= this.#ring[slot]?.size ?? 0;
      this.#ring[slot] = undefined;
      this.#oldest += 1;
    }
  }
}
