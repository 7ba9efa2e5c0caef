import { parseAddress, type ResolvedConnector } from "@kube-connector/core";
import { expect, test } from "vitest";
import {
  type AttackRoom,
  expectPasses,
  expectRefused,
  expectStatus,
  http1Ways,
  http2Ways,
  startAttackRoom,
  ways,
} from "../../kit/attacks.ts";
import { openRaw, openSecure } from "../../kit/raw-client.ts";
import { startRawTarget } from "../../kit/servers.ts";
import { basic, callerToken, connectText, startTestProxy, tunnelToken } from "../../kit/test-proxy.ts";

// One connector has one target: nothing that a caller says leads elsewhere, and the target is dialled only at an address that may
// be dialled, and believed only by the connector's own CA and name.

/** Other ways to say a loopback address and a port. */
function spellings(port: number): string[] {
  return [
    `127.0.0.1:0${port}`,
    `127.1:${port}`,
    `127.0.0.01:${port}`,
    `0177.0.0.1:${port}`,
    `0x7f.0.0.1:${port}`,
    `0x7f000001:${port}`,
    `2130706433:${port}`,
    `127.0.0.1.:${port}`,
    `localhost:${port}`,
    `[::1]:${port}`,
    `[::ffff:127.0.0.1]:${port}`,
    `[::ffff:7f00:1]:${port}`,
    `user@127.0.0.1:${port}`,
    `127.0.0.1:${port}@evil.example:443`,
  ];
}

test("attack 14: CONNECT to anything but the connector's target is a 403 that says what it reaches", async () => {
  await using room = await startTestProxy();
  const { port } = room.connector.target;
  const elsewhere = ["127.0.0.1:1", "127.0.0.1", "169.254.169.254:80", "kubernetes.default.svc:443", "10.0.0.1:6443"];
  for (const authority of [...elsewhere, ...spellings(port)]) {
    const client = await room.raw();
    client.send(connectText(authority).replace(`Host: ${authority}`, `Host: ${room.authority}`));
    const [line] = (await client.closed()).split("\r\n");
    expect(line, authority).toBe(`HTTP/1.1 403 connector team-a/prod reaches only ${room.authority}`);
  }
  for (const form of [
    `https://${room.authority}`,
    `//${room.authority}`,
    `/`,
    `${room.authority}/`,
    `${room.authority} `,
  ]) {
    const client = await room.raw();
    client.send(connectText(form).replace(`Host: ${form}`, `Host: ${room.authority}`));
    expect(await client.closed(), form).toMatch(/^HTTP\/1\.1 40[03] /);
  }
  expect(room.target.connections.length).toBe(0);
  const client = await room.raw();
  client.send(connectText(room.authority));
  expect(await client.until("\r\n\r\n")).toBe("HTTP/1.1 200 OK\r\n\r\n");
});

test.each(ways)(
  "attack 14: Host, :authority and absolute-form that name another host are refused ($name)",
  async (way) => {
    await using room = await startAttackRoom(way);
    const own = way.door === "forward" ? room.authority : room.host;
    const other = way.door === "forward" ? room.connector.serviceNames[0] : room.authority;
    const { port } = room.connector.target;
    const hosts = [other ?? "", "evil.example", "169.254.169.254", `${own}.evil.example`, `evil.example#${own}`];
    for (const host of [...hosts, ...(way.door === "forward" ? spellings(port) : [`${own}.`, `a.${own}`])]) {
      await expectRefused(room, { host }, { status: 421, says: "Host header should be" });
    }
    for (const path of [`https://${own}/api`, "https://evil.example/api", `//${own}/api`, "evil.example/api"]) {
      await expectRefused(room, { path }, { status: 400, says: /begins? with \/|empty segment/ }, { path: "/api" });
    }
    if (way.protocol === "HTTP/2") {
      // :authority and Host that differ.
      await expectRefused(room, { lines: ["Host: evil.example"] }, { status: 400, says: "name its host once" });
      await expectPasses(room, { lines: [`Host: ${own}`] });
    } else {
      await expectRefused(room, { lines: ["Host: evil.example"] }, { status: 400, says: "malformed" });
    }
  },
);

