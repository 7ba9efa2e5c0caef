import { expect, test } from "vitest";
import { Http2Error } from "./errors.ts";
import { type Field, indexedField, plainField, secretField } from "./field.ts";
import { HpackDecoder } from "./hpack-decoder.ts";
import { HpackEncoder } from "./hpack-encoder.ts";

// HPACK as RFC 7541 has it: its own examples decode to what it says, each block changes the table for the next; what makes
// no sense is a COMPRESSION_ERROR, and what HTTP does not allow is only marked, for the table must go on.

const hex = (text: string) => Buffer.from(text.replaceAll(" ", ""), "hex");
const create = (limit = 65_536) => new HpackDecoder(limit);
const list = (decoder: HpackDecoder, text: string) =>
  decoder.decode(hex(text)).fields.map(({ name, value }) => `${name}: ${value}`);

test("appendix C.2: single fields", () => {
  expect(list(create(), "400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572")).toEqual([
    "custom-key: custom-header",
  ]);
  expect(list(create(), "040c 2f73 616d 706c 652f 7061 7468")).toEqual([":path: /sample/path"]);
  const [secret] = create().decode(hex("1008 7061 7373 776f 7264 0673 6563 7265 74")).fields;
  expect(secret).toMatchObject({ name: "password", value: "secret", indexing: "never" });
  expect(list(create(), "82")).toEqual([":method: GET"]);
});

const requests = [
  [":method: GET", ":scheme: http", ":path: /", ":authority: www.example.com"],
  [":method: GET", ":scheme: http", ":path: /", ":authority: www.example.com", "cache-control: no-cache"],
  [":method: GET", ":scheme: https", ":path: /index.html", ":authority: www.example.com", "custom-key: custom-value"],
];

test.each([
  [
    "C.3, plain",
    [
      "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
      "8286 84be 5808 6e6f 2d63 6163 6865",
      "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65",
    ],
  ],
  [
    "C.4, Huffman",
    [
      "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
      "8286 84be 5886 a8eb 1064 9cbf",
      "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
    ],
  ],
])("appendix %s: requests on one connection", (_, blocks) => {
  const decoder = create();
  expect(blocks.map((block) => list(decoder, block))).toEqual(requests);
});

test("appendix C.6: a table of 256 bytes evicts", () => {
  const decoder = create();
  const first =
    "4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e 919d 29ad 1718 63c7 8f0b 97c8 e9ae 82ae 43d3";
  expect(list(decoder, `3fe101 ${first}`)).toEqual([
    ":status: 302",
    "cache-control: private",
    "date: Mon, 21 Oct 2013 20:13:21 GMT",
    "location: https://www.example.com",
  ]);
  expect(list(decoder, "4883 640e ffc1 c0bf")[0]).toBe(":status: 307");
  const third =
    "88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad 94e7 821d d7f2 e6c7 b335 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed 4ee5 b106 3d50 07";
  expect(list(decoder, third)).toEqual([
    ":status: 200",
    "cache-control: private",
    "date: Mon, 21 Oct 2013 20:13:22 GMT",
    "location: https://www.example.com",
    "content-encoding: gzip",
    "set-cookie: foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1",
  ]);
  expect(() => decoder.decode(hex("c1"))).toThrow("beyond the table");
});

test.each([
  ["index 0", "80"],
  ["an index beyond the table", "be"],
  ["an integer that is cut off", "ff"],
  ["an integer that is too large", "ffffffffffff7f"],
  ["a string that is cut off", "000361"],
  ["a string that is missing", "00"],
  ["a table size above 4096", "3fe2 1f"],
  ["a table size after a field", "82 20"],
  ["three table sizes", "20 20 20"],
  ["Huffman padding of eight ones", "00 82 1fff 00"],
  ["Huffman padding of zeros", "00 81 18 00"],
  ["EOS in a string", "00 84 ffff ffff 00"],
])("%s is a compression error", (_, block) => {
  const failing = () => create().decode(hex(block));
  expect(failing).toThrow(Http2Error);
  expect(failing).toThrow(expect.objectContaining({ code: "COMPRESSION_ERROR", stream: 0 }));
});

