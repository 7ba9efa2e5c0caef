import { expect, test } from "vitest";
import { answerWith, type TargetConnection } from "../../test/kit/servers.ts";
import { requestText, startTestProxy } from "../../test/kit/test-proxy.ts";

// No bytes of one request are ever read as another one, and no answer reaches anybody but its asker: raw bytes against a
// target that judges nothing.

const pause = (milliseconds: number) => new Promise((resolve) => setTimeout(resolve, milliseconds));

/** Reads the request's head, then answers with that text. */
const answering = (answer: string) => (connection: TargetConnection) => {
  void connection.until("\r\n\r\n").then(() => connection.send(answer));
};

test.each([
  ["length and chunks", "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"],
  ["two lengths", "Content-Length: 5\r\nContent-Length: 0\r\n", "hello"],
  ["an unknown coding", "Transfer-Encoding: xchunked\r\n", "0\r\n\r\n"],
  ["two codings", "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", "0\r\n\r\n"],
  ["a coding behind a blank", "Transfer-Encoding : chunked\r\n", "0\r\n\r\n"],
  ["a folded coding", "Transfer-Encoding:\r\n chunked\r\n", "0\r\n\r\n"],
  ["a bare LF", "X: 1\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"],
  ["a NUL", "X: \0\r\n", ""],
])(
  "attack 19: a request with %s is a 400, the connection ends, nothing reaches the target",
  async (_what, lines, body) => {
    await using room = await startTestProxy();
    const client = await room.forward();
    client.send(
      requestText("POST", "/a", room.authority, lines, body + requestText("GET", "/smuggled", room.authority)),
    );
    const all = await client.closed();
    expect(all).toMatch(/^HTTP\/1\.1 400 /);
    expect(all.match(/HTTP\/1\.1 /g)?.length).toBe(1);
    expect(room.target.everything()).toBe("");
  },
);

test.each([
  "5;ext=1\r\nhello\r\n0\r\n\r\n",
  "5\nhello\r\n0\r\n\r\n",
  "5\r\nhelloGET / HTTP/1.1\r\n",
  "0\r\nHost: b\r\n\r\n",
])("attack 19: a body in malformed chunks %j never reaches its end at the target", async (body) => {
  await using room = await startTestProxy({ onConnection: () => undefined });
  const client = await room.forward();
  client.send(requestText("POST", "/a", room.authority, "Transfer-Encoding: chunked\r\n", body));
  expect(await client.closed()).toMatch(/^HTTP\/1\.1 400 /);
  expect(room.target.everything()).not.toContain("0\r\n\r\n");
  expect(room.target.everything()).not.toContain("Host: b");
});

test("pipelined requests are answered one after the other, and the second is sent only after the first answer", async () => {
  await using room = await startTestProxy({ onConnection: () => undefined });
  const client = await room.forward();
  client.send(requestText("GET", "/1", room.authority) + requestText("GET", "/2", room.authority));
  const target = await room.target.connection();
  await target.until("GET /1 HTTP/1.1\r\n");
  await pause(50);
  expect(target.received()).not.toContain("/2");
  target.send(answerWith("one"));
  await target.until("GET /2 HTTP/1.1\r\n");
  target.send(answerWith("two"));
  expect(await client.until("two")).toMatch(/one[^]*two$/);
});

test("bytes past the end of an answer do not become the next one's (CVE-2026-48931)", async () => {
  await using room = await startTestProxy({
    onConnection: (connection) => {
      const poison = connection.index === 0 ? answerWith("poison") : "";
      answering(answerWith(`answer ${connection.index}`) + poison)(connection);
    },
  });
  const client = await room.forward();
  expect((await client.ask(requestText("GET", "/1", room.authority))).body).toBe("answer 0");
  const other = await room.forward();
  expect((await other.ask(requestText("GET", "/2", room.authority))).body).toBe("answer 1");
});

test("an idle upstream connection that says something is dropped", async () => {
  await using room = await startTestProxy();
  const client = await room.forward();
  await client.ask(requestText("GET", "/1", room.authority));
  (await room.target.connection()).send(answerWith("poison"));
  await pause(50);
  expect((await client.ask(requestText("GET", "/2", room.authority))).body).toContain("GET /2 ");
  expect(room.target.connections.length).toBe(2);
});

