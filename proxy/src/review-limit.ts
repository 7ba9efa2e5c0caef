import { type Clock, Fault } from "@kube-connector/core";

/** How often reviews may be asked for. */
export interface ReviewLimit {
  /** Takes one for a caller of that namespace (empty: of none); Fault unavailable when there is none left. */
  take(namespace: string): void;
}

/** Namespaces with a bucket of their own, above which the full ones are dropped. */
const manyNamespaces = 1_000;

/**
 * `perSecond` reviews on average, twice as many in a burst; and of these half at most for one namespace, whose users can
 * have as many genuine tokens made as they like. It protects the API server from all callers together, and callers from
 * each other.
 */
export function createReviewLimit(clock: Clock, perSecond: number): ReviewLimit {
  const all = createBucket(clock, perSecond);
  const ofNamespace = new Map<string, Bucket>();
  let swept = Number.NEGATIVE_INFINITY;
  const bucketOf = (namespace: string) => {
    const known = ofNamespace.get(namespace);
    if (known !== undefined) return known;
    if (ofNamespace.size >= manyNamespaces && clock.monotonic() - swept >= 1_000) {
      swept = clock.monotonic();
      for (const [name, bucket] of ofNamespace) if (bucket.isFull()) ofNamespace.delete(name);
    }
    const bucket = createBucket(clock, perSecond / 2);
    ofNamespace.set(namespace, bucket);
    return bucket;
  };
  return {
    take(namespace) {
      // Its own first, so that a namespace that has used up its half takes nothing from the others.
      if (bucketOf(namespace).take() && all.take()) return;
      throw new Fault("unavailable", "Too many callers are new to this proxy at once; try again shortly");
    },
  };
}

interface Bucket {
  take(): boolean;
  isFull(): boolean;
}

/** A token bucket: so many a second, twice as many at once. */
function createBucket(clock: Clock, perSecond: number): Bucket {
  const burst = perSecond * 2;
  let left = burst;
  let filled = clock.monotonic();
  const fill = () => {
    const now = clock.monotonic();
    left = Math.min(burst, left + ((now - filled) / 1000) * perSecond);
    filled = now;
    return left;
  };
  return {
    take() {
      if (fill() < 1) return false;
      left -= 1;
      return true;
    },
    isFull: () => fill() >= burst,
  };
}
