import { Http2Error } from "./errors.ts";

/** What a second may cost. */
const perSecond = 10_000;

/** What cheap frames cost that make work: 200 resets, 500 SETTINGS, 1,000 PINGs a second and so on. */
export const costs = {
  reset: 50,
  settings: 20,
  ping: 10,
  priority: 10,
  unknown: 10,
  emptyData: 10,
  windowUpdate: 0.1,
} as const;

/** How much of that one side of a connection may ask of us. It ends those who flood (CVE-2023-44487 and its kin). */
export class Budget {
  readonly #now: () => number;
  #second = -1;
  #spent = 0;

  /** `now`: monotonic milliseconds. */
  constructor(now: () => number) {
    this.#now = now;
  }

  /** Http2Error: ENHANCE_YOUR_CALM. */
  spend(on: keyof typeof costs): void {
    const second = Math.floor(this.#now() / 1000);
    if (second !== this.#second) {
      this.#second = second;
      this.#spent = 0;
    }
    this.#spent += costs[on];
    if (this.#spent > perSecond) throw new Http2Error("ENHANCE_YOUR_CALM", `too many frames in one second (${on})`);
  }
}
