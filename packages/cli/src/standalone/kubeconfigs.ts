import { mkdir, mkdtemp, open, readFile, rename, rm, rmdir, writeFile } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import { errnoOf, Fault, type Secret } from "@kube-connector/core";

export interface KubeconfigFolderOptions {
  /** Where the person wants them; undefined: a new private folder below `temporary`. */
  output: string | undefined;
  /** Where private folders go, such as $XDG_RUNTIME_DIR or /tmp. */
  temporary: string;
  /** Our process, named in the files so that another run leaves them alone. */
  process: { id: number; isAlive: (id: number) => boolean };
}

/** The kubeconfig files of one run: mode 0600, in a folder of mode 0700 when we made it, gone at the end. */
export interface KubeconfigFolder {
  path: string;
  /** The file's whole path. */
  pathOf(name: string): string;
  /** Throws a Fault when one of the files is somebody else's. */
  checkFree(names: readonly string[]): Promise<void>;
  write(name: string, text: Secret): Promise<void>;
  remove(name: string): Promise<void>;
  /** Removes every file, and the folder when we made it and it is empty. */
  removeAll(): Promise<void>;
}

const mark = "# Written by kube-connector standalone, process ";

export async function openKubeconfigFolder(options: KubeconfigFolderOptions): Promise<KubeconfigFolder> {
  const { path, made } = await openFolder(options);
  const written = new Set<string>();
  const pathOf = (name: string) => join(path, name);

  async function checkFree(names: readonly string[]): Promise<void> {
    for (const name of names) {
      const text = await readFile(pathOf(name), "utf8").catch((error: unknown) => {
        if (errnoOf(error) === "ENOENT") return undefined;
        throw Fault.from(error, `Cannot read ${pathOf(name)}`);
      });
      if (text === undefined || written.has(name)) continue;
      const owner = Number(text.startsWith(mark) ? /^\d+/.exec(text.slice(mark.length))?.[0] : Number.NaN);
      if (Number.isNaN(owner)) {
        const what = `${pathOf(name)} is there and was not written by kube-connector`;
        throw new Fault("invalid_argument", `${what}; move it away, or give --output another folder`);
      }
      if (owner !== options.process.id && options.process.isAlive(owner)) {
        const what = `${pathOf(name)} belongs to another kube-connector (process ${owner})`;
        throw new Fault("invalid_argument", `${what}; end that one, or give --output another folder`);
      }
    }
  }

  return {
    path,
    pathOf,
    checkFree,
    async write(name, text) {
      await checkFree([name]);
      // Whoever reads the file sees the old or the new one whole, and nobody else ever may.
      const part = `${pathOf(name)}.${options.process.id}.part`;
      try {
        await rm(part, { force: true });
        // A link that somebody laid there is not followed.
        await writeFile(part, `${mark}${options.process.id}, and removed when it ends.\n${text.reveal()}`, {
          flag: "wx",
          mode: 0o600,
        });
        await rename(part, pathOf(name));
      } catch (error) {
        await rm(part, { force: true });
        throw Fault.from(error, `Cannot write ${pathOf(name)}`);
      }
      written.add(name);
    },
    async remove(name) {
      if (written.delete(name)) await rm(pathOf(name), { force: true });
    },
    async removeAll() {
      for (const name of written) await rm(pathOf(name), { force: true });
      written.clear();
      // Not ours to remove when something else was put there.
      if (made) await rmdir(path).catch(() => undefined);
    },
  };
}

async function openFolder({ output, temporary }: KubeconfigFolderOptions): Promise<{ path: string; made: boolean }> {
  try {
    if (output === undefined) return { path: await mkdtemp(join(resolve(temporary), "kube-connector-")), made: true };
    const path = resolve(output);
    // Only the last part is made: a misspelt path should not become a tree of folders.
    const made = await mkdir(path, { mode: 0o700 }).then(
      () => true,
      (error: unknown) => {
        if (errnoOf(error) === "EEXIST") return false;
        throw error;
      },
    );
    if (!made) await (await open(join(path, "."), "r")).close();
    return { path, made };
  } catch (error) {
    const folder = output ?? temporary;
    const missing = errnoOf(error) === "ENOENT" && output !== undefined;
    if (missing) throw new Fault("invalid_argument", `Cannot make ${folder}: ${dirname(resolve(folder))} is not there`);
    throw Fault.from(error, `Cannot write kubeconfigs into ${folder}`);
  }
}
