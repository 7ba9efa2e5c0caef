import { expect, test } from "vitest";
import { code32, frame, literal, startHttp2Proxy } from "../../../test/kit/http2.ts";

// Peers that are slow or rough: nothing is waited for for ever, and what a target may not say does not reach the client. Floods
// are in test/integration/attacks.

type World = Awaited<ReturnType<typeof startHttp2Proxy>>;
type Client = Awaited<ReturnType<World["frames"]>>;

const repeat = (count: number, one: Buffer) => Buffer.concat(Array.from({ length: count }, () => one));

const get = (client: Client, extra?: Buffer) => frame(1, 5, 1, client.get("/x", extra));

test("frames in one-byte pieces are understood, and half a frame is not waited for for ever", async () => {
  await using world = await startHttp2Proxy({ timeouts: { requestHead: 300 } });
  const client = await world.frames();
  for (const byte of frame(1, 5, 1, client.get("/bytes"))) client.send(Buffer.from([byte]));
  expect(await client.until(({ type, id }) => type === 1 && id === 1)).toBeDefined();
  client.send(frame(1, 1, 3, client.get()));
  expect(await client.outcome()).toBe("goaway 1");
});

test("a silent client is closed, and so is one without streams for long", async () => {
  await using world = await startHttp2Proxy({ timeouts: { requestHead: 200, idleClient: 300 } });
  const silent = await world.tls("reverse", ["h2"]);
  const closed = new Promise((resolve) => silent.once("close", resolve));
  silent.resume();
  await closed;
  const idle = await world.frames("reverse");
  expect(await idle.outcome()).toBe("goaway 0");
});

test("a body of which nothing comes is not waited for for ever", async () => {
  await using world = await startHttp2Proxy({ timeouts: { requestBody: 200 } });
  const client = await world.frames();
  client.send(frame(1, 4, 1, client.post("/slow")), frame(0, 0, 1, Buffer.from("x")));
  expect(await client.outcome(1)).toBe("reset 8");
});

/** Each: what a target sends in answer to the first request. */
const answers: [string, Buffer, string | number][] = [
  ["PUSH_PROMISE", frame(5, 4, 1, Buffer.concat([code32(2), Buffer.from([0x88])])), 502],
  ["an answer without a status", frame(1, 5, 1, literal("x-a", "b")), 502],
  [
    "an answer with Transfer-Encoding",
    frame(1, 5, 1, Buffer.concat([Buffer.from([0x88]), literal("transfer-encoding", "chunked")])),
    502,
  ],
  ["an answer 101", frame(1, 5, 1, literal(":status", "101")), 502],
  ["DATA before HEADERS", frame(0, 1, 1, Buffer.from("x")), 502],
  ["an index out of range", frame(1, 5, 1, Buffer.from([0xff, 0x10])), 502],
  ["a line break in a value", frame(1, 5, 1, Buffer.concat([Buffer.from([0x88]), literal("x-a", "b\r\nc: d")])), 502],
  ["nine interim answers", repeat(9, frame(1, 4, 1, literal(":status", "103"))), 502],
  [
    "a body longer than its Content-Length",
    Buffer.concat([
      frame(1, 4, 1, Buffer.concat([Buffer.from([0x88]), literal("content-length", "1")])),
      frame(0, 1, 1, Buffer.from("xx")),
    ]),
    "reset 2",
  ],
  [
    "a body shorter than its Content-Length",
    Buffer.concat([
      frame(1, 4, 1, Buffer.concat([Buffer.from([0x88]), literal("content-length", "3")])),
      frame(0, 1, 1, Buffer.from("xx")),
    ]),
    "reset 2",
  ],
  ["a frame of a stream that was never opened", frame(1, 5, 9, Buffer.from([0x88])), 502],
  ["a frame over 16 KiB", frame(0, 0, 1, Buffer.alloc(16_385)), 502],
];

test.each(answers)("%s from the target does not reach the client", async (_, bytes, outcome) => {
  await using world = await startHttp2Proxy({
    onRawTarget: (socket) => {
      socket.on("error", () => undefined);
      let answered = false;
      socket.on("data", (chunk: Buffer) => {
        if (answered || !chunk.includes("/x")) return;
        answered = true;
        socket.write(Buffer.concat([frame(4, 0, 0), bytes]));
      });
    },
  });
  const client = await world.frames();
  client.send(get(client));
  const head = await client.until(
    ({ type, id, payload }) => type === 3 || (type === 1 && id === 1 && !payload.includes("103")),
  );
  const text = head?.payload.toString("latin1") ?? "";
  const status = text.includes("502") ? 502 : await client.outcome(1);
  expect(status).toBe(outcome);
});
