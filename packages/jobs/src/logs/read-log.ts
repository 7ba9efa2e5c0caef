import { type FileHandle, open, readFile } from "node:fs/promises";
import { promisify } from "node:util";
import { gunzip } from "node:zlib";
import { Fault } from "@kube-connector/core";
import { Cursor } from "./cursor.ts";
import { indexPath, livePath, mergedPath, zippedPath } from "./files.ts";
import { labelAt, type LineFilter, matchesLabel, newline } from "./line.ts";
import type { MergedIndex } from "./merge.ts";

const unzip = promisify(gunzip);

export interface LogQueryOptions extends LineFilter {
  /** pod: all lines of one pod, then all of the next, in the order in which they began. */
  view?: "merged" | "pod";
  /** Bytes of that view: the first, and the first that is not wanted. */
  from?: number;
  to?: number;
}

/** The index of a complete log; undefined while it is not complete. */
export async function readIndex(folder: string, run: string): Promise<MergedIndex | undefined> {
  try {
    return JSON.parse(await readFile(indexPath(folder, run), "utf8")) as MergedIndex;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw Fault.from(error, `Cannot read the log of ${run}`);
  }
}

/**
 * The log of a run as bytes, plain or compressed on the disk, or as far as it is while the run goes on. Rejects with a Fault
 * `not_found` when there is none.
 */
export async function* readLog(folder: string, run: string, query: LogQueryOptions = {}): AsyncGenerator<Buffer> {
  await using source = await openSource(folder, run);
  let { from = 0 } = query;
  let left = (query.to ?? Infinity) - from;
  let view = viewOf(source, query);
  if (isWhole(query) && source.index !== undefined && from > 0) {
    // A part of the whole: begin with the block that has it.
    const { blocks } = source.index;
    const first = Math.max(
      0,
      blocks.findLastIndex((at) => at <= from),
    );
    from -= blocks[first] ?? 0;
    view = source.blocks([first, blocks.length - 1]);
  }
  for await (const bytes of view) {
    if (left <= 0) return;
    const wanted = bytes.subarray(Math.min(from, bytes.length)).subarray(0, left);
    from -= Math.min(from, bytes.length);
    left -= wanted.length;
    if (wanted.length > 0) yield wanted;
  }
}

/** A line with what was looked for. */
export interface Found {
  line: string;
  /** Where it begins in the view. */
  offset: number;
}

/** Lines that hold those words, in capitals or not, in order; `limit` of them at most. */
export async function* searchLog(
  folder: string,
  run: string,
  words: string,
  query: LineFilter & { limit: number },
): AsyncGenerator<Found> {
  if (words === "") throw new Fault("invalid_argument", "What to search the log for is empty");
  const wanted = words.toLowerCase();
  let left = query.limit;
  let base = 0;
  for await (const bytes of readLog(folder, run, query)) {
    // Most blocks have no hit, and are not looked at line by line.
    if (bytes.toString().toLowerCase().includes(wanted))
      for (const [start, end] of linesOf(bytes)) {
        if (left === 0) return;
        const line = bytes.toString("utf8", start, end - 1);
        if (!line.toLowerCase().includes(wanted)) continue;
        yield { line, offset: base + start };
        left -= 1;
      }
    base += bytes.length;
  }
}

/** Where the blocks of a log come from. */
interface Source extends AsyncDisposable {
  index: MergedIndex | undefined;
  /** Blocks of whole lines; of a complete log those in the ranges (pairs of first and last number), else all. */
  blocks(ranges?: readonly number[]): AsyncGenerator<Buffer>;
}

async function openSource(folder: string, run: string): Promise<Source> {
  // When it is compressed meanwhile, the second try finds it so.
  for (let tries = 0; tries < 3; tries += 1) {
    const index = await readIndex(folder, run);
    const path = index === undefined ? livePath : index.zipped === undefined ? mergedPath : zippedPath;
    const file = await open(path(folder, run), "r").catch((error: NodeJS.ErrnoException) => {
      if (error.code === "ENOENT") return undefined;
      throw Fault.from(error, `Cannot read the log of ${run}`);
    });
    if (file === undefined) continue;
    const blocks =
      index === undefined ? () => growing(file) : (ranges?: readonly number[]) => complete(file, index, ranges);
    return { index, blocks, [Symbol.asyncDispose]: () => file.close() };
  }
  throw new Fault("not_found", `There is no log of ${run}`);
}

