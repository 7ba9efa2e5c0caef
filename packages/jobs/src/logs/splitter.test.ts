// The kubelet's bytes become records: the same ones wherever the chunks are cut, and without a secret in any of them.
import { Secret } from "@kube-connector/core";
import { expect, test } from "vitest";
import { createRandom } from "../../../../test/kit/random.ts";
import { createMasks } from "./mask.ts";
import { LineSplitter, type StreamLine } from "./splitter.ts";

const at = "2026-03-01T10:00:00.123456789Z";

function split(chunks: readonly Buffer[], lineBytes = 1_000, secrets: readonly string[] = []) {
  const splitter = new LineSplitter(lineBytes, createMasks(secrets.map((one) => new Secret(one))));
  const lines: StreamLine[] = [];
  const take = (line: StreamLine) => lines.push({ ...line, record: Buffer.from(line.record) });
  for (const chunk of chunks) splitter.feed(chunk, take);
  return { lines, splitter, end: () => splitter.end(take) };
}

/** Lines with their pieces put together. */
function texts(lines: readonly StreamLine[]): string[] {
  const whole: string[] = [];
  for (const { record, first } of lines) {
    const text = record.subarray(31, -1).toString("latin1");
    if (first) whole.push(text);
    else whole.push(`${whole.pop()}${text}`);
  }
  return whole;
}

test("records are the same wherever the chunks are cut, also those of long lines", () => {
  const random = createRandom(1);
  const bodies = Array.from({ length: 60 }, () =>
    Buffer.from(Array.from({ length: random.number(random.chance(0.2) ? 900 : 40) }, () => 11 + random.number(245))),
  );
  const bytes = Buffer.concat(bodies.map((body) => Buffer.concat([Buffer.from(`${at} `), body, Buffer.of(10)])));
  for (let round = 0; round < 50; round += 1) {
    const chunks: Buffer[] = [];
    for (let from = 0; from < bytes.length; ) {
      const to = from + 1 + random.number(random.chance(0.5) ? 5 : 500);
      chunks.push(bytes.subarray(from, to));
      from = to;
    }
    const { lines, splitter } = split(chunks, 100);
    expect(texts(lines)).toEqual(bodies.map((body) => body.toString("latin1")));
    for (const { record, last } of lines) {
      expect(record.length).toBeLessThanOrEqual(132);
      expect(record[30]).toBe(last ? 0x20 : 0x2b);
    }
    expect(splitter.unfinished).toBe(0);
  }
});

test("a secret is hidden wherever the chunks and the pieces are cut", () => {
  const random = createRandom(2);
  const secret = "s3cr3t-value";
  for (let round = 0; round < 200; round += 1) {
    const body = `${"x".repeat(random.number(300))}${secret}${"y".repeat(random.number(300))}${secret}`;
    const bytes = Buffer.from(`${at} ${body}\n`);
    const chunks: Buffer[] = [];
    for (let from = 0; from < bytes.length; from += 1 + random.number(9)) {
      const start = chunks.reduce((sum, { length }) => sum + length, 0);
      chunks.push(bytes.subarray(start, start + 1 + random.number(9)));
    }
    chunks.push(bytes.subarray(chunks.reduce((sum, { length }) => sum + length, 0)));
    const { lines } = split(chunks, 50, [secret, "s3cr3t"]);
    expect(texts(lines)).toEqual([body.replaceAll(secret, "***")]);
  }
});

test("what has no end yet is no line, until the program has ended", () => {
  const { lines, splitter, end } = split([Buffer.from(`${at} one\n${at} tw`)]);
  expect(texts(lines)).toEqual(["one"]);
  expect(splitter.unfinished).toBe(33);
  end();
  expect(texts(lines)).toEqual(["one", "tw"]);
});

test("a time in another form is brought into ours; a line without time is the kubelet's own", () => {
  const { lines } = split([Buffer.from("2026-03-01T11:00:00.5+01:00 one\nunable to retrieve container logs\n\n")]);
  expect(lines.map(({ stamp }) => stamp)).toEqual(["2026-03-01T10:00:00.500000000Z", undefined, undefined]);
  expect(lines[0]?.record.toString()).toBe("2026-03-01T10:00:00.500000000Z one\n");
  expect(lines[1]?.record.toString()).toBe("unable to retrieve container logs");
});

test("a line without time and without end takes no memory", () => {
  const { lines, splitter } = split(
    Array.from({ length: 100 }, () => Buffer.alloc(1_000, "x")),
    100,
  );
  expect(lines).toEqual([]);
  splitter.feed(Buffer.from("\n"), (line) => lines.push(line));
  expect(lines.map(({ record }) => record.length)).toEqual([100]);
});

test("a piece does not end within a character", () => {
  const { lines } = split([Buffer.from(`${at} ${"ä".repeat(400)}\n`)], 101);
  for (const { record } of lines) expect(record.toString()).not.toContain("\ufffd");
  expect(Buffer.from(texts(lines)[0] ?? "", "latin1").toString()).toBe("ä".repeat(400));
});
