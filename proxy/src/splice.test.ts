import { createHash, randomBytes } from "node:crypto";
import type { Socket } from "node:net";
import { describe, expect, test } from "vitest";
import type { TargetConnection } from "../../test/kit/servers.ts";
import { requestText, startTestProxy } from "../../test/kit/test-proxy.ts";

// After a 101 the two sides speak to each other as if nobody stood between: every byte both ways, each end on its own, a
// slow side slows the other one.

const upgradeTo = (protocol: string) => `Connection: Upgrade\r\nUpgrade: ${protocol}\r\n`;
const switchTo = (protocol: string) =>
  `HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: ${protocol}\r\n\r\n`;

/** Switches to what was asked for, then runs `then` with the bare socket. */
const switching = (then: (socket: Socket) => void) => (connection: TargetConnection) => {
  void connection.until("\r\n\r\n").then((head) => {
    connection.send(switchTo(/Upgrade: (\S+)\r\n/.exec(head.slice(head.indexOf("Connection:")))?.[1] ?? ""));
    connection.socket.removeAllListeners("data");
    then(connection.socket);
  });
};

test.each([
  ["SPDY/3.1", "POST"],
  ["websocket", "GET"],
])(
  "10 MB each way through %s arrive unchanged",
  async (protocol, method) => {
    const size = 10 * 1024 * 1024;
    const [up, down] = [randomBytes(size), randomBytes(size)];
    const hash = (bytes: Buffer) => createHash("sha256").update(bytes).digest("hex");
    const gathered = (socket: Socket) =>
      new Promise<string>((resolve) => {
        const parts: Buffer[] = [];
        let length = 0;
        socket.on("data", (bytes: Buffer) => {
          parts.push(bytes);
          length += bytes.length;
          if (length >= size) resolve(hash(Buffer.concat(parts)));
        });
      });
    let atTarget: Promise<string> | undefined;
    await using room = await startTestProxy({
      onConnection: switching((socket) => {
        atTarget = gathered(socket);
        socket.write(down);
      }),
    });
    const client = await room.forward();
    client.send(requestText(method, "/exec", room.authority, upgradeTo(protocol)));
    await client.until("\r\n\r\n");
    const already = client.received().split("\r\n\r\n").slice(1).join("\r\n\r\n");
    client.socket.removeAllListeners("data");
    if (already !== "") client.socket.unshift(Buffer.from(already, "latin1"));
    const atClient = gathered(client.socket);
    client.socket.write(up);
    expect(await atClient).toBe(hash(down));
    expect(await atTarget).toBe(hash(up));
  },
  30_000,
);

describe("ends", () => {
  test("the client's end reaches the target, which can still answer", async () => {
    await using room = await startTestProxy({
      onConnection: switching((socket) => {
        socket.resume();
        // Node's tls.Server ends its own half with the other; the last word goes out before.
        socket.prependOnceListener("end", () => socket.write("last word"));
      }),
    });
    const client = await room.forward();
    client.send(requestText("GET", "/exec", room.authority, upgradeTo("websocket")));
    await client.until("\r\n\r\n");
    client.socket.end("bye");
    await client.until("last word");
  });

  test("the target's end reaches the client, which can still speak", async () => {
    const heard: string[] = [];
    await using room = await startTestProxy({
      onConnection: switching((socket) => {
        socket.on("data", (bytes: Buffer) => heard.push(bytes.toString()));
        socket.end("over");
      }),
    });
    const client = await room.forward();
    client.send(requestText("GET", "/exec", room.authority, upgradeTo("websocket")));
    expect((await client.closed()).endsWith("over")).toBe(true);
  });

  test("a target that breaks off takes the client with it, and the other way round", async () => {
    await using room = await startTestProxy({ onConnection: switching((socket) => socket.resume()) });
    const first = await room.forward();
    first.send(requestText("GET", "/exec", room.authority, upgradeTo("websocket")));
    await first.until("\r\n\r\n");
    (await room.target.connection()).socket.destroy();
    await first.closed();
    const second = await room.forward();
    second.send(requestText("GET", "/exec", room.authority, upgradeTo("websocket")));
    await second.until("\r\n\r\n");
    const gone = new Promise((resolve) => {
      void room.target.connection(1).then(({ socket }) => socket.once("close", resolve));
    });
    second.socket.destroy();
    await gone;
  });
});

test("a target that does not read stops the client", async () => {
  await using room = await startTestProxy({ onConnection: switching((socket) => socket.pause()) });
  const client = await room.forward();
  client.send(requestText("GET", "/exec", room.authority, upgradeTo("websocket")));
  await client.until("\r\n\r\n");
  const piece = Buffer.alloc(1024 * 1024);
  let taken = 0;
  for (let i = 0; i < 100; i++) {
    const went = await Promise.race([
      new Promise<boolean>((resolve) => client.socket.write(piece, () => resolve(true))),
      new Promise<boolean>((resolve) => setTimeout(() => resolve(false), 300)),
    ]);
    if (!went) break;
    taken += piece.length;
  }
  expect(taken).toBeLessThan(40 * 1024 * 1024);
});
