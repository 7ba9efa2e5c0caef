import { expect, test } from "vitest";
import { createTestClock } from "../../test/kit/clock.ts";
import { createReviewLimit } from "./review-limit.ts";

// So many reviews a second, twice as many in a burst, and above that a Fault that says to try again.

test("a burst of twice the rate passes, then the rate", () => {
  const clock = createTestClock();
  const limit = createReviewLimit(clock, 5);
  for (let count = 0; count < 10; count += 1) limit.take();
  expect(() => limit.take()).toThrow(expect.objectContaining({ code: "unavailable" }));
  clock.pass(200);
  limit.take();
  expect(() => limit.take()).toThrow("try again");
  clock.pass(60_000);
  for (let count = 0; count < 10; count += 1) limit.take();
  expect(() => limit.take()).toThrow("try again");
});
