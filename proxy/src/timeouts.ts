/** Milliseconds. No answer, watch, log or splice has a total: only silence where somebody must speak is limited. */
export interface Timeouts {
  connectHead: number;
  requestHead: number;
  tls: number;
  dial: number;
  /** A request body of which no byte comes, while we do not pause it. */
  requestBody: number;
  idleClient: number;
  idleUpstream: number;
  /** How often an open stream's caller is asked about again. */
  review: number;
  /** How long an open stream lives on while that question gets no answer. */
  reviewGrace: number;
  /** How long a client may take to close after our last word. */
  linger: number;
  /** How often timers are looked at. */
  tick: number;
  /** Drain: how long it still serves as before, then how long streams may go on. */
  drainWait: number;
  drainGrace: number;
}

export const defaultTimeouts: Timeouts = {
  connectHead: 10_000,
  requestHead: 10_000,
  tls: 10_000,
  dial: 10_000,
  requestBody: 60_000,
  idleClient: 300_000,
  idleUpstream: 60_000,
  review: 60_000,
  reviewGrace: 300_000,
  linger: 2_000,
  tick: 1_000,
  drainWait: 10_000,
  drainGrace: 30_000,
};

export interface Limits {
  /** Bytes of a request's or an answer's head. */
  head: number;
  connectHead: number;
  /** Client connections, in all and from one IP address. */
  connections: number;
  connectionsPerAddress: number;
}

export const defaultLimits: Limits = {
  head: 65_536,
  connectHead: 16_384,
  connections: 20_000,
  connectionsPerAddress: 2_000,
};
