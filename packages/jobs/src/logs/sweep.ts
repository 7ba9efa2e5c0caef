import { randomUUID } from "node:crypto";
import { open, rename, rm, stat } from "node:fs/promises";
import { promisify } from "node:util";
import { gzip } from "node:zlib";
import { Fault } from "@kube-connector/core";
import { diskFiles, indexPath, livePath, mergedPath, partsFolder, runFolder, runName, zippedPath } from "./files.ts";
import { namesIn } from "./part.ts";
import { readIndex } from "./read-log.ts";

const zip = promisify(gzip);

const hour = 3_600_000;
const day = 24 * hour;

/** What a sweep did. */
export interface Swept {
  /** Runs whose logs are gone. */
  removed: string[];
  zipped: number;
}

/**
 * Looks after the logs of all runs: compresses those that are complete, takes live.log away an hour after the end, and
 * deletes what is older than its run says, and folders that belong to no run. Doing it twice, or after a death in the middle, does
 * no harm. `retentionDays`: of a run, undefined when nobody knows it. Rejects with a Fault at the first trouble.
 */
export async function sweepLogs(
  folder: string,
  now: number,
  retentionDays: (run: string) => Promise<number | undefined> | number | undefined,
): Promise<Swept> {
  const swept: Swept = { removed: [], zipped: 0 };
  try {
    for (const run of await namesIn(folder)) {
      if (!runName.test(run)) continue;
      const days = await retentionDays(run);
      const index = await readIndex(folder, run);
      const touched = await lastTouched(folder, run);
      const age = now - (index === undefined ? touched : Date.parse(index.endedAt));
      // A folder may be made a moment before its run is known.
      const unknown = days === undefined && now - touched > hour;
      if (unknown || (days !== undefined && index !== undefined && age > days * day)) {
        await rm(runFolder(folder, run), { recursive: true, force: true });
        swept.removed.push(run);
      } else if (index !== undefined) {
        await rm(partsFolder(folder, run), { recursive: true, force: true });
        if (age > hour) await rm(livePath(folder, run), { force: true });
        if (index.zipped === undefined) {
          await zipLog(folder, run);
          swept.zipped += 1;
        } else await rm(mergedPath(folder, run), { force: true });
      }
    }
  } catch (error) {
    throw Fault.from(error, "Cannot look after the logs");
  }
  return swept;
}

/**
 * Compresses a complete log block by block, so that each can be read alone; any gunzip reads the whole. Another process may be at
 * the same one: each writes a file of its own, and whoever comes second finds it done.
 */
async function zipLog(folder: string, run: string): Promise<void> {
  const index = await readIndex(folder, run);
  if (index === undefined) return;
  const isDone = async () => (await readIndex(folder, run))?.zipped !== undefined;
  const target = zippedPath(folder, run);
  const made = `${target}.${randomUUID()}.new`;
  await using closing = new AsyncDisposableStack();
  closing.defer(() => rm(made, { force: true }));
  const merged = await open(mergedPath(folder, run), "r").catch(async (error: unknown) => {
    if (await isDone()) return undefined;
    throw error;
  });
  if (merged === undefined) return;
  const from = closing.adopt(merged, (file) => file.close());
  const to = closing.adopt(await open(made, "wx", 0o640), (file) => file.close());
  const zipped = [0];
  let size = 0;
  for (const [number, start] of index.blocks.entries()) {
    const block = Buffer.allocUnsafe((index.blocks[number + 1] ?? index.bytes) - start);
    await from.read(block, 0, block.length, start);
    const squeezed = await zip(block);
    await to.appendFile(squeezed);
    size += squeezed.length;
    zipped.push(size);
  }
  await to.sync();
  if (await isDone()) return;
  await rename(made, target);
  const words = `${JSON.stringify({ ...index, zipped })}\n`;
  await diskFiles.replace(indexPath(folder, run), words, { durable: true }).catch(async (error: unknown) => {
    if (!(await isDone())) throw error;
  });
  await rm(mergedPath(folder, run), { force: true });
}

/** Milliseconds since 1970 of the last change in a run's folder. */
async function lastTouched(folder: string, run: string): Promise<number> {
  const paths = [runFolder(folder, run), livePath(folder, run), partsFolder(folder, run)];
  const times = await Promise.all(
    paths.map((path) =>
      stat(path).then(
        (it) => it.mtimeMs,
        () => 0,
      ),
    ),
  );
  return Math.max(...times);
}
