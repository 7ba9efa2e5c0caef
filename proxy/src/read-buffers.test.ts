import { expect, test } from "vitest";
import { requestText, startTestProxy } from "../../test/kit/test-proxy.ts";
import { ReadBuffers } from "./read-buffers.ts";

// Buffers are used again, for whoever reads next: so nothing may be written over bytes that somebody may still look at, and
// no caller ever sees a byte of another's answer.

/** Reads as a socket does: fills the buffer, then says how much. */
function createReading() {
  const got: { bytes: Buffer; release: () => void }[] = [];
  const reader = new ReadBuffers().reader((bytes, release) => got.push({ bytes, release }));
  const into = reader.buffer as Buffer;
  return {
    got,
    read: (letter: string, count: number) => {
      into.fill(letter, 0, count);
      reader.callback(count, into);
      const last = got.at(-1);
      if (last === undefined) throw new Error("nothing came");
      return last;
    },
  };
}

test.each([1, 100, 4095, 4096, 16_383, 16_384])("%d bytes stay as they were until they are released", (count) => {
  const { got, read } = createReading();
  for (const letter of "abcdefgh") read(letter, count);
  expect(got.map(({ bytes }) => bytes.toString())).toEqual("abcdefgh".split("").map((letter) => letter.repeat(count)));
});

test("a released buffer is used again, by one reader only, however often it was released", () => {
  const { read } = createReading();
  const first = read("a", 16_384);
  first.release();
  first.release();
  const [second, third] = [read("b", 16_384), read("c", 16_384)];
  expect(second.bytes.buffer).toBe(first.bytes.buffer);
  expect(third.bytes.buffer).not.toBe(second.bytes.buffer);
  first.release();
  expect(read("d", 16_384).bytes.buffer).not.toBe(second.bytes.buffer);
  expect([second, third].map(({ bytes }) => bytes.toString("latin1", 0, 1))).toEqual(["b", "c"]);
});

test("of long answers to many callers at once, slow ones and such as leave, each gets its own bytes only", async () => {
  const size = 3_000_000;
  await using room = await startTestProxy({
    onConnection: (connection) => {
      connection.socket.on("data", (bytes: Buffer) => {
        const letter = /^GET \/(\w)/.exec(bytes.toString())?.[1] ?? "?";
        connection.send(`HTTP/1.1 200 OK\r\nContent-Length: ${size}\r\n\r\n`);
        connection.socket.write(letter.repeat(size));
      });
    },
  });
  const callers = await Promise.all(
    "abcdef".split("").map(async (letter) => ({ letter, client: await room.forward() })),
  );
  const slow = setInterval(() => {
    for (const { letter, client } of callers)
      if (letter < "d") client.socket[client.socket.isPaused() ? "resume" : "pause"]();
  }, 5);
  try {
    const leaving = await Promise.all([1, 2, 3].map(() => room.forward()));
    for (const client of leaving) client.send(requestText("GET", "/z", room.authority));
    const answers = callers.map(async ({ letter, client }) => {
      const { body } = await client.ask(requestText("GET", `/${letter}`, room.authority));
      return { letter, own: body === letter.repeat(size) };
    });
    for (const client of leaving) {
      await client.until("zzzz");
      client.socket.destroy();
    }
    expect(await Promise.all(answers)).toEqual("abcdef".split("").map((letter) => ({ letter, own: true })));
  } finally {
    clearInterval(slow);
  }
});
