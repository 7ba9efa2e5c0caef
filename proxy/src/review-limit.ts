import { type Clock, Fault } from "@kube-connector/core";

/** How often reviews may be asked for. */
export interface ReviewLimit {
  /** Takes one; Fault unavailable when there is none left. */
  take(): void;
}

/** A token bucket: `perSecond` on average, twice that in a burst. It protects the API server from all callers together. */
export function createReviewLimit(clock: Clock, perSecond: number): ReviewLimit {
  const burst = perSecond * 2;
  let left = burst;
  let filled = clock.monotonic();
  return {
    take() {
      const now = clock.monotonic();
      left = Math.min(burst, left + ((now - filled) / 1000) * perSecond);
      filled = now;
      if (left < 1) throw new Fault("unavailable", "Too many callers are new to this proxy at once; try again shortly");
      left -= 1;
    },
  };
}
