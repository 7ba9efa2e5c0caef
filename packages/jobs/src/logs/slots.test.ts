// Streams over all runs: never more than there may be, and every run gets its turn.
import { expect, test } from "vitest";
import { createTestClock } from "../../../../test/kit/clock.ts";
import { createSlots, type Slot } from "./slots.ts";

const tick = () => new Promise((resolve) => setImmediate(resolve));

test("runs take turns, whatever the number of their containers", async () => {
  const slots = createSlots(1, createTestClock());
  const order: string[] = [];
  let held: Slot = slots.acquire("first", () => {});
  for (const run of ["big", "big", "big", "small"]) {
    const slot = slots.acquire(run, () => {});
    void slot.entered.then(() => {
      order.push(run);
      held = slot;
    });
  }
  for (let turn = 0; turn < 4; turn += 1) {
    expect(slots.held()).toBe(1);
    held.release();
    await tick();
  }
  expect(order).toEqual(["big", "small", "big", "big"]);
});

test("who has held a slot for 30 s gives it up while others wait, and only as many as wait", async () => {
  const clock = createTestClock();
  const slots = createSlots(2, clock);
  const asked: string[] = [];
  const first = slots.acquire("a", () => asked.push("a"));
  clock.pass(10_000);
  slots.acquire("b", () => asked.push("b"));
  let entered = false;
  void slots
    .acquire("c", () => {})
    .entered.then(() => {
      entered = true;
    });
  clock.pass(19_000);
  expect(asked).toEqual([]);
  clock.pass(20_000);
  expect(asked).toEqual(["a"]);
  first.release();
  await tick();
  expect(entered).toBe(true);
  clock.pass(100_000);
  expect(asked).toEqual(["a"]);
});

test("while many wait, five a second are asked at most", () => {
  const clock = createTestClock();
  const slots = createSlots(100, clock);
  let asked = 0;
  for (let run = 0; run < 1000; run += 1) slots.acquire(`run-${run}`, () => (asked += 1));
  for (let step = 0; step < 300; step += 1) clock.pass(100);
  expect(asked).toBeLessThanOrEqual(1);
  for (let step = 0; step < 100; step += 1) clock.pass(100);
  expect(asked).toBeGreaterThan(40);
  expect(asked).toBeLessThanOrEqual(51);
});

test("a stream that ends by itself does not wait for those that go on", async () => {
  const slots = createSlots(1, createTestClock());
  slots.acquire("a", () => {});
  const brief = Array.from({ length: 65 }, (_, run) => slots.acquire(`brief-${run}`));
  expect(await Promise.all(brief.slice(0, 64).map(({ entered }) => entered))).not.toContain(false);
  expect(slots.held()).toBe(1);
  let entered = false;
  void brief[64]?.entered.then(() => {
    entered = true;
  });
  await tick();
  expect(entered).toBe(false);
  brief[0]?.release();
  await tick();
  expect(entered).toBe(true);
});

test("a wait that is ended takes no slot", async () => {
  const slots = createSlots(1, createTestClock());
  const held = slots.acquire("a", () => {});
  const leaving = slots.acquire("b", () => {});
  leaving.leave();
  expect(await leaving.entered).toBe(false);
  held.release();
  expect(slots.held()).toBe(0);
});
