import { connect } from "node:net";
import { silentLog, systemClock } from "@kube-connector/core";
import { describe, expect, test } from "vitest";
import { openRaw, openSecure, type RawAnswer, type RawClient } from "../../test/kit/raw-client.ts";
import { answerWith } from "../../test/kit/servers.ts";
import { connectText, requestText, startTestProxy, type TestProxy } from "../../test/kit/test-proxy.ts";
import { noMetrics } from "./metrics.ts";
import { startProxy } from "./proxy.ts";

// Nobody can hold the proxy up by being slow, large or many: each silence has its time, each head its size, each address
// its share. What takes long because it has much to say is left alone.

const pause = (milliseconds: number) => new Promise((resolve) => setTimeout(resolve, milliseconds));

describe("a slow client is ended", () => {
  test("while its request's body has stopped", async () => {
    await using room = await startTestProxy({ onConnection: () => undefined, timeouts: { requestBody: 100 } });
    const client = await room.forward();
    client.send(requestText("POST", "/", room.authority, "Content-Length: 10\r\n", "half"));
    await client.closed();
  });

  test("between two requests, quietly", async () => {
    await using room = await startTestProxy({ timeouts: { idleClient: 100 } });
    const client = await room.forward();
    await client.ask(requestText("GET", "/", room.authority));
    const said = client.received().length;
    expect((await client.closed()).length).toBe(said);
  });
});

test("a target that takes its time is waited for", async () => {
  await using room = await startTestProxy({
    onConnection: () => undefined,
    timeouts: { requestHead: 50, requestBody: 50, idleClient: 50, idleUpstream: 50, connectHead: 50 },
  });
  const client = await room.forward();
  client.send(requestText("POST", "/", room.authority, "Content-Length: 4\r\n", "body"));
  await pause(300);
  (await room.target.connection()).send(answerWith("late"));
  await client.until("late");
});

test("an upstream connection that nobody used for a while is closed", async () => {
  await using room = await startTestProxy({ timeouts: { idleUpstream: 50 } });
  const client = await room.forward();
  await client.ask(requestText("GET", "/", room.authority));
  await pause(200);
  expect(room.target.open()).toBe(0);
  expect((await client.ask(requestText("GET", "/", room.authority))).status).toBe(200);
});

test("an address gets no more connections than its share, is told so, and gets them again when it has closed some", async () => {
  await using room = await startTestProxy({ limits: { connectionsPerAddress: 2 } });
  const first = await room.raw();
  const second = await room.raw();
  await pause(20);
  const third = await room.raw();
  third.send(connectText(room.authority));
  const sentence = "Too many connections: 127.0.0.1 has 2 open, and more are not taken";
  const [head = "", body = ""] = (await third.closed()).split("\r\n\r\n");
  expect(head).toMatch(new RegExp(`^HTTP/1.1 429 ${sentence}\r\n[^]*\r\nRetry-After: 1\r\nConnection: close$`));
  expect(JSON.parse(body)).toMatchObject({ kind: "Status", code: 429, reason: "TooManyRequests", message: sentence });
  // One that says nothing holds no place for long, and at the other door a word would cost a handshake.
  await (await room.raw()).closed();
  await (await openRaw(room.proxy.reversePort)).closed();
  const elsewhere = connect({ host: "127.0.0.1", port: room.proxy.forwardPort, localAddress: "127.0.0.2" });
  await new Promise((resolve) => elsewhere.once("connect", resolve));
  elsewhere.destroy();
  first.socket.destroy();
  second.socket.destroy();
  await pause(50);
  expect((await (await room.forward()).ask(requestText("GET", "/", room.authority))).status).toBe(200);
});

test("all addresses together get no more than the limit", async () => {
  await using room = await startTestProxy({ limits: { connections: 1 } });
  await room.raw();
  await pause(20);
  const second = await room.raw();
  second.send(connectText(room.authority));
  expect(await second.closed()).toMatch(
    /^HTTP\/1\.1 503 The proxy has 1 connections open and takes no more; try again\r\n/,
  );
});

test("of those who are turned away only a hundred at a time are told, and they hold nothing up at the end", async () => {
  await using room = await startTestProxy({ limits: { connectionsPerAddress: 1 }, timeouts: { linger: 60_000 } });
  await room.raw();
  await pause(20);
  const clients = await Promise.all(Array.from({ length: 120 }, () => room.raw()));
  await pause(100);
  for (const client of clients) client.send(connectText(room.authority));
  const answers = await Promise.all(clients.map((client) => client.closed()));
  expect(answers.filter((answer) => answer.startsWith("HTTP/1.1 429 "))).toHaveLength(100);
  expect(answers.filter((answer) => answer === "")).toHaveLength(20);
});

