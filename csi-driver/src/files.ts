import { randomBytes } from "node:crypto";
import { lstat, mkdir, open, readdir, readFile, readlink, rename, rm, symlink } from "node:fs/promises";
import { join } from "node:path";
import type { Secret } from "@kube-connector/core";

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
export async function writeFiles(
  folder: string,
  files: ReadonlyMap<string, Secret>,
  owner: FileOwner,
): Promise<boolean> {
  const old = await readlink(join(folder, dataLink)).catch(() => undefined);
  const mode = owner.group === undefined ? 0o644 : 0o440;
  const gid = owner.group ?? process.getgid?.() ?? 0;
  if (old !== undefined && (await isSame(join(folder, old), { files, mode, gid })) && (await hasLinks(folder, files))) {
    return false;
  }
  const fresh = `..${randomBytes(8).toString("hex")}`;
  await mkdir(join(folder, fresh), { mode: 0o755 });
  for (const [name, content] of files) await writeOne(join(folder, fresh, name), content, { mode, gid });
  // Links come before what they point to, so that a folder with ..data in it is always whole.
  for (const name of files.keys()) await linkOnce(folder, name);
  const next = join(folder, `${dataLink}_tmp`);
  await rm(next, { force: true });
  await symlink(fresh, next);
  await rename(next, join(folder, dataLink));
  await removeOthers(folder, fresh, files);
  return true;
}

/** Whether the folder has a whole set of files. */
export async function hasFiles(folder: string): Promise<boolean> {
  return await lstat(join(folder, dataLink)).then(
    (found) => found.isSymbolicLink(),
    () => false,
  );
}

async function writeOne(path: string, content: Secret, as: { mode: number; gid: number }): Promise<void> {
  const file = await open(path, "wx", 0o600);
  try {
    await file.writeFile(content.reveal());
    await file.chown(process.getuid?.() ?? 0, as.gid);
    await file.chmod(as.mode);
  } finally {
    await file.close();
  }
}

async function isSame(
  folder: string,
  wanted: { files: ReadonlyMap<string, Secret>; mode: number; gid: number },
): Promise<boolean> {
  try {
    if ((await readdir(folder)).length !== wanted.files.size) return false;
    for (const [name, content] of wanted.files) {
      const path = join(folder, name);
      const found = await lstat(path);
      if (!found.isFile() || (found.mode & 0o777) !== wanted.mode || found.gid !== wanted.gid) return false;
      if ((await readFile(path, "utf8")) !== content.reveal()) return false;
    }
    return true;
  } catch {
    return false;
  }
}

const linkTo = (name: string) => `${dataLink}/${name}`;

async function hasLinks(folder: string, files: ReadonlyMap<string, Secret>): Promise<boolean> {
  for (const name of files.keys()) {
    if ((await readlink(join(folder, name)).catch(() => undefined)) !== linkTo(name)) return false;
  }
  return true;
}

async function linkOnce(folder: string, name: string): Promise<void> {
  const path = join(folder, name);
  if ((await readlink(path).catch(() => undefined)) === linkTo(name)) return;
  await rm(path, { force: true, recursive: true });
  await symlink(linkTo(name), path);
}

/** Takes away what an earlier set, or a write that was killed, has left. */
async function removeOthers(folder: string, fresh: string, files: ReadonlyMap<string, Secret>): Promise<void> {
  for (const name of await readdir(folder)) {
    if (name === dataLink || name === fresh || files.has(name)) continue;
    await rm(join(folder, name), { force: true, recursive: true });
  }
}
