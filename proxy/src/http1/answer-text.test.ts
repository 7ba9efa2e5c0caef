import { expect, test } from "vitest";
import { createRandom } from "../../../test/kit/random.ts";
import { LastClientCuts } from "../headers.ts";
import { headForClient, linesOfOurs, withBody } from "./answer-text.ts";
import { parseResponseHead } from "./head.ts";

// Most answers go to the client as they came, but for what is cut out of their heads. That has to be, byte for byte, what
// would be written if each line were written anew.

const firstLines = ["HTTP/1.1 200 OK", "HTTP/1.1 200 ", "HTTP/1.1 200", "HTTP/1.0 200 OK", "HTTP/1.1 404 Not Found"];
const headers = [
  "Connection: keep-alive",
  "Connection: X-Named",
  "Keep-Alive: timeout=5",
  "Set-Cookie: a=b",
  "Proxy-Status: x",
  "X-Named: 1",
  "Audit-Id: 0b8f",
  "Empty: ",
  "empty:",
  "No-Blank:1",
  "two-blanks:  1",
  "Trailing: 1 ",
  "Trailing-Only:1 ",
  "Tab:\t1",
  "High: \xff\xa0",
  "Content-Length: 4",
];

test("an answer as it came, without what is cut out, is the one that is written anew", () => {
  const random = createRandom(7);
  const last = new LastClientCuts();
  const counts = { cut: 0, anew: 0 };
  for (let round = 0; round < 5000; round += 1) {
    const lines = Array.from({ length: random.number(6) }, () => random.pick(headers)).filter(
      (line, at, all) => all.indexOf(line) === at,
    );
    const text = [random.pick(firstLines), ...lines].join("\r\n");
    const head = parseResponseHead(text, "GET");
    const bytes = Buffer.from(`${text}\r\n\r\nbody and more`, "latin1");
    const to = text.length + 8;
    const anew = withBody(headForClient(head, ""), bytes, text.length + 4, to).bytes.toString("latin1");
    const cut = headForClient(head, "", last);
    counts[typeof cut === "string" ? "anew" : "cut"] += 1;
    expect(withBody(cut, bytes, text.length + 4, to).bytes.toString("latin1")).toBe(anew);
  }
  expect(counts.cut).toBeGreaterThan(500);
  expect(counts.anew).toBeGreaterThan(500);
});

const headOf = (text: string) => headForClient(parseResponseHead(text, "GET"), "", new LastClientCuts());

test.each([
  "HTTP/1.1 200",
  "HTTP/1.0 200 OK",
  "HTTP/1.1 200 OK\r\nNo-Blank:1",
  "HTTP/1.1 200 OK\r\nTwo-Blanks:  1",
  "HTTP/1.1 200 OK\r\nTrailing: 1 ",
  "HTTP/1.1 200 OK\r\nTab:\t1",
  "HTTP/1.1 200 OK\r\nEmpty:",
  `HTTP/1.1 200 OK${"\r\nSet-Cookie: a".repeat(9)}`,
])("%j is written anew", (text) => {
  expect(headOf(text)).toMatch(/^HTTP\/1\.1 200 /);
});

test.each(["HTTP/1.1 200 OK", "HTTP/1.1 200 ", "HTTP/1.1 200 OK\r\nEmpty: \r\nTab: 1\t2"])(
  "%j goes as it came",
  (text) => {
    expect(headOf(text)).toMatchObject({ cuts: [] });
  },
);

test("lines of ours are added to a head that is written anew", () => {
  const more = linesOfOurs({ warnings: ["first", undefined, "second"], close: true });
  const head = headForClient(parseResponseHead("HTTP/1.1 200 OK\r\nA: b", "GET"), more, new LastClientCuts());
  expect(head).toMatch(
    /^HTTP\/1\.1 200 OK\r\nA: b\r\nWarning: .*first.*\r\nWarning: .*second.*\r\nConnection: close\r\n\r\n$/,
  );
});