test.each([
  ["an upper-case name", "40 01 41 01 62"],
  ["an empty name", "40 00 01 62"],
  ["a colon inside a name", "40 03 613a62 01 62"],
  ["a space in a name", "40 03 612062 01 62"],
  ["a line break in a value", "40 01 61 03 620d0a"],
  ["a NUL in a value", "40 01 61 03 620063"],
  ["a blank at the end of a value", "40 01 61 02 6220"],
  ["a blank at the start of a value", "40 01 61 02 2062"],
])("%s is marked, and the table goes on", (_, block) => {
  const decoder = create();
  expect(decoder.decode(hex(block)).fields).toMatchObject([{ malformed: true }]);
  expect(decoder.decode(hex("be")).fields).toMatchObject([{ malformed: true }]);
});

test("a list above the limit is known as such, and one twice as large ends the connection", () => {
  const entry = Buffer.concat([hex("40 01 61 7f 81 01"), Buffer.alloc(256, 0x62)]); // 289 bytes
  const block = Buffer.concat([entry, Buffer.alloc(3, 0xbe)]);
  expect(create(1000).decode(block)).toMatchObject({ tooLarge: true });
  expect(create(1200).decode(block)).toMatchObject({ tooLarge: false });
  const bomb = Buffer.concat([entry, Buffer.alloc(16_000, 0xbe)]);
  expect(() => create(65_536).decode(bomb)).toThrow(expect.objectContaining({ code: "ENHANCE_YOUR_CALM" }));
});

test("a field that goes into no table is the same object for as long as the same bytes come, and only then", () => {
  const decoder = create();
  const one = (text: string) => decoder.decode(hex(text)).fields[0];
  const secret = "1f08 0341 4243"; // authorization: ABC, never indexed
  const first = one(secret);
  expect(first).toMatchObject({ name: "authorization", value: "ABC", indexing: "never" });
  expect(one(secret)).toBe(first);
  expect(one("1f08 0341 4244")).toMatchObject({ value: "ABD" });
  expect(one("0f08 0341 4244")).toMatchObject({ value: "ABD", indexing: "plain" });
  expect(one("1f08 0341 4243")).toMatchObject({ value: "ABC", indexing: "never" });
  expect(one("1f08 0241 42")).toMatchObject({ value: "AB" });
  expect(one("1f08 00")).toMatchObject({ value: "" });
  expect(one("1f09 0341 4243")).toMatchObject({ name: "cache-control", value: "ABC" });
  // What is cut off is cut off, also where the same bytes came before.
  one(secret);
  expect(() => decoder.decode(hex("1f08 0341 42"))).toThrow(expect.objectContaining({ code: "COMPRESSION_ERROR" }));
  // A long one is decoded anew each time, or pushes the others out.
  const long = Buffer.concat([hex("1f08 7f81 1f"), Buffer.alloc(4096, 0x61)]);
  expect(decoder.decode(long).fields[0]).toMatchObject({ value: "a".repeat(4096) });
  expect(decoder.decode(long).fields[0]?.value.length).toBe(4096);
});

test("a field that is written out again goes into the table again, whatever its name is written as", () => {
  const decoder = create();
  const one = (text: string) => decoder.decode(hex(text)).fields;
  const server = "7603 6162 63"; // server: abc, indexed
  const etag = "4003 7461 6701 78"; // tag: x, indexed
  const [first] = one(server);
  expect(one(server)[0]).toBe(first);
  const [own] = one(etag);
  expect(own).toMatchObject({ name: "tag", value: "x", indexing: "index" });
  expect(one(etag)[0]).toBe(own);
  expect(one("0003 7461 6701 78")[0]).toMatchObject({ name: "tag", value: "x", indexing: "plain" });
  // Another name of the same length.
  expect(one("4003 7461 6801 78")[0]).toMatchObject({ name: "tah", value: "x" });
  expect(one("bebf c0c1 c2").map(({ name }) => name)).toEqual(["tah", "tag", "tag", "server", "server"]);
  expect(() => one("c3")).toThrow("beyond the table");
  // A name by the table is another one when the table has changed.
  expect(one("0f2f 0179")[0]).toMatchObject({ name: "tah", value: "y" });
  one(server);
  expect(one("0f2f 0179")[0]).toMatchObject({ name: "server", value: "y" });
});

