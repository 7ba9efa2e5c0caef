import { setTimeout as sleep } from "node:timers/promises";
import type { TLSSocket } from "node:tls";
import { describe, expect, test } from "vitest";
import {
  code32,
  frame,
  http2Relays,
  type Http2ProxyOptions,
  literal,
  startHttp2Proxy,
} from "../../../test/kit/http2.ts";

// Peers that are slow or rough: nothing is waited for for ever, and what a target may not say does not reach the client. Floods
// are in test/integration/attacks.

type World = Awaited<ReturnType<typeof startHttp2Proxy>>;
type Client = Awaited<ReturnType<World["frames"]>>;

const repeat = (count: number, one: Buffer) => Buffer.concat(Array.from({ length: count }, () => one));

/** Whether a HEADERS frame is among what a client sends at once. */
function hasHeaders(bytes: Buffer): boolean {
  let at = bytes.subarray(0, 3).toString() === "PRI" ? 24 : 0;
  while (at + 9 <= bytes.length && bytes[at + 3] !== 1) at += 9 + bytes.readUIntBE(at, 3);
  return at + 9 <= bytes.length;
}

const get = (client: Client, extra?: Buffer) => frame(1, 5, 1, client.get("/x", extra));

/** Each: what a target sends in answer to the first request, how that ends, and how by node:http2, and why. */
const answers: [string, Buffer, string | number, { node: string | number; why: string }?][] = [
  [
    "PUSH_PROMISE",
    frame(5, 4, 1, Buffer.concat([code32(2), Buffer.from([0x88])])),
    502,
    { node: "nothing", why: "nghttp2 refuses the stream that is pushed, and the request goes on" },
  ],
  ["an answer without a status", frame(1, 5, 1, literal("x-a", "b")), 502],
  [
    "an answer with Transfer-Encoding",
    frame(1, 5, 1, Buffer.concat([Buffer.from([0x88]), literal("transfer-encoding", "chunked")])),
    502,
  ],
  ["an answer 101", frame(1, 5, 1, literal(":status", "101")), 502],
  ["DATA before HEADERS", frame(0, 1, 1, Buffer.from("x")), 502],
  ["an index out of range", frame(1, 5, 1, Buffer.from([0xff, 0x10])), 502],
  [
    "a line break in a value",
    frame(1, 5, 1, Buffer.concat([Buffer.from([0x88]), literal("x-a", "b\r\nc: d")])),
    502,
    { node: 200, why: "nghttp2 leaves out a header that has what it may not" },
  ],
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

/** The status of the answer, or how it broke off; "nothing", where that is expected, when nothing came in a while. */
async function heardOf(client: Client, expected: string | number): Promise<string | number> {
  if (expected === "nothing") {
    await sleep(200);
    await client.pinged();
    return client.seen.some(({ id }) => id > 0) ? "something" : "nothing";
  }
  await client.until(
    ({ type, id }) => type === 3 || type === 7 || (type === 1 && id === 1 && client.status(1) !== 103),
  );
  const status = client.status(1);
  return status === 502 || status === expected ? status : await client.outcome(1);
}

describe.each(http2Relays)("HTTP/2 by %s", (by) => {
  const start = (options: Http2ProxyOptions = {}) => startHttp2Proxy({ http2: by, ...options });

  test("frames in one-byte pieces are understood, and half a frame is not waited for for ever", async () => {
    // node:http2 says nothing of half a frame; with it the connection ends when it was idle for long.
    await using world = await start({ timeouts: { requestHead: 300, ...(by === "node" ? { idleClient: 300 } : {}) } });
    const client = await world.frames();
    for (const byte of frame(1, 5, 1, client.get("/bytes"))) client.send(Buffer.from([byte]));
    expect(await client.until(({ type, id }) => type === 1 && id === 1)).toBeDefined();
    client.send(frame(1, 1, 3, client.get()));
    expect(await client.outcome()).toBe(by === "node" ? "goaway 0" : "goaway 1");
  });

  test("a silent client is closed, and so is one without streams for long", async () => {
    await using world = await start({ timeouts: { requestHead: 200, idleClient: 300 } });
    const silent = await world.tls("reverse", ["h2"]);
    const closed = new Promise((resolve) => silent.once("close", resolve));
    silent.resume();
    await closed;
    const idle = await world.frames("reverse");
    expect(await idle.outcome()).toBe("goaway 0");
  });

  test("a body of which nothing comes is not waited for for ever", async () => {
    await using world = await start({ timeouts: { requestBody: 200 } });
    const client = await world.frames();
    client.send(frame(1, 4, 1, client.post("/slow")), frame(0, 0, 1, Buffer.from("x")));
    expect(await client.outcome(1)).toBe("reset 8");
  });

  test.each(answers)("%s from the target does not reach the client", async (_, bytes, outcome, other) => {
    await using world = await start({
      onRawTarget: (socket) => {
        socket.on("error", () => undefined);
        let answered = false;
        socket.on("data", (chunk: Buffer) => {
          if (answered || !hasHeaders(chunk)) return;
          answered = true;
          socket.write(Buffer.concat([frame(4, 0, 0), bytes]));
        });
      },
    });
    const client = await world.frames();
    client.send(get(client));
    const expected = by === "node" && other !== undefined ? other.node : outcome;
    expect(await heardOf(client, expected)).toBe(expected);
    for (const { payload } of client.seen) expect(payload.toString("latin1")).not.toContain("c: d");
  });
});

// node:http2 gives its clients windows of its own, so that nothing waits for the target in this way.
test("a client that was not read, as its target took nothing, is read again when the target is gone", async () => {
  const windows = 1 << 26;
  let target: TLSSocket | undefined;
  await using world = await startHttp2Proxy({
    onRawTarget: (socket) => {
      target = socket.on("error", () => undefined);
      const wide = Buffer.concat([Buffer.from([0, 4]), code32(windows)]);
      socket.write(Buffer.concat([frame(4, 0, 0, wide), frame(8, 0, 0, code32(windows))]));
      socket.on("data", (bytes: Buffer) => {
        if (!hasHeaders(bytes)) return;
        socket.pause();
        socket.write(Buffer.concat([frame(1, 4, 1, Buffer.from([0x88])), frame(0, 1, 1, Buffer.from("answer"))]));
      });
    },
  });
  const client = await world.frames("forward", Buffer.concat([Buffer.from([0, 4]), code32(0)]));
  client.send(get(client));
  await client.until(({ type, id }) => type === 1 && id === 1);
  client.send(frame(1, 4, 3, client.post("/up")));
  for (const stream of [0, 3]) await client.until(({ type, id }) => type === 8 && id === stream);
  client.send(repeat(3000, frame(0, 0, 3, Buffer.alloc(16_384))));
  // Until nobody takes anything more.
  for (let before = -1; before !== client.socket.writableLength; await sleep(300))
    before = client.socket.writableLength;
  expect(client.socket.writableLength).toBeGreaterThan(0);
  target?.destroy();
  client.send(frame(8, 0, 1, code32(100)));
  const rest = await client.until(({ type, id }) => type === 0 && id === 1);
  expect(rest?.payload.toString()).toBe("answer");
});

test("a target that was not read, as its client took its windows back, is read again when the stream is ended", async () => {
  const windows = 1 << 24;
  let target: TLSSocket | undefined;
  await using world = await startHttp2Proxy({
    onRawTarget: (socket) => {
      socket.on("error", () => undefined).write(frame(4, 0, 0));
      socket.on("data", (bytes: Buffer) => {
        if (hasHeaders(bytes)) target = socket;
      });
    },
  });
  world.source.put({ ...world.connector, policy: { preset: "Full" } });
  const window = (size: number) => Buffer.concat([Buffer.from([0, 4]), code32(size)]);
  const client = await world.frames("forward", window(windows));
  client.send(frame(8, 0, 0, code32(windows)), frame(1, 5, 1, client.get("/api/v1/secrets?watch=1")));
  await expect.poll(() => target).toBeDefined();
  client.send(frame(1, 5, 3, client.get("/api/v1/pods")));
  target?.write(frame(1, 4, 1, Buffer.from([0x88])));
  await client.until(({ type, id }) => type === 1 && id === 1);
  client.send(frame(4, 0, 0, window(0)));
  await client.pinged();
  target?.write(repeat(100, frame(0, 0, 1, Buffer.alloc(16_384))));
  await sleep(300);
  target?.write(frame(1, 5, 3, Buffer.from([0x89])));
  await sleep(100);
  expect(client.status(3)).toBeUndefined();
  world.source.put({ ...world.connector, policy: { preset: "ReadOnly" } });
  await client.until(({ type, id }) => type === 1 && id === 3);
  expect(client.status(3)).toBe(204);
});
