import { describe, expect, test } from "vitest";
import {
  ask,
  code32,
  frame,
  type Http2Relay,
  http2Relays,
  type Http2ProxyOptions,
  literal,
  startHttp2Proxy,
} from "../../../test/kit/http2.ts";

// Raw frames at the doors: what HTTP/2 does not allow ends the stream or the connection as RFC 9113 says, floods end the
// connection, and others are served all the while.

type World = Awaited<ReturnType<typeof startHttp2Proxy>>;
type Client = Awaited<ReturnType<World["frames"]>>;

const errors = { protocol: 1 };
const settings = (...pairs: [number, number][]) =>
  Buffer.concat(pairs.map(([name, value]) => Buffer.concat([Buffer.from([0, name]), code32(value)])));

/** How node:http2 takes it, where that is otherwise, and why that will do. */
interface ByNode {
  node: string;
  why: string;
}
const stricter = "nghttp2 ends the connection where the stream would do";
const leftOut = {
  node: "answered 200",
  why: "nghttp2 leaves out a header that has what it may not, and tells nobody; it does not reach the target",
};

/** Each: what is sent, how it ends, and how by node:http2. */
type Case = [what: string, frames: (client: Client) => Buffer[], outcome: string, other?: ByNode];

/** Node may close a connection before its GOAWAY is out. */
function wordOrNone(outcome: string, expected: string, by: Http2Relay): string {
  return by === "node" && outcome === "closed" && expected.startsWith("goaway") ? expected : outcome;
}

/** The end of the stream or the connection; for what is not to end, what has come when all was read. */
async function outcomeOf(client: Client, expected: string, by: Http2Relay): Promise<string> {
  if (!expected.startsWith("answered")) return wordOrNone(await client.outcome(), expected, by);
  if (expected !== "answered nothing") await client.until(({ type }) => type === 3 || type === 7 || type === 1);
  await client.pinged();
  const ended = client.seen.some(({ type }) => type === 3 || type === 7);
  return ended ? await client.outcome() : `answered ${client.status(1) ?? "nothing"}`;
}

const get = (client: Client, extra?: Buffer) => frame(1, 5, 1, client.get("/x", extra));

const refused: Case[] = [
  ["a frame over 16 KiB", () => [frame(0, 0, 1, Buffer.alloc(16_385))], "goaway 6"],
  ["an even stream id", (c) => [frame(1, 5, 2, c.get())], "goaway 1"],
  ["stream 0", (c) => [frame(1, 5, 0, c.get())], "goaway 1"],
  ["DATA on an idle stream", () => [frame(0, 1, 7, Buffer.from("x"))], "goaway 1"],
  ["RST_STREAM on an idle stream", () => [frame(3, 0, 7, code32(8))], "goaway 1"],
  ["WINDOW_UPDATE on an idle stream", () => [frame(8, 0, 7, code32(1))], "goaway 1"],
  ["PUSH_PROMISE", (c) => [frame(5, 4, 1, Buffer.concat([code32(2), c.get()]))], "goaway 1"],
  ["padding longer than its frame", (c) => [frame(1, 13, 1, Buffer.concat([Buffer.from([255]), c.get()]))], "goaway 1"],
  ["a window over 2^31-1", () => [frame(8, 0, 0, code32(0x7fff_ffff))], "goaway 3"],
  ["a WINDOW_UPDATE of 0", () => [frame(8, 0, 0, code32(0))], "goaway 1"],
  ["an initial window over 2^31-1", () => [frame(4, 0, 0, settings([4, 0x8000_0000]))], "goaway 3"],
  ["ENABLE_PUSH of 2", () => [frame(4, 0, 0, settings([2, 2]))], "goaway 1"],
  ["MAX_FRAME_SIZE of 1", () => [frame(4, 0, 0, settings([5, 1]))], "goaway 1"],
  ["SETTINGS of 5 bytes", () => [frame(4, 0, 0, Buffer.alloc(5))], "goaway 6"],
  ["an acknowledgement of nothing", () => [frame(4, 1, 0), frame(4, 1, 0)], "goaway 1"],
  ["a PING of 7 bytes", () => [frame(6, 0, 0, Buffer.alloc(7))], "goaway 6"],
  ["an index out of range", (c) => [get(c, Buffer.from([0xff, 0x10]))], "goaway 9"],
  [
    "a table size above the limit",
    (c) => [frame(1, 5, 1, Buffer.concat([Buffer.from("3fe1ff03", "hex"), c.get()]))],
    "goaway 9",
  ],
  [
    "a header list that unpacks to 16 MB",
    (c) => [get(c, bomb())],
    "goaway 11",
    { node: "reset 11", why: "it unpacks the rest of the block and keeps none of it" },
  ],
  ["a line break in a value", (c) => [get(c, literal("x-a", "b\r\nhost: evil"))], "reset 1", leftOut],
  ["a NUL in a value", (c) => [get(c, literal("x-a", "b\0c"))], "reset 1", leftOut],
  ["an upper-case name", (c) => [get(c, literal("X-A", "b"))], "reset 1"],
  ["a name with a space", (c) => [get(c, literal("x a", "b"))], "reset 1", leftOut],
  ["two paths", (c) => [get(c, literal(":path", "/y"))], "reset 1"],
  [
    "a pseudo-header after a header",
    (c) => [get(c, Buffer.concat([literal("x-a", "b"), literal(":scheme", "https")]))],
    "reset 1",
  ],
  [
    "an unknown pseudo-header",
    (c) => [frame(1, 5, 1, Buffer.concat([literal(":protocol", "websocket"), c.get()]))],
    "reset 1",
  ],
  ["Connection", (c) => [get(c, literal("connection", "close"))], "reset 1"],
  ["Transfer-Encoding", (c) => [get(c, literal("transfer-encoding", "chunked"))], "reset 1"],
  ["Upgrade", (c) => [get(c, literal("upgrade", "websocket"))], "reset 1"],
  ["TE other than trailers", (c) => [get(c, literal("te", "gzip"))], "reset 1"],
  [
    "two Content-Lengths",
    (c) => [get(c, Buffer.concat([literal("content-length", "0"), literal("content-length", "0")]))],
    "reset 1",
  ],
  ["a Content-Length that is no number", (c) => [get(c, literal("content-length", "+1"))], "reset 1"],
  ["a Content-Length without a body", (c) => [get(c, literal("content-length", "5"))], "reset 1"],
  [
    "a stream that depends on itself",
    (c) => [frame(1, 0x25, 1, Buffer.concat([code32(1), Buffer.from([0]), c.get()]))],
    "reset 1",
    { node: "goaway 1", why: stricter },
  ],
];

