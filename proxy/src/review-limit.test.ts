import { Fault } from "@kube-connector/core";
import { expect, test } from "vitest";
import { createTestClock } from "../../test/kit/clock.ts";
import { createReviewLimit } from "./review-limit.ts";

// So many reviews a second, twice as many in a burst, half of them for one namespace, and above that a Fault that says to
// try again.

function make(perSecond: number) {
  const clock = createTestClock();
  const limit = createReviewLimit(clock, perSecond);
  /** How many of that many are granted. */
  const granted = (wanted: number, namespace: (count: number) => string) => {
    let count = 0;
    for (let asked = 0; asked < wanted; asked += 1) {
      try {
        limit.take(namespace(asked));
        count += 1;
      } catch (error) {
        if (!(error instanceof Fault && error.code === "unavailable")) throw error;
      }
    }
    return count;
  };
  return { clock, granted };
}

test("a burst of twice the rate passes, then the rate", () => {
  const { clock, granted } = make(10);
  const each = (count: number) => `namespace-${count}`;
  expect(granted(30, each)).toBe(20);
  clock.pass(200);
  expect(granted(30, each)).toBe(2);
  clock.pass(60_000);
  expect(granted(30, each)).toBe(20);
});

test("one namespace gets half, and what it asks beyond costs the others nothing", () => {
  const { granted } = make(10);
  expect(granted(1_000, () => "greedy")).toBe(10);
  expect(granted(10, (count) => `modest-${count}`)).toBe(10);
});

test("any number of namespaces is remembered no longer than it matters", () => {
  const { clock, granted } = make(100_000);
  expect(granted(5_000, (count) => `namespace-${count}`)).toBe(5_000);
  clock.pass(10_000);
  expect(granted(5_000, (count) => `other-${count}`)).toBe(5_000);
});
