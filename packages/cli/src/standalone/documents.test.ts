import { expect, test } from "vitest";
import { parseDocuments } from "./documents.ts";

// YAML or JSON text → its objects, each with file and line. What cannot be read is a sentence with file and line that never
// quotes the text, which may hold a token.

test("finds every document of a file, with the line that it begins on", () => {
  const { objects, problems } = parseDocuments("a.yaml", "# first\nkind: A\n---\n\nkind: B\n---\n# nothing\n");
  expect(objects).toEqual([
    { where: "a.yaml:2", value: { kind: "A" } },
    { where: "a.yaml:5", value: { kind: "B" } },
  ]);
  expect(problems).toEqual([]);
});

test("reads JSON and takes a List apart", () => {
  const { objects } = parseDocuments("a.json", '{"kind": "List", "items": [{"kind": "A"}, {"kind": "B"}]}');
  expect(objects.map(({ value }) => value.kind)).toEqual(["A", "B"]);
});

test.each([
  ["a: 1\na: 2\n", "a.yaml:2: the same key stands twice in one mapping (DUPLICATE_KEY)"],
  ["a: b: marked\n", "a.yaml:1: a mapping inside a mapping needs its own line"],
  ['a: "marked\n', "a.yaml:2: a character is missing"],
  ["a:\n\tb: marked\n", "a.yaml:2: a tab is used for indentation; use spaces"],
  ["- marked\n", "a.yaml:1: a document should be a Kubernetes object"],
  ["a: *marked\n", "a.yaml:1: "],
  ["a: 1\nmarked\n", "a.yaml:2: "],
  ["a: @marked\n", "a.yaml:1: "],
  ["%marked\na: [marked\n", "a.yaml:"],
])("%j is answered with file and line, and is not quoted", (text, begin) => {
  const { problems } = parseDocuments("a.yaml", text);
  expect(problems).not.toEqual([]);
  expect(problems[0]).toContain(begin);
  expect(problems.join()).not.toContain("marked");
});

test("a document that cannot be read does not hide the others", () => {
  const { objects, problems } = parseDocuments("a.yaml", "kind: A\n---\na: b: c\n---\nkind: C\n");
  expect(objects.map(({ value }) => value.kind)).toEqual(["A", "C"]);
  expect(problems).toHaveLength(1);
});
