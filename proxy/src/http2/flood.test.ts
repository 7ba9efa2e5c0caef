import { expect, test } from "vitest";
import { ask, code32, frame, literal, startHttp2Proxy } from "../../../test/kit/http2.ts";

// Floods and targets that misbehave: a flood ends its own connection alone, little is held for those who take nothing, and
// what a target may not say does not reach the client.

type World = Awaited<ReturnType<typeof startHttp2Proxy>>;
type Client = Awaited<ReturnType<World["frames"]>>;

const errors = { protocol: 1, flow: 3, closed: 5, size: 6, refused: 7, compression: 9, calm: 11 };
const settings = (...pairs: [number, number][]) =>
  Buffer.concat(pairs.map(([name, value]) => Buffer.concat([Buffer.from([0, name]), code32(value)])));
const repeat = (count: number, one: Buffer) => Buffer.concat(Array.from({ length: count }, () => one));

/** Starts a world and a client of frames, and afterwards sees whether others are still served. */
async function attacked(attack: (client: Client, world: World) => Promise<string>, door: "forward" | "reverse") {
  await using world = await startHttp2Proxy();
  const client = await world.frames(door);
  const outcome = await attack(client, world);
  const other = await world.session();
  const { status } = await ask(other, world.request("/other"));
  const seen = world.h2target.seen.map((headers) => String(headers[":path"])).filter((path) => path !== "/other");
  return { outcome, status, seen };
}

const get = (client: Client, extra?: Buffer) => frame(1, 5, 1, client.get("/x", extra));

/** Each sends until the connection is closed, at most 10,000 frames. */
const floods: [string, (client: Client, count: number) => Buffer][] = [
  [
    "rapid reset (CVE-2023-44487)",
    (c, n) => Buffer.concat([frame(1, 5, 1 + 2 * n, c.get("/flood")), frame(3, 0, 1 + 2 * n, code32(8))]),
  ],
  [
    "streams that we are made to reset (MadeYouReset)",
    (c, n) => Buffer.concat([frame(1, 5, 1 + 2 * n, c.get("/flood")), frame(8, 0, 1 + 2 * n, code32(0))]),
  ],
  ["malformed requests", (c, n) => frame(1, 5, 1 + 2 * n, c.get("/flood", literal("connection", "x")))],
  ["PING", () => frame(6, 0, 0, Buffer.alloc(8))],
  ["SETTINGS", () => frame(4, 0, 0)],
  ["PRIORITY", () => frame(2, 0, 9, Buffer.from([0, 0, 0, 1, 0]))],
  ["unknown frames", () => frame(99, 0, 0)],
  ["empty DATA", (c, n) => (n === 0 ? frame(1, 4, 1, c.post("/flood")) : frame(0, 0, 1))],
  [
    "CONTINUATION (CVE-2024-27316)",
    (c, n) => (n === 0 ? frame(1, 1, 1, c.get("/flood")) : frame(9, 0, 1, literal("x-a", "b"))),
  ],
  ["empty CONTINUATION", (c, n) => (n === 0 ? frame(1, 1, 1, c.get("/flood")) : frame(9, 0, 1))],
  [
    "padded DATA without content",
    (c, n) => (n === 0 ? frame(1, 4, 1, c.post("/flood")) : frame(0, 8, 1, Buffer.from([0]))),
  ],
];

test.each(floods)("attack 23: a flood of %s ends its connection alone", async (_, one) => {
  const { outcome, status, seen } = await attacked(async (client) => {
    for (let count = 0; count < 10_000 && !client.closed; count += 100) {
      client.send(...Array.from({ length: 100 }, (__, at) => one(client, count + at)));
      await new Promise((resolve) => setImmediate(resolve));
    }
    const goaway = await client.until(({ type }) => type === 7);
    return `goaway ${goaway?.payload.readUInt32BE(4)}`;
  }, "forward");
  expect([outcome, status]).toEqual([`goaway ${errors.calm}`, 200]);
  expect(seen.length).toBeLessThanOrEqual(250);
});

test("attack 23: connections that break off in the middle of anything harm nobody (CVE-2024-27983, CVE-2025-59465)", async () => {
  const { seen, status } = await attacked(async (_, world) => {
    for (const door of ["forward", "reverse"] as const) {
      for (let count = 0; count < 20; count++) {
        const client = await world.frames(door);
        const block = client.get("/flood");
        const whole = Buffer.concat([frame(1, 1, 1, block), frame(9, 0, 1, block), frame(0, 0, 1, Buffer.alloc(100))]);
        client.send(whole.subarray(0, 1 + count * 17));
        if (count % 2 === 0) client.send(frame(1, 5, 3, Buffer.alloc(200, 0xff)));
        await new Promise((resolve) => setImmediate(resolve));
        client.socket.destroy();
      }
    }
    return "";
  }, "forward");
  expect([seen, status]).toEqual([[], 200]);
});

test("attack 23: more streams than 250 at once are refused one by one", async () => {
  await using world = await startHttp2Proxy({ onStream: () => undefined });
  const client = await world.frames();
  client.send(...Array.from({ length: 260 }, (_, n) => frame(1, 5, 1 + 2 * n, client.get("/wait"))));
  expect(await client.outcome()).toBe(`reset ${errors.refused}`);
  expect(client.closed).toBe(false);
});

test("attack 23: a client that reads nothing costs little, however large the windows it grants", async () => {
  let written = 0;
  await using world = await startHttp2Proxy({
    onStream: (stream) => {
      stream.respond({ ":status": 200 });
      const push = () => {
        while (!stream.destroyed) {
          written += 65_536;
          if (!stream.write(Buffer.alloc(65_536))) return;
        }
      };
      stream.on("drain", push);
      push();
    },
  });
  const client = await world.frames("reverse", settings([4, 0x7fff_ffff]));
  client.socket.pause();
  client.send(frame(8, 0, 0, code32(0x7f00_0000)));
  client.send(...Array.from({ length: 20 }, (_, n) => frame(1, 5, 1 + 2 * n, client.get("/big"))));
  await new Promise((resolve) => setTimeout(resolve, 700));
  const before = written;
  await new Promise((resolve) => setTimeout(resolve, 300));
  expect(written).toBe(before);
  expect(written).toBeLessThan(40_000_000);
});

test("attack 23: windows that are taken back after the target has them hold little in the proxy", async () => {
  let written = 0;
  await using world = await startHttp2Proxy({
    onStream: (stream) => {
      stream.respond({ ":status": 200 });
      setTimeout(() => {
        const push = () => {
          while (!stream.destroyed) {
            written += 65_536;
            if (!stream.write(Buffer.alloc(65_536))) return;
          }
        };
        stream.on("drain", push);
        push();
      }, 200);
    },
  });
  const client = await world.frames("reverse", settings([4, 0x7fff_ffff]));
  client.send(frame(8, 0, 0, code32(0x7f00_0000)));
  client.send(...Array.from({ length: 10 }, (_, n) => frame(1, 5, 1 + 2 * n, client.get("/big"))));
  await client.until(({ type, id }) => type === 1 && id === 19);
  client.send(frame(4, 0, 0, settings([4, 0])));
  await new Promise((resolve) => setTimeout(resolve, 1000));
  expect(written).toBeLessThan(40_000_000);
  const data = client.seen.filter(({ type }) => type === 0).reduce((sum, { payload }) => sum + payload.length, 0);
  expect(data).toBeLessThan(20_000_000);
});

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
