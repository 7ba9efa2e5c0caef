import { randomBytes } from "node:crypto";
import { once } from "node:events";
import http2 from "node:http2";
import { setTimeout as sleep } from "node:timers/promises";
import { Fault } from "@kube-connector/core";
import { describe, expect, test } from "vitest";
import { ask, type Http2ProxyOptions, http2Relays, startHttp2Proxy } from "../../../test/kit/http2.ts";
import { callerToken, testToken } from "../../../test/kit/test-proxy.ts";

// HTTP/2 through both doors to a target that speaks it: each request is let through or refused on its own stream, what
// leaves us holds our credential alone, and bodies pass both ways at the speed of whoever takes them.

const echoed = (headers: http2.IncomingHttpHeaders) => JSON.parse(String(headers.echo)) as Record<string, string>;

describe.each(http2Relays)("HTTP/2 by %s", (by) => {
  const start = (options: Http2ProxyOptions = {}) => startHttp2Proxy({ http2: by, ...options });

  for (const door of ["forward", "reverse"] as const) {
    test(`a request through the ${door} door reaches the target with the stored token`, async () => {
      await using world = await start();
      const session = await world.session(door);
      const more = {
        "x-mark": "1",
        cookie: "a=b",
        "x-remote-user": "root",
        "x-forwarded-for": "1.2.3.4",
        te: "trailers",
      };
      const { status, headers } = await ask(session, world.request("/api/v1/pods?limit=1", more, door));
      expect(status).toBe(200);
      expect(echoed(headers)).toEqual({
        ":method": "GET",
        ":scheme": "https",
        ":path": "/api/v1/pods?limit=1",
        ":authority": world.authority,
        authorization: `Bearer ${testToken}`,
        te: "trailers",
        "x-mark": "1",
      });
    });
  }

  test("callers who share a connection are told apart by each request, however their tokens are coded", async () => {
    await using world = await start();
    const session = await world.session();
    const statusWith = async (token: string, sensitive: boolean) => {
      const never = sensitive ? { [http2.sensitiveHeaders]: ["authorization"] } : {};
      return (await ask(session, world.request("/", { ...never, authorization: `Bearer ${token}` }))).status;
    };
    for (const sensitive of [true, false]) {
      world.access.asked.length = 0;
      const statuses: (number | undefined)[] = [];
      for (const token of [
        `${callerToken}-a`,
        `${callerToken}-b`,
        `${callerToken}-b`,
        "stranger",
        `${callerToken}-a`,
      ]) {
        statuses.push(await statusWith(token, sensitive));
      }
      expect(statuses).toEqual([200, 200, 200, 401, 200]);
      const a = `${callerToken}-a`;
      const b = `${callerToken}-b`;
      expect(world.access.asked).toEqual([a, b, b, "stranger", a]);
    }
  });

  test("a target without HTTP/2 gets clients that speak HTTP/1.1", async () => {
    await using world = await start({ settings: {}, http2: "off" });
    expect((await world.tls("forward")).alpnProtocol).toBe("http/1.1");
    await using old = await start({ onRawTarget: (socket) => socket.destroy() });
    old.source.put({ ...old.connector, target: { ...old.connector.target, port: old.target.port } });
    expect((await old.tls("forward")).alpnProtocol).toBe("http/1.1");
  });

  test("the first clients of a target wait until it is known what it speaks, all of them", async () => {
    await using world = await start();
    const sockets = await Promise.all(
      Array.from({ length: 8 }, (_, n) => world.tls(n % 2 === 0 ? "forward" : "reverse")),
    );
    expect(sockets.map(({ alpnProtocol }) => alpnProtocol)).toEqual(Array.from({ length: 8 }, () => "h2"));
  });

  test.each([
    ["without a token", { authorization: "" }, 401],
    ["with another Host", { host: "elsewhere:6443" }, 400],
    ["for another authority", { ":authority": "elsewhere:6443" }, 421],
    ["that impersonates", { "impersonate-user": "root" }, 403],
    ["with a path that can be read in two ways", { ":path": "/api/%2e%2e/x" }, 400],
    ["for *", { ":path": "*", ":method": "OPTIONS" }, 400],
    ["by TRACE", { ":method": "TRACE" }, 405],
    ["with another expectation", { expect: "200-ok" }, 417],
  ])("a request %s is refused on its stream, and the next one passes", async (_, wrong, status) => {
    await using world = await start();
    const session = await world.session();
    const refused = await ask(session, world.request("/api", wrong));
    expect(refused.status).toBe(status);
    expect(JSON.parse(refused.body)).toMatchObject({ kind: "Status", status: "Failure", code: status });
    const { message } = JSON.parse(refused.body) as { message: string };
    expect(String(refused.headers.warning)).toContain(message.slice(0, 30).replaceAll('"', ""));
    expect((await ask(session, world.request("/api"))).status).toBe(200);
    expect(world.h2target.seen).toHaveLength(1);
  });

  test("nothing reaches the target before its sender is known, and a body that is refused is swallowed", async () => {
    await using world = await start();
    const session = await world.session();
    world.access.fault = new Fault("permission_denied", "team-a may not");
    const body = Buffer.alloc(50_000, "x");
    for (let count = 0; count < 12; count++) {
      const { status } = await ask(session, world.request("/up", { ":method": "POST" }), body);
      expect(status).toBe(403);
    }
    expect(world.h2target.seen).toEqual([]);
    world.access.fault = undefined;
    expect((await ask(session, world.request("/up", { ":method": "POST" }), body)).body).toHaveLength(50_000);
  });

  test("bodies that waited for a refusal leave room for one that is under way", async () => {
    await using world = await start();
    const session = await world.session();
    const upload = world.request("/up", { ":method": "POST" });
    const underWay = session.request(upload, { endStream: false });
    let echoedBack = "";
    const ended = once(underWay, "end");
    underWay.on("data", (chunk: Buffer) => (echoedBack += chunk.toString()));
    underWay.write("first, ");
    await once(underWay, "data");
    const known = Promise.withResolvers<void>();
    world.access.may = () => known.promise;
    const refused = Array.from({ length: 6 }, () => ask(session, upload, Buffer.alloc(100_000)));
    // Until the client has sent what it may.
    const window = () => session.state.remoteWindowSize;
    for (let before: number | undefined = -1; before !== window(); await sleep(200)) before = window();
    underWay.end("last");
    await sleep(50);
    known.reject(new Fault("permission_denied", "team-a may not"));
    for (const one of refused) expect((await one).status).toBe(403);
    await ended;
    expect(echoedBack).toBe("first, last");
  });

  for (const headerTableSize of [0, 4096, 65_536]) {
    test(`clients and targets with a header table of ${headerTableSize} bytes understand us`, async () => {
      await using world = await start({ settings: { headerTableSize } });
      const session = await world.session("forward", { headerTableSize });
      for (let count = 0; count < 300; count++) {
        const more = { [`x-${count % 40}`]: `value ${count % 60}`, "user-agent": "client/1" };
        const { headers } = await ask(session, world.request(`/api/${count}`, more));
        expect(echoed(headers)).toMatchObject({ ":path": `/api/${count}`, ...more });
      }
    });
  }

  test("bodies of 20 MB pass both ways unchanged, eight at a time", async () => {
    await using world = await start();
    const session = await world.session("reverse");
    const body = randomBytes(2_500_000);
    const answers = await Promise.all(
      Array.from({ length: 8 }, () =>
        ask(session, world.request("/echo", { ":method": "PUT", "content-length": body.length }, "reverse"), body),
      ),
    );
    for (const answer of answers) expect(answer.status).toBe(200);
    for (const answer of answers) expect(answer.body.length).toBe(body.toString().length);
  });

  test("a stream that nobody reads does not stall another, and little of it is taken", async () => {
    let written = 0;
    await using world = await start({
      onStream: (stream, headers) => {
        stream.respond({ ":status": 200 });
        if (headers[":path"] !== "/stalled") {
          stream.end("done");
          return;
        }
        const push = () => {
          while (!stream.destroyed) {
            written += 16_384;
            if (!stream.write(Buffer.alloc(16_384))) return;
          }
        };
        stream.on("drain", push);
        push();
      },
    });
    const session = await world.session();
    const stalled = session.request(world.request("/stalled"));
    await once(stalled, "response");
    stalled.pause();
    for (let count = 0; count < 50; count++) {
      expect((await ask(session, world.request("/quick"))).body).toBe("done");
    }
    expect(written).toBeLessThan(600_000);
    stalled.close();
  });

  test("an upload that the target does not take does not stall another", async () => {
    await using world = await start({
      onStream: (stream, headers) => {
        stream.respond({ ":status": 200 });
        if (headers[":path"] === "/quick") stream.pipe(stream);
      },
    });
    const session = await world.session();
    const stalled = session.request(world.request("/stalled", { ":method": "POST" }), { endStream: false });
    let taken = 0;
    const pump = setInterval(() => {
      if (stalled.writableLength < 100_000) {
        stalled.write(Buffer.alloc(16_384));
        taken += 16_384;
      }
    }, 1);
    for (let count = 0; count < 20; count++) {
      const answer = await ask(session, world.request("/quick", { ":method": "POST" }), Buffer.alloc(20_000, "x"));
      expect(answer.body).toHaveLength(20_000);
    }
    clearInterval(pump);
    expect(taken).toBeLessThan(1_000_000);
    stalled.close();
  });

  test("trailers pass both ways, and interim answers too", async () => {
    let trailers: http2.IncomingHttpHeaders = {};
    await using world = await start({
      onStream: (stream) => {
        stream.additionalHeaders({ ":status": 103, link: "</a>" });
        stream.on("trailers", (given) => (trailers = given));
        stream.resume();
        stream.on("end", () => {
          stream.respond({ ":status": 200 }, { waitForTrailers: true });
          stream.on("wantTrailers", () => stream.sendTrailers({ "grpc-status": "0" }));
          stream.end("body");
        });
      },
    });
    const session = await world.session();
    const stream = session.request(world.request("/", { ":method": "POST" }), { waitForTrailers: true });
    let interim = 0;
    stream.on("headers", (given) => (interim = Number(given[":status"])));
    stream.on("wantTrailers", () => stream.sendTrailers({ "x-sum": "42" }));
    stream.end("request");
    const [answered] = (await once(stream, "trailers")) as [http2.IncomingHttpHeaders];
    expect({ interim, sum: trailers["x-sum"], status: answered["grpc-status"] }).toEqual({
      interim: 103,
      sum: "42",
      status: "0",
    });
  });

  test("a stream that either side takes back ends on the other, and the rest goes on", async () => {
    const closed: number[] = [];
    await using world = await start({
      onStream: (stream, headers) => {
        stream.on("close", () => closed.push(stream.rstCode ?? -1));
        if (headers[":path"] === "/refuse") stream.close(7);
        else stream.respond({ ":status": 200 });
        if (headers[":path"] === "/quick") stream.end("done");
        if (headers[":path"] === "/break") setTimeout(() => stream.destroy(new Error("broken")), 20);
      },
    });
    const session = await world.session();
    const watch = session.request(world.request("/watch?watch=1"));
    await once(watch, "response");
    watch.close(8);
    await expect.poll(() => closed).toEqual([8]);
    await expect(ask(session, world.request("/break"))).rejects.toThrow("INTERNAL_ERROR");
    await expect(ask(session, world.request("/refuse"))).rejects.toThrow("REFUSED_STREAM");
    expect((await ask(session, world.request("/quick"))).body).toBe("done");
  });

  test("a target that breaks off shows as 502 where no answer had begun, and as a reset where one had", async () => {
    await using world = await start({
      onStream: (stream, headers) => {
        if (headers[":path"] === "/begun") stream.respond({ ":status": 200 });
        else world.h2target.cut();
      },
    });
    const session = await world.session();
    const begun = session.request(world.request("/begun"));
    begun.on("error", () => undefined);
    const code = new Promise((resolve) => begun.once("close", () => resolve(begun.rstCode)));
    await once(begun, "response");
    const { status, body } = await ask(session, world.request("/silent", { ":method": "POST" }), "x");
    expect([status, await code]).toEqual([502, 2]);
    expect(body).toContain("closed the connection before it answered");
    const next = await world.session();
    await expect(ask(next, world.request("/silent"))).resolves.toMatchObject({ status: 502 });
  });

  test("fifty watches on a connection each get their own events", async () => {
    const streams = new Map<string, http2.ServerHttp2Stream>();
    await using world = await start({
      onStream: (stream, headers) => {
        streams.set(String(headers[":path"]), stream);
        stream.respond({ ":status": 200 });
      },
    });
    const session = await world.session();
    const texts = await Promise.all(
      Array.from({ length: 50 }, async (_, number) => {
        const watch = session.request(world.request(`/watch/${number}?watch=1`));
        await once(watch, "response");
        return { number, watch, text: "" };
      }),
    );
    for (const one of texts) one.watch.on("data", (bytes: Buffer) => (one.text += bytes.toString()));
    for (const [path, stream] of streams) stream.write(`event of ${path}`);
    await expect.poll(() => texts.every(({ text }) => text !== "")).toBe(true);
    for (const { number, text } of texts) expect(text).toBe(`event of /watch/${number}?watch=1`);
    expect(world.h2target.sessions.size).toBe(1);
  });

  test("more streams than the target takes at once wait for their turn", async () => {
    let open = 0;
    let most = 0;
    await using world = await start({
      settings: { maxConcurrentStreams: 5 },
      onStream: (stream) => {
        open += 1;
        most = Math.max(most, open);
        setTimeout(() => {
          open -= 1;
          stream.respond({ ":status": 200 });
          stream.end("done");
        }, 5);
      },
    });
    const session = await world.session();
    expect((await ask(session, world.request("/"))).body).toBe("done");
    const answers = await Promise.all(Array.from({ length: 40 }, () => ask(session, world.request("/"))));
    expect(answers.every(({ body }) => body === "done")).toBe(true);
    expect(most).toBeLessThanOrEqual(5);
  });

  test("two clients never share a connection to the target", async () => {
    await using world = await start();
    const [one, two] = [await world.session(), await world.session("reverse")];
    await ask(one, world.request("/"));
    await ask(two, world.request("/", {}, "reverse"));
    expect(world.h2target.sessions.size).toBe(2);
    one.destroy();
    await expect.poll(() => world.h2target.sessions.size).toBe(1);
  });

  test("neither token is in what is logged, and each request has its line", async () => {
    const lines: string[] = [];
    const write = (sentence: string, fields: unknown) => void lines.push(`${sentence} ${JSON.stringify(fields)}`);
    const log = { debug: write, info: write, warn: write, error: write, with: () => log };
    await using world = await start({ log });
    const session = await world.session();
    await ask(session, world.request("/a?secret=1"));
    await ask(session, world.request("/b", { "impersonate-user": "x" }));
    const text = lines.join("\n");
    expect(text).toContain('"path":"/a","status":200');
    expect(text).toContain('"path":"/b","status":403');
    for (const mark of [testToken, callerToken, "secret=1"]) expect(text).not.toContain(mark);
  });
});
