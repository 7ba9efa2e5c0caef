/** Which way in: CONNECT on the forward door, or TLS at once on the reverse door. */
export type Door = "forward" | "reverse";

/** What the data path counts. Names and units are in the README. */
export interface ProxyMetrics {
  /** A request was answered. `verb` is the HTTP method; seconds from its head to the end of its answer. */
  requestEnded(request: { connector: string; door: Door; verb: string; code: number; seconds: number }): void;
  /** Seconds from a request's head until its head was written upstream: what the proxy added. */
  latencyAdded(seconds: number): void;
  tunnels(change: 1 | -1): void;
  streams(kind: "splice" | "watch", change: 1 | -1): void;
  bytes(direction: "in" | "out", count: number): void;
  upstreamConnections(state: "active" | "idle", change: 1 | -1): void;
  upstreamDialled(result: "ok" | "failed"): void;
  /** A step decided. */
  decided(step: "tunnel" | "authenticate" | "authorize" | "policy", result: "allow" | "deny" | "error" | "warn"): void;
  reviewed(kind: "token" | "access", seconds: number): void;
  cacheRead(cache: "token" | "access" | "tunnel", result: "hit" | "miss"): void;
  /** A request was refused with 429 because its caller is over that limit. */
  limited(limit: "rate" | "streams"): void;
  connections(door: Door, change: 1 | -1): void;
  /** A connection was closed at once: too many in all, or from its address. */
  connectionRefused(limit: "all" | "address"): void;
  audited(result: "written" | "lost", count: number): void;
}

/** Counts nothing. */
export const noMetrics: ProxyMetrics = {
  requestEnded() {},
  latencyAdded() {},
  tunnels() {},
  streams() {},
  bytes() {},
  upstreamConnections() {},
  upstreamDialled() {},
  decided() {},
  reviewed() {},
  cacheRead() {},
  limited() {},
  connections() {},
  connectionRefused() {},
  audited() {},
};