/** A block of these fields, as bytes of its own. */
function encoded(encoder: HpackEncoder, fields: Field[]): Buffer {
  const { bytes, length } = encoder.encode(fields);
  return Buffer.from(bytes.subarray(0, length));
}

/** Decodes what the encoder made of these fields. */
function through(encoder: HpackEncoder, decoder: HpackDecoder, fields: Field[]) {
  const block = encoded(encoder, fields);
  return { bytes: block, fields: decoder.decode(block).fields };
}

test("what was indexed is indexed again, and shrinks to a byte", () => {
  const encoder = new HpackEncoder();
  const decoder = create();
  const fields = [indexedField("x-a", "one"), indexedField("user-agent", "kubectl")];
  const first = through(encoder, decoder, fields);
  const second = through(encoder, decoder, fields);
  expect(first.bytes.length).toBeGreaterThan(10);
  expect(second.bytes.length).toBe(2);
  expect(second.fields).toMatchObject([{ name: "x-a" }, { name: "user-agent", value: "kubectl" }]);
});

test("a credential goes into no table", () => {
  const encoder = new HpackEncoder();
  const first = encoded(encoder, [secretField("authorization", "Bearer t"), plainField("x-a", "b")]);
  const second = encoded(encoder, [secretField("authorization", "Bearer t"), plainField("x-a", "b")]);
  expect(first).toEqual(second);
  expect(first[0]).toBe(0x1f);
  expect(create().decode(first).fields).toMatchObject([{ indexing: "never" }, { indexing: "plain" }]);
});

test("after a smaller table size the next block begins with it, the smallest first", () => {
  const encoder = new HpackEncoder();
  const decoder = create();
  const fields = [indexedField("x-a", "one")];
  through(encoder, decoder, fields);
  encoder.limitTable(0);
  encoder.limitTable(256);
  encoder.limitTable(1_000_000);
  const { bytes } = through(encoder, decoder, fields);
  expect([...bytes.subarray(0, 4)]).toEqual([0x20, 0x3f, 0xe1, 0x1f]);
  encoder.limitTable(0);
  const bare = through(encoder, decoder, fields);
  expect(bare.bytes[0]).toBe(0x20);
  expect(through(encoder, decoder, fields).bytes.length).toBe(bare.bytes.length - 1);
});

test("random lists come back as they were, at every table size", () => {
  let seed = 42;
  const random = (most: number) => {
    seed = (seed * 1_103_515_245 + 12_345) % 2_147_483_648;
    return Math.floor((seed / 2_147_483_648) * most);
  };
  const encoder = new HpackEncoder();
  const decoder = create(1_000_000);
  const known: Field[] = [];
  for (let block = 0; block < 3000; block++) {
    if (random(20) === 0) encoder.limitTable(random(6) * 900);
    const fields = Array.from({ length: random(12) }, () => {
      const old = known[random(known.length)];
      if (old !== undefined && random(2) === 0) return old;
      const make = [indexedField, plainField, secretField][random(3)] ?? plainField;
      const field = make(`x-${random(50)}`, "v".repeat(random(300)) + String(random(1000)));
      known.push(field);
      return field;
    });
    const text = (all: readonly Field[]) => all.map(({ name, value }) => `${name}: ${value}`);
    expect(text(through(encoder, decoder, fields).fields)).toEqual(text(fields));
  }
});
