import type { FollowRoom } from "./follow.ts";
import { mark, newline, piece, recordOf, stampAt, stampLength, text } from "./line.ts";
import type { Part } from "./part.ts";
import type { ResumeFilter } from "./resume.ts";
import { LineSplitter, type StreamLine } from "./splitter.ts";

/** What one stream's bytes go through on their way into the part. */
export interface Intake {
  /** False: the stream does not fit to what we have, nothing of this chunk was stored. Rejects when it cannot be stored. */
  take(chunk: Buffer): Promise<boolean>;
  /** The stream ended, and the program with it: a line without a newline is a line too. */
  end(): Promise<void>;
  /** Whether any whole line came that we had not. */
  kept(): boolean;
  /** Bytes at the end of what came that are no whole line. */
  unfinished(): number;
  /** Whether there was no log, because the node has removed the container already. */
  removed(): boolean;
  /** Lines that were not stored, as the run had reached its limit. */
  dropped(): number;
}

/** What a kubelet (1.35, kuberuntime_container.go) answers with, as if it were the log, for a container that is no more. */
const removedWords = /^unable to retrieve container logs for [a-z-]+:\/\//;

const headLength = 64;

/** Bytes of a line of the kubelet's own that are kept. */
const longestNote = 1_024;

/**
 * `sure`: a stream that does not fit has lost lines, and nothing else can be the reason. `resumed`: the stream began within
 * what we have, so its first bytes may be the end of a line that began before. `isOurs`: asked about the first line's time.
 */
export function createIntake(options: {
  part: Part;
  filter: ResumeFilter;
  room: FollowRoom;
  sure: boolean;
  resumed: boolean;
  isOurs: (stamp: string) => boolean;
}): Intake {
  const { part, filter, room, sure, resumed, isOurs } = options;
  const splitter = new LineSplitter(room.lineBytes, room.masks);
  let batch: Buffer[] = [];
  let bytes = 0;
  /** Of the batch: bytes up to the end of the last whole line, whole lines, time of the last record. */
  let whole = 0;
  let lines = 0;
  let last = part.last;
  let lastMark = part.lastMark;
  let unordered = false;
  let keeping = false;
  let unfit = false;
  let gaps = 0;
  let began = false;
  let kept = false;
  /** The stream's first bytes. */
  let head = "";
  let dropped = 0;

  const push = (record: Buffer, ends: boolean) => {
    batch.push(record);
    bytes += record.length;
    if (ends) whole = bytes;
  };
  const pushMark = (words: string) => {
    if (lastMark === words) return false;
    if (last === "") last = stampAt(room.clock.now());
    push(recordOf(last, mark, words), true);
    lastMark = words;
    return true;
  };

  const takeLine = (line: StreamLine) => {
    if (unfit) return;
    const { stamp, record, first, last: ends } = line;
    if (stamp === undefined) {
      // The kubelet says something itself, or goes on with a line that began before the time we asked for.
      if ((resumed && !began) || removedWords.test(head)) return;
      pushMark(`note ${record.toString("utf8", 0, longestNote).replaceAll(/\s+/g, " ")}`);
      return;
    }
    if (first) {
      unfit = !began && !isOurs(stamp);
      if (unfit) return;
      began = true;
      const verdict = filter.judge(stamp);
      keeping = verdict !== "skip";
      if (verdict === "lost") {
        if (!sure) {
          unfit = true;
          return;
        }
        if (pushMark("gap Rotated")) gaps += 1;
      }
    }
    if (!keeping) return;
    if (stamp < last) unordered = true;
    last = stamp;
    lastMark = undefined;
    push(record, ends);
    if (ends) lines += 1;
  };

  /** Stores the batch. What cannot be stored stays nowhere: the next stream brings it again. */
  async function flush(): Promise<void> {
    if (batch.length === 0) return;
    const records = batch.length === 1 ? (batch[0] as Buffer) : Buffer.concat(batch);
    const took = { whole, lines, gaps };
    batch = [];
    bytes = 0;
    whole = 0;
    lines = 0;
    gaps = 0;
    kept ||= took.whole > 0;
    if (part.facts.limited) {
      dropped += took.lines;
    } else if (records.length > room.budget.left) {
      const fits = fitting(records, room.budget.left);
      dropped += took.lines - fits.lines;
      took.lines = fits.lines;
      await part.append(records.subarray(0, fits.bytes), fits.bytes);
      room.budget.left = 0;
      await part.save({ limited: true });
      if (await part.mark("gap LimitReached", stampAt(room.clock.now()))) room.onGap(part, "LimitReached");
    } else {
      if (unordered && !part.facts.unordered) await part.save({ unordered: true });
      await part.append(records, took.whole);
      room.budget.left -= records.length;
      part.last = last;
      part.lastMark = lastMark;
      for (let gap = 0; gap < took.gaps; gap += 1) room.onGap(part, "Rotated");
    }
    room.onLines(part, took.lines);
  }

  return {
    async take(chunk) {
      if (head.length < headLength) head += chunk.toString("latin1", 0, headLength - head.length);
      splitter.feed(chunk, takeLine);
      if (unfit) return false;
      await flush();
      return true;
    },
    async end() {
      splitter.end(takeLine);
      await flush();
    },
    kept: () => kept,
    unfinished: () => splitter.unfinished,
    removed: () => removedWords.test(head),
    dropped: () => dropped,
  };
}

/** The whole lines at the beginning of the records that have room in so many bytes. */
function fitting(records: Buffer, most: number): { bytes: number; lines: number } {
  let bytes = 0;
  let lines = 0;
  for (let start = 0, end = 0; start < records.length; start = end) {
    end = records.indexOf(newline, start) + 1;
    if (end > most) break;
    const kind = records[start + stampLength];
    if (kind !== piece) bytes = end;
    if (kind === text) lines += 1;
  }
  return { bytes, lines };
}
