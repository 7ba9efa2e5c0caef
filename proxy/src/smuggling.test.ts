import { expect, test } from "vitest";
import { answerWith, type TargetConnection } from "../../test/kit/servers.ts";
import { requestText, startTestProxy } from "../../test/kit/test-proxy.ts";

// Connections are not shared while they are in use, and an upgrade is what both sides agreed on. What smugglers try is in
// test/integration/attacks/framing.test.ts and upgrades.test.ts.

/** Reads the request's head, then answers with that text. */
const answering = (answer: string) => (connection: TargetConnection) => {
  void connection.until("\r\n\r\n").then(() => connection.send(answer));
};

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

test("thousands of pipelined requests that are refused at once are answered one by one", async () => {
  await using room = await startTestProxy();
  const client = await room.forward();
  const count = 3000;
  client.send(requestText("GET", "/", "elsewhere").repeat(count) + requestText("GET", "/last", room.authority));
  await client.until("/last");
  expect(client.received().match(/HTTP\/1\.1 421 /g)).toHaveLength(count);
  expect(room.target.everything().match(/^GET /gm)).toHaveLength(1);
});
