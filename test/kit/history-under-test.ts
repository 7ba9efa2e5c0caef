import { Fault } from "@kube-connector/core";
import type { Store } from "@kube-connector/jobs";
import { onTestFinished } from "vitest";

/** An empty place for a history, as a test wants it. */
export interface HistoryUnderTest {
  /** Opens it, once more each time, as another process would. */
  open: () => Promise<Store>;
  /** Runs a statement on the tables, past the store; `schema` before their names is the caller's. */
  sql: (statement: string) => Promise<Record<string, unknown>[]>;
  schema: string;
}

export const owner = "engine-a";
export const at = "2026-03-01T10:00:00.000Z";

/** Opens one, with a lease for `owner`; all that was opened is stopped after the test. */
export async function startHistory(make: () => Promise<HistoryUnderTest>) {
  const history = await make();
  const opened: Store[] = [];
  onTestFinished(async () => void (await Promise.all(opened.map((store) => store.stop()))));
  const open = async () => {
    const store = await history.open();
    opened.push(store);
    return store;
  };
  const store = await open();
  await store.renew(owner, 30);
  return { ...history, open, store };
}

/** The code of the Fault that it rejects with; undefined when it does not. */
export async function codeOf(work: Promise<unknown>): Promise<unknown> {
  const error = await work.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  return error instanceof Fault ? error.code : error;
}