describe("stop", () => {
  const streaming = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n";

  test("serves on for a while, then ends idle connections and what takes no end", async () => {
    await using room = await startTestProxy({
      onConnection: (connection) => connection.socket.on("data", () => connection.send(answerWith("ok"))),
      timeouts: { drainWait: 150, drainGrace: 2000 },
    });
    const client = await room.forward();
    const stopped = room.proxy.stop();
    expect(room.proxy.isDraining()).toBe(true);
    expect((await client.ask(requestText("GET", "/", room.authority))).status).toBe(200);
    expect((await (await room.forward()).ask(requestText("GET", "/", room.authority))).status).toBe(200);
    await client.closed();
    await stopped;
    await room.proxy.done;
    await pause(20);
    expect(room.target.open()).toBe(0);
    expect(room.proxy.openConnections()).toBe(0);
  });

  test("lets a request in hand end, and tells its client to close", async () => {
    await using room = await startTestProxy({ onConnection: () => undefined, timeouts: { drainGrace: 5000 } });
    const client = await room.forward();
    client.send(requestText("GET", "/", room.authority));
    const target = await room.target.connection();
    await target.until("\r\n\r\n");
    const stopped = room.proxy.stop();
    await pause(50);
    target.send(answerWith("whole"));
    expect(await client.closed()).toMatch(/\r\nConnection: close\r\n\r\nwhole$/);
    client.socket.end();
    await stopped;
  });

  test("ends a watch cleanly between two chunks and cuts what is in the middle of one", async () => {
    await using room = await startTestProxy({ onConnection: () => undefined });
    const [clean, broken] = [await room.forward(), await room.forward()];
    clean.send(requestText("GET", "/watch", room.authority));
    (await room.target.connection(0)).send(streaming);
    await clean.until("first");
    broken.send(requestText("GET", "/log", room.authority));
    (await room.target.connection(1)).send(`${streaming}5\r\nha`);
    await broken.until("ha");
    await room.proxy.stop();
    expect((await clean.closed()).endsWith("5\r\nfirst\r\n0\r\n\r\n")).toBe(true);
    expect((await broken.closed()).endsWith("5\r\nha")).toBe(true);
  });

  test("in the second half of the wait each answer is its connection's last, while new ones are still taken", async () => {
    await using room = await startTestProxy({ timeouts: { drainWait: 600, drainGrace: 2000 } });
    const [early, late] = [await room.forward(), await room.forward()];
    const ask = (client: typeof early) => client.ask(requestText("POST", "/", room.authority));
    const stopped = room.proxy.stop();
    expect((await ask(early)).head).not.toMatch(/\r\nConnection: close\r\n/);
    await pause(400);
    for (const client of [early, late, await room.forward()]) {
      expect(await ask(client)).toMatchObject({
        status: 200,
        head: expect.stringMatching(/\r\nConnection: close\r\n/),
      });
      await client.closed();
    }
    await stopped;
  });

  test("a client that had connected before the doors closed still gets its answer, if it is quick", async () => {
    await using room = await startTestProxy({ timeouts: { drainGrace: 5000, linger: 300 } });
    const [quick, slow] = [await room.raw(), await room.raw()];
    const answer = await startTls(quick, room);
    const stopped = room.proxy.stop();
    await pause(50);
    expect((await answer()).head).toMatch(/^HTTP\/1\.1 200 OK\r\n[^]*Connection: close\r\n/);
    expect(await slow.closed()).toMatch(/^HTTP\/1\.1 408 /);
    await stopped;
  });

  test("a read that has no answer yet is told to come again, a write is cut", async () => {
    await using room = await startTestProxy({ onConnection: () => undefined });
    const [read, write] = [await room.forward(), await room.forward()];
    read.send(requestText("GET", "/", room.authority));
    write.send(requestText("POST", "/", room.authority));
    await (await room.target.connection(1)).until("\r\n\r\n");
    await room.proxy.stop();
    expect(await read.closed()).toMatch(/^HTTP\/1\.1 503 [^]*\r\nRetry-After: 3\r\n/);
    expect(await write.closed()).toBe("");
  });

  test("a chunk that is on its way is waited for", async () => {
    await using room = await startTestProxy({ onConnection: () => undefined, timeouts: { linger: 2000 } });
    const client = await room.forward();
    client.send(requestText("GET", "/watch", room.authority));
    const target = await room.target.connection();
    target.send(`${streaming}5\r\nha`);
    await client.until("ha");
    const stopped = room.proxy.stop();
    await pause(300);
    target.send("lf!\r\n");
    expect((await client.closed()).endsWith("5\r\nhalf!\r\n0\r\n\r\n")).toBe(true);
    client.socket.end();
    await stopped;
  });

  test("twice is the same as once", async () => {
    await using room = await startTestProxy();
    await Promise.all([room.proxy.stop(), room.proxy.stop()]);
    await expect(room.forward()).rejects.toThrow(/ECONNREFUSED/);
  });
});

test("a port that is taken is a sentence", async () => {
  await using room = await startTestProxy();
  const again = startProxy({
    forward: { host: "127.0.0.1", port: room.proxy.forwardPort },
    connectors: room.source,
    authenticator: room.access,
    authorizer: room.access,
    metrics: noMetrics,
    clock: systemClock,
    log: silentLog,
  });
  await expect(again).rejects.toThrow(/^Cannot listen on 127\.0\.0\.1:\d+: the address is in use by another process$/);
});

/** A tunnel whose CONNECT is still to come; the answer goes through all of it. */
async function startTls(raw: RawClient, room: TestProxy): Promise<() => Promise<RawAnswer>> {
  await pause(20);
  return async () => {
    raw.send(connectText(room.authority));
    await raw.until("200 OK\r\n\r\n");
    raw.socket.removeAllListeners("data");
    const client = await openSecure({ socket: raw.socket }, { ca: room.connectorCa.certificate });
    return await client.ask(requestText("GET", "/", room.authority));
  };
}
