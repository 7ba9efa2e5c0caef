import { describe, expect, test } from "vitest";
import { ask, code32, frame, literal, startHttp2Proxy } from "../../kit/http2.ts";

// Floods and connections that break off: each ends its own connection alone, while a neighbour is served, and little is held for
// those who take nothing.

type World = Awaited<ReturnType<typeof startHttp2Proxy>>;
type Client = Awaited<ReturnType<World["frames"]>>;

const errors = { refused: 7 };
const settings = (...pairs: [number, number][]) =>
  Buffer.concat(pairs.map(([name, value]) => Buffer.concat([Buffer.from([0, name]), code32(value)])));

const silent = { node: "goes on", why: "nghttp2 reads them and does nothing more, and tells nobody" };

/** How it ends by node:http2 is told where that is otherwise. Each sends until the connection is closed, at most 10,000 frames. */
const floods: [string, (client: Client, count: number) => Buffer, { node: string; why: string }?][] = [
  [
    "rapid reset (CVE-2023-44487)",
    (c, n) => Buffer.concat([frame(1, 5, 1 + 2 * n, c.get("/flood")), frame(3, 0, 1 + 2 * n, code32(8))]),
  ],
  [
    "streams that we are made to reset (MadeYouReset)",
    (c, n) => Buffer.concat([frame(1, 5, 1 + 2 * n, c.get("/flood")), frame(8, 0, 1 + 2 * n, code32(0))]),
    { node: "goaway 1", why: "nghttp2 ends the connection at the first" },
  ],
  [
    "malformed requests",
    (c, n) => frame(1, 5, 1 + 2 * n, c.get("/flood", literal("connection", "x"))),
    { node: "goaway 2", why: "Node's code for too many malformed frames" },
  ],
  ["PING", () => frame(6, 0, 0, Buffer.alloc(8))],
  ["SETTINGS", () => frame(4, 0, 0)],
  ["PRIORITY", () => frame(2, 0, 9, Buffer.from([0, 0, 0, 1, 0])), silent],
  ["unknown frames", () => frame(99, 0, 0), silent],
  [
    "empty DATA",
    (c, n) => (n === 0 ? frame(1, 4, 1, c.post("/flood")) : frame(0, 0, 1)),
    { node: "goaway 2", why: "Node's code for too many malformed frames" },
  ],
  [
    "CONTINUATION (CVE-2024-27316)",
    (c, n) => (n === 0 ? frame(1, 1, 1, c.get("/flood")) : frame(9, 0, 1, literal("x-a", "b"))),
    { node: "goaway 2", why: "nghttp2's limit, and its code" },
  ],
  [
    "empty CONTINUATION",
    (c, n) => (n === 0 ? frame(1, 1, 1, c.get("/flood")) : frame(9, 0, 1)),
    { node: "goaway 2", why: "nghttp2's limit, and its code" },
  ],
  [
    "padded DATA without content",
    (c, n) => (n === 0 ? frame(1, 4, 1, c.post("/flood")) : frame(0, 8, 1, Buffer.from([0]))),
    silent,
  ],
];

// Inside of TLS both doors are the same, so one of them will do for the second opinion.
const places = [
  { by: "own", door: "forward" },
  { by: "own", door: "reverse" },
  { by: "node", door: "reverse" },
] as const;

