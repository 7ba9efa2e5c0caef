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

test("a head of 64 KiB in single bytes costs little", () => {
  const inbox = new Inbox();
  const started = performance.now();
  for (let i = 0; i < 65_536; i++) {
    inbox.add(Buffer.from("x"));
    expect(typeof inbox.takeHead()).toBe("string");
  }
  expect(performance.now() - started).toBeLessThan(3000);
});
