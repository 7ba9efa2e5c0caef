import { expect, test } from "vitest";
import { type Attempt, expectRefused, http1Ways, http2Ways, startAttackRoom, ways } from "../../kit/attacks.ts";
import { openRaw, openSecure, type RawClient } from "../../kit/raw-client.ts";
import { answerWith, startRawTarget, type TargetConnection } from "../../kit/servers.ts";
import { basic, callerToken, connectText, requestText, startTestProxy, testToken } from "../../kit/test-proxy.ts";

// What an upgrade, a redirect or bytes sent too early could do: leave a connection to the target open for a request that nobody
// judged, or carry the stored token elsewhere.

const pause = (milliseconds: number) => new Promise((resolve) => setTimeout(resolve, milliseconds));
const websocket = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\nSec-WebSocket-Version: 13\r\n";
const spdy = "Connection: Upgrade\r\nUpgrade: SPDY/3.1\r\n";
const service = "c-prod.team-a.svc.cluster.local";
type Room = Awaited<ReturnType<typeof startTestProxy>>;

const enter = async (room: Room, door: "forward" | "reverse"): Promise<[RawClient, string]> =>
  door === "forward" ? [await room.forward(), room.authority] : [await room.direct(), service];

/** Answers the first head with that text, and keeps what comes behind it. */
const answering = (answer: string) => (connection: TargetConnection) => {
  void connection.until("\r\n\r\n").then(() => connection.send(answer));
};

test.each(http1Ways)(
  "attack 01: an upgrade that is not answered with 101 ends the connection; a second request on it never reaches the target ($name)",
  async ({ door }) => {
    for (const status of ["200 OK", "302 Found", "403 Forbidden", "426 Upgrade Required", "500 Oops"]) {
      for (const upgrade of [websocket, spdy]) {
        await using room = await startTestProxy({ onConnection: answering(answerWith("no", status)) });
        const [client, host] = await enter(room, door);
        const second = requestText("GET", "/smuggled", host);
        // Behind the upgrade, before it is answered, and after.
        client.send(requestText(upgrade === spdy ? "POST" : "GET", "/exec", host, upgrade, second));
        await client.until("\r\n\r\nno");
        client.send(second);
        const all = await client.closed();
        expect(all.match(/HTTP\/1\.1 /g)?.length).toBe(1);
        expect(all).toContain("Connection: close\r\n");
        await expect.poll(() => room.target.open()).toBe(0);
        expect(room.target.everything()).toContain(" /exec HTTP/1.1\r\n");
        expect(room.target.everything()).not.toContain("smuggled");
      }
    }
  },
);

test.each(http1Ways)("attack 01: a 101 to another protocol, or to none, opens nothing ($name)", async ({ door }) => {
  for (const answer of [
    "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
    "HTTP/1.1 101 Switching Protocols\r\n\r\n",
    "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket, SPDY/3.1\r\n\r\n",
  ]) {
    await using room = await startTestProxy({ onConnection: answering(answer) });
    const [client, host] = await enter(room, door);
    client.send(requestText("GET", "/exec", host, websocket, "early"));
    expect(await client.closed()).toMatch(/^HTTP\/1\.1 502 /);
    expect(room.target.everything()).not.toContain("early");
  }
  // And the one that was asked for does.
  const switched = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
  await using room = await startTestProxy({ onConnection: answering(switched) });
  const [client, host] = await enter(room, door);
  client.send(requestText("GET", "/exec", host, websocket, "early"));
  await (await room.target.connection()).until("early");
});

test.each(http2Ways)("attack 01: in HTTP/2 nothing is upgraded ($name)", async (way) => {
  await using room = await startAttackRoom(way);
  for (const lines of [["Connection: Upgrade", "Upgrade: websocket"], ["Upgrade: websocket"], ["Upgrade: h2c"]]) {
    await expectRefused(room, { lines, path: "/exec" }, { ended: "reset 1" }, { path: "/exec" });
  }
  await expectRefused(room, { lines: [":protocol: websocket"] }, { ended: "reset 1" });
  const connect: Attempt = { method: "CONNECT", path: "/exec" };
  await expectRefused(room, connect, { status: 405, says: "CONNECT is not accepted" });
});

test.each(ways)(
  "attack 02: a redirect is passed on as it is, never followed, and takes no token along ($name)",
  async (way) => {
    const room = { to: "" };
    await using world = await startAttackRoom(way, {
      respond: ({ head }) => ({ status: Number(/\/(\d+)/.exec(head)?.[1]), lines: [`Location: ${room.to}`], body: "" }),
    });
    const leaf = await world.targetCa.leaf(["127.0.0.1"]);
    await using thief = await startRawTarget(leaf);
    room.to = `https://127.0.0.1:${thief.port}/stolen`;
    for (const status of [301, 302, 303, 307, 308]) {
      for (const [method, body] of [
        ["GET", undefined],
        ["POST", "secret"],
      ] as const) {
        const attempt = { method, path: `/${status}`, ...(body === undefined ? {} : { body }) };
        const answer = await world.ask(attempt);
        expect(answer.status).toBe(status);
        expect(answer.head.toLowerCase()).toContain(`location: ${room.to}\r\n`);
        expect(answer.head + answer.body).not.toContain(testToken);
      }
    }
    expect(world.target.requests.length).toBe(10);
    await pause(50);
    expect(thief.connections.length).toBe(0);
  },
);

