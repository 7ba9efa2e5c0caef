import type { Credentials, Served } from "../../kit/wire.ts";

// What the processes of this soak say to each other.

/** A connector and who uses it. */
export interface Place extends Served {
  callers: readonly Credentials[];
  /** A caller of another namespace, who may not. */
  stranger: Credentials;
}

export interface ClientsStart {
  name: string;
  seed: number;
  forward: number;
  reverse: number;
  places: readonly Place[];
}

export type ToClients =
  | { start: ClientsStart }
  /** Take up work, and come to rest. */
  | { work: boolean }
  /** A target goes, and is back: Date.now() of both. */
  | { outage: { connector: string; from: number; to?: number } };

/** What clients have done since they last said so. */
export interface Tally {
  /** By what was done and how it went. */
  counts: Record<string, number>;
  /** Requests that got no answer, or a wrong one, with no reason for it. */
  lost: string[];
  /** Answers with another's data. */
  mixedUp: string[];
  bytes: number;
}

export type FromClients = { tally: Tally } | { resting: true };

export interface TargetStart {
  connector: string;
  key: string;
  port: number;
  prefix: string;
  http2: boolean;
  certificate: string;
  privateKey: string;
  replaced: readonly [version: number, at: number][];
}

export type ToTarget = { start: TargetStart } | { replaced: [version: number, at: number] };

export interface TargetTally {
  requests: number;
  /** What may never reach a target. */
  wrong: string[];
  /** Milliseconds between a token's replacement and the sending of a request that still came with it; the most so far. */
  latest: number;
}

export type FromTarget = { ready: number } | { seen: TargetTally };
