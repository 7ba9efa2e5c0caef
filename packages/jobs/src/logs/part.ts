import { readdir, readFile, rm } from "node:fs/promises";
import { join } from "node:path";
import { Cursor, linesBackwards } from "./cursor.ts";
import type { LogFiles, WritableFile } from "./files.ts";
import {
  type Instance,
  isStamp,
  labelOf,
  mark,
  newline,
  partName,
  piece,
  recordOf,
  stampLength,
  text,
} from "./line.ts";
import type { ResumePoint } from "./resume.ts";

/** What the bytes of a part cannot say. */
export interface PartFacts extends Instance {
  /** All that could be had is here. */
  closed: boolean;
  /** Whether some line has an earlier time than the one before it. */
  unordered: boolean;
  /** Lines are no longer stored: the run has reached its limit. */
  limited: boolean;
}

const kinds: readonly (number | undefined)[] = [text, piece, mark];

/**
 * The part of one run of one container. Its bytes are the truth: where to go on is read from its end, so a death at any byte
 * loses and doubles nothing. One writer at a time. Calls reject with Node's errors.
 */
export class Part {
  readonly facts: PartFacts;
  readonly label: string;
  readonly path: string;
  /** Bytes up to the end of the last whole line: what readers may see. */
  whole = 0;
  /** Time of the last record, "" when there is none. */
  last = "";
  /** The words of the last record when it is a mark: the same one is not written twice. */
  lastMark: string | undefined;
  readonly #files: LogFiles;
  /** A promise, as its reader and its writer may ask for it at once. */
  #file: Promise<WritableFile> | undefined;
  /** Bytes written; above `whole` while a long line comes in. */
  #size = 0;
  #dirty = false;

  private constructor(files: LogFiles, folder: string, facts: PartFacts) {
    this.#files = files;
    this.facts = facts;
    this.label = labelOf(facts);
    this.path = join(folder, partName(facts));
  }

  /** A new part, or one that is there, cut back to its last whole line. */
  static async open(files: LogFiles, folder: string, facts: PartFacts): Promise<Part> {
    const part = new Part(files, folder, facts);
    await part.save({});
    await part.#recover();
    return part;
  }

  /** The parts of a run that are on the disk. */
  static async openAll(files: LogFiles, folder: string): Promise<Part[]> {
    const parts: Part[] = [];
    for (const name of (await namesIn(folder)).filter((one) => one.endsWith(".json")).sort()) {
      const facts = parseFacts(await readFile(join(folder, name), "utf8"));
      if (facts === undefined) {
        // The machine died before it was on the disk. The container is read anew, if it can be.
        await Promise.all([name, name.replace(/\.json$/, "")].map((one) => rm(join(folder, one), { force: true })));
        continue;
      }
      const part = new Part(files, folder, facts);
      await part.#recover();
      parts.push(part);
    }
    return parts;
  }

  /** Keeps what the bytes do not say. */
  async save(change: Partial<PartFacts>): Promise<void> {
    Object.assign(this.facts, change);
    await this.#files.replace(`${this.path}.json`, `${JSON.stringify(this.facts)}\n`);
  }

  /** Adds records, of which the first `whole` bytes end a line. A failed write leaves nothing that is read. */
  async append(records: Buffer, whole: number): Promise<void> {
    const file = await this.#open();
    if (this.#dirty) await file.truncate(this.#size);
    this.#dirty = true;
    await file.write(records, this.#size);
    this.#dirty = false;
    if (whole > 0) this.whole = this.#size + whole;
    this.#size += records.length;
  }

  /** Adds a mark of ours, with that time when there is no record yet; false when the same one is the last record already. */
  async mark(words: string, stamp: string): Promise<boolean> {
    if (this.lastMark === words) return false;
    await this.cutBack();
    const record = recordOf(this.last === "" ? stamp : this.last, mark, words);
    await this.append(record, record.length);
    this.last = record.toString("latin1", 0, stampLength);
    this.lastMark = words;
    return true;
  }

  /** Forgets the beginning of a long line whose end did not come; answers with the bytes that it had. */
  async cutBack(): Promise<number> {
    const cut = this.#size - this.whole;
    if (cut === 0 && !this.#dirty) return 0;
    const file = await this.#open();
    this.#dirty = true;
    await file.truncate(this.whole);
    this.#dirty = false;
    this.#size = this.whole;
    return cut;
  }

  /** Where to go on; undefined when there is no line yet. */
  async resumePoint(): Promise<ResumePoint | undefined> {
    let point: ResumePoint | undefined;
    for await (const { line } of linesBackwards(this.read, this.whole)) {
      if (line[stampLength] !== text) continue;
      const stamp = line.toString("latin1", 0, stampLength);
      point ??= { stamp, lines: 0, ordered: !this.facts.unordered };
      if (stamp >= point.stamp.slice(0, 19)) point.lines += 1;
      else if (point.ordered) break;
    }
    return point;
  }

  readonly read = async (buffer: Buffer, at: number): Promise<number> => (await this.#open()).read(buffer, at);

  /** Reads the records from that place on. */
  cursor(at: number, order: number): Cursor {
    return new Cursor(this.read, { at, order });
  }

  /** Ends when what was written survives the machine's sudden end. */
  async sync(): Promise<void> {
    await (await this.#open()).sync();
  }

  /** Gives the file back; it is opened again when it is needed. */
  async release(): Promise<void> {
    const file = this.#file;
    this.#file = undefined;
    await (await file)?.close();
  }

  #open(): Promise<WritableFile> {
    this.#file ??= this.#files.open(this.path).catch((error: unknown) => {
      this.#file = undefined;
      throw error;
    });
    return this.#file;
  }

  /** Cuts off what a death left half written: bytes after the last newline, pieces of a line without its end. */
  async #recover(): Promise<void> {
    try {
      const { size } = await this.#open();
      let end = await this.#afterLastNewline(size);
      for await (const { line, at } of linesBackwards(this.read, end)) {
        if (isStamp(line, 0) && line[stampLength] !== piece && kinds.includes(line[stampLength])) {
          this.last = line.toString("latin1", 0, stampLength);
          if (line[stampLength] === mark) this.lastMark = line.toString("utf8", stampLength + 1);
          break;
        }
        end = at;
      }
      this.whole = end;
      this.#size = size;
      await this.cutBack();
    } finally {
      await this.release();
    }
  }

  async #afterLastNewline(size: number): Promise<number> {
    const block = Buffer.allocUnsafe(Math.min(size, 65_536));
    for (let end = size; end > 0; ) {
      const from = Math.max(0, end - block.length);
      const filled = await this.read(block.subarray(0, end - from), from);
      const found = block.subarray(0, filled).lastIndexOf(newline);
      if (found >= 0) return from + found + 1;
      end = from;
    }
    return 0;
  }
}

function parseFacts(json: string): PartFacts | undefined {
  try {
    return JSON.parse(json) as PartFacts;
  } catch {
    return undefined;
  }
}

/** The names in a folder; none when it is not there. */
export async function namesIn(folder: string): Promise<string[]> {
  try {
    return await readdir(folder);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return [];
    throw error;
  }
}
