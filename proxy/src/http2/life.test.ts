import { once } from "node:events";
import { Fault, Secret } from "@kube-connector/core";
import { describe, expect, test } from "vitest";
import { ask, type Http2ProxyOptions, http2Relays, startHttp2Proxy } from "../../../test/kit/http2.ts";

// What changes while connections are open: targets and proxies that leave, connectors, tokens and rights. What is open
// goes on as long as it may, and what comes later sees the change.

const sleep = (milliseconds: number) => new Promise((resolve) => setTimeout(resolve, milliseconds));

describe.each(http2Relays)("HTTP/2 by %s", (by) => {
  const start = (options: Http2ProxyOptions = {}) => startHttp2Proxy({ http2: by, ...options });

  test("when the target says goodbye the client is told, what is open ends well, and the next connection works", async () => {
    let finish = () => {};
    await using world = await start({
      onStream: (stream, headers) => {
        stream.respond({ ":status": 200 });
        if (headers[":path"] === "/slow") finish = () => stream.end("whole");
        else stream.end("quick");
      },
    });
    const session = await world.session();
    const slow = ask(session, world.request("/slow"));
    await expect.poll(() => world.h2target.seen.length).toBe(1);
    const goodbye = once(session, "goaway");
    for (const one of world.h2target.sessions) one.goaway(0);
    expect((await goodbye)[0]).toBe(0);
    finish();
    expect((await slow).body).toBe("whole");
    const next = await world.session();
    expect((await ask(next, world.request("/quick"))).body).toBe("quick");
  });

  test("a target that speaks HTTP/2 no more refuses what waits for it, and the next connection does without", async () => {
    await using world = await start();
    expect((await ask(await world.session(), world.request("/"))).status).toBe(200);
    world.h2target.speakOnlyHttp1();
    const session = await world.session();
    const goodbye = once(session, "goaway");
    await expect(ask(session, world.request("/"))).rejects.toThrow("REFUSED_STREAM");
    await goodbye;
    expect((await world.tls("forward")).alpnProtocol).toBe("http/1.1");
  });

  test("a target that holds back the head of an answer until it sends something else is given a reason to", async () => {
    await using world = await start({
      timeouts: { tick: 50 },
      onStream: (stream) => {
        stream.session?.once("ping", () => {
          stream.respond({ ":status": 200 });
          stream.write("event");
        });
      },
    });
    const session = await world.session();
    const watch = session.request(world.request("/watch?watch=1"));
    watch.on("error", () => undefined);
    const [head] = (await once(watch, "response")) as [Record<string, unknown>];
    expect(head[":status"]).toBe(200);
    watch.close();
  });

  test("draining tells clients by GOAWAY, lets requests end and ends watches", async () => {
    let finish = () => {};
    await using world = await start({
      timeouts: { drainGrace: 400 },
      onStream: (stream, headers) => {
        stream.respond({ ":status": 200 });
        if (headers[":path"] === "/slow") finish = () => stream.end("whole");
        else stream.write("event");
      },
    });
    const session = await world.session();
    const idle = await world.session();
    const slow = ask(session, world.request("/slow"));
    const watch = session.request(world.request("/watch?watch=1"));
    watch.on("error", () => undefined);
    let text = "";
    watch.on("data", (bytes: Buffer) => (text += bytes.toString()));
    const ended = once(watch, "end");
    await once(watch, "response");
    const goodbyes = Promise.all([once(session, "goaway"), once(idle, "goaway")]);
    const stopped = world.proxy.stop();
    await goodbyes;
    finish();
    expect((await slow).body).toBe("whole");
    await ended;
    expect([text, watch.rstCode]).toEqual(["event", 0]);
    await stopped;
  });

  test("a connector that is deleted ends its connections; another address lets what is open go on", async () => {
    await using world = await start({
      onStream: (stream, headers) => {
        stream.respond({ ":status": 200 });
        if (headers[":path"] === "/watch") stream.write("event");
        else stream.end();
      },
    });
    const session = await world.session();
    const watch = session.request(world.request("/watch"));
    watch.on("error", () => undefined);
    await once(watch, "data");
    const goodbye = once(session, "goaway");
    const { connector } = world;
    world.source.put({ ...connector, tls: { ...connector.tls, serverName: "other.example" } });
    await goodbye;
    expect(watch.closed).toBe(false);
    world.source.put(connector);
    const next = await world.session();
    expect((await ask(next, world.request("/"))).status).toBe(200);
    world.source.remove("team-a/prod");
    await expect.poll(() => [world.proxy.openConnections(), world.h2target.sessions.size]).toEqual([0, 0]);
  });

  test("later streams have the new token, and a 401 to a token that was replaced is asked again", async () => {
    await using world = await start({
      onStream: (stream, headers) => {
        const fresh = headers.authorization === "Bearer fresh";
        if (!fresh) world.source.put({ ...world.connector, token: new Secret("fresh") });
        stream.respond({ ":status": fresh ? 200 : 401 });
        stream.end(String(headers.authorization));
      },
    });
    const session = await world.session();
    expect(await ask(session, world.request("/"))).toMatchObject({ status: 200, body: "Bearer fresh" });
    expect(world.h2target.seen).toHaveLength(2);
    world.source.put({ ...world.connector, token: new Secret("stale") });
    expect(await ask(session, world.request("/", { ":method": "POST" }), "x")).toMatchObject({ status: 401 });
  });

  test("a refused stored token is explained in a Warning", async () => {
    await using world = await start({
      onStream: (stream) => {
        stream.respond({ ":status": 401 });
        stream.end("no");
      },
    });
    const { headers, body } = await ask(await world.session(), world.request("/"));
    expect([body, String(headers.warning)]).toEqual(["no", expect.stringContaining("refuses the stored token")]);
  });

  test("an open stream is ended when its caller may not have it any more, and only that", async () => {
    await using world = await start({
      timeouts: { review: 50 },
      onStream: (stream) => {
        stream.respond({ ":status": 200 });
        stream.write("event");
      },
    });
    const session = await world.session();
    const watch = session.request(world.request("/watch?watch=1"));
    watch.on("error", () => undefined);
    await once(watch, "data");
    await sleep(150);
    expect(watch.closed).toBe(false);
    world.access.fault = new Fault("permission_denied", "not any more");
    await expect.poll(() => watch.rstCode).toBe(8);
    expect(session.closed).toBe(false);
  });
});
