import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { readdirSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { readLines } from "@kube-connector/core";
import { describe, expect, onTestFinished, test } from "vitest";
import { expectPasses, expectStatus, http1Ways, http2Ways, startAttackRoom, ways } from "../../kit/attacks.ts";
import { createTestAudit } from "../../kit/audit-log.ts";
import { frame, startHttp2Proxy } from "../../kit/http2.ts";
import { valuesOf } from "../../kit/lenient-target.ts";
import { openRaw } from "../../kit/raw-client.ts";
import { connectText, requestText, startTestProxy } from "../../kit/test-proxy.ts";

// Nobody can use the proxy up by being large, slow, many or gone in the middle.

const pause = (milliseconds: number) => new Promise((resolve) => setTimeout(resolve, milliseconds));
const lines = (count: number, name: (index: number) => string) =>
  Array.from({ length: count }, (_, index) => name(index));

test.each(ways)("attack 22: heads of 8 to 64 KiB pass, with 500 lines of a name too ($name)", async (way) => {
  await using room = await startAttackRoom(way, { respond: () => ({ status: 200, body: "taken" }) });
  for (const kilobytes of [8, 16, 32, 48, 63]) {
    const value = "x".repeat(kilobytes * 1024);
    const { head } = await expectPasses(room, { lines: [`X-Large: ${value}`] });
    expect(valuesOf(head, "x-large")).toEqual([value]);
  }
  const groups = lines(500, (index) => `group-${index}-of-a-caller-with-many`);
  const many = groups.map((group) => `X-Group: ${group}`);
  expect(valuesOf((await expectPasses(room, { lines: many })).head, "x-group")).toEqual(groups);
  const identity = groups.map((group) => `X-Remote-Group: ${group}`);
  expect((await expectPasses(room, { lines: identity })).head).not.toContain("group-");
  room.target.clear();
  const impersonation = await room.ask({ lines: groups.map((group) => `Impersonate-Group: ${group}`) });
  expectStatus(impersonation, { status: 403, says: "impersonation does not pass" });
  expect(room.target.seen()).toBe("");
});

test.each(ways)(
  "attack 22: a caller who is in 500 groups is served, and audited with all of them ($name)",
  async (way) => {
    const audit = createTestAudit();
    await using room = await startAttackRoom(way, { audit });
    const groups = lines(500, (index) => `system:serviceaccounts:a-rather-long-name-of-a-group-${index}`);
    const request = room.access.request.bind(room.access);
    room.access.request = async (token) => ({ ...(await request(token)), groups });
    await expectPasses(room);
    await audit.until(1);
    expect(audit.events().find(({ user }) => user.groups !== undefined)?.user.groups).toEqual(groups);
  },
);

test.each(ways)(
  "attack 22: a head above 64 KiB is refused, in one piece or many, and crashes nothing ($name)",
  async (way) => {
    await using room = await startAttackRoom(way);
    for (const kilobytes of [66, 128, 1024]) {
      for (const evil of [
        [`X-Large: ${"x".repeat(kilobytes * 1024)}`],
        lines(kilobytes * 8, (index) => `X-Many-${index}: ${"x".repeat(130)}`),
      ]) {
        const answer = await room.ask({ lines: evil });
        expect(
          answer.ended ?? [answer.status, /larger than 65536 bytes/.test(answer.body)],
          `${kilobytes} KiB in ${evil.length}`,
        ).toSatisfy((how) => (way.protocol === "HTTP/2" && how === "goaway 11") || String(how) === "431,true");
        await expectPasses(room);
      }
    }
    expect(room.target.seen()).not.toMatch(/x-large|x-many/i);
  },
);

describe("attack 25: silence", () => {
  /** Sends a byte every 20 ms, which is no excuse. Answers with all that came until the other side closed. */
  async function drip(client: { send(text: string): void; closed(): Promise<string> }, text: string): Promise<string> {
    let at = 0;
    const timer = setInterval(() => client.send(text.charAt(at++ % text.length)), 20);
    try {
      return await client.closed();
    } finally {
      clearInterval(timer);
    }
  }

  test("attack 25: a slow CONNECT is ended with a 408, a slow TLS handshake without a word", async () => {
    await using room = await startTestProxy({ timeouts: { connectHead: 200, tls: 200 } });
    expect(await drip(await room.raw(), `CONNECT ${"x".repeat(1000)}`)).toMatch(/^HTTP\/1\.1 408 /);
    expect(await (await room.raw()).closed()).toMatch(/^HTTP\/1\.1 408 /);
    const tunnel = await room.raw();
    tunnel.send(connectText(room.authority));
    await tunnel.until("\r\n\r\n");
    expect(await drip(tunnel, `\x16\x03\x01\x02\x00\x01${"\0".repeat(500)}`)).toBe("HTTP/1.1 200 OK\r\n\r\n");
    const direct = await openRaw(room.proxy.reversePort);
    expect(await drip(direct, `\x16\x03\x01\x02\x00\x01${"\0".repeat(500)}`)).toBe("");
    const silent = await openRaw(room.proxy.reversePort);
    expect(await silent.closed()).toBe("");
    expect((await (await room.forward()).ask(requestText("GET", "/", room.authority))).status).toBe(200);
  });

  test.each(http1Ways)("attack 25: a slow request head is ended with a 408 ($name)", async (way) => {
    await using room = await startAttackRoom(way, { timeouts: { requestHead: 200 } });
    const { raw } = await room.open();
    raw.send("GET / HTTP/1.1\r\n");
    expect(await drip(raw, "X-A: 1\r\n")).toMatch(/^HTTP\/1\.1 408 .*did not come in time/s);
    expect(room.target.seen()).toBe("");
    await expectPasses(room);
  });

  test.each(http2Ways)(
    "attack 25: a header block that never ends, and a preface that never comes, end the connection ($name)",
    async (way) => {
      await using room = await startAttackRoom(way, { timeouts: { requestHead: 200 } });
      const { raw } = await room.open();
      const closed = new Promise((resolve) => raw.socket.once("end", resolve).once("close", resolve));
      raw.socket.write(frame(1, 0, 1, Buffer.from([0x82])));
      await closed;
      expect(room.target.seen()).toBe("");
      await expectPasses(room);
    },
  );

  test("attack 25: connections that are reset at any moment are no exception", async () => {
    await using room = await startTestProxy({ http2: "own" });
    const steps = [
      "CONNECT ",
      connectText(room.authority),
      `${connectText(room.authority)}\x16\x03\x01\x02\x00\x01`,
      `${connectText(room.authority)}GET / HTTP/1.1\r\n\r\n`,
    ];
    for (const text of ["", ...steps]) {
      for (const wait of [0, 2, 20]) {
        const client = await room.raw();
        client.send(text);
        await pause(wait);
        client.socket.resetAndDestroy();
        const direct = await openRaw(room.proxy.reversePort);
        direct.send(text);
        await pause(wait);
        direct.socket.resetAndDestroy();
      }
    }
    await expect.poll(() => room.proxy.openConnections()).toBe(0);
    expect((await (await room.direct()).ask(requestText("GET", "/", "c-prod.team-a.svc"))).status).toBe(200);
  });

  test("attack 25: 10,000 tunnels in which nobody speaks hinder nobody and cost little", async () => {
    // Each takes one descriptor here and one in the process that opens them; where a process may have fewer, as many as go.
    const allowed = Number(execFileSync("sh", ["-c", "ulimit -n"]).toString().replace("unlimited", "1000000"));
    const count = Math.min(10_000, Math.floor((allowed - 500) / 100) * 100);
    if (count < 10_000) console.log(`${count} idle tunnels and not 10,000: a process may have ${allowed} descriptors`);
    const limits = { connections: 20_000, connectionsPerAddress: 20_000 };
    await using room = await startTestProxy({ limits, timeouts: { tls: 60_000 } });
    const before = process.memoryUsage().rss;
    const friend = await room.forward();
    const main = fileURLToPath(new URL("../../kit/idle-tunnels-main.ts", import.meta.url));
    const args = [main, String(room.proxy.forwardPort), String(count), connectText(room.authority)];
    const child = spawn(process.execPath, args, { stdio: ["pipe", "pipe", "inherit"] });
    onTestFinished(() => void child.kill("SIGKILL"));
    const said = readLines(child.stdout)[Symbol.asyncIterator]();
    expect((await said.next()).value).toBe(`open ${count} refused 0`);
    expect(room.proxy.openConnections()).toBe(count + 1);
    for (let asked = 0; asked < 20; asked++) {
      expect((await friend.ask(requestText("GET", "/", room.authority))).status).toBe(200);
      const other = await room.forward();
      expect((await other.ask(requestText("GET", "/", room.authority))).status).toBe(200);
      other.socket.destroy();
    }
    const kilobytes = (process.memoryUsage().rss - before) / 1024 / count;
    console.log(`${count} idle tunnels: ${kilobytes.toFixed(1)} KB each`);
    expect(kilobytes).toBeLessThan(30);
    child.stdin.end();
    await once(child, "close");
  });
});

/** Descriptors of this process. */
const descriptors = () => readdirSync("/proc/self/fd").length;

/** What buffers hold in this process, which is the proxy, its target and its clients, when the garbage is gone. */
function heldBytes(): number {
  setFlagsFromString("--expose-gc");
  (runInNewContext("gc") as () => void)();
  return process.memoryUsage().arrayBuffers;
}

const line = `${"log ".repeat(2 * 1024 * 1024 - 1)}END\n`;
const lineCount = 4;

test.each(http1Ways)(
  "attack 26: of three followers of 8 MiB log lines one stops: the others get all, and little is held ($name)",
  async ({ door }) => {
    const sent: number[] = [];
    const before = heldBytes();
    await using room = await startTestProxy({
      onConnection: (connection) => {
        connection.socket.on("data", () => {
          const follower = sent.push(0) - 1;
          connection.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
          pour(connection.socket, `${line.length.toString(16)}\r\n${line}\r\n`, (bytes) => {
            sent[follower] = (sent[follower] ?? 0) + bytes;
          });
        });
      },
    });
    const host = door === "forward" ? room.authority : "c-prod.team-a.svc";
    const follow = async () => {
      const client = door === "forward" ? await room.forward() : await room.direct();
      client.socket.removeAllListeners("data");
      const heard = { bytes: 0, socket: client.socket };
      // Before it asks: what comes while nobody listens is lost.
      client.socket.on("data", (bytes: Buffer) => (heard.bytes += bytes.length));
      client.send(requestText("GET", "/log", host));
      return heard;
    };
    const stopped = await follow();
    stopped.socket.pause();
    await expect.poll(() => sent.length).toBe(1);
    const others = [await follow(), await follow()];
    await expect
      .poll(() => others.map(({ bytes }) => bytes > lineCount * line.length), { timeout: 20_000 })
      .toEqual([true, true]);
    // The kernel's buffers may take a whole line; then the target, which is in this process too, has another one ready.
    expect(sent[0]).toBeLessThan(3 * line.length);
    await expect.poll(() => heldBytes() - before).toBeLessThan(3 * line.length);
    stopped.socket.resume();
    await expect.poll(() => stopped.bytes > lineCount * line.length, { timeout: 20_000 }).toBe(true);
  },
);

/** Writes a piece `lineCount` times, each when the one before has been taken. */
function pour(
  to: NodeJS.WritableStream & { destroyed?: boolean },
  piece: string,
  onWritten: (bytes: number) => void,
): void {
  let left = lineCount;
  const next = () => {
    while (left > 0 && to.destroyed !== true) {
      left -= 1;
      onWritten(piece.length);
      if (!to.write(piece, "latin1")) return;
    }
  };
  to.on("drain", next);
  next();
}

test.each(http2Ways)("attack 26: the same for three streams of one connection ($name)", async ({ door }) => {
  const sent: Record<string, number> = {};
  const before = heldBytes();
  await using world = await startHttp2Proxy({
    onStream: (stream, headers) => {
      const path = String(headers[":path"]);
      stream.respond({ ":status": 200 });
      pour(stream, line, (bytes) => {
        sent[path] = (sent[path] ?? 0) + bytes;
      });
    },
  });
  const session = await world.session(door);
  const follow = (path: string) => {
    const stream = session.request(world.request(path, {}, door));
    const heard = { bytes: 0, stream };
    stream.on("data", (bytes: Buffer) => (heard.bytes += bytes.length));
    stream.on("error", () => undefined);
    return heard;
  };
  const stopped = follow("/stopped");
  await once(stopped.stream, "response");
  stopped.stream.pause();
  const others = [follow("/a"), follow("/b")];
  await expect
    .poll(() => others.map(({ bytes }) => bytes), { timeout: 20_000 })
    .toEqual([lineCount * line.length, lineCount * line.length]);
  expect(stopped.bytes).toBeLessThan(line.length);
  expect(sent["/stopped"]).toBeLessThan(2 * line.length);
  await expect.poll(() => heldBytes() - before).toBeLessThan(3 * line.length);
  stopped.stream.resume();
  await expect.poll(() => stopped.bytes, { timeout: 20_000 }).toBe(lineCount * line.length);
});

const list = 100 * 1024 * 1024;

test.each(http1Ways)(
  "attack 27: 250 clients that leave inside of a 100 MB list leave no socket behind ($name)",
  async ({ door }) => {
    const piece = Buffer.alloc(64 * 1024, "x");
    await using room = await startTestProxy({
      onConnection: (connection) => {
        connection.socket.on("data", () => {
          connection.send(`HTTP/1.1 200 OK\r\nContent-Length: ${list}\r\n\r\n`);
          const more = () => {
            while (!connection.socket.destroyed && connection.socket.write(piece));
          };
          connection.socket.on("drain", more);
          more();
        });
      },
    });
    const host = door === "forward" ? room.authority : "c-prod.team-a.svc";
    const before = descriptors();
    for (let round = 0; round < 10; round++) {
      await Promise.all(
        Array.from({ length: 25 }, async () => {
          const client = door === "forward" ? await room.forward() : await room.direct();
          client.send(requestText("GET", "/list", host));
          await client.until("xxxx");
          client.socket.destroy();
        }),
      );
    }
    expect(room.target.connections.length).toBe(250);
    await expect.poll(() => [room.target.open(), room.proxy.openConnections()], { timeout: 10_000 }).toEqual([0, 0]);
    await expect.poll(descriptors, { timeout: 10_000 }).toBeLessThanOrEqual(before);
  },
);

test.each(http2Ways)(
  "attack 27: nor do 250 streams that are taken back there, or their connections ($name)",
  async ({ door }) => {
    await using world = await startHttp2Proxy({
      onStream: (stream) => {
        stream.respond({ ":status": 200, "content-length": list });
        const piece = Buffer.alloc(64 * 1024, "x");
        const more = () => {
          while (!stream.destroyed && stream.write(piece));
        };
        stream.on("drain", more);
        more();
      },
    });
    const before = descriptors();
    for (let count = 0; count < 10; count++) {
      const session = await world.session(door);
      // Each is taken back in the middle, the last one with its connection.
      for (let at = 0; at < 25; at++) {
        const stream = session.request(world.request("/list", {}, door));
        stream.on("error", () => undefined);
        await once(stream, "data");
        if (at < 24) stream.close(8);
      }
      session.destroy();
    }
    await expect
      .poll(() => [world.h2target.sessions.size, world.proxy.openConnections()], { timeout: 10_000 })
      .toEqual([0, 0]);
    await expect.poll(descriptors, { timeout: 10_000 }).toBeLessThanOrEqual(before);
  },
);
