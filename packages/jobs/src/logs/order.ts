// Which line comes next: the one with the earliest time of those at the heads of all parts. Lines of one part keep their order.

/** A time as two numbers: its digits up to the second (20260301100000), and those of the nanosecond. Both 0: before all. */
export interface Moment {
  second: number;
  nanos: number;
}

export function isEarlier(a: Moment, b: Moment): boolean {
  return a.second === b.second ? a.nanos < b.nanos : a.second < b.second;
}

/** What stands at the head of a part: its time, or that of a line before it in the same part when that one is later. */
export interface Head extends Moment {
  /** Decides between equal times. */
  order: number;
}

/** Whether `a` comes first. */
export function isBefore(a: Head, b: Head): boolean {
  if (a.second !== b.second) return a.second < b.second;
  return a.nanos === b.nanos ? a.order < b.order : a.nanos < b.nanos;
}

/** A binary heap of heads; the caller changes the first one's time and calls `sink`. */
export class Heads<T extends Head> {
  readonly #heads: T[] = [];

  get size(): number {
    return this.#heads.length;
  }

  first(): T | undefined {
    return this.#heads[0];
  }

  /** Until where the first one may go on without a look at the others. */
  second(): T | undefined {
    const [, left, right] = this.#heads;
    return left !== undefined && right !== undefined && isBefore(right, left) ? right : left;
  }

  push(head: T): void {
    const heads = this.#heads;
    let at = heads.push(head) - 1;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (!isBefore(head, heads[parent] as T)) break;
      heads[at] = heads[parent] as T;
      at = parent;
    }
    heads[at] = head;
  }

  /** Takes the first one away. */
  pop(): T | undefined {
    const first = this.#heads[0];
    const last = this.#heads.pop();
    if (last !== undefined && this.#heads.length > 0) {
      this.#heads[0] = last;
      this.sink();
    }
    return first;
  }

  /** Brings the first one to its place after its time grew. */
  sink(): void {
    const heads = this.#heads;
    const head = heads[0];
    if (head === undefined) return;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= heads.length) break;
      if (child + 1 < heads.length && isBefore(heads[child + 1] as T, heads[child] as T)) child += 1;
      if (!isBefore(heads[child] as T, head)) break;
      heads[at] = heads[child] as T;
      at = child;
    }
    heads[at] = head;
  }
}

/** Milliseconds that a line of the live log waits for a stream that says nothing, and for one that is opened anew. */
export const patience = { quiet: 2_000, reconnecting: 30_000 };

/** What is known of a part that has nothing at hand. */
export interface Silent extends Moment {
  /** Its time is that of its last line. */
  reconnecting: boolean;
}

/**
 * How long a line must still wait, 0 if it may be written: until every stream has passed it, or patience ends.
 * `age`: milliseconds since it came.
 */
export function waitFor(line: Moment, age: number, silent: Iterable<Silent>): number {
  let wait = 0;
  for (const one of silent) {
    if (!isEarlier(one, line)) continue;
    wait = Math.max(wait, (one.reconnecting ? patience.reconnecting : patience.quiet) - age);
  }
  return wait;
}
