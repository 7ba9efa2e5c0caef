import { mkdtemp, readFile, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Case } from "./campaign.ts";

/** Writes a case to a new file outside of the tree; answers its path. */
export async function saveCase(found: Case): Promise<string> {
  const path = join(await mkdtemp(join(tmpdir(), "kube-connector-fuzz-")), "case.json");
  await writeFile(path, `${JSON.stringify(found, undefined, 1)}\n`);
  return path;
}

export async function readCase(path: string): Promise<Case> {
  return JSON.parse(await readFile(path, "utf8")) as Case;
}
