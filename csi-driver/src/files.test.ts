// A folder shows a whole set of files, old or new, at any moment; what is right already is not written.

import { mkdir, mkdtemp, readdir, readFile, readlink, rm, stat, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
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
  expect(await hasFiles(at)).toBe(false);
  expect(await writeFiles(at, content({ token: "one", "ca.crt": "ca" }), everyone)).toBe(true);
  expect(await readFile(join(at, "token"), "utf8")).toBe("one");
  expect((await stat(join(at, "token"))).mode & 0o777).toBe(0o644);
  expect(await hasFiles(at)).toBe(true);
});

test("the same bytes are not written again", async () => {
  const at = await folder();
  await writeFiles(at, content({ token: "one" }), everyone);
  const link = await readlink(join(at, "..data"));
  expect(await writeFiles(at, content({ token: "one" }), everyone)).toBe(false);
  expect(await readlink(join(at, "..data"))).toBe(link);
});

test("a new set takes the place of the old one, and nothing else is left", async () => {
  const at = await folder();
  await writeFiles(at, content({ token: "one", kubeconfig: "k" }), everyone);
  await mkdir(join(at, "..killed"));
  await writeFile(join(at, "..killed", "token"), "half");
  await symlink("..killed", join(at, "..data_tmp"));
  expect(await writeFiles(at, content({ token: "two" }), everyone)).toBe(true);
  expect(await readFile(join(at, "token"), "utf8")).toBe("two");
  const names = await readdir(at);
  expect(names.filter((name) => !name.startsWith(".."))).toEqual(["token"]);
  expect(names).toHaveLength(3);
});

test("a file that was changed or lost is put right", async () => {
  const at = await folder();
  await writeFiles(at, content({ token: "one" }), everyone);
  await rm(join(at, "token"));
  expect(await writeFiles(at, content({ token: "one" }), everyone)).toBe(true);
  expect(await readFile(join(at, "token"), "utf8")).toBe("one");
});

test("a reader never sees files of two sets, nor none", async () => {
  const at = await folder();
  await writeFiles(at, content({ a: "0", b: "0" }), everyone);
  const state = { writing: true, reads: 0 };
  const reader = (async () => {
    while (state.writing) {
      const set = await readlink(join(at, "..data"));
      const both = await Promise.all(["a", "b"].map((name) => readFile(join(at, set, name), "utf8")))
        // The set may be gone by now; its files never differ while it is there.
        .catch(() => ["", ""]);
      expect(both[0]).toBe(both[1]);
      expect(
        await readFile(join(at, "..data", "a"), "utf8").catch((error: NodeJS.ErrnoException) => error.code),
      ).toMatch(/^\d+$|ENOENT/);
      state.reads += 1;
    }
  })();
  for (let round = 1; round <= 100; round += 1) {
    await writeFiles(at, content({ a: String(round), b: String(round) }), everyone);
  }
  state.writing = false;
  await reader;
  expect(state.reads).toBeGreaterThan(10);
});
