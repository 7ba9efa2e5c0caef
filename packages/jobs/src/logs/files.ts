import { constants } from "node:fs";
import { mkdir, open, rename, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { Fault } from "@kube-connector/core";

// What is on the disk, per run:
//
//   <folder>/<run>/parts/<instance>       what one run of one container wrote, with our marks; see line.ts
//   <folder>/<run>/parts/<instance>.json  what the bytes cannot say: whose it is, whether it is complete
//   <folder>/<run>/parts/merged.<random>  merged.log while it is made
//   <folder>/<run>/live.log               merged while it runs; goes an hour after the end
//   <folder>/<run>/merged.log[.gz]        merged anew from the parts at the end, which go then
//   <folder>/<run>/merged.json            its index; once it is there the log is complete

export const livePath = (folder: string, run: string) => join(runFolder(folder, run), "live.log");
export const partsFolder = (folder: string, run: string) => join(runFolder(folder, run), "parts");
export const mergedPath = (folder: string, run: string) => join(runFolder(folder, run), "merged.log");
export const zippedPath = (folder: string, run: string) => join(runFolder(folder, run), "merged.log.gz");
export const indexPath = (folder: string, run: string) => join(runFolder(folder, run), "merged.json");

/** What a run's id, and so its folder's name, looks like. */
export const runName = /^[0-9a-z]{1,64}$/;

/** A run's folder; a Fault when that cannot be the id of one. */
export function runFolder(folder: string, run: string): string {
  if (!runName.test(run)) throw new Fault("invalid_argument", "That is not the id of a run");
  return join(folder, run);
}

/** A file to which bytes are written at positions of our choice. Calls reject with Node's errors. */
export interface WritableFile {
  /** Bytes it had when it was opened. */
  readonly size: number;
  write(bytes: Buffer, at: number): Promise<void>;
  truncate(size: number): Promise<void>;
  /** Fills what it can of the buffer; answers with the bytes read. */
  read(buffer: Buffer, at: number): Promise<number>;
  /** Ends when the bytes survive the machine's sudden end. */
  sync(): Promise<void>;
  close(): Promise<void>;
}

/** How the log's writers reach the disk; passed in so that tests can let it fail or stop at any byte. */
export interface LogFiles {
  /** Opens a file, and makes it and its folder when they are not there. */
  open(path: string): Promise<WritableFile>;
  /**
   * Writes a small file so that it is there whole, or as it was before, whenever the process dies; `durable`: and whenever
   * the machine does.
   */
  replace(path: string, text: string, options?: { durable: boolean }): Promise<void>;
  /** Puts a file in another one's place, within a run's folder. */
  rename(from: string, to: string): Promise<void>;
}

/** The machine's disk. Files are for their owner and group. */
export const diskFiles: LogFiles = {
  async open(path) {
    const file = await inFolder(path, () => open(path, constants.O_RDWR | constants.O_CREAT, 0o640));
    const { size } = await file.stat();
    return {
      size,
      async write(bytes, at) {
        for (let done = 0; done < bytes.length; ) {
          const { bytesWritten } = await file.write(bytes, done, bytes.length - done, at + done);
          done += bytesWritten;
        }
      },
      truncate: (to) => file.truncate(to),
      async read(buffer, at) {
        let filled = 0;
        while (filled < buffer.length) {
          const { bytesRead } = await file.read(buffer, filled, buffer.length - filled, at + filled);
          if (bytesRead === 0) break;
          filled += bytesRead;
        }
        return filled;
      },
      sync: () => file.datasync(),
      close: () => file.close(),
    };
  },
  async replace(path, words, options) {
    await inFolder(path, () => writeFile(`${path}.new`, words, { mode: 0o640, flush: options?.durable ?? false }));
    await rename(`${path}.new`, path);
    if (options?.durable === true) await syncFolder(dirname(path));
  },
  rename,
};

/** Ends when what was renamed in that folder stays so when the machine dies. */
async function syncFolder(path: string): Promise<void> {
  const folder = await open(path, constants.O_RDONLY);
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}

/** Makes the folder of that file when the work finds that it is not there. */
async function inFolder<T>(path: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
    await mkdir(dirname(path), { recursive: true, mode: 0o750 });
    return work();
  }
}
