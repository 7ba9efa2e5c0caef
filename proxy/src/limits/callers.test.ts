import type { CallerLimits } from "@kube-connector/core";
import { expect, test } from "vitest";
import { createTestClock } from "../../../test/kit/clock.ts";
import { resolvedConnector } from "../../../test/kit/resolved.ts";
import type { Refusal } from "../answers.ts";
import type { Caller } from "../authenticate.ts";
import { createCallerLimiter } from "./callers.ts";

// Each caller of each connector has a bucket of its own and a number of requests in progress; beyond either it is
// refused with 429 and told when to come again. What one caller does takes nothing from another.

const prod = await resolvedConnector({ name: "prod" });
const other = await resolvedConnector({ name: "other" });
const limits: CallerLimits = { requestsPerSecond: 10, burst: 3, streams: 2 };

function pod(uid: string, user = "system:serviceaccount:team-a:ci"): Caller {
  return { user, uid: "u", groups: [], extra: {}, namespace: "team-a", pod: { name: "p", uid } };
}

function room(remembered?: number) {
  const clock = createTestClock();
  const counted: string[] = [];
  const metrics = { limited: (limit: string) => counted.push(limit) };
  const limiter = createCallerLimiter({ clock, metrics, ...(remembered === undefined ? {} : { remembered }) });
  const refusal = (caller: Caller, connector = { ...prod, limits }): Refusal | undefined => {
    try {
      limiter.admit(caller, connector).end();
      return undefined;
    } catch (error) {
      return error as Refusal;
    }
  };
  return { clock, counted, limiter, refusal };
}

test("a burst passes, then as many a second as the limit says", () => {
  const { clock, counted, refusal } = room();
  for (let i = 0; i < 3; i++) expect(refusal(pod("a"))).toBeUndefined();
  expect(refusal(pod("a"))).toMatchObject({
    http: 429,
    retryAfter: 1,
    message: expect.stringMatching(/team-a\/prod: this pod has sent more than 10 requests a second; .*spec.limits/),
  });
  expect(counted).toEqual(["rate"]);
  clock.pass(100);
  expect(refusal(pod("a"))).toBeUndefined();
  expect(refusal(pod("a"))).toBeDefined();
  clock.pass(60_000);
  for (let i = 0; i < 3; i++) expect(refusal(pod("a"))).toBeUndefined();
  expect(refusal(pod("a"))).toBeDefined();
});

test("with a slow rate the wait is told in whole seconds", () => {
  const { clock, refusal } = room();
  const slow = { ...prod, limits: { requestsPerSecond: 1, burst: 1, streams: 5 } };
  expect(refusal(pod("a"), slow)).toBeUndefined();
  clock.pass(100);
  expect(refusal(pod("a"), slow)?.retryAfter).toBe(1);
});

test("another pod and another connector are not touched", () => {
  const { refusal } = room();
  for (let i = 0; i < 4; i++) refusal(pod("a"));
  expect(refusal(pod("a"))).toBeDefined();
  expect(refusal(pod("b"))).toBeUndefined();
  expect(refusal(pod("a"), { ...other, limits })).toBeUndefined();
});

test("without a pod the user is the caller", () => {
  const { refusal } = room();
  const user = (name: string): Caller => ({ ...pod("-", name), pod: undefined });
  for (let i = 0; i < 3; i++) refusal(user("one"));
  expect(refusal(user("one"))).toBeDefined();
  expect(refusal(user("two"))).toBeUndefined();
});

test("so many may be in progress at once; one that ends makes room, once", () => {
  const { counted, limiter, clock } = room();
  const connector = { ...prod, limits: { ...limits, burst: 100 } };
  const first = limiter.admit(pod("a"), connector);
  limiter.admit(pod("a"), connector);
  expect(() => limiter.admit(pod("a"), connector)).toThrow("2 requests and streams of this pod are in progress");
  expect(counted).toEqual(["streams"]);
  first.end();
  first.end();
  limiter.admit(pod("a"), connector);
  expect(() => limiter.admit(pod("a"), connector)).toThrow(/in progress/);
  clock.pass(1_000_000);
  expect(() => limiter.admit(pod("a"), connector)).toThrow(/in progress/);
});

test("limits that change hold for the next request", () => {
  const { refusal } = room();
  for (let i = 0; i < 3; i++) refusal(pod("a"));
  expect(refusal(pod("a"))).toBeDefined();
  const raised = { ...prod, limits: { requestsPerSecond: 1000, burst: 1000, streams: 10 } };
  expect(refusal(pod("a"), raised)?.retryAfter).toBe(1);
  expect(refusal(pod("b"), raised)).toBeUndefined();
});

test("memory is bounded: the callers not seen for the longest time are forgotten, never one with something open", () => {
  const { limiter, refusal } = room(3);
  const connector = { ...prod, limits: { requestsPerSecond: 1, burst: 1, streams: 1 } };
  limiter.admit(pod("open"), connector);
  for (let i = 0; i < 50; i++) expect(refusal(pod(`p${i}`), connector)).toBeUndefined();
  expect(refusal(pod("p49"), connector)?.retryAfter).toBe(1);
  expect(refusal(pod("p1"), connector)).toBeUndefined();
  expect(refusal(pod("open"), connector)?.message).toContain("in progress");
});
