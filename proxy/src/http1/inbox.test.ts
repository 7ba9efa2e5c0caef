import { expect, test } from "vitest";
import { Inbox } from "./inbox.ts";

// The inbox gives back heads and bytes exactly as they came, however they were cut.

test.each([1, 2, 3, 5, 100])("heads and what follows come out whole when they come in pieces of %i", (piece) => {
  const inbox = new Inbox();
  const text = "GET /1\r\nA: b\r\n\r\nGET /2\r\n\r\nrest";
  const heads: string[] = [];
  for (let at = 0; at < text.length; at += piece) {
    inbox.add(Buffer.from(text.slice(at, at + piece)));
    for (let taken = inbox.takeHead(); typeof taken === "object"; taken = inbox.takeHead()) heads.push(taken.text);
  }
  expect(heads).toEqual(["GET /1\r\nA: b", "GET /2"]);
  expect(inbox.takeAll().toString()).toBe("rest");
  expect(inbox.length).toBe(0);
});

test.each([1, 7, 16, 40])("what is kept of a lent buffer stays, cut at %i, whatever is written over it", (cut) => {
  const inbox = new Inbox();
  const text = "GET /1\r\nA: b\r\n\r\nGET /2\r\n\r\nrest of it all";
  const lent = Buffer.alloc(64);
  const heads: string[] = [];
  for (const piece of [text.slice(0, cut), text.slice(cut)]) {
    lent.write(piece);
    inbox.add(lent.subarray(0, piece.length));
    for (let taken = inbox.takeHead(); typeof taken === "object"; taken = inbox.takeHead()) heads.push(taken.text);
    inbox.keep();
    lent.fill("x");
  }
  expect(heads).toEqual(["GET /1\r\nA: b", "GET /2"]);
  expect(inbox.takeAll().toString()).toBe("rest of it all");
});

const lines = "A: b\r\nC: d\r\n\r\n";

test.each([1, 2, 3, 9, 20, 100])(
  "of a head whose other lines are known the first is enough, in pieces of %i",
  (piece) => {
    const inbox = new Inbox();
    const text = `GET /1\r\n${lines}GET /2\r\nA: c\r\n\r\nGET /3\r\n${lines}rest`;
    const heads: unknown[] = [];
    for (let at = 0; at < text.length; at += piece) {
      inbox.add(Buffer.from(text.slice(at, at + piece)));
      for (let taken = inbox.takeHead(Buffer.from(lines)); typeof taken === "object"; ) {
        heads.push([taken.text.replace("\r\nA: b\r\nC: d", taken.again ? "?" : ""), taken.size]);
        taken = inbox.takeHead(Buffer.from(lines));
      }
    }
    // Whether it was found `again` is only a matter of speed.
    expect(heads).toEqual([
      ["GET /1", 18],
      ["GET /2\r\nA: c", 12],
      ["GET /3", 18],
    ]);
    expect(inbox.takeAll().toString()).toBe("rest");
  },
);

test.each([
  ["as they are", `GET /\r\n${lines}`, "GET /", true],
  ["with more behind", `GET /\r\n${lines}GET /2`, "GET /", true],
  ["behind an empty line", `\r\n${lines}`, "", true],
  ["with another line before them", `GET /\r\nX: y\r\n${lines}`, "GET /\r\nX: y\r\nA: b\r\nC: d", false],
  ["with another value", `GET /\r\n${lines.replace("b", "B")}`, "GET /\r\nA: B\r\nC: d", false],
  ["behind a bare LF", `GET /\n${lines}`, "GET /\nA: b\r\nC: d", false],
  ["without a first line", lines, "A: b\r\nC: d", false],
])("known lines are found again only where they stand whole: %s", (_what, bytes, text, again) => {
  const inbox = new Inbox();
  inbox.add(Buffer.from(bytes));
  expect(inbox.takeHead(Buffer.from(lines))).toMatchObject({ text, again });
});

test("known lines that are cut short are not found", () => {
  const inbox = new Inbox();
  inbox.add(Buffer.from(`GET /\r\n${lines.slice(0, -1)}`));
  expect(inbox.takeHead(Buffer.from(lines))).toBe("incomplete");
});

test.each(["GET / HTTP/1.1\nHost: a\n\n", "\n", "GET /\r\nA: b\n"])(
  "%j is told apart from a head that has not all come",
  (text) => {
    const inbox = new Inbox();
    const answers = Array.from(text, (character) => {
      inbox.add(Buffer.from(character));
      return inbox.takeHead();
    });
    expect(answers).toContain("bareLf");
  },
);

test("a head in single bytes costs as much per byte when it is long", () => {
  const once = (bytes: number) => {
    const inbox = new Inbox();
    const started = performance.now();
    for (let i = 0; i < bytes; i++) {
      inbox.add(Buffer.from("x"));
      if (inbox.takeHead() !== "incomplete") throw new Error("there is no end yet");
    }
    return performance.now() - started;
  };
  // The best of a few: whatever else the machine does only adds.
  const feed = (bytes: number) => Math.min(...Array.from({ length: 5 }, () => once(bytes)));
  feed(8_192);
  // Copying or searching anew with each byte would make it sixty-four times.
  expect(feed(65_536) / Math.max(feed(8_192), 0.5)).toBeLessThan(32);
});
