/** How many a second on average, and how many at once after a pause. */
export interface BucketSize {
  perSecond: number;
  burst: number;
}

/** A token bucket. Times are monotonic milliseconds; the size may be another one at each call. */
export class TokenBucket {
  #left: number;
  #filled: number;

  constructor(size: BucketSize, now: number) {
    this.#left = size.burst;
    this.#filled = now;
  }

  /** Takes one if there is one, and answers 0; else answers in how many seconds there will be one. */
  take(size: BucketSize, now: number): number {
    this.#fill(size, now);
    if (this.#left < 1) return (1 - this.#left) / size.perSecond;
    this.#left -= 1;
    return 0;
  }

  #fill(size: BucketSize, now: number): void {
    this.#left = Math.min(size.burst, this.#left + ((now - this.#filled) / 1000) * size.perSecond);
    this.#filled = now;
  }
}
