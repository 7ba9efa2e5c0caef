import { type FSWatcher, watch } from "node:fs";
import { readdir, readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { type Clock, describeErrno, errnoOf, Fault, type Log, type Running } from "@kube-connector/core";
import { parseDocuments, type ParsedFile } from "./documents.ts";

/** The .yaml, .yml and .json files of a directory, without those in folders below it and without hidden ones. */
export async function readDirectory(directory: string): Promise<ParsedFile> {
  const all: ParsedFile = { objects: [], problems: [] };
  for (const file of await listFiles(directory)) {
    try {
      const { objects, problems } = parseDocuments(file, await readFile(join(directory, file), "utf8"));
      all.objects.push(...objects);
      all.problems.push(...problems);
    } catch (error) {
      // A file may go between the listing and the reading.
      if (errnoOf(error) !== "ENOENT") all.problems.push(`${file}: cannot be read: ${describeErrno(error)?.text}`);
    }
  }
  return all;
}

/** Throws a Fault when the directory cannot be read. */
async function listFiles(directory: string): Promise<string[]> {
  try {
    const entries = await readdir(directory, { withFileTypes: true });
    const names = entries.filter((entry) => !entry.isDirectory()).map((entry) => entry.name);
    return names.filter((name) => /^[^.].*\.(ya?ml|json)$/i.test(name)).sort();
  } catch (error) {
    const fault = Fault.from(error, `Cannot read the directory ${directory}`);
    if (fault.code !== "not_found" && fault.code !== "invalid_argument") throw fault;
    const hint = "give a directory that holds Connector and Secret YAML files";
    throw new Fault("invalid_argument", `${fault.message}; ${hint}`, error);
  }
}

export interface FollowOptions {
  clock: Clock;
  log: Log;
  /** Called after each change, and once a day since certificates grow old; never twice at a time. */
  onChange: () => Promise<void>;
  /** Milliseconds between two looks when the file system tells nothing; 1,000 unless told. */
  interval?: number;
}

const day = 86_400_000;
/** Milliseconds of quiet after a change, so that a file that is written in steps, or replaced, is read once. */
const settle = 100;

/** Says when a file of the directory changes, comes or goes. */
export function followDirectory(directory: string, options: FollowOptions): Running {
  const { clock, log, interval = 1000 } = options;
  let seen: string | undefined;
  let told = clock.monotonic();
  let watcher: FSWatcher | undefined;
  let cancel = () => {};
  let looking: Promise<void> | undefined;
  let stopped = false;

  const schedule = (milliseconds: number) => {
    cancel();
    if (!stopped) cancel = clock.after(milliseconds, begin);
  };
  const begin = () => {
    looking ??= look().finally(() => {
      looking = undefined;
    });
  };
  async function look(): Promise<void> {
    try {
      const now = await stampsOf(directory);
      if (seen !== undefined && (seen !== now || clock.monotonic() - told > day)) {
        seen = now;
        told = clock.monotonic();
        await options.onChange();
      }
      seen ??= now;
    } catch (error) {
      log.error("A change of the directory could not be taken over", { file: directory, error });
    }
    schedule(interval);
  }
  try {
    watcher = watch(directory, { persistent: false }, () => schedule(settle));
    watcher.on("error", () => watcher?.close());
  } catch (error) {
    log.debug("The directory cannot be watched, so it is looked at now and then", { file: directory, error });
  }
  let end = () => {};
  const done = new Promise<void>((resolve) => {
    end = resolve;
  });
  begin();
  return {
    done,
    async stop() {
      stopped = true;
      cancel();
      watcher?.close();
      await looking;
      end();
    },
  };
}

/** What tells two states of the directory apart. A directory that is gone is empty. */
async function stampsOf(directory: string): Promise<string> {
  const files = await listFiles(directory).catch(() => []);
  const stamps = files.map(async (name) => {
    const file = await stat(join(directory, name), { bigint: true }).catch(() => undefined);
    return [name, String(file?.ino), String(file?.size), String(file?.mtimeNs)];
  });
  return JSON.stringify(await Promise.all(stamps));
}
