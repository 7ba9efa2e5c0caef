import { execFile } from "node:child_process";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { expect, test } from "vitest";

// The command line: help answers at once and agrees with the README.

const main = fileURLToPath(new URL("./main.ts", import.meta.url));
const readme = readFileSync(new URL("../README.md", import.meta.url), "utf8");
const help = async (...args: string[]) =>
  (await promisify(execFile)(process.execPath, [main, ...args, "--help"])).stdout;

test.each(["standalone", "uninstall", "policy suggest"])(
  "the README lists the flags of %s, and no others",
  async (command) => {
    const flags = [...(await help(...command.split(" "))).matchAll(/^ {2}(--[a-z-]+(?: <\w+>)?)/gm)].map(
      (match) => match[1],
    );
    expect(flags).not.toEqual([]);
    const section = readme.slice(readme.indexOf(`\n## ${command}`)).split("\n## ")[1] ?? "";
    const listed = [...section.matchAll(/^\| `(--[a-z-]+(?: <\w+>)?)`/gm)].map((match) => match[1]);
    expect(listed).toEqual(flags);
  },
);

test("help names every command, and the README does", async () => {
  const commands = [...(await help()).matchAll(/^ {2}(\w+) .*\S/gm)]
    .map((match) => match[1])
    .filter((name) => name !== "help");
  expect(commands).toEqual(["standalone", "uninstall", "policy", "version"]);
  for (const command of commands) expect(readme).toContain(`\`kube-connector ${command}`);
});

test("nothing but commander is imported before the subcommand is known", () => {
  const text = readFileSync(main, "utf8");
  const imported = [...text.matchAll(/^import (?!type)[^;]* from "([^"]+)"/gm)].map((match) => match[1]);
  expect(imported).toEqual(["commander"]);
});