describe.each(places)("HTTP/2 by $by at the $door door", ({ by, door }) => {
  /** An attack beside a neighbour's connection, which is there before and after it. Answers with its outcome. */
  async function attacked(attack: (client: Client, world: World) => Promise<string>) {
    await using world = await startHttp2Proxy({ http2: by });
    const neighbour = await world.session(door);
    const request = world.request("/neighbour", {}, door);
    expect((await ask(neighbour, request)).status).toBe(200);
    const outcome = await attack(await world.frames(door), world);
    expect((await ask(neighbour, request)).status).toBe(200);
    expect((await ask(await world.session(door), request)).status).toBe(200);
    const seen = world.h2target.seen.map((headers) => String(headers[":path"])).filter((path) => path !== "/neighbour");
    return { outcome, seen };
  }

  test.each(floods)("attack 23: a flood of %s ends its connection alone", async (_, one, other) => {
    const expected = by === "node" && other !== undefined ? other.node : "goaway 11";
    const { outcome, seen } = await attacked(async (client) => {
      for (let count = 0; count < 10_000 && !client.closed; count += 100) {
        client.send(...Array.from({ length: 100 }, (__, at) => one(client, count + at)));
        await new Promise((resolve) => setImmediate(resolve));
      }
      if (expected === "goes on") await client.pinged();
      else await client.until(({ type }) => type === 7);
      const goaway = client.seen.find(({ type }) => type === 7);
      if (goaway !== undefined) return `goaway ${goaway.payload.readUInt32BE(4)}`;
      if (!client.closed) return "goes on";
      // Node may close a connection before its GOAWAY is out.
      return by === "node" && expected !== "goes on" ? expected : "closed";
    });
    expect(outcome).toBe(expected);
    expect(seen.length).toBeLessThanOrEqual(250);
  });

  test("attack 23: connections that break off in the middle of anything harm nobody (CVE-2024-27983, CVE-2025-59465)", async () => {
    const { seen } = await attacked(async (_, world) => {
      for (let count = 0; count < 40; count++) {
        const client = await world.frames(door);
        const block = client.get("/flood");
        const whole = Buffer.concat([frame(1, 1, 1, block), frame(9, 0, 1, block), frame(0, 0, 1, Buffer.alloc(100))]);
        client.send(whole.subarray(0, 1 + count * 9));
        if (count % 2 === 0) client.send(frame(1, 5, 3, Buffer.alloc(200, 0xff)));
        await new Promise((resolve) => setImmediate(resolve));
        client.socket.destroy();
      }
      return "";
    });
    expect(seen).toEqual([]);
  });

  test("attack 23: a session that ends while its streams do harms nobody (CVE-2026-56846)", async () => {
    await attacked(async (_, world) => {
      for (let count = 0; count < 20; count++) {
        const client = await world.frames(door);
        client.send(...Array.from({ length: 20 }, (__, n) => frame(1, 5, 1 + 2 * n, client.get("/flood"))));
        // Resets, a wrong frame and the end of the connection, in every order with the answers.
        await client.until(({ type, id }) => type === 1 && id === 1 + 2 * (count % 20));
        client.send(...Array.from({ length: 10 }, (__, n) => frame(3, 0, 1 + 2 * n, code32(8))));
        if (count % 3 === 0) client.send(frame(7, 0, 0, Buffer.alloc(8)));
        if (count % 3 === 1) client.send(frame(0, 0, 0, Buffer.alloc(8)));
        client.socket.destroy();
      }
      return "";
    });
  });

  test("attack 23: more streams than 250 at once are refused one by one", async () => {
    await using world = await startHttp2Proxy({ http2: by, onStream: () => undefined });
    const client = await world.frames(door);
    client.send(...Array.from({ length: 260 }, (_, n) => frame(1, 5, 1 + 2 * n, client.get("/wait"))));
    expect(await client.outcome()).toBe(`reset ${errors.refused}`);
    expect(client.closed).toBe(false);
  });

  test("attack 23: a client that reads nothing costs little, however large the windows it grants", async () => {
    let written = 0;
    await using world = await startHttp2Proxy({
      http2: by,
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
    const client = await world.frames(door, settings([4, 0x7fff_ffff]));
    client.socket.pause();
    client.send(frame(8, 0, 0, code32(0x7f00_0000)));
    client.send(...Array.from({ length: 20 }, (_, n) => frame(1, 5, 1 + 2 * n, client.get("/big"))));
    let before = 0;
    const rests = () => {
      const isSame = written > 0 && written === before;
      before = written;
      return isSame;
    };
    await expect.poll(rests, { interval: 300, timeout: 15_000 }).toBe(true);
    expect(written).toBeLessThan(40_000_000);
  });

  test("attack 23: windows that are taken back after the target has them hold little in the proxy", async () => {
    let written = 0;
    await using world = await startHttp2Proxy({
      http2: by,
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
    const client = await world.frames(door, settings([4, 0x7fff_ffff]));
    client.send(frame(8, 0, 0, code32(0x7f00_0000)));
    client.send(...Array.from({ length: 10 }, (_, n) => frame(1, 5, 1 + 2 * n, client.get("/big"))));
    await client.until(({ type, id }) => type === 1 && id === 19);
    client.send(frame(4, 0, 0, settings([4, 0])));
    await new Promise((resolve) => setTimeout(resolve, 1000));
    expect(written).toBeLessThan(40_000_000);
    const data = client.seen.filter(({ type }) => type === 0).reduce((sum, { payload }) => sum + payload.length, 0);
    expect(data).toBeLessThan(20_000_000);
  });
});
