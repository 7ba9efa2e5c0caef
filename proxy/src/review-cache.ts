import type { Clock, Fault } from "@kube-connector/core";

/** What a review said. A review that could not be made throws instead, and that is never remembered. */
export type Verdict<T> = { answer: "yes"; value: T } | { answer: "no"; fault: Fault };

export interface ReviewCacheOptions {
  clock: Clock;
  /** Whether a read was answered from the cache. */
  onRead: (result: "hit" | "miss") => void;
  /** Entries; the one that was not read for the longest time goes first. 10,000 unless told. */
  most?: number;
}

export interface ReviewCache<T> {
  /**
   * The remembered verdict for that key, or the review's: its value, or its Fault. Reads of one key share one review.
   * A yes that is remembered is there at once; it never throws, a Fault comes by the promise. `subject` is what `forget`
   * takes.
   */
  read(key: string, review: () => Promise<Verdict<T>>, subject?: string): T | Promise<T>;
  /** Drops what is known about that subject, and what reviews under way will say of it. */
  forget(subject: string): void;
  size(): number;
}

/** Milliseconds that a verdict counts, from the moment its review began. */
const counts = { yes: 10_000, no: 3_000 } as const;
/** A yes that is read at this age is reviewed again in the background, so that busy callers never wait. */
const renewAt = 8_000;

interface Entry<T> {
  verdict: Verdict<T>;
  /** Monotonic time at which the review began: what it says may be as old as that. */
  from: number;
  subject: string;
}

interface Flight<T> {
  verdict: Promise<Verdict<T>>;
  subject: string;
  forgotten: boolean;
}

/** Remembers verdicts for a short time: yes 10 s, no 3 s. */
export function createReviewCache<T>(options: ReviewCacheOptions): ReviewCache<T> {
  const { clock, onRead, most = 10_000 } = options;
  // A Map keeps the order of insertion: the first entry is the one that was not read for the longest time.
  const entries = new Map<string, Entry<T>>();
  const flights = new Map<string, Flight<T>>();
  /** The last one of the map: most reads are of the same caller as the one before. */
  let newest: Entry<T> | undefined;

  function remember(key: string, entry: Entry<T>): void {
    if (entry === newest) return;
    newest = entry;
    entries.delete(key);
    entries.set(key, entry);
    if (entries.size > most) for (const oldest of entries.keys()) return void entries.delete(oldest);
  }

  function start(key: string, review: () => Promise<Verdict<T>>, subject: string): Flight<T> {
    const from = clock.monotonic();
    const flight: Flight<T> = { verdict: review(), subject, forgotten: false };
    flights.set(key, flight);
    const land = () => {
      if (flights.get(key) === flight) flights.delete(key);
    };
    // Whoever waits for the flight sees its failure; a renewal's failure leaves the entry to its own end.
    flight.verdict.then((verdict) => {
      land();
      if (!flight.forgotten) remember(key, { verdict, from, subject });
    }, land);
    return flight;
  }

  return {
    read(key, review, subject = "") {
      const entry = entries.get(key);
      const age = entry === undefined ? 0 : clock.monotonic() - entry.from;
      if (entry !== undefined && age < counts[entry.verdict.answer]) {
        onRead("hit");
        remember(key, entry);
        if (age >= renewAt && !flights.has(key)) start(key, review, subject);
        const { verdict } = entry;
        return verdict.answer === "yes" ? verdict.value : Promise.reject(verdict.fault);
      }
      onRead("miss");
      const flight = flights.get(key) ?? start(key, review, subject);
      return flight.verdict.then(valueOf);
    },
    forget(subject) {
      for (const [key, entry] of entries) if (entry.subject === subject) entries.delete(key);
      for (const [key, flight] of flights) {
        if (flight.subject !== subject) continue;
        flight.forgotten = true;
        flights.delete(key);
      }
    },
    size: () => entries.size,
  };
}

function valueOf<T>(verdict: Verdict<T>): T {
  if (verdict.answer === "no") throw verdict.fault;
  return verdict.value;
}
