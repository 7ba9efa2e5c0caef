import { type AddressInfo, createServer } from "node:net";
import { Duplex } from "node:stream";
import { connect } from "node:tls";
import { Fault, silentLog } from "@kube-connector/core";
import { expect, test } from "vitest";
// oxlint-disable-next-line import/no-relative-packages -- the doors are no part of the proxy's index
import { createDoors } from "../../../proxy/src/doors.ts";
import { expectStatus, startAttackRoom, ways } from "../../kit/attacks.ts";
import { createTestAudit } from "../../kit/audit-log.ts";
import { openRaw, openSecure } from "../../kit/raw-client.ts";
import { connectText, requestText, startTestProxy } from "../../kit/test-proxy.ts";

// What cannot be judged, or not written down, does not pass; and nothing that a client says ends the process.

/** A connector whose CA nothing can be made of: whoever looks at its target's protocols gets an exception. */
const brokenCa = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";

test("attack 24: an exception in the choice of SNI or ALPN ends neither the process nor anybody's connection (CVE-2026-21637)", async () => {
  await using room = await startTestProxy({ http2: "own" });
  const watch = await room.forward();
  expect((await watch.ask(requestText("GET", "/", room.authority))).status).toBe(200);
  room.source.put({
    ...room.connector,
    name: "broken",
    uid: "uid-2",
    serviceNames: ["c-broken.team-a.svc"],
    tls: { caBundle: brokenCa, insecureSkipVerify: false },
  });
  for (const ALPNProtocols of [["h2", "http/1.1"], ["h2"], ["http/1.1"]]) {
    const socket = connect({
      host: "127.0.0.1",
      port: room.proxy.reversePort,
      servername: "c-broken.team-a.svc",
      ca: room.connectorCa.certificate,
      checkServerIdentity: () => undefined,
      ALPNProtocols,
    });
    const ended = await new Promise<string>((resolve) => {
      socket.once("error", (error) => resolve(error.message));
      socket.once("secureConnect", () => resolve(String(socket.alpnProtocol)));
    });
    // Nobody gets HTTP/2 there; who wants nothing else gets nothing.
    expect(ended).toMatch(ALPNProtocols.includes("http/1.1") ? /^http\/1\.1$/ : /alert|disconnected|reset/);
    socket.destroy();
  }
  expect((await watch.ask(requestText("GET", "/", room.authority))).status).toBe(200);
});

