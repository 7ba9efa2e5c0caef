import { type CallerLimits, type Clock, defaultCallerLimits, type ResolvedConnector } from "@kube-connector/core";
import { Refusal } from "../answers.ts";
import type { Caller } from "../authenticate.ts";
import { keptKeys } from "../kept-keys.ts";
import type { ProxyMetrics } from "../metrics.ts";
import { TokenBucket } from "./token-bucket.ts";

/** One request that was let in. `end()` when it is over, however it ended; a second call does nothing. */
export interface Admission {
  end(): void;
}

/** Keeps each caller of each connector to its limits, so that no caller can use up what others need. */
export interface CallerLimiter {
  /** Lets one request in, and counts it until it has ended; `now` as the clock has it. Refusal: 429 with Retry-After. */
  admit(caller: Caller, connector: ResolvedConnector, now?: number): Admission;
}

export interface CallerLimiterOptions {
  clock: Clock;
  metrics: Pick<ProxyMetrics, "limited">;
  /** Callers that are remembered, besides those with something in progress. */
  remembered?: number;
}

interface Usage {
  bucket: TokenBucket;
  /** What is in progress. */
  open: number;
}

class Counted implements Admission {
  #usage: Usage | undefined;

  constructor(usage: Usage) {
    this.#usage = usage;
    usage.open += 1;
  }

  end(): void {
    if (this.#usage !== undefined) this.#usage.open -= 1;
    this.#usage = undefined;
  }
}

/** Seconds after which a caller with too much in progress may ask again: when one of those ends is not known. */
const streamsRetryAfter = 1;

/** The limits of a connector. */
export function limitsOf(connector: ResolvedConnector): CallerLimits {
  return connector.limits ?? defaultCallerLimits;
}

/**
 * A caller is its pod, or its user where a token is bound to no pod. What is known of one is forgotten in the order of
 * last use; a caller that is forgotten begins with a full bucket, so `remembered` is far more than can be busy at once.
 */
export function createCallerLimiter(options: CallerLimiterOptions): CallerLimiter {
  const { clock, metrics, remembered = 20_000 } = options;
  const usages = new Map<string, Usage>();
  const keys = keptKeys(keyOf);
  /** The last one of the map: most requests are of the same caller as the one before. */
  let newest: Usage | undefined;

  function usageOf(key: string, limits: CallerLimits, now: number): Usage {
    const known = usages.get(key);
    if (known !== undefined && known === newest) return known;
    // Put again, so that the first of the map is the one that was not used for the longest time.
    if (known !== undefined) usages.delete(key);
    else if (usages.size >= remembered) forgetOne();
    const usage = known ?? { bucket: new TokenBucket(sizeOf(limits), now), open: 0 };
    usages.set(key, usage);
    newest = usage;
    return usage;
  }

  /** The oldest of the first few with nothing in progress: those with something are held by connections anyway. */
  function forgetOne(): void {
    let looked = 0;
    for (const [key, usage] of usages) {
      if (usage.open === 0) {
        usages.delete(key);
        return;
      }
      looked += 1;
      if (looked === 100) return;
      // Out of the way, so that the next search does not begin with it again.
      usages.delete(key);
      usages.set(key, usage);
    }
  }

  return {
    admit(caller, connector, now = clock.monotonic()) {
      const limits = limitsOf(connector);
      const usage = usageOf(keys.of(caller, connector), limits, now);
      if (usage.open >= limits.streams) {
        metrics.limited("streams");
        throw tooMany(
          connector,
          `${limits.streams} requests and streams of this pod are in progress`,
          streamsRetryAfter,
          "streams",
        );
      }
      const wait = usage.bucket.take(sizeOf(limits), now);
      if (wait > 0) {
        metrics.limited("rate");
        const rate = `this pod has sent more than ${limits.requestsPerSecond} requests a second`;
        throw tooMany(connector, rate, Math.ceil(wait), "requestsPerSecond and burst");
      }
      return new Counted(usage);
    },
  };
}

function sizeOf(limits: CallerLimits): { perSecond: number; burst: number } {
  return { perSecond: limits.requestsPerSecond, burst: limits.burst };
}

/** A tuple, so that no two callers share a key. */
function keyOf(caller: Caller, connector: ResolvedConnector): string {
  const { user, uid, namespace = "", pod } = caller;
  return pod === undefined
    ? JSON.stringify([connector.uid, user, uid])
    : JSON.stringify([connector.uid, namespace, pod.uid, 0]);
}

function tooMany(connector: ResolvedConnector, what: string, retryAfter: number, field: string): Refusal {
  const name = `${connector.namespace}/${connector.name}`;
  const sentence = `Too many requests to the connector ${name}: ${what}; its admin may raise spec.limits (${field})`;
  return new Refusal(429, sentence, undefined, { retryAfter });
}
