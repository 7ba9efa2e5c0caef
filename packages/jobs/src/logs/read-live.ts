import { type FileHandle, open } from "node:fs/promises";
import type { Clock } from "@kube-connector/core";
import type { Bell } from "./bell.ts";
import { readIndex } from "./read-log.ts";
import { livePath } from "./files.ts";
import { labelAt, type LineFilter, matchesLabel, newline } from "./line.ts";

/** A piece of a live log. */
export interface LivePiece {
  /** Without their newlines. */
  lines: string[];
  /** The offset to go on from. */
  next: number;
  /** Nothing follows. */
  ended: boolean;
}

/** Bytes that are read at once; a longer line is read whole. */
const atOnce = 262_144;
/** Bytes that hold the last line of a log. */
const longestEnd = 512;

/**
 * Lines of the live log from that offset on, as many as are at hand at once. An offset within a line goes on with the line
 * after it. Once the run has ended, live.log is kept for an hour; then the answer is empty and ended.
 */
export async function readLive(
  folder: string,
  run: string,
  offset: number,
  filter: LineFilter = {},
): Promise<LivePiece> {
  const file = await open(livePath(folder, run), "r").catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return undefined;
    throw error;
  });
  if (file === undefined) {
    const index = await readIndex(folder, run);
    return { lines: [], next: offset, ended: index !== undefined };
  }
  try {
    // One byte earlier: whether a line begins at the offset is told by what is before it.
    const from = Math.max(0, offset - 1);
    for (let size = atOnce; ; size *= 4) {
      const buffer = Buffer.allocUnsafe(size);
      const { bytesRead } = await file.read(buffer, 0, size, from);
      const end = buffer.subarray(0, bytesRead).lastIndexOf(newline) + 1;
      const start = offset === 0 ? 0 : buffer.subarray(0, end).indexOf(newline) + 1;
      if (end > start || bytesRead < size)
        return end > start
          ? { ...pick(buffer, start, end, filter), next: from + end }
          : { lines: [], next: offset, ended: await isEnd(file, offset) };
    }
  } finally {
    await file.close();
  }
}

/** Whether the line before that offset is the last one: its reader was cut off before anything else told it so. */
async function isEnd(file: FileHandle, offset: number): Promise<boolean> {
  const from = Math.max(0, offset - longestEnd);
  const { buffer, bytesRead } = await file.read(Buffer.alloc(offset - from), 0, offset - from, from);
  const lines = buffer.toString("latin1", 0, bytesRead).split("\n");
  return lines.at(-1) === "" && lines.at(-2)?.startsWith("#end ") === true;
}

function pick(buffer: Buffer, from: number, end: number, filter: LineFilter): Pick<LivePiece, "lines" | "ended"> {
  const all = filter.pod === undefined && filter.container === undefined;
  const lines: string[] = [];
  let ended = false;
  for (let start = from; start < end; ) {
    const stop = buffer.indexOf(newline, start);
    const label = labelAt(buffer, start);
    ended ||= label === "" && buffer.toString("latin1", start, start + 5) === "#end ";
    if (label === "" ? all : matchesLabel(label, filter)) lines.push(buffer.toString("utf8", start, stop));
    start = stop + 1;
  }
  return { lines, ended };
}

/** Milliseconds between two looks when another process writes the log. */
const polling = 1_000;

/** The live log from that offset on until its end, or until the signal. Each reader reads from the disk at its own pace. */
export async function* followLive(options: {
  folder: string;
  run: string;
  offset: number;
  filter?: LineFilter;
  clock: Clock;
  bell: Bell;
  signal: AbortSignal;
}): AsyncGenerator<LivePiece> {
  const { folder, run, filter = {}, bell, signal } = options;
  let { offset } = options;
  while (!signal.aborted) {
    // Asked for before the look, so that what comes between is not slept through.
    const looked = new AbortController();
    const rung = bell.wait(run, polling, AbortSignal.any([signal, looked.signal]));
    try {
      const piece = await readLive(folder, run, offset, filter);
      const moved = piece.next > offset;
      offset = piece.next;
      if (piece.lines.length > 0 || piece.ended) yield piece;
      if (piece.ended) return;
      if (!moved) await rung;
    } finally {
      looked.abort();
    }
  }
}
