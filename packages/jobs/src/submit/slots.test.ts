import { expect, test } from "vitest";
// oxlint-disable-next-line import/no-relative-packages -- the kit is no package
import { createTestClock } from "../../../../test/kit/clock.ts";
import { createSlots, type Profile, type SlotRequest } from "./slots.ts";

// Who may start: never more than the profile allows, the most urgent first, and nobody is forgotten.

function createRoom(profile: Profile) {
  const clock = createTestClock();
  const granted: string[] = [];
  const slots = createSlots({
    profiles: new Map([["night", profile]]),
    clock,
    onGrant: (run) => granted.push(run),
  });
  const request = (run: string, more: Partial<SlotRequest> = {}): SlotRequest => ({
    run,
    profile: "night",
    connector: "team-a/prod",
    priority: 0,
    ...more,
  });
  return { clock, granted, slots, request };
}

test("as many at a time as the profile says; the next one when one has ended", () => {
  const { slots, granted, request } = createRoom({ concurrency: { max: 2 } });
  expect(["a", "b", "c"].map((run) => slots.take(request(run)))).toEqual([true, true, false]);
  slots.release("a");
  expect(granted).toEqual(["c"]);
  expect(slots.take(request("c"))).toBe(true);
  expect(slots.counts()).toEqual({ held: 2, waiting: 0 });
});

test("a higher priority goes first, and within one who came first", () => {
  const { slots, granted, request } = createRoom({ concurrency: { max: 1 } });
  slots.take(request("now"));
  for (const [run, priority] of [
    ["low", -5],
    ["first", 0],
    ["second", 0],
    ["urgent", 9],
  ] as const) {
    slots.take(request(run, { priority }));
  }
  for (const run of ["now", "urgent", "first", "second"]) slots.release(run);
  expect(granted).toEqual(["urgent", "first", "second", "low"]);
});

test("asking twice neither takes two slots nor loses the place", () => {
  const { slots, granted, request } = createRoom({ concurrency: { max: 1 } });
  for (const run of ["a", "a", "b", "c", "b"]) slots.take(request(run));
  expect(slots.counts()).toEqual({ held: 1, waiting: 2 });
  slots.release("a");
  slots.release("a");
  expect(granted).toEqual(["b"]);
});

test("Reject: what was admitted is counted before it begins", () => {
  const { slots, request } = createRoom({ concurrency: { max: 1, onFull: "Reject" } });
  slots.admit(request("a"));
  expect(() => slots.admit(request("b"))).toThrow("runs 1 at a time, and all are taken");
  expect(slots.take(request("a"))).toBe(true);
  slots.release("a");
  slots.admit(request("b"));
  expect(slots.counts()).toEqual({ held: 1, waiting: 0 });
});

test("Queue: as many wait as it holds, and one more is refused", () => {
  const { slots, request } = createRoom({ concurrency: { max: 1, queueSize: 2 } });
  for (const run of ["a", "b", "c"]) slots.admit(request(run));
  expect(() => slots.admit(request("d"))).toThrow("has 2 runs waiting, which is all that its queue holds");
  slots.release("b");
  slots.admit(request("d"));
  expect(slots.counts()).toEqual({ held: 1, waiting: 2 });
});

test("a rate lets its burst go at once, and then so many a second", () => {
  const { slots, clock, granted, request } = createRoom({ rate: { perSecond: 2, burst: 2 } });
  expect(["a", "b", "c", "d"].map((run) => slots.take(request(run)))).toEqual([true, true, false, false]);
  clock.pass(499);
  expect(granted).toEqual([]);
  clock.pass(1);
  expect(granted).toEqual(["c"]);
  clock.pass(500);
  expect(granted).toEqual(["c", "d"]);
  clock.pass(60_000);
  expect(["e", "f", "g"].map((run) => slots.take(request(run)))).toEqual([true, true, false]);
});

test("each connector has slots of its own, unless the scope is Global", () => {
  for (const [scope, second] of [
    ["Connector", true],
    ["Global", false],
  ] as const) {
    const { slots, request } = createRoom({ concurrency: { max: 1 }, scope });
    slots.take(request("a"));
    expect([scope, slots.take(request("b", { connector: "team-b/prod" }))]).toEqual([scope, second]);
  }
});

test("what was started before counts, even over the limit", () => {
  const { slots, granted, request } = createRoom({ concurrency: { max: 1 } });
  for (const run of ["a", "b"]) slots.hold(request(run));
  expect(slots.take(request("c"))).toBe(false);
  slots.release("a");
  expect(granted).toEqual([]);
  slots.release("b");
  expect(granted).toEqual(["c"]);
});

test("without a profile, or with one that is gone from the configuration, nothing waits", () => {
  const { slots, request } = createRoom({ concurrency: { max: 1 } });
  const free = [undefined, "gone"].flatMap((profile) =>
    ["a", "b"].map((run) => slots.take(request(`${run}-${profile}`, { profile }))),
  );
  expect(free).toEqual([true, true, true, true]);
});