async function* growing(file: FileHandle): AsyncGenerator<Buffer> {
  const { size } = await file.stat();
  const read = async (buffer: Buffer, at: number) => (await file.read(buffer, 0, buffer.length, at)).bytesRead;
  const cursor = new Cursor(read, { blockBytes: 262_144 });
  while (await cursor.advance(size)) {
    const { block, start } = cursor;
    while (cursor.step());
    yield Buffer.from(block.subarray(start, cursor.end));
  }
}

async function* complete(file: FileHandle, index: MergedIndex, ranges?: readonly number[]): AsyncGenerator<Buffer> {
  const { blocks, zipped, bytes } = index;
  const starts = zipped ?? [...blocks, bytes];
  const wanted = ranges ?? [0, blocks.length - 1];
  for (let at = 0; at < wanted.length; at += 2)
    for (let block = wanted[at] as number; block <= (wanted[at + 1] as number); block += 1) {
      const start = starts[block] as number;
      const buffer = Buffer.allocUnsafe((starts[block + 1] as number) - start);
      const { bytesRead } = await file.read(buffer, 0, buffer.length, start);
      if (bytesRead !== buffer.length) throw new Fault("internal", "The log file is shorter than its index says");
      yield zipped === undefined ? buffer : await unzip(buffer);
    }
}

function isWhole({ view = "merged", pod, container }: LogQueryOptions): boolean {
  return view === "merged" && pod === undefined && container === undefined;
}

async function* viewOf(source: Source, query: LogQueryOptions): AsyncGenerator<Buffer> {
  if (isWhole(query)) yield* source.blocks();
  else if (query.view !== "pod") yield* filtered(source, query);
  else for (const pod of await podsOf(source, query)) yield* filtered(source, { pod, container: query.container });
}

/** The blocks' lines that pass; of a complete log only blocks that have some are read. */
async function* filtered(source: Source, filter: LineFilter): AsyncGenerator<Buffer> {
  const { index } = source;
  const ranges = index?.containers
    .filter(({ pod, container }) => matchesLabel(`${pod}/${container}#`, filter))
    .flatMap(({ blocks }) => pairs(blocks));
  for await (const block of source.blocks(ranges === undefined ? undefined : joined(ranges))) {
    const lines: Buffer[] = [];
    for (const [start, end] of linesOf(block)) {
      const label = labelAt(block, start);
      if (label !== "" && matchesLabel(label, filter)) lines.push(block.subarray(start, end));
    }
    if (lines.length > 0) yield Buffer.concat(lines);
  }
}

async function podsOf(source: Source, { pod }: LineFilter): Promise<Set<string>> {
  if (pod !== undefined) return new Set([pod]);
  if (source.index !== undefined) return new Set(source.index.containers.map((one) => one.pod));
  const pods = new Set<string>();
  for await (const block of source.blocks())
    for (const [start] of linesOf(block)) {
      const label = labelAt(block, start);
      if (label !== "") pods.add(label.slice(0, label.indexOf("/")));
    }
  return pods;
}

/** Where the lines of a block begin and end, newlines included. */
export function* linesOf(block: Buffer): Generator<[start: number, end: number]> {
  for (let start = 0; start < block.length; ) {
    const found = block.indexOf(newline, start);
    const end = found < 0 ? block.length : found + 1;
    yield [start, end];
    start = end;
  }
}

function pairs(numbers: readonly number[]): [number, number][] {
  return Array.from({ length: numbers.length / 2 }, (_, at) => [
    numbers[2 * at] as number,
    numbers[2 * at + 1] as number,
  ]);
}

/** Ranges in order, each block once. */
function joined(ranges: readonly [number, number][]): number[] {
  const result: number[] = [];
  for (const [first, last] of [...ranges].sort(([a], [b]) => a - b)) {
    const end = result.length - 1;
    if (end > 0 && first <= (result[end] as number) + 1) result[end] = Math.max(result[end] as number, last);
    else result.push(first, last);
  }
  return result;
}
