import type { RunEvent, RunRecord, RunState } from "../run.ts";

// The history: what was asked for, what became of it. The port; sqlite.ts and postgres.ts pass the same contract tests.

/** What happened, before it has its number. */
export type NewEvent = Omit<RunEvent, "number">;

/** A run in a list: the record without what is long. */
export type RunSummary = Omit<RunRecord, "definition" | "attempts" | "outputs"> & {
  /** The last attempt's number and Job. */
  attempt: number;
  job?: string;
};

export interface RunQuery {
  /** In one of these; none of them: in any. */
  states?: readonly RunState[];
  connector?: string;
  namespace?: string;
  /** The run's name, whole. */
  name?: string;
  /** Only runs whose clean-up is in that state. */
  cleanup?: RunRecord["cleanup"]["state"];
  /** Ended before this time. */
  endedBefore?: string;
  /** `next` of the page before this one. */
  cursor?: string;
  /** 1 to 1,000; newest first. */
  limit: number;
}

/** By which a second request for the same work finds the first one's run. */
export interface RunKeys {
  /** Run once: the same run until that one is removed. */
  runKey?: string;
  /** Of one HTTP request; a different digest of the body is a conflict. */
  idempotency?: { key: string; digest: string };
}

/**
 * Every call rejects with a Fault: `unavailable` when the database cannot be reached or its disk is full, `conflict` when a
 * save was made from an older version or by one who has lost the lease, `not_found` for a run that is not there. What a
 * resolved promise acknowledged survives the death of the process and of the machine. Of a call that failed nothing was
 * kept, but for one case: when the database broke off in the commit, its sentence says that it is not known. So whoever goes
 * on after `unavailable` reads the run first.
 *
 * A run has at most one owner, a name that no other process uses. An owner has one lease for all its runs, by the database's
 * clock: `renew` and `claim` set its end anew. Once it has ended others may claim the runs, and a save fails; what nobody
 * has claimed by the next `renew` is the owner's again.
 */
export interface Store {
  /** Random, born with the store; 10 characters of [a-z0-9]. On the labels of all its objects. */
  readonly engine: string;
  /**
   * Stores a new run, owned by `owner` (who has called `renew` before), or finds the one that its keys name (`created`
   * false). Calls of one turn of the event loop share a transaction, with those of `save`.
   */
  create(record: RunRecord, keys: RunKeys, owner: string): Promise<{ record: RunRecord; created: boolean }>;
  read(id: string): Promise<RunRecord | undefined>;
  /** Never blocks for long: a query that few runs fit is answered over several turns of the event loop. */
  list(query: RunQuery): Promise<{ runs: RunSummary[]; next?: string }>;
  /** Where runs are or were: for looking after what they may have left there. */
  places(): Promise<{ connector: string; namespace: string }[]>;
  /** Runs by state; states without runs are absent. */
  count(): Promise<Partial<Record<RunState, number>>>;
  /**
   * Keeps the record and its new events, all or nothing, when `owner` holds the lease and the stored version is the
   * record's. Answers with the record at its new version. What cannot be kept of one save does not touch the others that
   * share its transaction. The id, connector, namespace and name of a run never change.
   */
  save(record: RunRecord, events: readonly NewEvent[], owner: string): Promise<RunRecord>;
  /**
   * What anybody may ask of a run, its owner or not: kept at once, without a new version; a later one replaces an earlier
   * one of its kind. From then on every record and summary read shows it.
   */
  request(id: string, request: { cancel?: RunRecord["cancel"]; suspend?: boolean }): Promise<RunRecord>;
  /** Runs of `owner` with a request that is in no saved record yet: ids. The same ones until a save holds the request. */
  requests(owner: string): Promise<string[]>;
  /** Events with a number above `after`, at most `limit`. */
  events(id: string, after: number, limit: number): Promise<RunEvent[]>;
  /**
   * Takes up to `limit` runs that are not done (ended and cleaned up, or kept on purpose) and that nobody holds, for
   * `leaseSeconds`; the oldest first. With `ids` those of them that nobody holds, done or not. What this owner has already
   * is not among them. May take fewer while others claim.
   */
  claim(owner: string, limit: number, leaseSeconds: number, ids?: readonly string[]): Promise<RunRecord[]>;
  /** Renews the owner's lease; answers with the ids of all runs that it still holds. */
  renew(owner: string, leaseSeconds: number): Promise<string[]>;
  /** Gives runs back at once; all of them, and the lease, unless told which. Done runs as well are held until then. */
  release(owner: string, ids?: readonly string[]): Promise<void>;
  /** The stripped manifest of a source as it was last seen. `key` is connector, kind, namespace and name. */
  saveSnapshot(key: SnapshotKey, manifest: Record<string, unknown>): Promise<void>;
  readSnapshot(key: SnapshotKey): Promise<Record<string, unknown> | undefined>;
  /** Deletes ended runs with their events and keys; the others stay. Answers with the ids deleted. */
  remove(ids: readonly string[]): Promise<string[]>;
  /** Ends once all that was asked for is answered; what comes later is `unavailable`. */
  stop(): Promise<void>;
}

export interface SnapshotKey {
  connector: string;
  kind: string;
  namespace: string;
  name: string;
}
