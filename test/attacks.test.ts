import { readdirSync, readFileSync } from "node:fs";
import { expect, test } from "vitest";

// Each line of the attack list has tests of its name, in the files that its table names.

const root = new URL("..", import.meta.url).pathname;
const lines = Array.from({ length: 32 }, (_, index) => String(index + 1).padStart(2, "0"));
const folder = "test/integration/attacks";
const table = readFileSync(`${root}/${folder}/README.md`, "utf8");

/** The numbers of the attacks that the names of a file's tests have. */
function numbersIn(text: string): Set<string> {
  const names = text.matchAll(/\b(?:test|it)(?:\.(?:each|skipIf)\([^]*?\))?\(\s*["'`]attack (\d\d):/g);
  return new Set([...names].map((match) => match[1] ?? ""));
}

test("attack coverage: every line from 01 to 32 has a test here and a row in the table, and there are no others", () => {
  const files = readdirSync(`${root}/${folder}`).filter((file) => file.endsWith(".test.ts"));
  const found = files.flatMap((file) => [...numbersIn(readFileSync(`${root}/${folder}/${file}`, "utf8"))]);
  expect([...new Set(found)].sort()).toEqual(lines);
  expect([...table.matchAll(/^\| (\d\d) \|/gm)].map((match) => match[1])).toEqual(lines);
});

test("attack coverage: the files that the table names for a line have tests of it", () => {
  for (const [, line = "", , files = ""] of table.matchAll(/^\| (\d\d) \|(.*)\| ([^|]*) \|$/gm)) {
    const names = [...files.matchAll(/`([^`]+)`/g)].map((match) => match[1] ?? "");
    expect(names.length, line).toBeGreaterThan(0);
    for (const name of names) {
      const numbers = numbersIn(readFileSync(`${root}/${folder}/${name}.test.ts`, "utf8"));
      expect(numbers.has(line), `attack ${line} in ${name}`).toBe(true);
    }
  }
});
