import type { Clock, Log, Secret } from "@kube-connector/core";
import type { NewEvent, Store } from "../history/store.ts";
import type { Kube, Pod } from "../kube.ts";
import { createMasks } from "../logs/mask.ts";
import type { LogGap, RunLog } from "../logs/run-log.ts";
import type { NamespaceView } from "../observe/cluster-view.ts";
import { Packed } from "../packed.ts";
import type { Attempt, Progress, RunRecord, RunState, TerminalState } from "../run.ts";
import { isTerminal } from "../run.ts";
import type { SlotRequest, Slots } from "../submit/slots.ts";

// A run that this engine owns, between two looks at it: the record is what the history has; the rest is made anew after a
// restart.

export class LiveRun {
  readonly id: string;
  readonly #record: Packed<RunRecord>;
  #state: RunState;
  /** A change on its way to the history, where others may see it before `record` is it. */
  saving: Promise<void> | undefined;
  view: NamespaceView | undefined;
  log: RunLog | undefined;
  /** The log is being completed. */
  collecting = false;
  /** It is no longer ours to look after. */
  dropped = false;
  /** Gaps of the log that no event tells of yet. */
  gaps: LogGap[] = [];
  /** Pods that went away, until a look has kept what they said at last. */
  gone: Pod[] = [];
  /** When the last line of the log came. */
  lastLineAt: string | undefined;
  /** Milliseconds (wall clock) since when lines would be heard: silence counts from then. */
  listeningSince: number;
  /** Values to mask and to put into the run's Secret; empty after a restart. */
  readonly secrets: ReadonlyMap<string, Secret>;
  /** Hides them in what a program says of itself: termination messages, outputs. */
  mask: (text: string) => string;
  /** The POST of the last attempt may have been sent by an earlier process or without an answer, so look before sending. */
  unsure: boolean;
  /** The cluster has refused the run's one Job, so that nothing of it is there or may yet come. */
  neverMade = false;
  /** A save has failed, so what the history has is not known. */
  unsaved = false;
  /** Failed tries of the call at hand, for its back-off. */
  failures = 0;
  /** When (monotonic) the cluster first refused the Job, after tries that it did not answer. */
  refusedSince: number | undefined;
  /** What was asked for and is refused by the cluster, with the right that is missing. */
  refusal: string | undefined;
  /** The Job was seen in the view, so that its absence means something. */
  seen = false;
  /** Milliseconds (monotonic) when this process made the attempt's Job, its deletion was sent, and that of all that the run has made. */
  madeAt: number | undefined;
  deletedAt: number | undefined;
  cleanedAt: number | undefined;
  /** Milliseconds (wall clock) when events were last read, and how often they were. */
  eventsAt: number | undefined;
  eventReads = 0;
  /** Milliseconds (monotonic) when progress alone was last kept. */
  progressAt: number | undefined;
  /** What was done of what suspend and resume ask for. */
  suspended: boolean | undefined;
  /** When the cancellation was asked for that the history has. */
  keptCancel: string | undefined;

  /** `now` in milliseconds, by the wall clock. */
  constructor(record: RunRecord, now: number, secrets: ReadonlyMap<string, Secret> = noSecrets) {
    this.id = record.id;
    this.#record = new Packed(record);
    this.#state = record.state;
    this.listeningSince = now;
    this.secrets = secrets;
    this.mask = maskOf(secrets);
    this.unsure = currentAttempt(record)?.postedAt !== undefined;
    this.keptCancel = record.cancel?.at;
  }

  get record(): RunRecord {
    return this.#record.value;
  }

  set record(record: RunRecord) {
    this.#record.value = record;
    this.#state = record.state;
  }

  /** Of the record. */
  get state(): RunState {
    return this.#state;
  }

  /** Nothing happens for a while: until then it takes little memory. */
  rest(): void {
    this.view?.rest(this.record.attempts.at(-1)?.job);
    this.#record.pack();
  }
}

const noSecrets: ReadonlyMap<string, Secret> = new Map();
const unmasked = (text: string) => text;

/** What a look at a run may use. */
export interface EngineParts {
  store: Store;
  owner: string;
  clock: Clock;
  log: Log;
  random: () => number;
  slots: Slots;
  kube: (connector: string) => Kube;
  view: (record: RunRecord) => NamespaceView;
  /** Opens its log once nobody in this process writes to it any more, and keeps it as its `log`. */
  openLog: (live: LiveRun) => Promise<RunLog>;
  /** Ends what it has of its log, or waits for that; the next `openLog` goes on. Never rejects. */
  closeLog: (live: LiveRun) => Promise<void>;
  /** Has that run looked at soon. */
  wake: (run: string) => void;
  /** Told after each save. */
  onSaved: (record: RunRecord, events: readonly NewEvent[]) => void;
}

