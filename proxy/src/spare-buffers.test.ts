import { expect, test } from "vitest";
import { recordSize, SpareBuffers } from "./spare-buffers.ts";

// Buffers are used again, for whoever copies next: so nothing may be written over bytes that somebody may still look at.

const lent = Buffer.alloc(2 * recordSize);

/** A copy of that many bytes that were lent, and are others by now. */
function copyOf(spare: SpareBuffers, letter: string, count: number) {
  lent.fill(letter, 0, count);
  const copy = spare.copy(lent, 0, count);
  lent.fill("-");
  return copy;
}

test.each([1, 100, 4096, 16_383, 16_384, 16_385])("%d bytes stay as they were until they are released", (count) => {
  const spare = new SpareBuffers();
  const got = "abcdefgh".split("").map((letter) => copyOf(spare, letter, count));
  expect(got.map(({ bytes }) => bytes.toString())).toEqual("abcdefgh".split("").map((letter) => letter.repeat(count)));
});

test("a released buffer is used again, by one only, however often it was released", () => {
  const spare = new SpareBuffers();
  const first = copyOf(spare, "a", recordSize);
  first.release();
  first.release();
  const [second, third] = [copyOf(spare, "b", recordSize), copyOf(spare, "c", recordSize)];
  expect(second.bytes.buffer).toBe(first.bytes.buffer);
  expect(third.bytes.buffer).not.toBe(second.bytes.buffer);
  first.release();
  expect(copyOf(spare, "d", recordSize).bytes.buffer).not.toBe(second.bytes.buffer);
  expect([second, third].map(({ bytes }) => bytes.toString("latin1", 0, 1))).toEqual(["b", "c"]);
});

test("a part of what was lent is that part", () => {
  const spare = new SpareBuffers();
  expect(spare.copy(Buffer.from("0123456789"), 3, 7).bytes.toString()).toBe("3456");
});
