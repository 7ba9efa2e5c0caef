import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Server } from "node:net";
import { pipeline } from "node:stream/promises";
import tls from "node:tls";
import { systemClock } from "@kube-connector/core";
import { expect, test } from "vitest";
import { createTestCa } from "../../test/kit/certificates.ts";
import { resolvedConnector } from "../../test/kit/resolved.ts";
import { dial, planDial } from "./dial.ts";
import { TargetSession } from "./target-session.ts";

// What a handshake offers, read from the first bytes that reach the target. Groups by their numbers, in the order of OpenSSL:
// https://www.iana.org/assignments/tls-parameters (TLS Supported Groups).

const postQuantum = 0x11ec; // X25519MLKEM768
const classic = 0x001d; // X25519

test("whoever resumes a session of a classic key sends that one alone, and tells of the other", async () => {
  await using target = await startTarget("X25519");
  const hellos = [await target.hello(), await target.hello(), await target.hello()];
  expect(hellos.map(({ keys }) => keys)).toEqual([[postQuantum, classic], [classic], [classic]]);
  expect(hellos.map(({ resumed }) => resumed)).toEqual([false, true, true]);
  for (const { groups } of hellos) expect(groups.slice(0, 2)).toEqual([postQuantum, classic]);
});

test("both are sent again with each look at the certificate", async () => {
  await using target = await startTarget("X25519");
  for (let count = 0; count < 2; count += 1) await target.hello();
  target.skip(61_000);
  expect(await target.hello()).toMatchObject({ resumed: false, keys: [postQuantum, classic] });
  expect(await target.hello()).toMatchObject({ resumed: true, keys: [classic] });
});

test("a target that would rather have the other asks for it", async () => {
  await using target = await startTarget("X25519");
  for (let count = 0; count < 2; count += 1) await target.hello();
  target.choose("X25519MLKEM768 / X25519");
  expect(await target.hello()).toMatchObject({ keys: [classic], agreed: "X25519MLKEM768" });
});

test.for(["X25519MLKEM768", "P-256"])("a target that agrees on %s is sent both", async (group) => {
  await using target = await startTarget(group);
  const hellos = [await target.hello(), await target.hello(), await target.hello()];
  expect(hellos.map(({ resumed }) => resumed)).toEqual([false, true, true]);
  for (const { keys } of hellos) expect(keys).toEqual([postQuantum, classic]);
});

interface Hello {
  /** Groups that a key came with, and all that the client can do. */
  keys: number[];
  groups: number[];
  agreed: string | undefined;
  resumed: boolean;
}

/** A target whose key agreement is told, and one plan for it. */
async function startTarget(group: string) {
  const ca = await createTestCa();
  const { certificate: cert, key } = await ca.leaf(["127.0.0.1"]);
  const secure = tls.createServer({ cert, key, ecdhCurve: group }, (socket) => {
    socket.on("error", () => undefined).end("bye");
  });
  const behind = await listen(secure);
  const hellos: Buffer[] = [];
  const before = createServer((socket) => {
    socket.once("data", (bytes) => hellos.push(bytes));
    const onward = connect(behind, "127.0.0.1");
    void pipeline(socket, onward, socket).catch(() => undefined);
  });
  const address = `https://127.0.0.1:${await listen(before)}`;
  const plan = planDial(await resolvedConnector({ name: "prod", address, tls: { caBundle: ca.certificate } }));
  let skipped = 0;
  const clock = { ...systemClock, monotonic: () => systemClock.monotonic() + skipped };
  const session = new TargetSession(clock);
  const options = { clock, dialTimeout: 5000, tlsTimeout: 5000, allowLoopback: true, session };
  return {
    skip: (milliseconds: number) => {
      skipped += milliseconds;
    },
    choose: (another: string) => secure.setSecureContext({ cert, key, ecdhCurve: another }),
    async hello(): Promise<Hello> {
      const socket = await dial(plan, { ...options, signal: new AbortController().signal });
      const { name: agreed } = socket.getEphemeralKeyInfo() as { name?: string };
      const resumed = socket.isSessionReused();
      await once(socket.resume(), "end");
      socket.destroy();
      return { ...offered(hellos.at(-1) ?? Buffer.alloc(0)), agreed, resumed };
    },
    async [Symbol.asyncDispose]() {
      await Promise.all([secure, before].map((server) => new Promise((resolve) => server.close(resolve))));
    },
  };
}

async function listen(server: Server): Promise<number> {
  await once(server.listen(0, "127.0.0.1"), "listening");
  return (server.address() as AddressInfo).port;
}

/** Of a ClientHello (RFC 8446 section 4.1.2) in one TLS record. */
function offered(record: Buffer): Pick<Hello, "keys" | "groups"> {
  let at = 5 + 4 + 2 + 32; // heads of record and handshake, version, random
  at += 1 + record.readUInt8(at); // session id
  at += 2 + record.readUInt16BE(at); // cipher suites
  at += 1 + record.readUInt8(at); // compression
  const end = at + 2 + record.readUInt16BE(at);
  const found: Pick<Hello, "keys" | "groups"> = { keys: [], groups: [] };
  for (at += 2; at < end; at += 4 + record.readUInt16BE(at + 2)) {
    const type = record.readUInt16BE(at);
    const content = record.subarray(at + 6, at + 4 + record.readUInt16BE(at + 2));
    if (type === 10) for (let i = 0; i < content.length; i += 2) found.groups.push(content.readUInt16BE(i));
    if (type !== 51) continue;
    for (let i = 0; i < content.length; i += 4 + content.readUInt16BE(i + 2)) found.keys.push(content.readUInt16BE(i));
  }
  return found;
}
