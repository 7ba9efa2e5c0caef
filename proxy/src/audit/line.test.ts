import { expect, test } from "vitest";
import { Line } from "./line.ts";

// What is added stands in the line, one behind the other, however long it gets.

test("texts and numbers of six digits", () => {
  const line = new Line();
  for (const number of [0, 7, 99, 123_456, 999_999]) {
    line.add("<");
    line.addSixDigits(number);
    line.add(">");
  }
  expect(line.toString()).toBe("<000000><000007><000099><123456><999999>");
  expect(line.length).toBe(40);
});

test.each([8191, 8192, 8193, 100_000])("a line of %i bytes and more, and a short one after it", (size) => {
  const line = new Line();
  const whole = "0123456789".repeat(size / 10 + 1).slice(0, size);
  line.add(whole);
  line.addSixDigits(42);
  line.add("end");
  expect(line.toString()).toBe(`${whole}000042end`);
  const bytes = Buffer.alloc(line.length + 2, "-");
  line.copyTo(bytes, 1);
  expect(bytes.toString()).toBe(`-${whole}000042end-`);
  line.clear();
  line.add("short");
  expect(line.toString()).toBe("short");
});

test("any text comes back out of its JSON, which is ASCII", () => {
  const line = new Line();
  for (let code = 0; code < 0x1_0000; code += 1) {
    const text = `a${String.fromCharCode(code)}b`;
    line.clear();
    line.add(`"`);
    line.addEscaped(text);
    line.add(`"`);
    const json = line.toString();
    if (JSON.parse(json) !== text || /[^\x20-\x7e]/.test(json)) throw new Error(`${code} became ${json}`);
  }
  expect(line.length).toBe(10);
});
