// The queue: a set of keys, each worked on by one run at a time, with a limit on runs at once; a failed key is tried again
// after 1 s to 5 min; a key may ask to be looked at again; stopping waits for what runs and starts nothing more.
import { silentLog } from "./log.ts";
import { expect, test } from "vitest";
import { createTestClock } from "../../../test/kit/clock.ts";
import { type Queue, startQueue } from "./queue.ts";

interface Run {
  key: string;
  finish: (lookAgainIn?: number) => void;
  fail: () => void;
}

function startTestQueue(options: { concurrency?: number } = {}) {
  const clock = createTestClock();
  const runs: Run[] = [];
  const queue: Queue = startQueue({
    clock,
    log: silentLog,
    ...options,
    run: (key) =>
      new Promise((resolve, reject) => {
        runs.push({ key, finish: resolve, fail: () => reject(new Error("not now")) });
      }),
  });
  const settle = () => new Promise((resolve) => setImmediate(resolve));
  return { clock, queue, runs, settle, keys: () => runs.map(({ key }) => key) };
}

test("nothing runs before it begins; then each key once, however often it was added", () => {
  const { queue, keys } = startTestQueue();
  for (const key of ["a", "b", "a", "a"]) queue.add(key);
  expect(keys()).toEqual([]);
  expect(queue.depth()).toBe(2);
  queue.begin();
  expect(keys()).toEqual(["a", "b"]);
});

test("a key added while it runs is run once more, and not at the same time", async () => {
  const { queue, runs, keys, settle } = startTestQueue();
  queue.begin();
  queue.add("a");
  queue.add("a");
  queue.add("a");
  expect(keys()).toEqual(["a"]);
  runs[0]?.finish();
  await settle();
  expect(keys()).toEqual(["a", "a"]);
  runs[1]?.finish();
  await settle();
  expect(keys()).toEqual(["a", "a"]);
});

test("no more run at once than is allowed, and the next begins when one ends", async () => {
  const { queue, runs, keys, settle } = startTestQueue({ concurrency: 2 });
  queue.begin();
  for (const key of ["a", "b", "c", "d"]) queue.add(key);
  expect(keys()).toEqual(["a", "b"]);
  runs[0]?.fail();
  await settle();
  expect(keys()).toEqual(["a", "b", "c"]);
});

test("a failed key waits 0.5 to 1 s, then twice as long each time, at most 5 min; a success forgets it", async () => {
  const { clock, queue, runs, settle } = startTestQueue();
  queue.begin();
  queue.add("a");
  let ceiling = 1000;
  for (let attempt = 0; attempt < 12; attempt += 1) {
    runs.at(-1)?.fail();
    await settle();
    const before = runs.length;
    clock.pass(ceiling / 2 - 1);
    expect(runs.length).toBe(before);
    clock.pass(ceiling / 2 + 1);
    expect(runs.length).toBe(before + 1);
    ceiling = Math.min(300_000, ceiling * 2);
  }
  runs.at(-1)?.finish();
  await settle();
  queue.add("a");
  runs.at(-1)?.fail();
  await settle();
  const before = runs.length;
  clock.pass(1000);
  expect(runs.length).toBe(before + 1);
});

test("a change does not wait for the back-off's end", async () => {
  const { clock, queue, runs, keys, settle } = startTestQueue();
  queue.begin();
  queue.add("a");
  runs[0]?.fail();
  await settle();
  queue.add("a");
  expect(keys()).toEqual(["a", "a"]);
  runs[1]?.finish();
  await settle();
  clock.pass(3_600_000);
  expect(keys()).toEqual(["a", "a"]);
});

test("a key that asked for it is looked at again, and a change before that takes its place", async () => {
  const { clock, queue, runs, keys, settle } = startTestQueue();
  queue.begin();
  queue.add("a");
  runs[0]?.finish(30_000);
  await settle();
  clock.pass(29_999);
  expect(keys()).toEqual(["a"]);
  clock.pass(1);
  expect(keys()).toEqual(["a", "a"]);
  runs[1]?.finish(30_000);
  await settle();
  queue.add("a");
  runs[2]?.finish();
  await settle();
  expect(clock.waiting()).toBe(0);
});

test("stopping waits for what runs, starts nothing more and leaves no timer", async () => {
  const { clock, queue, runs, keys, settle } = startTestQueue({ concurrency: 1 });
  queue.begin();
  queue.add("a");
  queue.add("b");
  let stopped = false;
  const stopping = queue.stop().then(() => {
    stopped = true;
  });
  queue.add("c");
  await settle();
  expect(stopped).toBe(false);
  runs[0]?.fail();
  await stopping;
  await queue.done;
  expect(keys()).toEqual(["a"]);
  expect(clock.waiting()).toBe(0);
});
