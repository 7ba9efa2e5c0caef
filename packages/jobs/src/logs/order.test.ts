// Which line comes next, and how long one waits for streams that are behind.
import { expect, test } from "vitest";
import { createRandom } from "../../../../test/kit/random.ts";
import { type Head, Heads, isEarlier, type Moment, patience, waitFor } from "./order.ts";

/** Of two digits the first is the second. */
const momentOf = ([second, nanos]: string): Moment => ({ second: Number(second), nanos: Number(nanos) });
const at = (second: number): Moment => ({ second, nanos: 0 });

test("heads come in the order of their times, equal ones in the order of their parts", () => {
  const random = createRandom(4);
  for (let round = 0; round < 50; round += 1) {
    const lists = Array.from({ length: 1 + random.number(9) }, () =>
      Array.from({ length: random.number(30) }, () => String(random.number(50)).padStart(2, "0")).sort(),
    );
    const heads = new Heads<Head & { list: string[] }>();
    for (const [order, list] of lists.entries())
      if (list[0] !== undefined) heads.push({ ...momentOf(list[0]), order, list: list.slice(1) });
    const got: string[] = [];
    for (let first = heads.first(); first !== undefined; first = heads.first()) {
      const second = heads.second();
      expect(second === undefined || !isEarlier(second, first)).toBe(true);
      got.push(`${first.second}${first.nanos}.${first.order}`);
      const next = first.list.shift();
      if (next === undefined) heads.pop();
      else {
        Object.assign(first, momentOf(next));
        heads.sink();
      }
    }
    expect(got).toEqual(lists.flatMap((list, order) => list.map((key) => `${key}.${order}`)).sort());
  }
});

test("a line waits until all streams have passed it, 2 s for a quiet one, 30 s for one that is opened anew", () => {
  expect(waitFor(at(5), 0, [])).toBe(0);
  expect(waitFor(at(5), 0, [{ ...at(5), reconnecting: true }])).toBe(0);
  expect(waitFor(at(5), 500, [{ ...at(4), reconnecting: false }])).toBe(patience.quiet - 500);
  expect(waitFor(at(5), 2_000, [{ ...at(0), reconnecting: false }])).toBe(0);
  expect(
    waitFor(at(5), 2_000, [
      { ...at(0), reconnecting: false },
      { ...at(4), reconnecting: true },
    ]),
  ).toBe(patience.reconnecting - 2_000);
});
