import { Fault } from "@kube-connector/core";

// The words of a log file. A part (one run of one container) holds records: 30 bytes of time, one byte that says what it
// is, the text, a newline. The merged files put `[pod/container#restart]` between time and text:
//
//   2026-03-01T10:00:00.123456789Z [report-x7f2p/main#0] what the program wrote
//   2026-03-01T10:00:07.000000001Z [report-x7f2p/main#0]!gap Rotated
//
// After the bracket a space begins the program's text and `!` begins ours, so that no program can forge a mark.

/** Bytes of a time in our files: UTC with nine digits, so that text order is the order of time. */
export const stampLength = 30;

/** The byte after the time: a whole line (or the last piece of one), a piece that goes on in the next record, a mark. */
export const text = 0x20;
export const piece = 0x2b;
export const mark = 0x21;

export const newline = 0x0a;

/**
 * Why lines are missing. Unreadable: what was left could not be read before the run's log was closed. RestartMissed: the
 * container restarted twice before its log was read; only one back can be had.
 */
export const gapReasons = [
  "Rotated",
  "PodDeleted",
  "Evicted",
  "RestartMissed",
  "LimitReached",
  "Forbidden",
  "Unreadable",
] as const;
export type GapReason = (typeof gapReasons)[number];

/** One run of one container. */
export interface Instance {
  pod: string;
  podUid: string;
  container: string;
  /** The container's restart count. */
  restart: number;
}

/** What a restart of the same container shares with it; a key for maps. */
export function containerKey({ podUid, container }: Pick<Instance, "podUid" | "container">): string {
  return `${podUid}/${container}`;
}

/** The name of its part; safe whatever the cluster says, because nothing but letters, digits and hyphens is left as it is. */
export function partName({ podUid, container, restart }: Instance): string {
  const safe = (name: string) => name.replaceAll(/[^A-Za-z0-9-]/g, (odd) => `_${odd.charCodeAt(0).toString(16)}_`);
  return `${safe(podUid)}.${safe(container)}.${restart}`;
}

/** How lines name it: `pod/container#restart`. A name that a cluster should not have given cannot end the bracket or line. */
export function labelOf({ pod, container, restart }: Instance): string {
  const shown = (name: string) => name.replaceAll(/[^A-Za-z0-9.-]/g, "?");
  return `${shown(pod)}/${shown(container)}#${restart}`;
}

/**
 * The time at the start of a line as a kubelet writes it (RFC 3339 with up to nine digits and any zone) in the form of our
 * files; undefined when it is none.
 */
export function normalizeStamp(written: string): string | undefined {
  const parts = /^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)$/.exec(written);
  if (parts === null) return undefined;
  const [, second = "", fraction = "", zone = ""] = parts;
  const at = Date.parse(`${second}${zone}`);
  if (Number.isNaN(at)) return undefined;
  return `${new Date(at).toISOString().slice(0, 19)}.${fraction.padEnd(9, "0")}Z`;
}

/** Whether the bytes at that place are a time in the form of our files. */
export function isStamp(bytes: Buffer, at: number): boolean {
  if (bytes.length < at + stampLength) return false;
  for (let index = 0; index < stampLength; index += 1) {
    const byte = bytes[at + index] as number;
    const wanted = stampShape.charCodeAt(index);
    if (wanted === 0x30 ? byte < 0x30 || byte > 0x39 : byte !== wanted) return false;
  }
  return true;
}

const stampShape = "0000-00-00T00:00:00.000000000Z";

/** That moment (milliseconds since 1970) in the form of our files. */
export function stampAt(milliseconds: number): string {
  return `${new Date(milliseconds).toISOString().slice(0, 23)}000000Z`;
}

/** The whole second of a time, as a kubelet takes it in `sinceTime`. */
export function secondOf(stamp: string): string {
  return `${stamp.slice(0, 19)}Z`;
}

/** A record of a part. */
export function recordOf(stamp: string, kind: number, words: Buffer | string): Buffer {
  const body = typeof words === "string" ? Buffer.from(words) : words;
  const record = Buffer.allocUnsafe(stampLength + 2 + body.length);
  record.write(stamp, 0, "latin1");
  record[stampLength] = kind;
  body.copy(record, stampLength + 1);
  record[record.length - 1] = newline;
  return record;
}

/** The first line of a merged file. */
export function headerLine(facts: { run: string; job: string; connector: string }): string {
  const word = (value: string) => value.replaceAll(/[^\x21-\x7e]/g, "?");
  return `#kube-connector-log 1 run=${word(facts.run)} job=${word(facts.job)} connector=${word(facts.connector)}\n`;
}

/** The last line of a merged file; the digest is that of all bytes before it. */
export function endLine(end: { state: string; lines: number; gaps: number; sha256: string }): string {
  return `#end state=${end.state} lines=${end.lines} gaps=${end.gaps} sha256=${end.sha256}\n`;
}

/** A line of a merged file, taken apart. */
export interface LogLine {
  /** Absent on the first and the last line of the file. */
  stamp?: string;
  pod?: string;
  container?: string;
  restart?: number;
  kind: "text" | "mark" | "header" | "end";
  text: string;
}

/** Takes a line of a merged file apart, without its newline; throws a Fault when it is none. */
export function parseLine(line: string): LogLine {
  if (line.startsWith("#end ")) return { kind: "end", text: line };
  if (line.startsWith("#")) return { kind: "header", text: line };
  const parts = /^(\S{30}) \[([^/\]]+)\/([^#\]]+)#(\d+)\]([ !])/.exec(line);
  if (parts === null) throw new Fault("internal", "A line of the log file has not the form of one");
  const [head, stamp = "", pod = "", container = "", restart = "", sign] = parts;
  return {
    stamp,
    pod,
    container,
    restart: Number(restart),
    kind: sign === "!" ? "mark" : "text",
    text: line.slice(head.length),
  };
}

/** Which lines are wanted. */
export interface LineFilter {
  pod?: string | undefined;
  container?: string | undefined;
}

/** Whether that label passes. */
export function matchesLabel(label: string, { pod, container }: LineFilter): boolean {
  const slash = label.indexOf("/");
  const hash = label.lastIndexOf("#");
  if (pod !== undefined && label.slice(0, slash) !== pod) return false;
  return container === undefined || label.slice(slash + 1, hash) === container;
}

/** The label of the line of a merged file that begins there; "" on the first and the last line. */
export function labelAt(bytes: Buffer, start: number): string {
  if (bytes[start] === 0x23) return "";
  const from = start + stampLength + 2;
  return bytes.toString("latin1", from, bytes.indexOf(0x5d, from));
}

/** Control characters, and sequences that colour, move the cursor, or rename the window. */
const unsafe = new RegExp(
  String.raw`\x1b\[[\d;]*m|\x1b\[[\x30-\x3f]*[\x20-\x2f]*[\x40-\x7e]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?|[\0-\x08\x0a-\x1f\x7f-\x9f]`,
  "g",
);
const colour = new RegExp(String.raw`^\x1b\[[\d;]*m$`);

/** A line as a terminal may have it: no control characters but tab and colour, and a colour ends with its line. */
export function forTerminal(line: string): string {
  let coloured = false;
  const safe = line.replaceAll(unsafe, (found) => {
    const isColour = colour.test(found);
    coloured ||= isColour;
    return isColour ? found : "";
  });
  return coloured ? `${safe}\x1b[0m` : safe;
}
