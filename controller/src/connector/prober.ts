import { type Clock, type Log, type Running } from "@kube-connector/core";
import type { ProbeInput, ProbeOutcome } from "./probe.ts";
import type { Verdict } from "./resolve.ts";

// When targets are asked: at once when anything about them changed, then at the class's interval, 64 rounds at a time.
// A first failure is asked again after 5 s; two in a row are believed.

export interface ProbeSettled {
  /** What was probed: changes with the spec, the Secret and the class. */
  basis: string;
  liveness: Verdict;
  auth: Verdict | undefined;
  version: string | undefined;
  /** Milliseconds since 1970. */
  at: number;
}

export interface ProberOptions {
  clock: Clock;
  log: Log;
  /** Asks once; the signal ends it. */
  probe: (input: ProbeInput, signal: AbortSignal) => Promise<ProbeOutcome>;
  /** Told when what is known of a target has changed. */
  onSettled: (key: string) => void;
  onRound?: (result: string, milliseconds: number) => void;
  /** Rounds at a time; 64 unless told. */
  concurrency?: number;
}

export interface Prober extends Running {
  /** Keeps that target asked. `read` gives what to ask with, read anew each time: no token is kept here. */
  want(key: string, basis: string, interval: number, read: () => Promise<ProbeInput | undefined>): void;
  /** What is known under that basis; undefined when nothing is yet. */
  settled(key: string, basis: string): ProbeSettled | undefined;
  /** When the target was last asked, milliseconds since 1970. */
  lastRound(key: string): number | undefined;
  forget(key: string): void;
}

interface Watched {
  basis: string;
  interval: number;
  read: () => Promise<ProbeInput | undefined>;
  settled: ProbeSettled | undefined;
  /** Failures in a row, of either question. */
  doubts: number;
  last: number | undefined;
  cancel: () => void;
}

const secondLook = 5000;

export function startProber(options: ProberOptions): Prober {
  const { clock } = options;
  const watched = new Map<string, Watched>();
  const due = new Set<string>();
  const rounds = new Set<Promise<void>>();
  const stopping = new AbortController();
  let end: () => void = () => undefined;
  const done = new Promise<void>((resolve) => {
    end = resolve;
  });

  const pump = () => {
    for (const key of due) {
      if (rounds.size >= (options.concurrency ?? 64) || stopping.signal.aborted) return;
      due.delete(key);
      const one = watched.get(key);
      if (one === undefined) continue;
      const job: Promise<void> = round(key, one).finally(() => {
        rounds.delete(job);
        pump();
      });
      rounds.add(job);
    }
  };
  const schedule = (key: string, one: Watched, wait: number) => {
    one.cancel();
    if (stopping.signal.aborted || watched.get(key) !== one) return;
    one.cancel = clock.after(wait, () => {
      due.add(key);
      pump();
    });
  };

  async function round(key: string, one: Watched): Promise<void> {
    const { basis } = one;
    const started = clock.monotonic();
    try {
      const input = await one.read();
      if (input === undefined) return;
      const outcome = await options.probe(input, stopping.signal);
      if (watched.get(key) !== one || stopping.signal.aborted) return;
      one.last = clock.now();
      const failure = [outcome.liveness, outcome.auth].find((verdict) => verdict?.status === "False");
      options.onRound?.(failure?.reason ?? "Ready", clock.monotonic() - started);
      one.doubts = failure === undefined ? 0 : one.doubts + 1;
      if (one.doubts !== 1) {
        const before = one.settled;
        one.settled = { basis, ...outcome, at: one.last };
        if (!sameOutcome(before, one.settled)) options.onSettled(key);
      }
      schedule(key, one, one.doubts === 1 ? secondLook : one.interval * (0.9 + Math.random() * 0.2));
    } catch (error) {
      // The API server, not the target: what to ask with could not be read.
      options.log.warn("A probe could not be prepared", { key, error });
      schedule(key, one, secondLook);
    }
  }

  return {
    done,
    want(key, basis, interval, read) {
      if (stopping.signal.aborted) return;
      const before = watched.get(key);
      if (before?.basis === basis) {
        before.interval = interval;
        before.read = read;
        return;
      }
      before?.cancel();
      watched.set(key, {
        basis,
        interval,
        read,
        settled: before?.settled,
        doubts: 0,
        last: before?.last,
        cancel: () => undefined,
      });
      due.add(key);
      pump();
    },
    settled(key, basis) {
      const settled = watched.get(key)?.settled;
      return settled?.basis === basis ? settled : undefined;
    },
    lastRound: (key) => watched.get(key)?.last,
    forget(key) {
      watched.get(key)?.cancel();
      watched.delete(key);
      due.delete(key);
    },
    async stop() {
      stopping.abort();
      for (const one of watched.values()) one.cancel();
      due.clear();
      await Promise.all(rounds);
      watched.clear();
      end();
    },
  };
}

function sameOutcome(a: ProbeSettled | undefined, b: ProbeSettled): boolean {
  const facts = (one: ProbeSettled) => JSON.stringify([one.basis, one.liveness, one.auth, one.version]);
  return a !== undefined && facts(a) === facts(b);
}
