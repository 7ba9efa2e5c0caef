import { expect, test } from "vitest";
import { defaultCallerLimits, mergeLimits } from "./limits.ts";

// A Connector's limits go before its class's, field by field; what neither says has a default.

test("nothing said: the defaults", () => {
  expect(mergeLimits(undefined, undefined)).toEqual(defaultCallerLimits);
  expect(mergeLimits({}, {})).toEqual(defaultCallerLimits);
});

test("the Connector goes before the class, field by field", () => {
  const ofClass = { requestsPerSecond: 10, burst: 15, streams: 5 };
  expect(mergeLimits(ofClass, undefined)).toEqual(ofClass);
  expect(mergeLimits(ofClass, { streams: 7 })).toEqual({ ...ofClass, streams: 7 });
  expect(mergeLimits(ofClass, { burst: 100 })).toEqual({ ...ofClass, burst: 100 });
});

test("a rate without a burst beside it has a burst of twice the rate", () => {
  expect(mergeLimits({ requestsPerSecond: 10 }, undefined)).toMatchObject({ burst: 20 });
  expect(mergeLimits({ requestsPerSecond: 10, burst: 15 }, { requestsPerSecond: 50 })).toMatchObject({ burst: 100 });
});
