import { expect, test } from "vitest";
import { parseQuantity } from "./quantity.ts";

// Quantities are read as an API server reads them, in billionths, rounded up; what it would refuse is none.

test.each<[string, bigint]>([
  ["0", 0n],
  ["1", 1_000_000_000n],
  ["250m", 250_000_000n],
  ["1.5", 1_500_000_000n],
  [".5", 500_000_000n],
  ["2.", 2_000_000_000n],
  ["+3", 3_000_000_000n],
  ["1k", 1_000_000_000_000n],
  ["1Ki", 1_024_000_000_000n],
  ["1.5Gi", 1_610_612_736_000_000_000n],
  ["1e3", 1_000_000_000_000n],
  ["1E-3", 1_000_000n],
  ["1E", 1_000_000_000_000_000_000_000_000_000n],
  ["1n", 1n],
  ["0.1n", 1n],
])("%s is %i billionths", (text, value) => {
  expect(parseQuantity(text)).toBe(value);
});

test.each(["", "-1", "1 Gi", "1gi", "1KI", "Gi", "1.2.3", "0x10", "1e400", "1e", "NaN", "٣"])("%j is none", (text) => {
  expect(parseQuantity(text)).toBeUndefined();
});
