import { createTestCa } from "../../test/kit/certificates.ts";
import { answerWith, startRawTarget, type TargetConnection } from "../../test/kit/servers.ts";
import { requestText, startTestProxy } from "../../test/kit/test-proxy.ts";
import { systemClock } from "@kube-connector/core";
import { expect, test } from "vitest";

// A connection to the target resumes the TLS session of an earlier one that has seen its certificate: of the same connector,
// address, CA and name, and for a minute. Whoever does not know the session is verified as if there were none.

/** One answer for each connection, so that each request needs a new one; and whether each of them was resumed. */
function answersOnce() {
  const resumed: boolean[] = [];
  const onConnection = (connection: TargetConnection) => {
    const was = connection.socket.isSessionReused();
    connection.socket.once("data", () => {
      resumed.push(was);
      connection.send(answerWith("answered", "200 OK", "Connection: close\r\n"));
      connection.socket.end();
    });
  };
  return { resumed, onConnection };
}

async function startRoom() {
  const { resumed, onConnection } = answersOnce();
  const time = { skipped: 0 };
  const clock = { ...systemClock, monotonic: () => systemClock.monotonic() + time.skipped };
  const room = await startTestProxy({ onConnection, clock });
  const host = room.connector.serviceNames[0] ?? "";
  const client = await room.direct();
  return {
    room,
    time,
    ask: async () => (await client.ask(requestText("GET", "/", host))).status,
    resumed,
    [Symbol.asyncDispose]: () => room[Symbol.asyncDispose](),
  };
}

test("connections after the first resume its session, whatever token the connector has", async () => {
  await using world = await startRoom();
  for (let count = 0; count < 3; count += 1) expect(await world.ask()).toBe(200);
  world.room.source.put({ ...world.room.connector });
  expect(await world.ask()).toBe(200);
  expect(world.resumed).toEqual([false, true, true, true]);
});

test("after a minute the certificate is looked at again", async () => {
  await using world = await startRoom();
  for (let count = 0; count < 2; count += 1) expect(await world.ask()).toBe(200);
  world.time.skipped = 59_000;
  expect(await world.ask()).toBe(200);
  world.time.skipped = 61_000;
  for (let count = 0; count < 2; count += 1) expect(await world.ask()).toBe(200);
  expect(world.resumed).toEqual([false, true, true, false, true]);
});

test("another connector, name or CA begins without it", async () => {
  await using world = await startRoom();
  const { connector, source } = world.room;
  expect(await world.ask()).toBe(200);
  const named = { ...connector, tls: { ...connector.tls, serverName: "target.example" } };
  source.put(named);
  expect(await world.ask()).toBe(200);
  source.put({ ...named, tls: { ...named.tls, caBundle: (await createTestCa()).certificate } });
  expect(await world.ask()).toBe(502);
  source.put({ ...connector, tls: { ...connector.tls, serverName: "other.example" } });
  expect(await world.ask()).toBe(502);
  source.put({ ...connector, uid: "uid-2" });
  await using again = await reopened(world.room);
  expect(await again.ask()).toBe(200);
  expect(world.resumed).toEqual([false, false, false]);
});

/** A new client: the old one's connector is gone. */
async function reopened(room: Awaited<ReturnType<typeof startTestProxy>>) {
  const client = await room.direct();
  const host = room.connector.serviceNames[0] ?? "";
  return {
    ask: async () => (await client.ask(requestText("GET", "/", host))).status,
    [Symbol.asyncDispose]: async () => void client.socket.destroy(),
  };
}

test("whoever has taken the target's place has to show its certificate", async () => {
  await using world = await startRoom();
  const { port } = world.room.target;
  for (let count = 0; count < 2; count += 1) expect(await world.ask()).toBe(200);
  expect(world.resumed).toEqual([false, true]);
  await world.room.target[Symbol.asyncDispose]();
  const stranger = await (await createTestCa("another CA")).leaf(["127.0.0.1"]);
  {
    await using impostor = await startRawTarget(stranger, answersOnce().onConnection, { port });
    expect(await world.ask()).toBe(502);
    expect(impostor.everything()).toBe("");
  }
  const renewed = await world.room.targetCa.leaf(["127.0.0.1"]);
  const { resumed, onConnection } = answersOnce();
  await using target = await startRawTarget(renewed, onConnection, { port });
  for (let count = 0; count < 2; count += 1) expect(await world.ask()).toBe(200);
  expect(resumed).toEqual([false, true]);
  expect(target.connections.length).toBe(2);
});
