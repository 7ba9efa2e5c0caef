import type { Store } from "./history/store.ts";
import type { Bell } from "./logs/bell.ts";
import { isTerminal, type RunEvent, type RunRecord } from "./run.ts";

// What happens to a run, for whoever wants to know: from the history, as another process may own the run; a bell says when
// to look.

/** Events read at once. */
const page = 500;

export interface RunNews {
  store: Store;
  bell: Bell;
  get: (id: string) => Promise<RunRecord>;
  /** Milliseconds between looks when no bell rings. */
  patience: (id: string) => number;
}

/** Events after that number, until the run's end, or the signal. None to who has read the end: the clean-up that follows it is in the record. */
export async function* followEvents(
  id: string,
  after: number,
  { store, bell, get, patience }: RunNews,
  signal: AbortSignal,
): AsyncGenerator<RunEvent> {
  await get(id);
  const [read] = after === 0 ? [] : await store.events(id, after - 1, 1);
  if (read?.type === "end" || read?.type === "cleanup") return;
  let last = after;
  while (!signal.aborted) {
    await using heard = listen(id, { bell, patience }, signal);
    const events = await store.events(id, last, page);
    for (const event of events) {
      last = event.number;
      yield event;
      if (event.type === "end") return;
    }
    if (events.length === 0) {
      // A number that the ended run has never reached.
      if ((await get(id)).log?.sha256 !== undefined && (await store.events(id, last, 1)).length === 0) return;
      await heard.rung;
    }
  }
}

/** The run when it is complete, failed, deleted or suspended; or as it is at the signal. */
export async function waitForRest(id: string, news: RunNews, signal: AbortSignal): Promise<RunRecord> {
  for (;;) {
    await using heard = listen(id, news, signal);
    const run = await news.get(id);
    if (signal.aborted || run.state === "Suspended" || (isTerminal(run.state) && run.log !== undefined)) return run;
    await heard.rung;
  }
}

/** Listens from now on, so that what happens during a look is not slept through. */
function listen(id: string, { bell, patience }: Pick<RunNews, "bell" | "patience">, signal: AbortSignal) {
  const looked = new AbortController();
  return {
    rung: bell.wait(id, patience(id), AbortSignal.any([signal, looked.signal])),
    async [Symbol.asyncDispose]() {
      looked.abort();
    },
  };
}
