import { expect, test } from "vitest";
import { answerWith, type TargetConnection } from "../../test/kit/servers.ts";
import { connectText, requestText, startTestProxy } from "../../test/kit/test-proxy.ts";
import { noMetrics } from "./metrics.ts";

// While a client that was let into a tunnel shakes hands with us, the target's handshake is under way already. That
// connection is this client's alone: its first request goes out on it, and when none comes it ends with the client.

function answers(connection: TargetConnection): void {
  let from = 0;
  connection.socket.on("data", () => {
    const text = connection.received();
    for (let end = text.indexOf("\r\n\r\n", from); end >= 0; end = text.indexOf("\r\n\r\n", from)) {
      connection.send(answerWith(text.slice(from, end)));
      from = end + 4;
    }
  });
}

test("a tunnel's first request finds the target's connection ready, and makes no other", async () => {
  const dialled: string[] = [];
  const metrics = { ...noMetrics, upstreamDialled: (result: string) => void dialled.push(result) };
  await using room = await startTestProxy({ onConnection: answers, metrics });
  const client = await room.forward();
  await expect.poll(() => dialled).toEqual(["ok"]);
  for (const path of ["/one", "/two"]) {
    client.send(requestText("GET", path, room.authority));
    await client.until(path);
  }
  expect(dialled).toEqual(["ok"]);
  expect(room.target.open()).toBe(1);
});

test("nobody else gets it, and it ends with its client", async () => {
  await using room = await startTestProxy({ onConnection: answers });
  const waiting = await room.forward();
  await expect.poll(() => room.target.open()).toBe(1);
  const other = await room.direct();
  other.send(requestText("GET", "/other", room.connector.serviceNames[0] ?? ""));
  await other.until("/other");
  expect(room.target.open()).toBe(2);
  waiting.socket.destroy();
  await expect.poll(() => room.target.open()).toBe(1);
});

test("whoever is not let into a tunnel makes no connection", async () => {
  const dialled: string[] = [];
  const metrics = { ...noMetrics, upstreamDialled: (result: string) => void dialled.push(result) };
  await using room = await startTestProxy({ onConnection: answers, metrics });
  const client = await room.raw();
  client.send(connectText(room.authority, "Basic bm9ib2R5OngK"));
  await client.until("407");
  const elsewhere = await room.raw();
  elsewhere.send(connectText("10.0.0.1:6443"));
  await elsewhere.until("403");
  expect(dialled).toEqual([]);
});

test.each([
  ["speaks on", (first: TargetConnection) => first.send("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison")],
  ["ends", (first: TargetConnection) => void first.socket.end()],
  ["breaks off", (first: TargetConnection) => void first.socket.destroy()],
])("one that the target %s meanwhile is not used", async (_what, spoil) => {
  let count = 0;
  await using room = await startTestProxy({
    onConnection(connection) {
      count += 1;
      if (count === 1) spoil(connection);
      else answers(connection);
    },
  });
  const client = await room.forward();
  await expect.poll(() => count).toBe(1);
  await expect.poll(() => room.target.open()).toBe(0);
  client.send(requestText("GET", "/asked", room.authority));
  await client.until("/asked");
  expect(client.received()).not.toContain("poison");
  expect(count).toBe(2);
});

test("a request that comes before it is ready waits for it; a connector that has moved gets another", async () => {
  await using room = await startTestProxy({ onConnection: answers });
  const client = await room.forward();
  client.send(requestText("GET", "/soon", room.authority));
  await client.until("/soon");
  expect(room.target.open()).toBe(1);
  const moved = await room.forward();
  const { connector } = room;
  room.source.put({ ...connector, tls: { ...connector.tls, serverName: "127.0.0.1" } });
  moved.send(requestText("GET", "/moved", room.authority));
  await moved.until("/moved");
  await expect.poll(() => room.target.open()).toBe(1);
});
