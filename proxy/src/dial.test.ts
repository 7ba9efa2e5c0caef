import { createServer } from "node:net";
import type { AddressInfo, Socket } from "node:net";
import { parseAddress } from "@kube-connector/core";
import { expect, test } from "vitest";
import { requestText, startTestProxy } from "../../test/kit/test-proxy.ts";

// A target that cannot be reached is told apart by what is wrong with it, in a sentence that names it, in bounded time.

test("a name is looked up, its certificate verified by that name, and its address dialled", async () => {
  await using room = await startTestProxy();
  const address = `https://localhost:${room.target.port}`;
  const named = { ...room.connector, address, target: parseAddress(address) };
  room.source.put({ ...named, tls: { ...named.tls, serverName: "target.example" } });
  const client = await room.direct();
  const host = room.connector.serviceNames[0] ?? "";
  expect((await client.ask(requestText("GET", "/", host))).body).toContain(`Host: localhost:${room.target.port}`);
  room.source.put(named);
  const refused = await client.ask(requestText("GET", "/", host));
  expect(refused.status).toBe(502);
  expect(refused.body).toContain("is not accepted");
});

test("a name that does not exist is a 502 that says so", async () => {
  await using room = await startTestProxy();
  const address = "https://no-such-host.invalid:6443";
  room.source.put({ ...room.connector, address, target: parseAddress(address) });
  const client = await room.direct();
  const answer = await client.ask(requestText("GET", "/", room.connector.serviceNames[0] ?? ""));
  expect(answer.status).toBe(502);
  expect(answer.body).toMatch(/Cannot reach the target cluster at no-such-host\.invalid:6443: (no such host|the name)/);
});

test("a target that accepts and says nothing is a 504 in bounded time", async () => {
  const sockets = new Set<Socket>();
  const silent = createServer((socket) => sockets.add(socket.on("error", () => undefined)));
  await new Promise<void>((resolve) => silent.listen(0, "127.0.0.1", resolve));
  await using room = await startTestProxy({ timeouts: { tls: 100 } });
  const address = `https://127.0.0.1:${(silent.address() as AddressInfo).port}`;
  room.source.put({ ...room.connector, address, target: parseAddress(address) });
  const client = await room.direct();
  const answer = await client.ask(requestText("DELETE", "/", room.connector.serviceNames[0] ?? ""));
  expect(answer.status).toBe(504);
  expect(answer.body).toContain("timed out");
  for (const socket of sockets) socket.destroy();
  silent.close();
});

test("a target that speaks no TLS is a 502", async () => {
  const plain = createServer((socket) => socket.on("error", () => undefined).end("HTTP/1.1 400 Bad Request\r\n\r\n"));
  await new Promise<void>((resolve) => plain.listen(0, "127.0.0.1", resolve));
  await using room = await startTestProxy();
  const address = `https://127.0.0.1:${(plain.address() as AddressInfo).port}`;
  room.source.put({ ...room.connector, address, target: parseAddress(address) });
  const client = await room.direct();
  const answer = await client.ask(requestText("GET", "/", room.connector.serviceNames[0] ?? ""));
  expect(answer.status).toBe(502);
  expect(answer.body).toContain("does not speak TLS as it should (wrong version number)");
  plain.close();
});