/** Replaces the values by `***`. */
export function maskOf(secrets: ReadonlyMap<string, Secret>): (text: string) => string {
  if (secrets.size === 0) return unmasked;
  const masks = createMasks([...secrets.values()]);
  return (text) => masks.apply(Buffer.from(text)).toString();
}

/** The attempt that is under way: the last one, unless it has ended. */
export function currentAttempt(record: RunRecord): Attempt | undefined {
  const last = record.attempts.at(-1);
  return last?.outcome === undefined ? last : undefined;
}

export function slotRequest({ id, definition, connector }: RunRecord): SlotRequest {
  return { run: id, profile: definition.profile, connector, priority: definition.priority };
}

export const isoTime = (milliseconds: number) => new Date(milliseconds).toISOString();

/** Keeps a change of the record and what it means for people, all or nothing. Changes of state, counts and cause are told by themselves. */
export async function change(
  live: LiveRun,
  parts: EngineParts,
  fields: Partial<RunRecord>,
  told: readonly NewEvent[] = [],
): Promise<void> {
  const before = live.record;
  const now = isoTime(parts.clock.now());
  const next: RunRecord = { ...before, ...fields };
  const events: NewEvent[] = [];
  const { state, reason, status, progress, message } = next;
  if (state !== before.state || reason !== before.reason) {
    next.since = now;
    events.push({
      at: now,
      type: "state",
      message: sentence(next),
      data: { state, reason, status, progress, message },
    });
  } else if (isProgress(before.progress, progress)) {
    const { succeeded, failed, completions } = progress;
    const of = completions === null ? "" : ` of ${completions}`;
    events.push({
      at: now,
      type: "progress",
      message: `${succeeded}${of} done, ${failed} failed`,
      data: { ...progress },
    });
  }
  if (next.diagnosis !== undefined && next.diagnosis.message !== before.diagnosis?.message) {
    const { diagnosis } = next;
    events.push({ at: now, type: "diagnosis", message: diagnosis.message, data: { ...diagnosis } });
  }
  const gaps = [...live.gaps];
  for (const gap of gaps) {
    const { pod, container, restart, reason: why } = gap;
    events.push({
      at: now,
      type: "gap",
      message: `Lines of ${pod}/${container}#${restart} are missing: ${why}`,
      data: { ...gap },
    });
  }
  events.push(...told);
  live.saving = save(live, parts, next, events);
  await live.saving;
  live.gaps = live.gaps.slice(gaps.length);
  parts.onSaved(live.record, events);
}

async function save(
  live: LiveRun,
  { store, owner }: EngineParts,
  next: RunRecord,
  events: readonly NewEvent[],
): Promise<void> {
  try {
    live.record = await store.save(next, events, owner);
  } catch (error) {
    live.unsaved = true;
    throw error;
  } finally {
    live.saving = undefined;
  }
}

/** Pods that come and go are no event. */
function isProgress(before: Progress, after: Progress): boolean {
  return before.succeeded !== after.succeeded || before.failed !== after.failed;
}

function sentence({ state, reason, message }: RunRecord): string {
  const said = reason === "" ? state : `${state} (${reason})`;
  return message === undefined || message === "" ? said : `${said}: ${message}`;
}

/** Changes only the attempt at hand. */
export function withAttempt(record: RunRecord, fields: Partial<Attempt>): Attempt[] {
  return record.attempts.map((one, index) => (index === record.attempts.length - 1 ? { ...one, ...fields } : one));
}

/** The end of a run, for good. */
export async function end(
  live: LiveRun,
  parts: EngineParts,
  verdict: { state: TerminalState; reason: string; message?: string },
  fields: Partial<RunRecord> = {},
): Promise<void> {
  if (isTerminal(live.state)) return;
  const { state, reason, message } = verdict;
  const { message: _before, ...rest } = live.record;
  live.record = rest;
  await change(live, parts, {
    ...fields,
    state,
    reason,
    status: statusAtEnd[state],
    stale: false,
    endedAt: fields.endedAt ?? isoTime(parts.clock.now()),
    ...(message === undefined ? {} : { message }),
  });
  parts.slots.release(live.id);
}

const statusAtEnd = {
  Succeeded: "Success",
  Failed: "Failed",
  TimedOut: "Failed",
  Cancelled: "Cancelled",
  Lost: "Unknown",
} as const;
