import { createServer, connect, type Socket } from "node:net";
import { once } from "node:events";
import { expect, test } from "vitest";
import { answerWith } from "../../test/kit/servers.ts";
import { requestText, startTestProxy } from "../../test/kit/test-proxy.ts";
import { ReadBuffer } from "./read-buffer.ts";

// All sockets are read into one buffer, so no caller may ever see a byte of another's answer.

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

test("of what many clients say at once, in one piece or two, each target connection gets its own client's only", async () => {
  const size = 5000;
  await using room = await startTestProxy({
    onConnection: (connection) => {
      let said = "";
      connection.socket.on("data", (bytes: Buffer) => {
        said += bytes.toString();
        const end = said.indexOf("\r\n\r\n") + 4;
        if (end < 4 || said.length < end + size) return;
        connection.send(answerWith(said.slice(end)));
        said = "";
      });
    },
  });
  const clients = await Promise.all(
    "abcdefghijklmnopqrst".split("").map(async (letter) => ({ letter, client: await room.forward() })),
  );
  for (const cut of [0, 30, 3000]) {
    const answers = clients.map(async ({ letter, client }) => {
      const whole = requestText("POST", "/", room.authority, `Content-Length: ${size}\r\n`, letter.repeat(size));
      if (cut > 0) {
        client.send(whole.slice(0, cut));
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
      const { body } = await client.ask(whole.slice(cut));
      return { letter, own: body === letter.repeat(size) };
    });
    expect(await Promise.all(answers)).toEqual(clients.map(({ letter }) => ({ letter, own: true })));
  }
});

test.each([
  ["into the one buffer", true],
  ["by events, where a release of Node keeps `onread` elsewhere", false],
])("a socket that came in is read %s, stops when it is paused, and says its end", async (_how, known) => {
  const reads = new ReadBuffer();
  const got: Buffer[] = [];
  const texts: string[] = [];
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as { port: number };
  const incoming = once(server, "connection");
  const client = connect(port, "127.0.0.1");
  const [socket] = (await incoming) as [Socket];
  try {
    if (!known) Reflect.set(Reflect.get(socket, "_handle") as object, "useUserBuffer", undefined);
    reads.readFrom(socket, (bytes) => {
      got.push(bytes);
      texts.push(bytes.toString());
    });
    for (const text of ["one", "two"]) {
      client.write(text);
      await expect.poll(() => texts.at(-1)).toBe(text);
    }
    // Were it not so where it should be, this Node keeps `onread` elsewhere, and each read costs a buffer and an event more.
    expect(got[1]?.buffer === got[0]?.buffer).toBe(known);
    socket.pause();
    client.write("three");
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(texts).toEqual(["one", "two"]);
    socket.resume();
    await expect.poll(() => texts).toEqual(["one", "two", "three"]);
    const ended = once(socket, "end");
    client.end();
    await ended;
  } finally {
    client.destroy();
    socket.destroy();
    server.close();
  }
});
