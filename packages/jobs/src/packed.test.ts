import { expect, test } from "vitest";
import { Packed } from "./packed.ts";

// What is packed is the same when it is asked for, however often, and what replaces it counts.

test("a packed value is the same when it is asked for", () => {
  const value = { name: "report", pods: [{ uid: "u1", at: null }], text: "ä\u2028\0" };
  const packed = new Packed(value);
  expect(packed.value).toBe(value);
  for (let turn = 0; turn < 2; turn += 1) {
    packed.pack();
    packed.pack();
    expect(packed.value).toEqual(value);
    expect(packed.value).not.toBe(value);
  }
});

test("what replaces a value is packed in its place", () => {
  const packed = new Packed<{ name: string }>({ name: "first" });
  packed.pack();
  expect(packed.value).toEqual({ name: "first" });
  packed.value = { name: "second" };
  packed.pack();
  expect(packed.value).toEqual({ name: "second" });
});
