import { randomBytes } from "node:crypto";
import {
  closeSync,
  fchmodSync,
  fchownSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import type { Secret } from "@kube-connector/core";

// All calls are synchronous: the folder is a tmpfs, so each takes microseconds and none can hang, while a turn through
// the thread pool for each of some forty would be most of the time that a publish takes.

/** The link that always points to a whole set of files, as in the kubelet's own volumes. */
export const dataLink = "..data";

export interface FileOwner {
  /** The group that may read, with mode 0440; undefined: everyone may, 0644. */
  group: number | undefined;
}

/**
 * Puts a set of files into a folder at once: they are written into a fresh folder, and one rename of a link shows them
 * all. A reader sees the old set or the new one, whatever kills us. Answers whether anything had to be written.
 */
export function writeFiles(folder: string, files: ReadonlyMap<string, Secret>, owner: FileOwner): boolean {
  const old = linkOf(join(folder, dataLink));
  const mode = owner.group === undefined ? 0o644 : 0o440;
  const gid = owner.group ?? process.getgid?.() ?? 0;
  if (old !== undefined && isSame(join(folder, old), { files, mode, gid }) && hasLinks(folder, files)) return false;
  const fresh = `..${randomBytes(8).toString("hex")}`;
  mkdirSync(join(folder, fresh), { mode: 0o755 });
  for (const [name, content] of files) writeOne(join(folder, fresh, name), content, { mode, gid });
  // Links come before what they point to, so that a folder with ..data in it is always whole.
  for (const name of files.keys()) linkOnce(folder, name);
  const next = join(folder, `${dataLink}_tmp`);
  rmSync(next, { force: true });
  symlinkSync(fresh, next);
  renameSync(next, join(folder, dataLink));
  removeOthers(folder, fresh, files);
  return true;
}

/** Whether the folder has a whole set of files. */
export function hasFiles(folder: string): boolean {
  return linkOf(join(folder, dataLink)) !== undefined;
}

/** Where a link points to; undefined for what is no link. */
function linkOf(path: string): string | undefined {
  try {
    return readlinkSync(path);
  } catch {
    return undefined;
  }
}

function writeOne(path: string, content: Secret, as: { mode: number; gid: number }): void {
  const file = openSync(path, "wx", 0o600);
  try {
    writeFileSync(file, content.reveal());
    fchownSync(file, process.getuid?.() ?? 0, as.gid);
    fchmodSync(file, as.mode);
  } finally {
    closeSync(file);
  }
}

function isSame(folder: string, wanted: { files: ReadonlyMap<string, Secret>; mode: number; gid: number }): boolean {
  try {
    if (readdirSync(folder).length !== wanted.files.size) return false;
    for (const [name, content] of wanted.files) {
      const path = join(folder, name);
      const found = lstatSync(path);
      if (!found.isFile() || (found.mode & 0o777) !== wanted.mode || found.gid !== wanted.gid) return false;
      if (readFileSync(path, "utf8") !== content.reveal()) return false;
    }
    return true;
  } catch {
    return false;
  }
}

const linkTo = (name: string) => `${dataLink}/${name}`;

function hasLinks(folder: string, files: ReadonlyMap<string, Secret>): boolean {
  return [...files.keys()].every((name) => linkOf(join(folder, name)) === linkTo(name));
}

function linkOnce(folder: string, name: string): void {
  const path = join(folder, name);
  if (linkOf(path) === linkTo(name)) return;
  rmSync(path, { force: true, recursive: true });
  symlinkSync(linkTo(name), path);
}

/** Takes away what an earlier set, or a write that was killed, has left. */
function removeOthers(folder: string, fresh: string, files: ReadonlyMap<string, Secret>): void {
  for (const name of readdirSync(folder)) {
    if (name === dataLink || name === fresh || files.has(name)) continue;
    rmSync(join(folder, name), { force: true, recursive: true });
  }
}
