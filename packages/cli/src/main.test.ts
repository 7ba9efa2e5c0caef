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

const flag = String.raw`(?:-\w, )?(--[a-z-]+(?: <[^>]+>)?)`;
const flagsOf = (text: string) =>
  [...text.matchAll(new RegExp(`^ {2}${flag}`, "gm"))].map((match) => match[1]).filter((name) => name !== "--help");
const listedIn = (section: string) => {
  const text = readme.split(`\n## ${section}\n`)[1]?.split("\n## ")[0] ?? "";
  return [...text.matchAll(new RegExp(String.raw`^\| \`${flag}\``, "gm"))].map((match) => match[1]);
};

test.each(["standalone", "uninstall", "policy suggest"])(
  "the README lists the flags of %s, and no others",
  async (command) => {
    const flags = flagsOf(await help(...command.split(" ")));
    expect(flags).not.toEqual([]);
    expect(listedIn(command)).toEqual(flags);
  },
);

test("the README lists the flags of each subcommand of jobs, those that all take in one place, and no others", async () => {
  const verbs = [...(await help("jobs")).matchAll(/^ {2}(\w+) \[options\]/gm)].map((match) => match[1] ?? "");
  expect(verbs).toEqual("run list show logs cancel suspend resume retry discover clean serve".split(" "));
  const shared = listedIn("jobs");
  expect(shared.length).toBe(9);
  await Promise.all(
    verbs.map(async (verb) => {
      const [own = "", all = ""] = (await help("jobs", verb)).split("\nConnectors, history and server:\n");
      expect([verb, flagsOf(own)]).toEqual([verb, listedIn(`jobs ${verb}`)]);
      const taken = shared.filter((name) => verb !== "serve" || !name?.startsWith("--server"));
      expect([verb, flagsOf(all)]).toEqual([verb, taken]);
    }),
  );
});

test("help names every command, and the README does", async () => {
  const commands = [...(await help()).matchAll(/^ {2}(\w+) .*\S/gm)]
    .map((match) => match[1])
    .filter((name) => name !== "help");
  expect(commands).toEqual(["standalone", "uninstall", "policy", "jobs", "version"]);
  for (const command of commands) expect(readme).toContain(`\`kube-connector ${command}`);
});

test("help whose reader has gone ends without a word", async () => {
  const line = '"$0" "$1" jobs run --help | true';
  const said = await promisify(execFile)("sh", ["-c", line, process.execPath, main]);
  expect(said).toEqual({ stdout: "", stderr: "" });
});

test("nothing but commander is imported before the subcommand is known", () => {
  const text = readFileSync(main, "utf8");
  const imported = [...text.matchAll(/^import (?!type)[^;]* from "([^"]+)"/gm)].map((match) => match[1]);
  expect(imported).toEqual(["commander", "./jobs/commands.ts"]);
});