test.each(http1Ways)("attack 02: nor is a redirect of an upgrade followed ($name)", async ({ door }) => {
  for (const status of ["302 Found", "307 Temporary Redirect", "308 Permanent Redirect"]) {
    const to = { text: "" };
    await using room = await startTestProxy({
      onConnection: (connection) => {
        const answer = () => connection.send(answerWith("", status, `Location: ${to.text}\r\n`));
        void connection.until("\r\n\r\n").then(answer);
      },
    });
    await using thief = await startRawTarget(await room.targetCa.leaf(["127.0.0.1"]));
    to.text = `https://127.0.0.1:${thief.port}/stolen`;
    const [client, host] = await enter(room, door);
    client.send(requestText("GET", "/exec", host, websocket));
    const all = await client.closed();
    expect(all).toContain(`HTTP/1.1 ${status.slice(0, 3)} `);
    expect(all).toContain(`Location: ${to.text}\r\n`);
    await pause(30);
    expect([thief.connections.length, room.target.connections.length]).toEqual([0, 1]);
  }
});

test("attack 05: what follows a CONNECT that is refused is no request, at the target or here", async () => {
  await using room = await startTestProxy();
  const inside = requestText("GET", "/early", room.authority);
  for (const [connect, status] of [
    [connectText(room.authority, basic("team-a/prod", "wrong")), 407],
    [connectText("127.0.0.1:1"), 403],
    [`CONNECT ${room.authority} HTTP/1.1\r\nHost: ${room.authority}\r\n\r\n`, 407],
  ] as const) {
    const client = await room.raw();
    client.send(connect + inside);
    const all = await client.closed();
    expect(Number(all.slice(9, 12))).toBe(status);
    expect(all).not.toContain(" 200 ");
  }
  // Nor is it one where the tunnel opens: it is the client's TLS, and this is none.
  const client = await room.raw();
  client.send(connectText(room.authority) + inside);
  expect(await client.closed()).toMatch(/^HTTP\/1\.1 200 OK\r\n\r\n(?!HTTP)/);
  expect(room.target.everything()).toBe("");
});

test("attack 05: TLS that comes together with the CONNECT is not lost, and waits for the token to be judged", async () => {
  await using room = await startTestProxy();
  let judge = () => {};
  const judged = new Promise<void>((resolve) => {
    judge = resolve;
  });
  room.access.tunnel = () => judged;
  const tunnel = await openRaw(room.proxy.forwardPort);
  const connect = connectText(room.authority);
  const write = tunnel.socket.write.bind(tunnel.socket);
  tunnel.socket.write = (bytes: Buffer, ...more: []) => {
    tunnel.socket.write = write;
    return write(Buffer.concat([Buffer.from(connect), bytes]), ...more);
  };
  const answered = tunnel.until("\r\n\r\n");
  // The client's hello is written with the CONNECT; what comes back is read from behind the answer on.
  const { Duplex } = await import("node:stream");
  let skipped = false;
  const inner = new Duplex({
    read() {},
    write: (chunk: Buffer, _encoding, done) => void tunnel.socket.write(chunk, () => done()),
  });
  tunnel.socket.on("data", (bytes: Buffer) => {
    const at = skipped ? 0 : bytes.indexOf("\r\n\r\n") + 4;
    skipped = true;
    if (at < bytes.length) inner.push(bytes.subarray(at));
  });
  const opening = openSecure({ socket: inner as never }, { ca: room.connectorCa.certificate });
  await pause(50);
  expect(tunnel.received()).toBe("");
  judge();
  expect(await answered).toBe("HTTP/1.1 200 OK\r\n\r\n");
  const client = await opening;
  expect((await client.ask(requestText("GET", "/", room.authority))).status).toBe(200);
  client.socket.destroy();
  tunnel.socket.destroy();
});

test.each(http1Ways)(
  "attack 05: early bytes of an upgrade are kept, and cross only after the 101 ($name)",
  async ({ door }) => {
    await using room = await startTestProxy({ onConnection: () => undefined });
    const [client, host] = await enter(room, door);
    client.send(requestText("GET", "/exec", host, websocket, "client-early"));
    const target = await room.target.connection();
    await target.until("\r\n\r\n");
    await pause(50);
    expect(target.received()).not.toContain("client-early");
    target.send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\ntarget-early");
    await target.until("client-early");
    expect((await client.until("target-early")).startsWith("HTTP/1.1 101 ")).toBe(true);
  },
);

test.each(ways)(
  "attack 05: a body that comes before its sender is known waits here, and goes nowhere for a stranger ($name)",
  async (way) => {
    await using room = await startAttackRoom(way);
    const request = room.access.request.bind(room.access);
    const attempt = { method: "POST", path: "/early", body: "body-early" };
    for (const token of [callerToken, "of-a-stranger"]) {
      room.target.clear();
      let judge = () => {};
      const isAsked = new Promise<void>((asked) => {
        room.access.request = async (given) => {
          await new Promise<void>((resolve) => {
            judge = resolve;
            asked();
          });
          return await request(given);
        };
      });
      const answered = room.ask({ ...attempt, authorization: [`Bearer ${token}`] });
      await isAsked;
      await pause(50);
      expect(room.target.seen()).toBe("");
      judge();
      const { status } = await answered;
      const arrived = room.target.requests[0]?.body.includes("body-early") ?? room.target.seen();
      expect([status, arrived]).toEqual(token === callerToken ? [200, true] : [401, ""]);
    }
  },
);
