import type { Random } from "../kit/random.ts";
import { credential, host, type Input, type Split } from "./input.ts";

// Inputs that are nearly another input: changed where HTTP has its joints more often than elsewhere.

/** What is put in, byte for byte. */
const pieces = [
  ...'\r|\n|\r\n|\r\n\r\n|\n\n| |\t|\0|\x0b|\x0c|\x7f|\x80|\x85|\xa0|\xff|:|;|,|=|"|/|?|%|#|0|-|+|_'.split("|"),
  ..."close|chunked|identity|gzip|0x|100-continue|HTTP/1.0|HTTP/1.1|websocket|;a=b|0\r\n\r\n|\r\n |\r\n\t".split("|"),
];

/** Header lines that mean something to somebody. */
const lines = [
  "Content-Length: 0",
  "Content-Length: 5",
  "Transfer-Encoding: chunked",
  "Transfer-Encoding: identity",
  "Connection: close",
  "Connection: keep-alive",
  "Connection: Upgrade",
  "Connection: Content-Length",
  "Upgrade: websocket",
  "Upgrade: h2c",
  "Expect: 100-continue",
  "TE: trailers",
  "Trailer: X-Sum",
  "Trailer: Content-Length",
  "Host: elsewhere",
  "X-A: 1",
  "X-A:",
  "Keep-Alive: timeout=5",
  "Proxy-Connection: keep-alive",
  "Content-Encoding: gzip",
  "Content-Type: multipart/byteranges; boundary=a",
];

const numbers = [
  "",
  "0",
  "00",
  "1",
  "4",
  "6",
  "05",
  "+5",
  "-5",
  "5 ",
  " 5",
  "5,5",
  "5, 6",
  "5;",
  "0x5",
  "5e0",
  "5.0",
  "f",
  "A",
  "FFFFFFFF",
];
const sizes = [
  "4294967296",
  "4294967301",
  "18446744073709551616",
  "9007199254740993",
  "999999999999999",
  "0000000000005",
  "00000000000000000005",
];

type Change = (text: string, random: Random, other: string) => string;

const changes: readonly Change[] = [
  // Insert a piece.
  (text, random) => insert(text, place(text, random), random.pick(pieces)),
  // Change, delete or insert one byte.
  (text, random) => {
    const at = place(text, random);
    const byte = String.fromCharCode(random.number(256));
    return text.slice(0, at) + random.pick([byte, "", byte + (text[at] ?? "")]) + text.slice(at + 1);
  },
  // Flip a bit.
  (text, random) => {
    const at = place(text, random);
    const code = text.charCodeAt(at) ^ (1 << random.number(8));
    return Number.isNaN(text.charCodeAt(at))
      ? text
      : text.slice(0, at) + String.fromCharCode(code) + text.slice(at + 1);
  },
  // Delete, or repeat, some bytes.
  (text, random) => {
    const [from, to] = range(text, random);
    return random.chance(0.5) ? text.slice(0, from) + text.slice(to) : text.slice(0, to) + text.slice(from);
  },
  // Delete, repeat or move a line, or change the case of its beginning.
  (text, random) => {
    const all = text.split("\r\n");
    const at = random.number(all.length);
    const line = all[at] ?? "";
    const colon = line.indexOf(":") + 1;
    // Not toUpperCase: of a byte above ASCII it makes what is no byte.
    const [from, by] = random.chance(0.5) ? [/[a-z]/g, -32] : [/[A-Z]/g, 32];
    const flipped = line.replaceAll(from, (letter) => String.fromCharCode(letter.charCodeAt(0) + by));
    all.splice(at, 1, ...random.pick([[], [line, line], [flipped.slice(0, colon) + line.slice(colon)], [flipped]]));
    if (random.chance(0.3)) all.splice(random.number(all.length + 1), 0, line);
    return all.join("\r\n");
  },
  // Insert a line, at the beginning of another.
  (text, random) => {
    const at = text.indexOf("\r\n", random.number(text.length));
    return at < 0 ? text : insert(text, at + 2, `${random.pick(lines)}\r\n`);
  },
  // Change a line end.
  (text, random) => {
    const at = text.indexOf("\r\n", random.number(text.length));
    return at < 0
      ? text
      : text.slice(0, at) + random.pick(["\n", "\r", "", "\r\r\n", "\n\r", "\r\n\r\n"]) + text.slice(at + 2);
  },
  // Change a number.
  (text, random) => {
    const found = [...text.matchAll(/(?<=[:\n]\s*)[0-9a-fA-F]+(?=[\r;,])/g)];
    if (found.length === 0) return text;
    const match = random.pick(found);
    const value = Number.parseInt(match[0], 16);
    const near = random.pick([
      (value + 1).toString(16),
      Math.max(value - 1, 0).toString(16),
      match[0].padStart(12, "0"),
    ]);
    const put = random.pick([near, random.pick(numbers), random.pick(sizes), `0${match[0]}`]);
    return text.slice(0, match.index) + put + text.slice(match.index + match[0].length);
  },
  // Make the length right.
  (text) => {
    const match = /^Content-Length:[ \t]*(\d+)/im.exec(text);
    const end = text.indexOf("\r\n\r\n", match?.index);
    if (match === null || end < 0) return text;
    return text.replace(match[0], `Content-Length: ${text.length - end - 4}`);
  },
  // Go on as another one does.
  (text, random, other) => {
    const cut = random.chance(0.5) ? place(text, random) : text.length;
    return text.slice(0, cut) + other.slice(random.chance(0.5) ? 0 : place(other, random));
  },
  // Grow.
  (text, random) => {
    const length = random.pick([300, 4_096 + random.number(40) - 30, 8_192 + random.number(40) - 20, 17_000]);
    const at = text.indexOf("\r\n", random.number(text.length));
    if (at < 0 || random.chance(0.8)) return text;
    return insert(
      text,
      at,
      random.pick(["a".repeat(length), `\r\nX-Long: ${"a".repeat(length)}`, "\r\nX: 1".repeat(length / 6)]),
    );
  },
];

