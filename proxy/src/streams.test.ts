import { Fault, Secret } from "@kube-connector/core";
import { describe, expect, test } from "vitest";
import { answerWith, type TargetConnection } from "../../test/kit/servers.ts";
import { callerToken, requestText, startTestProxy, testToken } from "../../test/kit/test-proxy.ts";
import { noMetrics } from "./metrics.ts";

// Streams live as long as both sides want them and the caller may have them: no total time, no buffer that grows, no
// connection left behind at the target when the client has gone.

const pause = (milliseconds: number) => new Promise((resolve) => setTimeout(resolve, milliseconds));
const chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
const upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\n";
const switched = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";

/** Answers each head on each connection by what the path asks for. */
function watches(connection: TargetConnection): void {
  let from = 0;
  connection.socket.on("data", () => {
    const text = connection.received();
    const end = text.indexOf("\r\n\r\n", from);
    if (end < 0) return;
    const head = text.slice(from, end);
    from = end + 4;
    if (head.includes("/watch")) connection.send(`${chunked}5\r\nfirst\r\n`);
    else if (head.includes("/exec")) connection.send(switched);
    else connection.send(answerWith(head));
  });
}

async function until(holds: () => boolean, milliseconds = 5000): Promise<void> {
  const end = performance.now() + milliseconds;
  while (!holds()) {
    if (performance.now() > end) throw new Error("it did not come to hold");
    await pause(5);
  }
}

describe("a client that goes", () => {
  test("ends the request at the target at once", async () => {
    await using room = await startTestProxy({ onConnection: watches });
    const client = await room.forward();
    client.send(requestText("GET", "/watch", room.authority));
    await client.until("first");
    expect(room.target.open()).toBe(1);
    client.socket.destroy();
    await until(() => room.target.open() === 0, 500);
  });

  test("in the middle of its body, too", async () => {
    await using room = await startTestProxy({ onConnection: () => undefined });
    const client = await room.forward();
    client.send(requestText("POST", "/", room.authority, "Content-Length: 1000\r\n", "half"));
    await (await room.target.connection()).until("half");
    client.socket.destroy();
    await until(() => room.target.open() === 0, 500);
  });

  test("while its token is being looked at, sends nothing to the target", async () => {
    const codes: number[] = [];
    const metrics = { ...noMetrics, requestEnded: ({ code }: { code: number }) => codes.push(code) };
    await using room = await startTestProxy({ metrics });
    let answer: () => void = () => undefined;
    const asked = new Promise<void>((resolve) => {
      room.access.may = () => {
        resolve();
        return new Promise<void>((allow) => {
          answer = allow;
        });
      };
    });
    const client = await room.forward();
    client.send(requestText("DELETE", "/x", room.authority));
    await asked;
    client.socket.destroy();
    await until(() => room.proxy.openConnections() === 0);
    answer();
    await pause(30);
    expect(room.target.everything()).toBe("");
    expect(room.target.open()).toBe(0);
    expect(codes).toEqual([499]);
  });
});

test("a target that breaks off in the middle of an answer is no clean end for the client", async () => {
  await using room = await startTestProxy({ onConnection: watches });
  const client = await room.forward();
  client.send(requestText("GET", "/watch", room.authority));
  await client.until("first");
  (await room.target.connection()).socket.destroy();
  expect((await client.closed()).endsWith("5\r\nfirst\r\n")).toBe(true);
});

describe("an open stream", () => {
  test.each([
    ["watch", "", "first"],
    ["exec", upgrade, "\r\n\r\n"],
  ])("%s ends when its caller may not have it any more", async (path, lines, seen) => {
    await using room = await startTestProxy({ onConnection: watches, timeouts: { review: 100 } });
    const client = await room.forward();
    client.send(requestText("GET", `/${path}`, room.authority, lines));
    await client.until(seen);
    await until(() => room.access.asked.length >= 3);
    room.access.fault = new Fault("permission_denied", "the grant is gone");
    await client.closed();
    await until(() => room.target.open() === 0);
  });

  test("lives on while nobody can say, for a while", async () => {
    await using room = await startTestProxy({ onConnection: watches, timeouts: { review: 20, reviewGrace: 400 } });
    const client = await room.forward();
    client.send(requestText("GET", "/watch", room.authority));
    await client.until("first");
    room.access.fault = new Fault("unavailable", "no answer");
    const started = performance.now();
    await client.closed();
    expect(performance.now() - started).toBeGreaterThan(300);
  });

  test("lives on when the token, the leaf, the CA or the address is replaced", async () => {
    await using room = await startTestProxy({ onConnection: watches });
    const watch = await room.forward();
    watch.send(requestText("GET", "/watch", room.authority));
    await watch.until("first");
    const other = await room.forward();
    await other.ask(requestText("GET", "/1", room.authority));
    const leaf = await room.connectorCa.leaf(["127.0.0.1"]);
    room.source.put({
      ...room.connector,
      token: new Secret("second-token"),
      leaf: { certificate: leaf.certificate, key: new Secret(leaf.key) },
      tls: { ...room.connector.tls, caBundle: `${room.targetCa.certificate}\n${room.connectorCa.certificate}` },
    });
    expect((await other.ask(requestText("GET", "/2", room.authority))).body).toContain("Bearer second-token");
    // The idle connection was made under the old CA bundle.
    expect(room.target.connections.length).toBe(3);
    (await room.target.connection()).send("6\r\nsecond\r\n");
    await watch.until("second");
  });

  test.each(["deleted", "made anew with another uid"])("ends when the connector is %s", async (how) => {
    await using room = await startTestProxy({ onConnection: watches });
    const watch = await room.forward();
    watch.send(requestText("GET", "/watch", room.authority));
    await watch.until("first");
    const idle = await room.forward();
    await idle.ask(requestText("GET", "/", room.authority));
    if (how === "deleted") room.source.remove("team-a/prod");
    else room.source.put({ ...room.connector, uid: "uid-2" });
    await watch.closed();
    await idle.closed();
    await until(() => room.target.open() === 0);
  });
});

