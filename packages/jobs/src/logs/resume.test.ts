// Going on where a stream broke: what the kubelet sends again is skipped, what is new is kept, a hole is noticed.
import { expect, test } from "vitest";
import { createResumeFilter, type ResumePoint } from "./resume.ts";

const at = (second: number, nano = 0) =>
  `2026-03-01T10:00:${String(second).padStart(2, "0")}.${String(nano).padStart(9, "0")}Z`;

function judge(point: ResumePoint | undefined, stamps: readonly string[]) {
  const filter = createResumeFilter(point);
  return { verdicts: stamps.map((stamp) => filter.judge(stamp)).join(" "), pending: filter.pending() };
}

const ordered = { ordered: true };

test("without a point all is new", () => {
  expect(judge(undefined, [at(1), at(1)])).toEqual({ verdicts: "keep keep", pending: 0 });
  expect(createResumeFilter(undefined).sinceTime).toBeUndefined();
});

test("as many lines as we have of the second are skipped, also of equal times", () => {
  const point = { stamp: at(1, 5), lines: 3, ...ordered };
  expect(createResumeFilter(point).sinceTime).toBe("2026-03-01T10:00:01Z");
  expect(judge(point, [at(1, 2), at(1, 5), at(1, 5), at(1, 5), at(2)])).toEqual({
    verdicts: "skip skip skip keep keep",
    pending: 0,
  });
});

test("lines that were rotated away are noticed at the first that is new", () => {
  const point = { stamp: at(1, 5), lines: 3, ...ordered };
  expect(judge(point, [at(1, 5), at(2), at(3)]).verdicts).toBe("skip lost keep");
  expect(judge(point, [at(2), at(3)]).verdicts).toBe("lost keep");
  expect(judge(point, [at(1, 2)])).toEqual({ verdicts: "skip", pending: 2 });
  expect(judge(point, [])).toEqual({ verdicts: "", pending: 3 });
});

test("a last line that is not ours: only what is later is kept", () => {
  const point = { stamp: at(1, 5), lines: 2, ...ordered };
  expect(judge(point, [at(1, 2), at(1, 3), at(1, 4), at(1, 6), at(2)]).verdicts).toBe("skip skip skip lost keep");
});

test("where a clock was set back the count decides, and the last time", () => {
  const point = { stamp: at(1, 5), lines: 3, ordered: false };
  expect(judge(point, [at(1, 2), at(9), at(1, 5), at(1, 6)]).verdicts).toBe("skip skip skip keep");
});
