// A Secret does not print itself, whatever is done to it.
import { format, inspect } from "node:util";
import { expect, test } from "vitest";
import { createJsonLog } from "./log.ts";
import { Secret } from "./secret.ts";

const mark = "s3cr3t-mark";

test("no way of printing shows the text", () => {
  const secret = new Secret(mark);
  const printed = [
    String(secret),
    JSON.stringify({ secret }),
    inspect({ deep: { secret } }, { showHidden: true, depth: 9 }),
    format("%s %o %O %j", secret, secret, secret, secret),
    Object.entries(secret).join(","),
    JSON.stringify(Object.assign({}, secret)),
  ];
  for (const text of printed) expect(text).not.toContain(mark);
  expect(secret.reveal()).toBe(mark);
});

test("a log line with an error shows its messages only, none of its properties", () => {
  const lines: string[] = [];
  const log = createJsonLog("debug", { room: "test" }, { write: (line) => lines.push(line) });
  const error = Object.assign(new Error("outer", { cause: new Error("inner") }), { headers: { authorization: mark } });
  log.with({ connector: "a/b" }).error("It failed", { error });
  expect(lines.join("")).toContain("outer; because of Error: inner");
  expect(lines.join("")).toContain('"connector":"a/b"');
  expect(lines.join("")).not.toContain(mark);
});