test.each(ways)("attack 14: an SNI of another name ends the handshake ($name)", async (way) => {
  await using room = await startAttackRoom(way);
  const names = [
    "evil.example",
    "localhost",
    way.door === "forward" ? room.connector.serviceNames[0] : "c-prod.team-b.svc",
  ];
  for (const servername of names) {
    let where: Parameters<typeof openSecure>[0] = { port: room.proxy.reversePort };
    if (way.door === "forward") {
      const tunnel = await openRaw(room.proxy.forwardPort);
      tunnel.send(connectText(room.authority));
      await tunnel.until("\r\n\r\n");
      tunnel.socket.removeAllListeners("data");
      where = { socket: tunnel.socket };
    }
    const protocols = way.protocol === "HTTP/2" ? ["h2"] : ["http/1.1"];
    const options = { ca: room.connectorCa.certificate, servername: servername ?? "", protocols };
    await expect(openSecure(where, options), servername).rejects.toThrow(/closed|disconnected|alert/);
  }
  expect(room.target.seen()).toBe("");
  await expectPasses(room);
});

const at = (address: string) => (connector: ResolvedConnector) => ({
  ...connector,
  address,
  target: parseAddress(address),
});

const forbidden = (port: number) => [
  `https://127.0.0.1:${port}`,
  `https://127.9.9.9:${port}`,
  // A name that leads to this machine only now: it was judged when it was written, and is judged again when it is dialled.
  `https://localhost:${port}`,
  `https://[::1]:${port}`,
  `https://[::ffff:127.0.0.1]:${port}`,
  `https://[::ffff:7f00:1]:${port}`,
  `https://[::127.0.0.1]:${port}`,
  `https://[64:ff9b::7f00:1]:${port}`,
  `https://[2002:7f00:1::]:${port}`,
  `https://0.0.0.0:${port}`,
  `https://[::]:${port}`,
  "https://169.254.169.254",
  "https://[::ffff:169.254.169.254]",
  "https://[::ffff:a9fe:a9fe]",
  "https://[fe80::1]",
  "https://[fd00:ec2::254]",
  "https://100.100.100.200",
  "https://224.0.0.1",
  "https://255.255.255.255",
];

test.each(http1Ways)(
  "attack 15: loopback, link-local, metadata and what only looks otherwise are never dialled ($name)",
  async ({ door }) => {
    for (const isAllowed of [false, true]) {
      await using room = await startTestProxy({ allowLoopbackTargets: isAllowed });
      const { port } = room.connector.target;
      for (const address of isAllowed ? [`https://127.0.0.1:${port}`] : forbidden(port)) {
        const connector = at(address)(room.connector);
        room.source.put(connector);
        const client = door === "forward" ? await tunnelTo(room, connector) : await room.direct();
        const host = door === "forward" ? connector.target.authority : "c-prod.team-a.svc";
        const answer = await client.ask(
          `GET / HTTP/1.1\r\nHost: ${host}\r\nAuthorization: Bearer ${callerToken}\r\n\r\n`,
        );
        const said = /a connector may not reach those/.test(answer.body);
        expect([answer.status, said], address).toEqual(isAllowed ? [200, false] : [502, true]);
        client.socket.destroy();
      }
      expect(room.target.connections.length).toBe(isAllowed ? 1 : 0);
    }
  },
);

async function tunnelTo(
  room: Awaited<ReturnType<typeof startTestProxy>>,
  connector: ResolvedConnector,
  user = "team-a/prod",
) {
  const tunnel = await room.raw();
  tunnel.send(connectText(connector.target.authority, basic(user, tunnelToken)));
  await tunnel.until("\r\n\r\n");
  tunnel.socket.removeAllListeners("data");
  const { host, isIp } = connector.target;
  const servername = isIp ? {} : { servername: host };
  return await openSecure({ socket: tunnel.socket }, { ca: room.connectorCa.certificate, ...servername });
}

test("attack 15: odd spellings of an IP are no address of a connector", () => {
  for (const host of [
    "0177.0.0.1",
    "0x7f.0.0.1",
    "0x7f000001",
    "2130706433",
    "127.1",
    "127.0.0.1.",
    "1.2.3.4.5",
    "::1",
  ]) {
    expect(() => parseAddress(`https://${host}:6443`), host).toThrow(/should/);
  }
  expect(parseAddress("https://10.0.0.1:6443").host).toBe("10.0.0.1");
});