test("a new leaf serves new handshakes while old connections go on", async () => {
  await using room = await startTestProxy();
  const before = await room.forward();
  const leaf = await room.connectorCa.leaf(["127.0.0.1", "c-prod.team-a.svc.cluster.local"], { commonName: "second" });
  room.source.put({ ...room.connector, leaf: { certificate: leaf.certificate, key: new Secret(leaf.key) } });
  const after = await room.forward();
  const direct = await room.direct();
  expect(before.socket.getPeerCertificate().subject.CN).toBe("127.0.0.1");
  expect(after.socket.getPeerCertificate().subject.CN).toBe("second");
  expect(direct.socket.getPeerCertificate().subject.CN).toBe("second");
  expect((await before.ask(requestText("GET", "/", room.authority))).status).toBe(200);
});

describe("a second try", () => {
  /** The first request on the first connection is answered; the next one finds the connection dead. */
  const diesIdle = (connection: TargetConnection) => {
    let count = 0;
    let from = 0;
    connection.socket.on("data", () => {
      const text = connection.received();
      if (!text.slice(from).includes("\r\n\r\n")) return;
      from = text.length;
      count += 1;
      if (connection.index === 0 && count === 2) connection.socket.destroy();
      else connection.send(answerWith(`from ${connection.index}`));
    });
  };

  test("is made for a GET on a connection that died while idle", async () => {
    await using room = await startTestProxy({ onConnection: diesIdle });
    const client = await room.forward();
    await client.ask(requestText("GET", "/1", room.authority));
    expect((await client.ask(requestText("GET", "/2", room.authority))).body).toBe("from 1");
  });

  test("is not made for a POST, nor for a GET on a fresh connection", async () => {
    await using room = await startTestProxy({ onConnection: diesIdle });
    const client = await room.forward();
    await client.ask(requestText("GET", "/1", room.authority));
    const answer = await client.ask(requestText("POST", "/2", room.authority, "Content-Length: 0\r\n"));
    expect(answer.status).toBe(502);
    await using second = await startTestProxy({
      onConnection: ({ socket }) => socket.on("data", () => socket.destroy()),
    });
    // By the reverse door: a tunnel's connection was made ahead, and is no fresh one when it is used.
    const other = await second.direct();
    expect((await other.ask(requestText("GET", "/", second.connector.serviceNames[0] ?? ""))).status).toBe(502);
    expect(second.target.connections.length).toBe(1);
  });

  test("is made with the new token when a 401 answers the old one", async () => {
    await using room = await startTestProxy({ onConnection: () => undefined });
    const client = await room.forward();
    client.send(requestText("GET", "/", room.authority));
    const first = await room.target.connection();
    await first.until(`Bearer ${testToken}\r\n`);
    room.source.put({ ...room.connector, token: new Secret("new-token") });
    first.send(answerWith("old", "401 Unauthorized"));
    const second = await room.target.connection(1);
    await second.until("Bearer new-token\r\n");
    second.send(answerWith("new"));
    expect(await client.until("new")).not.toContain("401");
  });
});

test("the caller's token is in no log line, at any level", async () => {
  const lines: string[] = [];
  const { createJsonLog } = await import("@kube-connector/core");
  const log = createJsonLog("debug", {}, { write: (line) => lines.push(line) });
  await using room = await startTestProxy({ log });
  const client = await room.forward();
  await client.ask(requestText("GET", "/a?token=query-secret", room.authority));
  await client.ask(requestText("GET", "/b//?token=query-secret", room.authority, "X-Remote-User: header-secret\r\n"));
  client.send(requestText("GET", "/x", room.authority, "X: a\nb\r\n"));
  await client.closed();
  await room.proxy.stop();
  const all = lines.join("");
  expect(all).toContain('"path":"/a"');
  for (const secret of [callerToken, testToken, "tunnel-token", "query-secret", "header-secret"]) {
    expect(all).not.toContain(secret);
  }
});