/** A field of 4 kB put into the table, and 4,000 references to it. */
function bomb(): Buffer {
  const value = Buffer.alloc(4000, 0x61);
  const field = Buffer.concat([Buffer.from("4003782d627f", "hex"), Buffer.from([0xa1, 0x1e]), value]);
  return Buffer.concat([field, Buffer.alloc(4000, 0xbe)]);
}

const late: Case[] = [
  [
    "a stream id that goes down",
    (c) => [frame(1, 5, 5, c.get()), frame(1, 5, 3, c.get())],
    "goaway 1",
    { node: "answered nothing", why: "nghttp2 does not look at such a stream" },
  ],
  [
    "HEADERS after the end of a request",
    (c) => [frame(1, 5, 1, c.get("/wait")), frame(1, 5, 1, c.get())],
    "reset 5",
    { node: "goaway 5", why: stricter },
  ],
  [
    "DATA after the end of a request",
    (c) => [frame(1, 5, 1, c.get("/wait")), frame(0, 1, 1, Buffer.from("x"))],
    "reset 5",
    { node: "goaway 5", why: stricter },
  ],
  [
    "DATA after the client's own RST_STREAM",
    (c) => [frame(1, 4, 1, c.post()), frame(3, 0, 1, code32(8)), frame(0, 1, 1)],
    "goaway 5",
    { node: "answered nothing", why: "nghttp2 does not look at what comes for a stream that was reset" },
  ],
  [
    "trailers without END_STREAM",
    (c) => [frame(1, 4, 1, c.post("/wait")), frame(1, 4, 1, literal("x-a", "b"))],
    "reset 1",
  ],
  [
    "trailers with Authorization",
    (c) => [frame(1, 4, 1, c.post("/wait")), frame(1, 5, 1, literal("authorization", "Bearer x"))],
    "reset 1",
  ],
  [
    "trailers with Impersonate-User",
    (c) => [frame(1, 4, 1, c.post("/wait")), frame(1, 5, 1, literal("impersonate-user", "x"))],
    "reset 1",
  ],
  [
    "a body longer than its Content-Length",
    (c) => [frame(1, 4, 1, c.post("/wait", literal("content-length", "3"))), frame(0, 0, 1, Buffer.from("four"))],
    "reset 1",
    { node: "goaway 2", why: stricter },
  ],
  [
    "a body shorter than its Content-Length",
    (c) => [frame(1, 4, 1, c.post("/wait", literal("content-length", "3"))), frame(0, 1, 1, Buffer.from("2b"))],
    "reset 1",
  ],
  [
    "DATA beyond the stream's window",
    (c) => [frame(1, 4, 1, c.post("/wait")), ...Array.from({ length: 5 }, () => frame(0, 0, 1, Buffer.alloc(16_384)))],
    "reset 3",
    { node: "goaway 3", why: stricter },
  ],
  [
    "a stream's window over 2^31-1",
    (c) => [frame(1, 5, 1, c.get("/wait")), frame(8, 0, 1, code32(0x7fff_ffff))],
    "reset 3",
    { node: "goaway 3", why: stricter },
  ],
  [
    "a stream's WINDOW_UPDATE of 0",
    (c) => [frame(1, 5, 1, c.get("/wait")), frame(8, 0, 1, code32(0))],
    "reset 1",
    { node: "goaway 1", why: stricter },
  ],
];

