import { mkdir, mkdtemp, readdir, rename, rm, symlink, unlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Secret, silentLog, systemClock } from "@kube-connector/core";
import { describe, expect, onTestFinished, test } from "vitest";
import { connectorSourceContract } from "../../../test/kit/contracts/connector-source.ts";
import { resolvedParts } from "../../../test/kit/resolved.ts";
import { startDirectorySource } from "./directory.ts";

// The directory source fulfils the contract of all sources, for folders that are replaced and for mounted Secrets, whose
// files are links through `..data`. It never serves half of one version and half of another.

type Entries = Readonly<Record<string, Secret>>;

async function makeDirectory(): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), "connectors-"));
  onTestFinished(() => rm(directory, { recursive: true }));
  return directory;
}

function startSource(directory: string, rescan = 10_000) {
  const source = startDirectorySource({ directory, clock: systemClock, log: silentLog, rescan, grace: 300 });
  onTestFinished(() => source.stop());
  return source;
}

async function writeFolder(folder: string, entries: Entries): Promise<void> {
  await mkdir(folder, { recursive: true });
  for (const [name, secret] of Object.entries(entries)) await writeFile(join(folder, name), secret.reveal());
}

/** As people and tools do it: the new folder takes the old one's name. */
async function replaceFolder(folder: string, entries: Entries): Promise<void> {
  const fresh = join(folder, "..", `.fresh-${Math.random()}`);
  await writeFolder(fresh, entries);
  await rm(folder, { recursive: true, force: true });
  await rename(fresh, folder);
}

/** As the kubelet does it (pkg/volume/util/atomic_writer.go): a new dated folder, and `..data` swapped to it. */
async function publish(folder: string, entries: Entries): Promise<void> {
  const dated = `..2026_${Math.random()}`;
  await writeFolder(join(folder, dated), entries);
  await symlink(dated, join(folder, "..data_tmp"));
  await rename(join(folder, "..data_tmp"), join(folder, "..data"));
  for (const name of Object.keys(entries)) {
    await symlink(join("..data", name), join(folder, name)).catch(() => undefined);
  }
  for (const old of await readdir(folder)) {
    if (old.startsWith("..2026") && old !== dated) await rm(join(folder, old), { recursive: true });
  }
}

const underContract = (write: (folder: string, entries: Entries) => Promise<void>) =>
  connectorSourceContract(async (before) => {
    const directory = await makeDirectory();
    for (const [place, entries] of Object.entries(before)) await write(join(directory, place), entries);
    return {
      source: startSource(directory),
      put: (place, entries) => write(join(directory, place), entries),
      remove: (place) => rm(join(directory, place), { recursive: true }),
    };
  });

describe("folders that are replaced", () => {
  underContract(replaceFolder);
});

describe("mounted Secrets", () => {
  underContract(publish);
});

test("files written one after the other are seen as one change, and a short gap cuts nobody off", async () => {
  const directory = await makeDirectory();
  const folder = join(directory, "prod");
  await writeFolder(folder, await resolvedParts({ name: "prod", token: "first" }));
  const source = startSource(directory);
  await source.synced;
  const seen: (string | undefined)[] = [];
  source.subscribe(({ after }) => seen.push(after?.token?.reveal()));
  const next = await resolvedParts({ name: "prod", token: "second" });
  await unlink(join(folder, "tls.key"));
  await new Promise((resolve) => setTimeout(resolve, 100));
  await writeFolder(folder, next);
  await expect.poll(() => source.get("team-a/prod")?.token?.reveal(), { timeout: 3_000 }).toBe("second");
  expect(seen).toEqual(["second"]);
});

test("a change that the file system does not tell of is found by the next full reading", async () => {
  const directory = await makeDirectory();
  const source = startSource(join(directory, "later"), 200);
  await new Promise((resolve) => setTimeout(resolve, 100));
  expect(source.isSynced()).toBe(false);
  await writeFolder(join(directory, "later", "prod"), await resolvedParts({ name: "prod" }));
  await expect.poll(() => source.get("team-a/prod"), { timeout: 3_000 }).toBeDefined();
  expect(source.isSynced()).toBe(true);
});

test("a directory that is taken away takes its connectors away", async () => {
  const directory = await makeDirectory();
  const inner = join(directory, "inner");
  await writeFolder(join(inner, "prod"), await resolvedParts({ name: "prod" }));
  const source = startSource(inner, 200);
  await source.synced;
  expect(source.all()).toHaveLength(1);
  await rm(inner, { recursive: true });
  await expect.poll(() => source.all(), { timeout: 3_000 }).toEqual([]);
});
