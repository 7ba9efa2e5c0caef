import { once } from "node:events";
import tls from "node:tls";
import { createTestCa } from "../../test/kit/certificates.ts";
import { answerWith, startRawTarget, type TargetConnection } from "../../test/kit/servers.ts";
import { requestText, startTestProxy } from "../../test/kit/test-proxy.ts";
import { systemClock } from "@kube-connector/core";
import { expect, test } from "vitest";
import { withoutCertificate } from "./target-session.ts";

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

test("a kept session is without the certificate, and is resumed all the same", async () => {
  const ca = await createTestCa();
  await using target = await startRawTarget(await ca.leaf(["127.0.0.1"]), (connection) => connection.send("hello"));
  const connect = async (session?: Buffer) => {
    const socket = tls.connect({ host: "127.0.0.1", port: target.port, ca: ca.certificate, session });
    socket.resume();
    const next = once(socket, "session") as Promise<[Buffer]>;
    await once(socket, "secureConnect");
    return { socket, next };
  };
  const first = await connect();
  const certificate = first.socket.getPeerX509Certificate()?.raw ?? Buffer.alloc(0);
  const [session] = await first.next;
  const kept = withoutCertificate(session);
  expect([session.includes(certificate), kept.includes(certificate)]).toEqual([true, false]);
  expect(session.length - kept.length).toBeGreaterThanOrEqual(certificate.length);
  const second = await connect(kept);
  expect([second.socket.isSessionReused(), second.socket.authorized]).toEqual([true, true]);
  for (const { socket } of [first, second]) socket.destroy();
});

test("a session that is not as expected stays as it is", () => {
  // Of Node: its mark, and a name with its length.
  const named = Buffer.from("\0nodejs:tls:session:1\0\0\x01n", "latin1");
  const [mark, sequence] = [named.subarray(0, -3), Buffer.from("3006020101a3010c", "hex")];
  expect(withoutCertificate(Buffer.concat([named, sequence]))).toEqual(
    Buffer.concat([named, Buffer.from("30820003020101", "hex")]),
  );
  const strange = [
    "",
    "30",
    "3003020101", // none in it
    "3080a3010c0000", // of no length
    "3006020101a3020c", // cut off
    "3006020101a3010c00", // with more behind it
    "3106020101a3010c", // no sequence
    "3083000006020101a3010c",
  ].map((hex) => Buffer.from(hex, "hex"));
  for (const session of [...strange, ...strange.map((one) => Buffer.concat([named, one])), mark, named])
    expect(withoutCertificate(session)).toEqual(session);
});
