// A folder shows a whole set of files, old or new, at any moment; what is right already is not written.

import { mkdir, mkdtemp, readdir, readFile, readlink, rm, stat, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setImmediate } from "node:timers/promises";
import { Worker } from "node:worker_threads";
import { Secret } from "@kube-connector/core";
import { expect, onTestFinished, test } from "vitest";
import { hasFiles, writeFiles } from "./files.ts";

const everyone = { group: undefined };
const content = (files: Record<string, string>) =>
  new Map(Object.entries(files).map(([name, text]) => [name, new Secret(text)]));

async function folder(): Promise<string> {
  const made = await mkdtemp(join(tmpdir(), "files-"));
  onTestFinished(() => rm(made, { recursive: true }));
  return made;
}

test("a set of files is written and swapped in", async () => {
  const at = await folder();
  expect(hasFiles(at)).toBe(false);
  expect(writeFiles(at, content({ token: "one", "ca.crt": "ca" }), everyone)).toBe(true);
  expect(await readFile(join(at, "token"), "utf8")).toBe("one");
  expect((await stat(join(at, "token"))).mode & 0o777).toBe(0o644);
  expect(hasFiles(at)).toBe(true);
});

test("the same bytes are not written again", async () => {
  const at = await folder();
  writeFiles(at, content({ token: "one" }), everyone);
  const link = await readlink(join(at, "..data"));
  expect(writeFiles(at, content({ token: "one" }), everyone)).toBe(false);
  expect(await readlink(join(at, "..data"))).toBe(link);
});

test("a new set takes the place of the old one, and nothing else is left", async () => {
  const at = await folder();
  writeFiles(at, content({ token: "one", kubeconfig: "k" }), everyone);
  await mkdir(join(at, "..killed"));
  await writeFile(join(at, "..killed", "token"), "half");
  await symlink("..killed", join(at, "..data_tmp"));
  expect(writeFiles(at, content({ token: "two" }), everyone)).toBe(true);
  expect(await readFile(join(at, "token"), "utf8")).toBe("two");
  const names = await readdir(at);
  expect(names.filter((name) => !name.startsWith(".."))).toEqual(["token"]);
  expect(names).toHaveLength(3);
});

test("a file that was changed or lost is put right", async () => {
  const at = await folder();
  writeFiles(at, content({ token: "one" }), everyone);
  await rm(join(at, "token"));
  expect(writeFiles(at, content({ token: "one" }), everyone)).toBe(true);
  expect(await readFile(join(at, "token"), "utf8")).toBe("one");
});

test("a reader in another thread never sees files of two sets, nor none", async () => {
  const at = await folder();
  writeFiles(at, content({ a: "0", b: "0" }), everyone);
  const reader = new Worker(
    `const { workerData, parentPort } = require("node:worker_threads");
     const { readFileSync, readlinkSync } = require("node:fs");
     const read = (path) => { try { return readFileSync(workerData + path, "utf8"); } catch (error) { return error.code; } };
     const strange = [];
     let reads = 0;
     for (const end = Date.now() + 500; Date.now() < end; reads += 1) {
       const set = readlinkSync(workerData + "/..data");
       const both = [read("/" + set + "/a"), read("/" + set + "/b")];
       // The set may be gone by now; its files never differ while it is there.
       if (!both.includes("ENOENT") && (both[0] !== both[1] || !/^\\d+$/.test(both[0]))) strange.push(both);
     }
     parentPort.postMessage({ reads, strange });`,
    { eval: true, workerData: at },
  );
  const told: { reads: number; strange: string[][] }[] = [];
  reader.once("message", (message: (typeof told)[number]) => told.push(message));
  for (let round = 1; told.length === 0; round += 1) {
    writeFiles(at, content({ a: String(round), b: String(round) }), everyone);
    await setImmediate();
  }
  expect(told[0]?.strange).toEqual([]);
  expect(told[0]?.reads).toBeGreaterThan(100);
});
