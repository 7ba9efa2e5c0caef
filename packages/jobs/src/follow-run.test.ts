import { systemClock } from "@kube-connector/core";
import { expect, test } from "vitest";
import { followEvents, type RunNews, waitForRest } from "./follow-run.ts";
import type { Store } from "./history/store.ts";
import { createBell } from "./logs/bell.ts";
import type { RunEvent, RunRecord } from "./run.ts";

// Whoever follows a run gets each event once and in order, whoever owns the run, and is let go at its end.

function createRoom(patience = 60_000) {
  const bell = createBell(systemClock);
  const events: RunEvent[] = [];
  let run = { state: "Queued" } as RunRecord;
  const store = {
    events: async (_id: string, after: number, limit: number) => events.slice(after, after + limit),
  } as Pick<Store, "events"> as Store;
  const news: RunNews = { store, bell, get: async () => run, patience: () => patience };
  return {
    news,
    events,
    set(fields: Partial<RunRecord>) {
      run = { ...run, ...fields };
    },
    happen(count: number, type: RunEvent["type"] = "state") {
      for (let at = 0; at < count; at++) {
        events.push({ number: events.length + 1, at: "", type, message: "", data: {} });
      }
    },
    ring: () => bell.ring("run"),
  };
}

const complete = { state: "Succeeded", log: { lines: 0, bytes: 0, gaps: 0, sha256: "x" } } as const;

async function numbers(events: AsyncGenerator<RunEvent>): Promise<number[]> {
  const all: number[] = [];
  for await (const { number } of events) all.push(number);
  return all;
}

test("all that there was and all that comes, once and in order, up to the end", async () => {
  const room = createRoom();
  room.happen(1200);
  const following = numbers(followEvents("run", 0, room.news, AbortSignal.timeout(10_000)));
  for (let at = 0; at < 20; at++) {
    await new Promise((resolve) => setImmediate(resolve));
    room.happen(3);
    room.ring();
  }
  room.happen(1, "end");
  room.happen(1, "cleanup");
  room.ring();
  expect(await following).toEqual(Array.from({ length: 1261 }, (_, at) => at + 1));
});

test("from the middle on", async () => {
  const room = createRoom();
  room.happen(5);
  room.happen(1, "end");
  expect(await numbers(followEvents("run", 4, room.news, AbortSignal.timeout(10_000)))).toEqual([5, 6]);
});

test.each([
  ["its end", 4],
  ["the clean-up that came later", 5],
  ["a number that it never reached", 9],
])("of a run that has ended, after %s: nothing, at once", async (_what, after) => {
  const room = createRoom();
  room.happen(3);
  room.happen(1, "end");
  room.happen(1, "cleanup");
  room.set(complete);
  const signal = AbortSignal.timeout(10_000);
  expect(await numbers(followEvents("run", after, room.news, signal))).toEqual([]);
  expect(signal.aborted).toBe(false);
});

test("what another process did is found without a bell", async () => {
  const room = createRoom(20);
  const following = numbers(followEvents("run", 0, room.news, AbortSignal.timeout(10_000)));
  await new Promise((resolve) => setTimeout(resolve, 50));
  room.happen(1, "end");
  expect(await following).toEqual([1]);
});

test("the signal ends it", async () => {
  const room = createRoom();
  const left = new AbortController();
  const following = numbers(followEvents("run", 0, room.news, left.signal));
  await new Promise((resolve) => setTimeout(resolve, 20));
  left.abort();
  expect(await following).toEqual([]);
});

test.each([
  ["suspended", { state: "Suspended" }],
  ["complete", complete],
  ["deleted by somebody", { ...complete, state: "Lost" }],
  ["failed", { ...complete, state: "Failed" }],
] as const)("waiting ends when the run is %s", async (_what, fields) => {
  const room = createRoom();
  const waiting = waitForRest("run", room.news, AbortSignal.timeout(10_000));
  room.set({ state: "Running" });
  room.ring();
  await new Promise((resolve) => setTimeout(resolve, 20));
  room.set(fields);
  room.ring();
  expect((await waiting).state).toBe(fields.state);
});

test("a run whose log is not complete has not come to a rest", async () => {
  const room = createRoom();
  room.set({ state: "Succeeded" });
  const left = AbortSignal.timeout(50);
  const run = await waitForRest("run", room.news, left);
  expect([run.state, left.aborted]).toEqual(["Succeeded", true]);
});