test("two clients never share an upstream connection at one time", async () => {
  const inUse = new Map<number, number>();
  let most = 0;
  await using room = await startTestProxy({
    onConnection: (connection) => {
      let from = 0;
      connection.socket.on("data", () => {
        const text = connection.received();
        const heads = text.slice(from).split("\r\n\r\n").length - 1;
        most = Math.max(most, (inUse.get(connection.index) ?? 0) + heads);
        inUse.set(connection.index, (inUse.get(connection.index) ?? 0) + heads);
        from = text.length;
        const path = /GET (\S+) [^]*$/.exec(text.slice(text.lastIndexOf("GET ")))?.[1] ?? "";
        setTimeout(() => {
          inUse.set(connection.index, (inUse.get(connection.index) ?? 1) - 1);
          connection.send(answerWith(path));
        }, Math.random() * 5);
      });
    },
  });
  const clients = await Promise.all(Array.from({ length: 20 }, () => room.forward()));
  await Promise.all(
    clients.map(async (client, who) => {
      for (let i = 0; i < 25; i++) {
        const answer = await client.ask(requestText("GET", `/client-${who}/${i}`, room.authority));
        expect(answer.body).toBe(`/client-${who}/${i}`);
      }
    }),
  );
  expect(most).toBe(1);
  expect(room.target.connections.length).toBeLessThanOrEqual(20);
});

const upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\n";
const switched = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";

test.each(["403 Forbidden", "200 OK", "302 Found", "426 Upgrade Required"])(
  "attack 1: an upgrade answered with %s, and a second request behind it: it never reaches the target (CVE-2018-1002105)",
  async (status) => {
    await using room = await startTestProxy({ onConnection: answering(answerWith("no", status)) });
    const client = await room.forward();
    const second = requestText("GET", "/smuggled", room.authority);
    client.send(requestText("GET", "/exec", room.authority, upgrade, second));
    await client.until("\r\n\r\nno");
    client.send(second);
    const all = await client.closed();
    expect(all.match(/HTTP\/1\.1 /g)?.length).toBe(1);
    expect(all).toContain("Connection: close\r\n");
    await pause(50);
    expect(room.target.everything()).not.toContain("smuggled");
    expect(room.target.open()).toBe(0);
  },
);

test.each([
  "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
  "HTTP/1.1 101 Switching Protocols\r\n\r\n",
])("a 101 to another protocol is a 502 and ends the upstream connection: %j", async (answer) => {
  await using room = await startTestProxy({ onConnection: answering(answer) });
  const client = await room.forward();
  client.send(requestText("GET", "/exec", room.authority, upgrade, "early"));
  expect(await client.closed()).toMatch(/^HTTP\/1\.1 502 /);
  expect(room.target.everything()).not.toContain("early");
});

test("attack 5: early bytes of both sides are kept and cross only after the 101", async () => {
  await using room = await startTestProxy({ onConnection: () => undefined });
  const client = await room.forward();
  client.send(requestText("GET", "/exec", room.authority, upgrade, "client-early"));
  const target = await room.target.connection();
  await target.until("\r\n\r\n");
  await pause(50);
  expect(target.received()).not.toContain("client-early");
  target.send(`${switched}target-early`);
  await target.until("client-early");
  expect((await client.until("target-early")).startsWith("HTTP/1.1 101 ")).toBe(true);
  client.send("\0\x01\xffping");
  await target.until("\0\x01\xffping");
  target.send("pong");
  await client.until("pong");
});

test("h2c goes on as a plain request without the header", async () => {
  await using room = await startTestProxy();
  const client = await room.forward();
  const h2c = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMA\r\n";
  const { body } = await client.ask(requestText("GET", "/", room.authority, h2c));
  expect(body).not.toMatch(/upgrade|http2|connection/i);
});

test("each half of an upgraded connection ends alone", async () => {
  await using room = await startTestProxy({ onConnection: answering(switched) });
  const client = await room.forward();
  client.send(requestText("POST", "/exec", room.authority, upgrade.replace("websocket", "SPDY/3.1")));
  await client.closed(); // the 101 names websocket, so this one fails
  const second = await room.forward();
  second.send(requestText("GET", "/exec", room.authority, upgrade));
  await second.until("\r\n\r\n");
  const target = await room.target.connection(1);
  const ended = new Promise((resolve) => target.socket.once("end", resolve));
  second.send("last words");
  second.socket.end();
  await ended;
  expect(target.received().endsWith("last words")).toBe(true);
});