test("attack 24: nor does one in what the doors ask of others", async () => {
  await using room = await startTestProxy();
  const broken = () => {
    throw new Error("broken");
  };
  const doors = createDoors({
    log: silentLog,
    handshakeTimeout: 1_000,
    onForward: () => undefined,
    onReverse: (socket) => void socket.end(),
    http2: { isSpoken: broken, ask: () => undefined },
  });
  doors.refresh(room.source.all());
  const server = createServer((socket) => {
    socket.on("error", () => undefined);
    doors.reverse(socket);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  const options = { ca: room.connectorCa.certificate, servername: "c-prod.team-a.svc", protocols: ["h2", "http/1.1"] };
  const client = await openSecure({ port }, options);
  expect(client.socket.alpnProtocol).toBe("http/1.1");
  client.socket.destroy();
  await new Promise((resolve) => server.close(resolve));
});

test("attack 24: no server name, however odd its bytes, does either", async () => {
  await using room = await startTestProxy({ http2: "own" });
  const watch = await room.direct();
  const host = "c-prod.team-a.svc";
  const names = [
    Buffer.alloc(1, 0),
    Buffer.alloc(253, 0xff),
    Buffer.from("c-prod.team-a.svc\0.evil.example"),
    Buffer.from("C-PROD.TEAM-A.SVC\0"),
    Buffer.from(".."),
    Buffer.from("__proto__"),
    Buffer.from("constructor"),
    Buffer.from("toString"),
    Buffer.from("xn--"),
    Buffer.from("127.0.0.2"),
    Buffer.from("[::1]"),
    Buffer.from("\u{1f600}"),
    Buffer.from("%00%0a"),
    Buffer.from("a b\r\nc"),
  ];
  for (const name of names) {
    for (const door of ["reverse", "forward"] as const) {
      const hello = await helloFor(name);
      const client = await openRaw(door === "reverse" ? room.proxy.reversePort : room.proxy.forwardPort);
      if (door === "forward") {
        client.send(connectText(room.authority));
        await client.until("\r\n\r\n");
      }
      client.send(hello.toString("latin1"));
      const answer = (await client.closed()).replace(/^HTTP\/1\.1 200 OK\r\n\r\n/, "");
      // A TLS alert, or the end without a word; never a certificate.
      expect(answer.charCodeAt(0) || 0x15, name.toString("latin1")).toBe(0x15);
    }
  }
  expect((await watch.ask(requestText("GET", "/", host))).status).toBe(200);
});

/** A ClientHello with that server name, made from Node's own for a name of the same length. */
async function helloFor(name: Buffer): Promise<Buffer> {
  const placeholder = "a".repeat(name.length);
  const hello = await new Promise<Buffer>((resolve) => {
    const wire = new Duplex({
      read() {},
      write: (chunk: Buffer, _encoding, done) => {
        resolve(chunk);
        done();
      },
    });
    const socket = connect({ socket: wire, servername: placeholder, ALPNProtocols: ["h2", "http/1.1"] });
    socket.on("error", () => undefined);
  });
  // In the extension the name stands behind its kind (0) and its length.
  const before = Buffer.from([0, name.length >> 8, name.length & 255]);
  const at = hello.indexOf(Buffer.concat([before, Buffer.from(placeholder)]));
  if (at < 0) throw new Error("the hello holds no such name");
  name.copy(hello, at + before.length);
  return hello;
}

test.each(ways)(
  "attack 32: without configuration, Secret, review or audit log nothing passes: 503 ($name)",
  async (way) => {
    const audit = createTestAudit();
    await using room = await startAttackRoom(way, { audit });
    const attacker = await room.open();
    const ask = () => attacker.ask({ path: "/api" });
    const refused = async (says: string) => {
      const answer = await ask();
      expectStatus(answer, { status: 503, says }, says);
      expect(answer.head.toLowerCase(), says).toContain("retry-after: 3\r\n");
      expect(room.target.seen(), says).toBe("");
    };
    // No Secret.
    const unavailable = "The Secret team-a/prod-token has no token";
    room.source.put({ ...room.connector, token: undefined, unavailable });
    await refused(unavailable);
    room.source.put(room.connector);
    // No answer of a review, and one that makes no sense: both questions.
    room.access.fault = new Fault("unavailable", "The API server cannot say whose request token this is; try again");
    await refused("cannot say whose");
    room.access.fault = undefined;
    const may = room.access.may.bind(room.access);
    room.access.may = async () => {
      throw new Fault("unavailable", "The API server cannot say who may use this connector; try again");
    };
    await refused("cannot say who may");
    room.access.may = async () => {
      throw new TypeError("cannot read properties of undefined");
    };
    const broken = await ask();
    expect(broken.status).toBe(500);
    expect(broken.body).not.toContain("undefined");
    expect(room.target.seen()).toBe("");
    room.access.may = may;
    // No audit log.
    audit.down = "The audit log cannot be written";
    await refused("audit log cannot be written");
    audit.down = undefined;
    // With all of them back, the same request on the same connection passes.
    expect((await ask()).status).toBe(200);
    expect(room.target.requests.length).toBe(1);
  },
);

test("attack 32: before the connectors are read no tunnel opens, and a connector that is gone serves nothing", async () => {
  await using room = await startTestProxy();
  room.source.isRead = false;
  const early = await room.raw();
  early.send(connectText(room.authority));
  const answer = await early.closed();
  expect(answer).toMatch(/^HTTP\/1\.1 503 The proxy has not read its connectors yet; try again\r\n/);
  expect(answer).toContain("Retry-After: 3\r\n");
  room.source.isRead = true;
  room.source.remove("team-a/prod");
  const late = await room.raw();
  late.send(connectText(room.authority));
  expect(await late.closed()).toMatch(/^HTTP\/1\.1 404 The proxy serves no connector team-a\/prod/);
  await expect(room.direct()).rejects.toThrow(/closed|disconnected|alert/);
  room.source.put(room.connector);
  expect((await (await room.forward()).ask(requestText("GET", "/", room.authority))).status).toBe(200);
});

test.each(ways)("attack 32: a connector that goes ends what its clients have open ($name)", async (way) => {
  await using room = await startAttackRoom(way);
  const attacker = await room.open();
  expect((await attacker.ask({})).status).toBe(200);
  room.source.remove("team-a/prod");
  room.target.clear();
  const answer = await attacker.ask({});
  expect([0, 404, 503]).toContain(answer.status);
  expect(room.target.seen()).toBe("");
  room.source.put(room.connector);
  await expect.poll(async () => (await room.ask().catch(() => undefined))?.status).toBe(200);
});
