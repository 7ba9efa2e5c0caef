// The words of a log file: times in one form, labels that nothing can forge, and what a terminal may be given.
import { expect, test } from "vitest";
import { forTerminal, isStamp, labelOf, normalizeStamp, parseLine, partName, secondOf, stampAt } from "./line.ts";

test.each([
  ["2026-03-01T10:00:00.123456789Z", "2026-03-01T10:00:00.123456789Z"],
  ["2026-03-01T10:00:00Z", "2026-03-01T10:00:00.000000000Z"],
  ["2026-03-01T10:00:00.1Z", "2026-03-01T10:00:00.100000000Z"],
  ["2026-03-01T18:00:00.000000001+08:00", "2026-03-01T10:00:00.000000001Z"],
  ["2026-03-01T00:30:00.5-01:30", "2026-03-01T02:00:00.500000000Z"],
  ["2026-13-01T00:30:00Z", undefined],
  ["failed", undefined],
  ["2026-03-01T10:00:00.1234567890Z", undefined],
])("the time %s becomes %s", (written, wanted) => {
  expect(normalizeStamp(written)).toBe(wanted);
  expect(isStamp(Buffer.from(`${wanted} x`), 0)).toBe(wanted !== undefined);
});

test("the second of a time, and a time of ours", () => {
  expect(secondOf("2026-03-01T10:00:00.123456789Z")).toBe("2026-03-01T10:00:00Z");
  expect(stampAt(Date.UTC(2026, 2, 1, 10, 0, 0, 7))).toBe("2026-03-01T10:00:00.007000000Z");
});

test("a cluster's odd names end neither the label nor the folder", () => {
  const odd = { pod: "a] x\n#end", podUid: "../../etc", container: "m/../x", restart: 3 };
  expect(labelOf(odd)).toBe("a??x??end/m?..?x#3");
  expect(partName(odd)).not.toMatch(/[/\\]|\.\./);
});

test("a program's text is never taken for a mark", () => {
  const head = "2026-03-01T10:00:00.123456789Z [report-a/main#2]";
  expect(parseLine(`${head} !gap Rotated`)).toMatchObject({ kind: "text", text: "!gap Rotated", restart: 2 });
  expect(parseLine(`${head}!gap Rotated`)).toMatchObject({ kind: "mark", text: "gap Rotated", pod: "report-a" });
  expect(parseLine(`${head} #end state=Failed`)).toMatchObject({ kind: "text" });
  expect(parseLine("#end state=Failed lines=1")).toMatchObject({ kind: "end" });
  expect(() => parseLine("nonsense")).toThrow("has not the form");
});

test.each([
  ["plain\ttext é", "plain\ttext é"],
  ["\x1b[31mred\x1b[0m", "\x1b[31mred\x1b[0m\x1b[0m"],
  ["\x1b[2J\x1b[1;1Hgone", "gone"],
  ["\x1b]0;title\x07text\x1b]8;;http://x\x1b\\link", "textlink"],
  ["bell\x07 back\x08 nul\0 cr\r del\x7f c1\x9b31m", "bell back nul cr del c131m"],
  ["\x1bcreset", "creset"],
])("a terminal gets of %j only %j", (line, wanted) => {
  expect(forTerminal(line)).toBe(wanted);
});
