import { expect, test } from "vitest";
import { createRunId, isRunId } from "./run-id.ts";

const fixed = (value: number) => (size: number) => new Uint8Array(size).fill(value);

test("ids sort by time, and say it in their first ten characters", () => {
  const times = [0, 31, 32, 1_772_000_000_000, 1_772_000_000_001, 2 ** 48 - 1];
  const ids = times.map((time) => createRunId(time, fixed(7)));
  expect(ids.toSorted()).toEqual(ids);
  expect(ids[0]).toBe(`${"0".repeat(10)}${"7".repeat(16)}`);
  expect(ids.at(-1)?.slice(0, 10)).toBe("7zzzzzzzzz");
});

test("every id that is made is one, in its only spelling", () => {
  for (let value = 0; value < 256; value++) expect(isRunId(createRunId(Date.now(), fixed(value)))).toBe(true);
});

test.each([
  ["empty", ""],
  ["a letter that the alphabet has not", `01k9${"i".repeat(22)}`],
  ["upper case", `01K9${"0".repeat(22)}`],
  ["too short", `01k9${"0".repeat(21)}`],
  ["too long", `01k9${"0".repeat(23)}`],
  ["later than any time", `8${"0".repeat(25)}`],
  ["a path", `../../${"0".repeat(20)}`],
  ["a line more", `01k9${"0".repeat(22)}\n`],
])("%s is none", (_what, text) => {
  expect(isRunId(text)).toBe(false);
});