describe.each(http2Relays)("HTTP/2 by %s", (by) => {
  const start = (options: Http2ProxyOptions = {}) => startHttp2Proxy({ http2: by, ...options });
  const expectedOf = (outcome: string, other?: ByNode) => (by === "node" && other !== undefined ? other.node : outcome);

  /** Starts a world and a client of frames, and afterwards sees whether others are still served. */
  async function attacked(attack: (client: Client, world: World) => Promise<string>, door: "forward" | "reverse") {
    await using world = await start();
    const client = await world.frames(door);
    const outcome = await attack(client, world);
    const other = await world.session();
    const { status } = await ask(other, world.request("/other"));
    const seen = world.h2target.seen.filter((headers) => headers[":path"] !== "/other");
    return { outcome, status, seen };
  }

  for (const door of ["forward", "reverse"] as const) {
    test.each(refused)(`%s is refused at the ${door} door`, async (_, frames, outcome, other) => {
      const expected = expectedOf(outcome, other);
      const result = await attacked(async (client) => {
        client.send(...frames(client));
        return await outcomeOf(client, expected, by);
      }, door);
      expect(result).toMatchObject({ outcome: expected, status: 200 });
      expect(result.seen).toHaveLength(expected.startsWith("answered") ? 1 : 0);
      expect(JSON.stringify(result.seen)).not.toMatch(/x-a|x a|evil/);
    });
  }

  test("what is no HTTP/2 is refused", async () => {
    await using world = await start();
    const socket = await world.tls("reverse", ["h2"]);
    const closed = new Promise((resolve) => socket.once("close", resolve));
    const chunks: Buffer[] = [];
    socket.on("data", (chunk: Buffer) => chunks.push(chunk));
    socket.write("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    await closed;
    const code = Buffer.concat(chunks).subarray(-4).readUInt32BE(0);
    // Node says that it is at fault itself, or nothing.
    expect(by === "own" ? code : errors.protocol).toBe(errors.protocol);
  });

  test.each(late)("%s is refused", async (_, frames, outcome, other) => {
    await using world = await start({ onStream: (stream) => void stream.on("error", () => undefined) });
    const client = await world.frames();
    client.send(...frames(client));
    const expected = expectedOf(outcome, other);
    expect(await outcomeOf(client, expected, by)).toBe(expected);
    expect(world.h2target.seen.length).toBeLessThanOrEqual(1);
  });

  test("a list over 64 KiB is answered 431, and the table goes on", async () => {
    await using world = await start();
    const client = await world.frames();
    const value = Buffer.alloc(2000, 0x61);
    const field = Buffer.concat([Buffer.from("4003782d627f", "hex"), Buffer.from([0xd1, 0x0e]), value]);
    client.send(frame(1, 5, 1, client.get("/x", Buffer.concat([field, Buffer.alloc(40, 0xbe)]))));
    const answer = await client.until(({ type, id }) => type === 1 && id === 1);
    expect([answer?.type, client.status(1)]).toEqual([1, 431]);
    client.send(frame(1, 5, 3, client.get("/y", Buffer.from([0xbe]))));
    await client.until(({ type, id }) => type === 1 && id === 3);
    expect(world.h2target.seen).toMatchObject([{ ":path": "/y", "x-b": value.toString() }]);
  });
});
