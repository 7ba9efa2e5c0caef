// Streams over all runs: never more than there may be, and every run gets its turn.
import { expect, test } from "vitest";
import { createTestClock } from "../../../../test/kit/clock.ts";
import { createSlots, type Slot } from "./slots.ts";

const tick = () => new Promise((resolve) => setImmediate(resolve));

test("runs take turns, whatever the number of their containers", async () => {
  const slots = createSlots(1, createTestClock());
  const order: string[] = [];
  const signal = new AbortController().signal;
  let held: Slot | undefined = await slots.acquire("first", signal, () => {});
  for (const run of ["big", "big", "big", "small"])
    void slots
      .acquire(run, signal, () => {})
      .then((slot) => {
        order.push(run);
        held = slot;
      });
  for (let turn = 0; turn < 4; turn += 1) {
    expect(slots.held()).toBe(1);
    held?.release();
    await tick();
  }
  expect(order).toEqual(["big", "small", "big", "big"]);
});

test("who has held a slot for 30 s gives it up while others wait, and only as many as wait", async () => {
  const clock = createTestClock();
  const slots = createSlots(2, clock);
  const signal = new AbortController().signal;
  const asked: string[] = [];
  const first = await slots.acquire("a", signal, () => asked.push("a"));
  clock.pass(10_000);
  await slots.acquire("b", signal, () => asked.push("b"));
  let entered = false;
  void slots
    .acquire("c", signal, () => {})
    .then(() => {
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

test("a wait that is ended takes no slot", async () => {
  const slots = createSlots(1, createTestClock());
  const held = await slots.acquire("a", new AbortController().signal, () => {});
  const leaving = new AbortController();
  const wait = slots.acquire("b", leaving.signal, () => {});
  leaving.abort();
  await expect(wait).rejects.toThrow("ended");
  held.release();
  expect(slots.held()).toBe(0);
});
