import { expect, test } from "vitest";
import { frame } from "../../../test/kit/http2.ts";
import { FrameReader } from "./frames.ts";

// Bytes → frames, however they are cut: DATA passes as it comes, all else is given whole.

function read(pieces: Buffer[]) {
  const seen: string[] = [];
  let data = "";
  const reader = new FrameReader({
    frame: (type, flag, id, payload) => void seen.push(`frame ${type} ${flag} ${id} ${payload.toString("latin1")}`),
    headers: (id, end, { bytes, from, to, dependsOn }) =>
      void seen.push(`headers ${id} ${end} ${bytes.toString("latin1", from, to)} ${dependsOn}`),
    dataBegins: (id, length, end) => void seen.push(`data ${id} ${length} ${end}`),
    dataBytes: (_, bytes, last) => {
      data += bytes.toString("latin1");
      if (last) {
        seen.push(data);
        data = "";
      }
    },
  });
  for (const piece of pieces) reader.read(piece);
  return seen;
}

const settings = frame(4, 0, 0);
const all = Buffer.concat([
  settings,
  frame(1, 4, 1, Buffer.from("block")),
  frame(1, 1, 3, Buffer.from("one ")),
  frame(9, 0, 3, Buffer.from("two ")),
  frame(9, 4, 3, Buffer.from("three")),
  frame(1, 0x2c, 5, Buffer.from("\x03\x00\x00\x00\x07\x10padded\x00\x00\x00", "latin1")),
  frame(0, 0, 1, Buffer.from("body")),
  frame(0, 9, 1, Buffer.from("\x02more\x00\x00", "latin1")),
  frame(0, 1, 3),
  frame(6, 0, 0, Buffer.from("pingpong")),
]);
const seen = [
  "frame 4 0 0 ",
  "headers 1 false block -1",
  "headers 3 true one two three -1",
  "headers 5 false padded 7",
  "data 1 4 false",
  "body",
  "data 1 7 true",
  "more",
  "data 3 0 true",
  "",
  "frame 6 0 0 pingpong",
];

test("frames come out the same in whatever pieces they come in", () => {
  expect(read([all])).toEqual(seen);
  expect(read([...all].map((byte) => Buffer.from([byte])))).toEqual(seen);
  for (let size = 2; size < 40; size++) {
    const pieces = [];
    for (let at = 0; at < all.length; at += size) pieces.push(all.subarray(at, at + size));
    expect(read(pieces)).toEqual(seen);
  }
});

test.each([
  ["a frame over 16,384 bytes", [settings, frame(0, 0, 1, Buffer.alloc(16_385))], "FRAME_SIZE_ERROR"],
  ["a first frame that is no SETTINGS", [frame(6, 0, 0, Buffer.alloc(8))], "PROTOCOL_ERROR"],
  ["DATA on stream 0", [settings, frame(0, 0, 0)], "PROTOCOL_ERROR"],
  ["HEADERS on stream 0", [settings, frame(1, 4, 0)], "PROTOCOL_ERROR"],
  ["CONTINUATION after nothing", [settings, frame(9, 4, 1)], "PROTOCOL_ERROR"],
  ["another frame inside of a block", [settings, frame(1, 0, 1), frame(6, 0, 0, Buffer.alloc(8))], "PROTOCOL_ERROR"],
  ["CONTINUATION of another stream", [settings, frame(1, 0, 1), frame(9, 4, 3)], "PROTOCOL_ERROR"],
  ["padding as long as its frame", [settings, frame(0, 8, 1, Buffer.from([1]))], "PROTOCOL_ERROR"],
  ["padding of HEADERS that is too long", [settings, frame(1, 12, 1, Buffer.from([9, 1]))], "PROTOCOL_ERROR"],
  ["a padded frame without a length of it", [settings, frame(0, 8, 1)], "FRAME_SIZE_ERROR"],
  ["a priority that is cut off", [settings, frame(1, 0x24, 1, Buffer.alloc(4))], "FRAME_SIZE_ERROR"],
  [
    "nine CONTINUATIONs",
    [settings, frame(1, 0, 1), ...Array.from({ length: 9 }, () => frame(9, 0, 1))],
    "ENHANCE_YOUR_CALM",
  ],
  [
    "a block over 64 KiB",
    [settings, frame(1, 0, 1), ...Array.from({ length: 5 }, () => frame(9, 0, 1, Buffer.alloc(16_384)))],
    "ENHANCE_YOUR_CALM",
  ],
])("%s ends the connection", (_, frames, code) => {
  expect(() => read([Buffer.concat(frames)])).toThrow(expect.objectContaining({ code, stream: 0 }));
});
