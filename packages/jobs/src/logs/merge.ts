import { createHash, randomUUID } from "node:crypto";
import { open } from "node:fs/promises";
import { join } from "node:path";
import { Cursor, type ReadAt } from "./cursor.ts";
import { type LogFiles, mergedPath, partsFolder } from "./files.ts";
import { endLine, type Instance, labelOf, stampLength, text } from "./line.ts";
import { Heads, isBefore } from "./order.ts";
import { createOutputs } from "./outputs.ts";
import { bracketed, Lines } from "./render.ts";

/** What merged.json says of merged.log. The file is made of blocks of whole lines, each of which can be read alone. */
export interface MergedIndex {
  format: 1;
  /** How the run ended. */
  state: string;
  /** RFC 3339. */
  endedAt: string;
  /** Lines of text; pieces of a line that is too long count each. */
  lines: number;
  gaps: number;
  bytes: number;
  /** Of the file without its last line. */
  sha256: string;
  outputs: Record<string, string>;
  /** In the order of their first lines; `blocks` are those with lines of it, as pairs of first and last number. */
  containers: (Instance & { lines: number; gaps: number; blocks: number[] })[];
  /** Where each block begins. */
  blocks: number[];
  /** Where each block begins in merged.log.gz, and where the last ends; the file is not compressed when absent. */
  zipped?: number[];
}

/** A part as the merge reads it. */
export interface MergePart {
  path: string;
  instance: Instance;
}

const blockBytes = 1_048_576;
/** Memory for reading, over all parts. */
const readBytes = 32 * 1_048_576;
/** How the text of a line begins that gives outputs. */
const outputSign = Buffer.from("::output ");

/**
 * Writes merged.log anew from the parts, which are the same bytes whoever does it; it is there whole or not at all. Memory does
 * not grow with their size. Rejects with Node's errors, or with the signal's reason.
 */
export async function mergeParts(options: {
  files: LogFiles;
  folder: string;
  run: string;
  header: string;
  state: string;
  endedAt: string;
  parts: readonly MergePart[];
  signal: AbortSignal;
}): Promise<MergedIndex> {
  const { files, folder, run, signal } = options;
  const parts = options.parts.toSorted((a, b) => (a.path < b.path ? -1 : 1));
  await using closing = new AsyncDisposableStack();
  const path = join(partsFolder(folder, run), `merged.${randomUUID()}`);
  const file = closing.adopt(await files.open(path), (one) => one.close());
  const hash = createHash("sha256");
  const outputs = createOutputs();
  const index: MergedIndex = {
    format: 1,
    state: options.state,
    endedAt: options.endedAt,
    lines: 0,
    gaps: 0,
    bytes: 0,
    sha256: "",
    outputs: {},
    containers: [],
    blocks: [],
  };
  // While one block is written the next one is made. They grow with what comes: most logs are short, and hundreds may end at a time.
  let out = new Lines();
  let spare = new Lines();
  let written: Promise<void> = Promise.resolve();

  async function flush(last = false): Promise<void> {
    await written;
    signal.throwIfAborted();
    index.blocks.push(index.bytes);
    written = file.write(out.bytes(), index.bytes);
    // Whoever waits for it hears of it.
    written.catch(() => undefined);
    if (!last) hash.update(out.bytes());
    index.bytes += out.length;
    index.lines += out.text;
    index.gaps += out.gaps;
    [out, spare] = [spare, out];
    out.clear();
  }

  const heads = new Heads<Source>();
  for (const [order, { path: from, instance }] of parts.entries()) {
    const part = closing.adopt(await open(from, "r"), (one) => one.close());
    const { size } = await part.stat();
    const read = async (buffer: Buffer, at: number) => (await part.read(buffer, 0, buffer.length, at)).bytesRead;
    const share = Math.min(size, blockBytes, Math.max(16_384, Math.floor(readBytes / 2 / parts.length)));
    const source = new Source(instance, size, new Cursor(readAhead(read, share), { order, blockBytes: share }));
    if (await source.advance()) heads.push(source);
  }

  out.addPlain(options.header);
  for (let first = heads.first(); first !== undefined; first = heads.first()) {
    const second = heads.second();
    const { cursor } = first;
    let more = true;
    // As long as it stays first the heap is left alone.
    while (more) {
      const { block, start, end } = cursor;
      const before = out.text + out.gaps;
      out.add(block, start, end, first.label);
      if (out.text + out.gaps > before) first.count(block[start + stampLength] === 0x21);
      if (block[start + stampLength] === text && block[start + stampLength + 1] === 0x3a) {
        const sign = block.subarray(start + stampLength + 1, start + stampLength + 1 + outputSign.length);
        if (sign.equals(outputSign))
          outputs.take(block.toString("utf8", start + stampLength + 1 + outputSign.length, end));
      }
      first.note(index.blocks.length, index.containers);
      if (out.length >= blockBytes) await flush();
      more = cursor.step() || (await first.advance());
      first.takeTime();
      if (second !== undefined && isBefore(second, first)) break;
    }
    if (more) heads.sink();
    else heads.pop();
  }
  if (out.length > 0) await flush();
  index.sha256 = hash.digest("hex");
  index.outputs = outputs.found();
  out.addPlain(endLine(index));
  await flush(true);
  await written;
  await file.sync();
  signal.throwIfAborted();
  await files.rename(path, mergedPath(folder, run));
  return index;
}

/** Reads a file that does not grow from its beginning to its end: the next bytes come while these are used. */
function readAhead(read: ReadAt, bytes: number): ReadAt {
  const spare = Buffer.allocUnsafeSlow(bytes);
  let next: { at: number; filled: Promise<number> } | undefined;
  return async (buffer, at) => {
    const ahead = next?.at === at ? next : undefined;
    const filled = ahead === undefined ? await read(buffer, at) : Math.min(await ahead.filled, buffer.length);
    if (ahead !== undefined) spare.copy(buffer, 0, 0, filled);
    next = filled === 0 ? undefined : { at: at + filled, filled: read(spare, at + filled) };
    next?.filled.catch(() => undefined);
    return filled;
  };
}

/** A part while it is merged. */
class Source {
  second = 0;
  nanos = 0;
  readonly order: number;
  readonly label: Buffer;
  readonly cursor: Cursor;
  readonly #size: number;
  readonly #entry: MergedIndex["containers"][number];

  constructor({ pod, podUid, container, restart }: Instance, size: number, cursor: Cursor) {
    this.order = cursor.order;
    this.cursor = cursor;
    this.label = bracketed(labelOf({ pod, podUid, container, restart }));
    this.#size = size;
    this.#entry = { pod, podUid, container, restart, lines: 0, gaps: 0, blocks: [] };
  }

  async advance(): Promise<boolean> {
    const more = await this.cursor.advance(this.#size);
    this.takeTime();
    return more;
  }

  /** That of the record at the head. */
  takeTime(): void {
    this.second = this.cursor.second;
    this.nanos = this.cursor.nanos;
  }

  count(gap: boolean): void {
    if (gap) this.#entry.gaps += 1;
    else this.#entry.lines += 1;
  }

  /** That block has a line of it. */
  note(block: number, containers: MergedIndex["containers"]): void {
    const { blocks } = this.#entry;
    const last = blocks.length - 1;
    if (blocks[last] === block) return;
    if (last < 0) containers.push(this.#entry);
    if (last >= 0 && blocks[last] === block - 1) blocks[last] = block;
    else blocks.push(block, block);
  }
}
