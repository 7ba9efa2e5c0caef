import { once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import {
  ask,
  code32,
  frame,
  http2Relays,
  type Http2ProxyOptions,
  literal,
  startHttp2Proxy,
} from "../../../test/kit/http2.ts";
import { HpackDecoder } from "./hpack-decoder.ts";

// What ends early never looks whole to the other side, what is whole ends on both, and the target finds our credential in no
// table, whatever carries HTTP/2.

const head200 = Buffer.from([0x88]);
const codes = [
  ["NO_ERROR", 0],
  ["CANCEL", 8],
  ["INTERNAL_ERROR", 2],
] as const;

describe.each(http2Relays)("HTTP/2 by %s", (by) => {
  const start = (options: Http2ProxyOptions = {}) => startHttp2Proxy({ http2: by, ...options });

  /** A world whose target tells how each request's body ended. */
  async function startListening() {
    const heard: string[] = [];
    const world = await start({
      onStream: (stream) => {
        let body = "";
        stream.on("data", (bytes: Buffer) => {
          body += bytes.toString();
          if (body === "half") heard.push("half");
        });
        stream.on("end", () => {
          // Node's server says so of a body that was broken off, too.
          if (!stream.aborted) heard.push(`whole: ${body}`);
        });
        stream.on("aborted", () => heard.push("broken off"));
      },
    });
    return { ...world, heard };
  }

  test.each(codes)("an upload that its client resets with %s is no whole one for the target", async (_, code) => {
    await using world = await startListening();
    const { heard } = world;
    const client = await world.frames();
    client.send(frame(1, 4, 1, client.post("/up")), frame(0, 0, 1, Buffer.from("half")));
    await expect.poll(() => heard).toEqual(["half"]);
    client.send(frame(3, 0, 1, code32(code)));
    await expect.poll(() => heard).toEqual(["half", "broken off"]);
  });

  test("nor is one whose client goes away", async () => {
    await using world = await startListening();
    const { heard } = world;
    const client = await world.frames();
    client.send(frame(1, 4, 1, client.post("/up")), frame(0, 0, 1, Buffer.from("half")));
    await expect.poll(() => heard).toEqual(["half"]);
    client.socket.destroy();
    await expect.poll(() => heard).toEqual(["half", "broken off"]);
  });

  /** A target that begins an answer and then does that; ends with what its client saw of the stream. */
  async function brokenAnswer(then: (write: (bytes: Buffer) => void, close: () => void) => void) {
    await using world = await start({
      onRawTarget: (socket) => {
        socket.on("error", () => undefined);
        socket.write(frame(4, 0, 0));
        const answer = async () => {
          await sleep(50);
          socket.write(Buffer.concat([frame(1, 4, 1, head200), frame(0, 0, 1, Buffer.from("half"))]));
          await sleep(50);
          then(
            (bytes) => void socket.write(bytes),
            () => socket.destroy(),
          );
        };
        socket.once("data", () => void answer());
      },
    });
    const client = await world.frames();
    client.send(frame(1, 5, 1, client.get("/down")));
    await client.until(({ type, id }) => type === 0 && id === 1);
    const reset = await client.until(({ type, id }) => type === 3 && id === 1);
    const data = client.seen.filter(({ type, id }) => type === 0 && id === 1);
    return { code: reset?.payload.readUInt32BE(0), ended: data.some(({ flags }) => (flags & 1) !== 0) };
  }

  test.each(codes)("an answer that the target resets with %s is broken off", async (_, code) => {
    const broken = await brokenAnswer((write) => write(frame(3, 0, 1, code32(code))));
    expect(broken).toEqual({ code: code === 8 ? 8 : 2, ended: false });
  });

  test("so is one whose target goes away", async () => {
    expect(await brokenAnswer((_, close) => close())).toEqual({ code: 2, ended: false });
  });

  test.each([
    ["in its head", (c: { post(path: string): Buffer }) => [frame(1, 5, 1, c.post("/up"))]],
    ["beside its head", (c: { post(path: string): Buffer }) => [frame(1, 4, 1, c.post("/up")), frame(0, 1, 1)]],
  ] as const)("an empty upload that ends %s is answered to its end", async (_, frames) => {
    await using world = await start();
    const client = await world.frames();
    client.send(...frames(client));
    const end = await client.until(({ type, flags, id }) => type <= 1 && id === 1 && (flags & 1) !== 0);
    expect([client.status(1), end?.flags]).toEqual([200, expect.any(Number)]);
  });

  test("an upload that the target wants no more of once it has answered ends without an error", async () => {
    await using world = await start({
      onStream: (stream) => {
        stream.respond({ ":status": 200 });
        stream.end("enough");
        stream.once("finish", () => setImmediate(() => stream.close(0)));
        stream.resume();
      },
    });
    const session = await world.session();
    const stream = session.request(world.request("/up", { ":method": "POST" }), { endStream: false });
    let text = "";
    stream.on("data", (bytes: Buffer) => (text += bytes.toString()));
    stream.on("error", () => undefined);
    await once(stream, "close");
    expect([text, stream.rstCode]).toEqual(["enough", 0]);
    expect((await ask(session, world.request("/next"))).body).toBe("enough");
  });

  test.each([
    ["HEAD", { ":status": 200, "content-length": "10" }],
    ["GET", { ":status": 304, etag: "x" }],
    ["GET", { ":status": 204 }],
  ])("an answer without a body to %s passes with its headers", async (method, answer) => {
    await using world = await start({ onStream: (stream) => stream.respond(answer, { endStream: true }) });
    const { headers, body } = await ask(await world.session(), world.request("/", { ":method": method }));
    expect(headers).toMatchObject({ ...answer });
    expect(body).toBe("");
  });

  test("the target finds our token as a literal for no table, once, and repeated headers as they came", async () => {
    const heads: { name: string; value: string; indexing: string }[][] = [];
    await using world = await start({
      onRawTarget: (socket) => {
        const decoder = new HpackDecoder(100_000);
        socket.on("error", () => undefined);
        socket.write(frame(4, 0, 0));
        let rest = Buffer.alloc(0);
        let at = 24;
        socket.on("data", (bytes: Buffer) => {
          rest = Buffer.concat([rest, bytes]);
          for (; rest.length >= at + 9; at += 9 + rest.readUIntBE(at, 3)) {
            const id = rest.readUInt32BE(at + 5);
            if (rest[at + 3] !== 1) continue;
            heads.push(decoder.decode(rest, at + 9, at + 9 + rest.readUIntBE(at, 3)).fields);
            socket.write(frame(1, 5, id, head200));
          }
        });
      },
    });
    const client = await world.frames();
    const more = Buffer.concat([literal("x-a", "1"), literal("x-b", "2"), literal("x-a", "3")]);
    for (const id of [1, 3]) {
      client.send(frame(1, 5, id, client.get("/", more)));
      await client.until((seen) => seen.type === 1 && seen.id === id);
    }
    for (const head of heads) {
      expect(head.filter(({ name }) => name === "authorization")).toMatchObject([{ indexing: "never" }]);
      const repeated = head.filter(({ name }) => name.startsWith("x-")).map(({ name, value }) => name + value);
      expect(repeated).toEqual(["x-a1", "x-b2", "x-a3"]);
    }
    expect(heads).toHaveLength(2);
  });

  test("two Authorization headers are nobody's", async () => {
    await using world = await start();
    const client = await world.frames();
    client.send(frame(1, 5, 1, client.get("/x", literal("authorization", "Bearer other"))));
    await client.until(({ type, id }) => type === 1 && id === 1);
    expect([client.status(1), world.h2target.seen]).toEqual([401, []]);
  });
});
