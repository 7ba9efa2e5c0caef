import { Fault } from "@kube-connector/core";
import { expect, test } from "vitest";
import { createTestClock } from "../../test/kit/clock.ts";
import { createReviewCache, type Verdict } from "./review-cache.ts";

// A yes counts 10 s and a no 3 s from the moment the review began, a failure not at all. Reads of one key share one
// review; a yes in use is renewed at 8 s without anyone waiting. What was forgotten does not come back.

const yes = (value: string): Verdict<string> => ({ answer: "yes", value });
const no: Verdict<string> = { answer: "no", fault: new Fault("unauthenticated", "No such pod") };

function makeCache(most?: number) {
  const clock = createTestClock();
  const reads = { hit: 0, miss: 0 };
  const onRead = (result: "hit" | "miss") => (reads[result] += 1);
  const cache = createReviewCache<string>({ clock, onRead, ...(most === undefined ? {} : { most }) });
  const asked: string[] = [];
  let says: () => Promise<Verdict<string>> = async () => yes("first");
  const review = () => {
    asked.push("review");
    return says();
  };
  return {
    cache,
    clock,
    reads,
    asked,
    read: (key = "key", subject?: string) => cache.read(key, review, subject),
    answer: (next: () => Promise<Verdict<string>>) => {
      says = next;
    },
  };
}

const settled = () => new Promise((resolve) => setImmediate(resolve));

test("a yes counts ten seconds, then the review is asked again", async () => {
  const { read, clock, asked, reads } = makeCache();
  expect(await read()).toBe("first");
  clock.pass(7_999);
  expect(await read()).toBe("first");
  expect(asked).toHaveLength(1);
  clock.pass(2_001);
  await read();
  expect(asked).toHaveLength(2);
  expect(reads).toEqual({ hit: 1, miss: 2 });
});

test("a no counts three seconds", async () => {
  const { read, clock, asked, answer } = makeCache();
  answer(async () => no);
  await expect(read()).rejects.toThrow("No such pod");
  clock.pass(2_999);
  await expect(read()).rejects.toThrow("No such pod");
  expect(asked).toHaveLength(1);
  clock.pass(1);
  answer(async () => yes("back"));
  expect(await read()).toBe("back");
});

test("the time counts from the start of the review, however long it took", async () => {
  const { read, clock, asked, answer } = makeCache();
  answer(async () => {
    clock.pass(4_000);
    return yes("slow");
  });
  expect(await read()).toBe("slow");
  clock.pass(5_999);
  answer(async () => yes("fresh"));
  expect(await read()).toBe("slow");
  await settled();
  clock.pass(1);
  expect(await read()).toBe("fresh");
  expect(asked).toHaveLength(2);
});

test("a failure is everyone's who waits, and is not remembered", async () => {
  const { read, asked, answer } = makeCache();
  answer(async () => {
    throw new Fault("unavailable", "No answer");
  });
  const both = await Promise.allSettled([read(), read()]);
  expect(both.map(({ status }) => status)).toEqual(["rejected", "rejected"]);
  expect(asked).toHaveLength(1);
  answer(async () => yes("now"));
  expect(await read()).toBe("now");
});

test("a hundred reads at once cost one review", async () => {
  const { read, asked } = makeCache();
  const all = await Promise.all(Array.from({ length: 100 }, async () => await read()));
  expect(new Set(all)).toEqual(new Set(["first"]));
  expect(asked).toHaveLength(1);
});

test("a yes in use is renewed at eight seconds while its readers go on", async () => {
  const { read, clock, asked, answer, reads } = makeCache();
  await read();
  clock.pass(8_000);
  answer(async () => yes("renewed"));
  expect(await read()).toBe("first");
  await settled();
  expect(await read()).toBe("renewed");
  clock.pass(7_000);
  expect(await read()).toBe("renewed");
  expect(asked).toHaveLength(2);
  expect(reads.miss).toBe(1);
});

test("a renewal that fails leaves the entry to its end, and one that says no ends it at once", async () => {
  const { read, clock, answer } = makeCache();
  await read();
  clock.pass(8_500);
  answer(async () => {
    throw new Fault("unavailable", "No answer");
  });
  expect(await read()).toBe("first");
  await settled();
  clock.pass(1_000);
  answer(async () => no);
  expect(await read()).toBe("first");
  await settled();
  await expect(read()).rejects.toThrow("No such pod");
});

test("what is forgotten is asked again, and a review that was under way says nothing any more", async () => {
  const { read, cache, answer, asked } = makeCache();
  await read("a", "one");
  await read("b", "other");
  let finish: (verdict: Verdict<string>) => void = () => undefined;
  answer(() => new Promise((resolve) => (finish = resolve)));
  const late = read("c", "one");
  cache.forget("one");
  finish(yes("late"));
  expect(await late).toBe("late");
  expect(cache.size()).toBe(1);
  answer(async () => yes("new"));
  expect(await read("a", "one")).toBe("new");
  expect(await read("c", "one")).toBe("new");
  expect(await read("b", "other")).toBe("first");
  expect(asked).toHaveLength(5);
});

test("when it is full, the entry that was not read for the longest time goes", async () => {
  const { read, cache, asked } = makeCache(2);
  await read("a");
  await read("b");
  await read("a");
  await read("c");
  expect(cache.size()).toBe(2);
  await read("a");
  expect(asked).toHaveLength(3);
  await read("b");
  expect(asked).toHaveLength(4);
});