/** Nothing of Node's own advice, which is for whoever runs Node. */
const notAccepted =
  /^The certificate of the target cluster at \S+ is not accepted \([^;]+\); check the connector's CA and serverName$/;

type Settings = { caBundle?: string | undefined; serverName?: string };

/** Ways in which a target is not whom the connector means. */
const strangers = async (room: AttackRoom): Promise<[string, Settings][]> => [
  ["another CA", { caBundle: room.connectorCa.certificate }],
  ["another name", { serverName: "other.example" }],
  ["another IP", { serverName: "10.0.0.1" }],
  ["no CA but the system's", { caBundle: undefined }],
];

test.each(http1Ways)(
  "attack 17: a target with a certificate of another CA or name gets no byte ($name)",
  async (way) => {
    await using room = await startAttackRoom(way);
    await expectPasses(room);
    for (const [what, settings] of await strangers(room)) {
      room.source.put({ ...room.connector, tls: { ...room.connector.tls, ...settings } });
      room.target.clear();
      expectStatus(await room.ask(), { status: 502, says: notAccepted }, what);
      expect(room.target.seen(), what).toBe("");
      room.source.put(room.connector);
      await expectPasses(room);
    }
  },
);

test.each(http2Ways)("attack 17: nor does it over an HTTP/2 connection that was there before ($name)", async (way) => {
  await using room = await startAttackRoom(way);
  await expectPasses(room);
  for (const [what, settings] of await strangers(room)) {
    const attacker = await room.open();
    room.target.clear();
    room.source.put({ ...room.connector, tls: { ...room.connector.tls, ...settings } });
    const answer = await attacker.ask({});
    expect([502, 0], what).toContain(answer.status);
    expect(room.target.seen(), what).toBe("");
    room.source.put(room.connector);
    attacker.raw.socket.destroy();
  }
  await expect.poll(async () => (await room.ask().catch(() => undefined))?.status).toBe(200);
});

test.each(http1Ways)("attack 17: an expired certificate gets no byte either ($name)", async ({ door }) => {
  const day = 86_400_000;
  for (const isExpired of [true, false]) {
    const room = await startTestProxy();
    const leaf = await room.targetCa.leaf(
      ["127.0.0.1"],
      isExpired ? { notBefore: Date.now() - 2 * day, notAfter: Date.now() - day } : {},
    );
    await using target = await startRawTarget(leaf);
    const connector = at(`https://127.0.0.1:${target.port}`)(room.connector);
    room.source.put(connector);
    const client = door === "forward" ? await tunnelTo(room, connector) : await room.direct();
    const host = door === "forward" ? connector.target.authority : "c-prod.team-a.svc";
    const answer = await client.ask(`GET / HTTP/1.1\r\nHost: ${host}\r\nAuthorization: Bearer ${callerToken}\r\n\r\n`);
    const found = [answer.status, /certificate has expired/.test(answer.body), target.everything() === ""];
    expect(found).toEqual(isExpired ? [502, true, true] : [200, false, false]);
    client.socket.destroy();
    await room[Symbol.asyncDispose]();
  }
});

test("attack 17: a session or connection of one connector never serves another to the same address", async () => {
  await using room = await startTestProxy();
  const { target } = room.connector;
  const mallory = { ...room.connector, name: "mallory", uid: "uid-2", serviceNames: ["c-mallory.team-a.svc"] };
  room.source.put({ ...mallory, tls: { ...mallory.tls, caBundle: room.connectorCa.certificate } });
  const request = `GET / HTTP/1.1\r\nHost: ${target.authority}\r\nAuthorization: Bearer ${callerToken}\r\n\r\n`;
  for (let round = 0; round < 3; round++) {
    const friend = await tunnelTo(room, room.connector);
    expect((await friend.ask(request)).status).toBe(200);
    const enemy = await tunnelTo(room, mallory, "team-a/mallory");
    expectStatus(await enemy.ask(request), { status: 502, says: "is not accepted" });
    friend.socket.destroy();
    enemy.socket.destroy();
  }
  // The friend's connections have left a session, which would have let mallory in unseen.
  expect(room.target.everything().split("GET / ").length - 1).toBe(3);
});
