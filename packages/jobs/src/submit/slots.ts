import { type Clock, Fault } from "@kube-connector/core";

// Who may start now: profiles of concurrency and rate, by priority, first come first served within one priority.

/** A limit on runs at a time and on starts a second, for one connector each or over all of them. */
export interface Profile {
  concurrency?: {
    /** Runs from POST to end. */
    max: number;
    /** Runs that wait; 10,000 unless told. */
    queueSize?: number;
    /** Queue: wait while the queue has room; Reject: refuse when no slot is free. */
    onFull?: "Queue" | "Reject";
  };
  /** Token bucket: starts a second, and how many at once. */
  rate?: { perSecond: number; burst: number };
  scope?: "Connector" | "Global";
}

const defaultQueueSize = 10_000;

export interface SlotRequest {
  run: string;
  profile: string | undefined;
  connector: string;
  priority: number;
}

export interface Slots {
  /** Any profile limits the runs at a time. */
  readonly areLimited: boolean;
  /**
   * Gives it a place, so that others find it taken; released by who asked for it. Throws an `unavailable` Fault when the profile's
   * queue is full, so that nothing is accepted that cannot wait.
   */
  admit(request: SlotRequest): void;
  /** True when the run has its slot; else it waits, and `onGrant` tells when to ask again. */
  take(request: SlotRequest): boolean;
  /** For runs that were started before this process was: they count, whatever the limit. */
  hold(request: SlotRequest): void;
  /** The run has ended, or waits no more. */
  release(run: string): void;
  /** Runs that hold a slot, and that wait. */
  counts(): { held: number; waiting: number };
  stop(): void;
}

interface Gate {
  profile: Profile;
  held: Set<string>;
  waiting: Map<string, SlotRequest & { order: number }>;
  tokens: number;
  at: number;
  cancelTimer: (() => void) | undefined;
}

export function createSlots(options: {
  profiles: ReadonlyMap<string, Profile>;
  clock: Clock;
  onGrant: (run: string) => void;
}): Slots {
  const { profiles, clock, onGrant } = options;
  const gates = new Map<string, Gate>();
  const gateOf = new Map<string, Gate>();
  let orders = 0;

  function gate(request: SlotRequest): Gate | undefined {
    const profile = request.profile === undefined ? undefined : profiles.get(request.profile);
    if (profile === undefined || request.profile === undefined) return undefined;
    const key = JSON.stringify([request.profile, profile.scope === "Global" ? "" : request.connector]);
    const known = gates.get(key);
    if (known !== undefined) return known;
    const fresh: Gate = {
      profile,
      held: new Set(),
      waiting: new Map(),
      tokens: profile.rate?.burst ?? 0,
      at: clock.monotonic(),
      cancelTimer: undefined,
    };
    gates.set(key, fresh);
    return fresh;
  }

  const hasRoom = ({ profile, held }: Gate) => held.size < (profile.concurrency?.max ?? Number.POSITIVE_INFINITY);

  /** Slots and waiting ones are not more than there are slots: only the rate is in the way of a new one. */
  const fits = ({ profile, held, waiting }: Gate) =>
    held.size + waiting.size < (profile.concurrency?.max ?? Number.POSITIVE_INFINITY);

  /** Those that wait for a slot. */
  const waitingLine = ({ profile, held, waiting }: Gate) =>
    Math.max(0, held.size + waiting.size - (profile.concurrency?.max ?? Number.POSITIVE_INFINITY));

  /** Milliseconds until a start is allowed by the rate. */
  function wait(one: Gate): number {
    const { rate } = one.profile;
    if (rate === undefined) return 0;
    const now = clock.monotonic();
    one.tokens = Math.min(rate.burst, one.tokens + ((now - one.at) / 1000) * rate.perSecond);
    one.at = now;
    return one.tokens >= 1 ? 0 : ((1 - one.tokens) / rate.perSecond) * 1000;
  }

  const first = (one: Gate) => {
    let best: (SlotRequest & { order: number }) | undefined;
    for (const request of one.waiting.values())
      if (
        best === undefined ||
        request.priority > best.priority ||
        (request.priority === best.priority && request.order < best.order)
      )
        best = request;
    return best;
  };

  function take(request: SlotRequest): boolean {
    const one = gate(request);
    if (one === undefined || one.held.has(request.run)) return true;
    gateOf.set(request.run, one);
    if (!one.waiting.has(request.run)) {
      orders += 1;
      one.waiting.set(request.run, { ...request, order: orders });
      pump(one, request.run);
    }
    return one.held.has(request.run);
  }

  /** Grants what can be granted, and tells all but the one that asks; a timer for the rest when only the rate is in the way. */
  function pump(one: Gate, asking?: string): void {
    one.cancelTimer?.();
    one.cancelTimer = undefined;
    for (let next = first(one); next !== undefined && hasRoom(one); next = first(one)) {
      const milliseconds = wait(one);
      if (milliseconds > 0) {
        one.cancelTimer = clock.after(Math.ceil(milliseconds), () => pump(one));
        return;
      }
      if (one.profile.rate !== undefined) one.tokens -= 1;
      one.waiting.delete(next.run);
      one.held.add(next.run);
      if (next.run !== asking) onGrant(next.run);
    }
  }

  return {
    areLimited: [...profiles.values()].some(({ concurrency }) => concurrency !== undefined),
    admit(request) {
      const one = gate(request);
      const { concurrency } = one?.profile ?? {};
      const most = concurrency?.onFull === "Reject" ? 0 : (concurrency?.queueSize ?? defaultQueueSize);
      if (one === undefined || concurrency === undefined || waitingLine(one) < most || fits(one)) {
        take(request);
        return;
      }
      throw new Fault(
        "unavailable",
        most === 0
          ? `Profile ${request.profile} runs ${concurrency.max} at a time, and all are taken; try again when one has ended`
          : `Profile ${request.profile} has ${waitingLine(one)} runs waiting, which is all that its queue holds; try again later`,
      );
    },
    take,
    hold(request) {
      const one = gate(request);
      if (one === undefined) return;
      gateOf.set(request.run, one);
      one.waiting.delete(request.run);
      one.held.add(request.run);
    },
    release(run) {
      const one = gateOf.get(run);
      if (one === undefined) return;
      gateOf.delete(run);
      one.waiting.delete(run);
      one.held.delete(run);
      pump(one);
    },
    counts() {
      let held = 0;
      let waiting = 0;
      for (const one of gates.values()) {
        held += one.held.size;
        waiting += one.waiting.size;
      }
      return { held, waiting };
    },
    stop() {
      for (const one of gates.values()) one.cancelTimer?.();
    },
  };
}