/** Most bytes of an input. */
const limit = 140_000;

/** An input with one to four changes; of `other` parts may come into it. */
export function mutate(input: Input, other: Input, random: Random): Input {
  let { bytes } = input;
  for (let count = 1 + random.number(4); count > 0; count--) {
    const changed = random.pick(changes)(bytes, random, other.bytes);
    // Most changes of who asks end in a refusal that says nothing new.
    const stillKnown = input.kind === "answer" || (changed.includes(host) && changed.includes(credential));
    if (changed.length <= limit && (stillKnown || random.chance(0.03))) bytes = changed;
  }
  if (input.kind === "requests") return { ...input, bytes };
  if (random.chance(0.9)) return { ...input, bytes };
  return {
    ...input,
    bytes,
    asked: random.pick(["GET", "HEAD", "POST", "upgrade"]),
    ends: random.pick(["at once", "later"]),
  };
}

/** Pieces to send an input in. */
export function randomSplit(bytes: string, random: Random): Split {
  const most = random.pick([1, 2, 7, 64, 1024]);
  // Single bytes take long, and what one piece less would show is rare.
  const least = Math.ceil(bytes.length / random.pick([4, 30, 30, 300]));
  const pauses = random.pick([0, 0.05, 0.5]);
  const split = [];
  for (let at = 0; at < bytes.length; ) {
    const length = least + random.number(most);
    split.push({ length, settles: random.chance(pauses) });
    at += length;
  }
  return split;
}

/** Where lines, names and values begin and end, half of the time. */
function place(text: string, random: Random): number {
  const at = random.number(text.length + 1);
  if (random.chance(0.5)) return at;
  const joint = text.slice(at).search(/[\r\n:,;= ]/);
  return joint < 0 ? at : at + joint + random.number(2);
}

function range(text: string, random: Random): [number, number] {
  const from = place(text, random);
  return [from, Math.min(text.length, from + 1 + random.number(random.pick([4, 40, 400])))];
}

function insert(text: string, at: number, what: string): string {
  return text.slice(0, at) + what + text.slice(at);
}
