import { describe, expect, test } from "vitest";
import { BodyFramer } from "./body.ts";

// The framer says where a body ends, however its bytes are cut, and throws on every chunk framing that two parsers could
// read in two ways.

function framer(kind: "none" | "length" | "chunked" | "eof", length = 0): BodyFramer {
  const made = new BodyFramer((name) => name !== "content-length");
  made.begin(kind, length);
  return made;
}

/** How many bytes belong to the body when they come in pieces of that size. */
function taken(made: BodyFramer, text: string, piece: number): number {
  const bytes = Buffer.from(text, "latin1");
  let offset = 0;
  while (offset < bytes.length && !made.done) {
    const part = bytes.subarray(offset, Math.min(offset + piece, bytes.length));
    const end = made.take(part, 0);
    offset += end;
    if (end < part.length) break;
  }
  return offset;
}

const pieces = [1, 2, 3, 7, 1000];

describe.each(pieces)("in pieces of %i bytes", (piece) => {
  test.each([
    ["5\r\nhello\r\n0\r\n\r\n", true],
    ["A\r\n0123456789\r\n1\r\nx\r\n0\r\n\r\n", true],
    ["00000000001\r\nx\r\n0\r\n\r\n", true],
    ["0\r\nX-Trailer: 1\r\nY:\r\n\r\n", true],
    ["5\r\nhel", false],
    [`0\r\nX: ${"1".repeat(4096 - 7)}\r\n\r\n`, true],
    ["0\r\n", false],
  ])("a chunked body %j ends where it ends: %s", (body, done) => {
    const made = framer("chunked");
    expect(taken(made, `${body}${done ? "GET /next" : ""}`, piece)).toBe(body.length);
    expect(made.done).toBe(done);
  });

  test.each([
    "\r\n",
    "g\r\n",
    "-1\r\n",
    "+1\r\n",
    "0x1\r\n",
    " 1\r\nx\r\n",
    "1 \r\nx\r\n",
    "1;ext\r\nx\r\n",
    '1;ext="a"\r\nx\r\n',
    "1\nx\r\n",
    "1\rx",
    "1\r\nxy\r\n",
    "1\r\nx\n",
    "1\r\nx\rz",
    "1000000000000\r\n",
    "0000000000000\r\n",
    "0\r\n\n",
    "0\r\nX: 1\n\r\n",
    "0\r\nX : 1\r\n\r\n",
    "0\r\n folded\r\n\r\n",
    "0\r\nContent-Length: 5\r\n\r\n",
    `0\r\nX: ${"1".repeat(4096 - 6)}\r\n\r\n`,
    `0\r\n${"X: 1\r\n".repeat(2000)}\r\n`,
  ])("%j is refused", (body) => {
    expect(() => taken(framer("chunked"), body, piece)).toThrow(/malformed/);
  });

  test.each(["0\r\n\rG", "0\r\nX: 1\rY: 2", "0\r\nX: \0", "0\r\nX\x7f"])(
    "of a trailer line nothing goes on that a line may not have, although its end has not come: %j",
    (body) => {
      expect(() => taken(framer("chunked"), body, piece)).toThrow(/malformed/);
    },
  );

  test("a body with a length ends at it", () => {
    const made = framer("length", 5);
    expect(taken(made, "helloGET /", piece)).toBe(5);
    expect(made.done).toBe(true);
  });
});

test("a chunked body can end cleanly only between two chunks", () => {
  const made = framer("chunked");
  const between = ["3\r\nabc\r\n", "3", "\r\n", "ab", "c\r\n", "0\r\n", "\r\n"].map((part) => {
    made.take(Buffer.from(part), 0);
    return made.betweenChunks;
  });
  expect(between).toEqual([true, false, false, false, true, false, false]);
});

test("a body without a length takes all", () => {
  const made = framer("eof");
  expect(taken(made, "anything", 3)).toBe(8);
  expect(made.done).toBe(false);
});

test("no body is done at once", () => {
  expect(framer("none").done).toBe(true);
});
