import { type FSWatcher, watch } from "node:fs";
import { readdir, readFile, realpath, stat } from "node:fs/promises";
import { join } from "node:path";
import { type Clock, errnoOf, Fault, type Log, resolvedEntries, Secret } from "@kube-connector/core";
import { createServedConnectors } from "./served.ts";
import type { ConnectorSource } from "./source.ts";
import { parseUsable } from "./usable.ts";

export interface DirectorySourceOptions {
  /** Holds one folder per connector, each as a resolved Secret looks when it is mounted. */
  directory: string;
  clock: Clock;
  log: Log;
  /** Milliseconds between two full readings when nothing is heard from the file system; 10,000 unless told. */
  rescan?: number;
  /** Milliseconds for which a folder that was good may be unreadable, for writers that take several steps; 1,000. */
  grace?: number;
}

/**
 * Resolved connectors from a directory, watched and read again. A folder whose content cannot be used is not served; one
 * that was good before has `grace` to become good again. A folder that is gone takes its connector away at once.
 */
export function startDirectorySource(options: DirectorySourceOptions): ConnectorSource {
  const { directory, clock, rescan = 10_000, grace = 1_000 } = options;
  const log = options.log.with({ connectorSource: "directory" });
  const served = createServedConnectors(log);
  const watchers = createWatchers(log, () => schedule(20));
  const badSince = new Map<string, number>();
  let reading: Promise<void> | undefined;
  let again = false;
  let stopped = false;
  let next = { at: Number.POSITIVE_INFINITY, cancel: () => {} };

  /** Reads everything in that many milliseconds at the latest. Changes during a reading lead to another one after it. */
  function schedule(milliseconds: number): void {
    const at = clock.monotonic() + milliseconds;
    if (stopped || next.at <= at) return;
    if (reading !== undefined) {
      again = true;
      return;
    }
    next.cancel();
    next = { at, cancel: clock.after(milliseconds, read) };
  }

  function read(): void {
    next = { at: Number.POSITIVE_INFINITY, cancel: () => {} };
    reading = readAll().finally(() => {
      reading = undefined;
      schedule(again ? 20 : badSince.size > 0 ? Math.min(grace, rescan) : rescan);
      again = false;
    });
  }

  async function readAll(): Promise<void> {
    let names: string[];
    try {
      await watchers.add(directory);
      const entries = await readdir(directory, { withFileTypes: true });
      names = entries.filter((entry) => !entry.isFile() && !entry.name.startsWith(".")).map((entry) => entry.name);
    } catch (error) {
      log.error("The directory of connectors cannot be read", { file: directory, error });
      // A directory that is gone holds nothing; one that was never there, or cannot be read now, says nothing.
      if (errnoOf(error) !== "ENOENT" || !served.isSynced()) return;
      names = [];
    }
    // Side by side: on a busy machine each step of a file's reading waits for a turn.
    await Promise.all(names.map(readOne));
    for (const name of new Set([...served.places(), ...badSince.keys()])) if (!names.includes(name)) forget(name);
    if (!stopped) served.announceSynced();
  }

  async function readOne(name: string): Promise<void> {
    const folder = join(directory, name);
    try {
      await watchers.add(folder);
      const version = parseUsable(await readEntries(folder));
      badSince.delete(name);
      if (!stopped) served.put(name, version);
    } catch (error) {
      const since = badSince.get(name);
      const isServed = served.places().includes(name);
      if (since === undefined) {
        badSince.set(name, clock.monotonic());
        log.error("A folder cannot be served", { file: folder, error });
      }
      if (isServed && clock.monotonic() - (since ?? clock.monotonic()) >= grace) served.put(name, undefined);
    }
  }

  function forget(name: string): void {
    badSince.delete(name);
    watchers.remove(join(directory, name));
    served.put(name, undefined);
  }

  let end: () => void = () => undefined;
  const done = new Promise<void>((resolve) => {
    end = resolve;
  });
  schedule(0);
  return {
    ...served,
    done,
    async stop() {
      stopped = true;
      next.cancel();
      watchers.close();
      await reading;
      end();
    },
  };
}

/**
 * The entries of one folder, all from the same moment: a mounted Secret is read through the folder that `..data` names
 * now, plain files are read again when one changed meanwhile.
 */
async function readEntries(folder: string): Promise<Record<string, Secret>> {
  for (let attempt = 0; attempt < 3; attempt += 1) {
    const data = await realpath(join(folder, "..data")).catch(() => folder);
    const before = await stamps(data);
    const entries = await Promise.all(Object.values(resolvedEntries).map((name) => readEntry(data, name)));
    if ((await stamps(data)) === before) return Object.fromEntries(entries.flat());
  }
  throw new Fault("unavailable", "The files changed while they were read");
}

/** One entry with its name; none when there is no such file. */
async function readEntry(folder: string, name: string): Promise<[string, Secret][]> {
  try {
    const text = await readFile(join(folder, name), "utf8");
    return [[name, new Secret(name === resolvedEntries.token ? text.trim() : text)]];
  } catch (error) {
    if (errnoOf(error) === "ENOENT") return [];
    throw Fault.from(error, `Cannot read ${name}`);
  }
}

async function stamps(folder: string): Promise<string> {
  const found = Object.values(resolvedEntries).map(async (name) => {
    const file = await stat(join(folder, name), { bigint: true }).catch(() => undefined);
    return file === undefined ? null : [String(file.ino), String(file.size), String(file.mtimeNs)];
  });
  return JSON.stringify(await Promise.all(found));
}

/** File system watchers, one a folder. They only make changes be seen sooner, so their failures are no failures. */
function createWatchers(log: Log, onChange: () => void) {
  const watchers = new Map<string, { watcher: FSWatcher; inode: bigint }>();
  let closed = false;
  const remove = (folder: string) => {
    watchers.get(folder)?.watcher.close();
    watchers.delete(folder);
  };
  return {
    /** A folder that was replaced by another of the same name is watched anew. */
    async add(folder: string): Promise<void> {
      try {
        const inode = (await stat(folder, { bigint: true })).ino;
        if (closed || watchers.get(folder)?.inode === inode) return;
        remove(folder);
        const watcher = watch(folder, { persistent: false }, onChange);
        watcher.on("error", () => remove(folder));
        watchers.set(folder, { watcher, inode });
      } catch (error) {
        log.debug("A folder cannot be watched", { file: folder, error });
      }
    },
    remove,
    close(): void {
      closed = true;
      for (const folder of watchers.keys()) remove(folder);
    },
  };
}
