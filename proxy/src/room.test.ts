import { parseAddress, Secret } from "@kube-connector/core";
import { describe, expect, test } from "vitest";
import { openSecure } from "../../test/kit/raw-client.ts";
import { answerWith } from "../../test/kit/servers.ts";
import {
  basic,
  callerToken,
  connectText,
  requestText,
  startTestProxy,
  testToken,
  tunnelToken,
} from "../../test/kit/test-proxy.ts";

// A request that comes in at either door, with a valid request token, reaches the target with the stored token in place
// of the caller's, and its answer comes back as it was. Whatever is not for the one target is refused with a sentence,
// and nothing of it reaches the target.

describe("the main path", () => {
  test("a GET through the forward door reaches the target with the stored token", async () => {
    await using room = await startTestProxy();
    const client = await room.forward();
    const answer = await client.ask(requestText("GET", "/api/v1/pods?limit=5", room.authority));
    expect(answer.status).toBe(200);
    expect(answer.body).toContain("GET /api/v1/pods?limit=5 HTTP/1.1\r\n");
    expect(answer.body).toContain(`Authorization: Bearer ${testToken}\r\n`);
    expect(answer.body).not.toContain(callerToken);
    const second = await client.ask(requestText("GET", "/version", room.authority));
    expect(second.body).toContain("GET /version HTTP/1.1\r\n");
    expect(room.target.connections.length).toBe(1);
  });

  test("a GET through the reverse door reaches the target below the prefix", async () => {
    await using room = await startTestProxy({ prefix: "/kubernetes/global" });
    const client = await room.direct();
    const answer = await client.ask(requestText("GET", "/version", "c-prod.team-a.svc"));
    expect(answer.body).toContain("GET /kubernetes/global/version HTTP/1.1\r\n");
    expect(answer.body).toContain(`Host: ${room.authority}\r\n`);
  });

  test("the reverse door serves a client without SNI while there is one connector", async () => {
    await using room = await startTestProxy();
    const client = await room.direct("");
    expect((await client.ask(requestText("GET", "/", "c-prod.team-a.svc"))).status).toBe(200);
    room.source.put({ ...room.connector, name: "other", uid: "uid-2", serviceNames: ["c-other.team-a.svc"] });
    await expect(room.direct("")).rejects.toThrow(/closed|socket disconnected|alert/);
    await expect(room.direct("unknown.example")).rejects.toThrow(/closed|socket disconnected|alert/);
  });

  test("a body with a length and one in chunks arrive byte for byte, in small pieces too", async () => {
    await using room = await startTestProxy({ onConnection: () => undefined });
    const client = await room.forward();
    client.send(requestText("POST", "/a", room.authority, "Content-Length: 5\r\n", "he"));
    await new Promise((resolve) => setTimeout(resolve, 50));
    client.send("llo");
    const connection = await room.target.connection();
    await connection.until("\r\n\r\nhello");
    connection.send(answerWith("one"));
    await client.until("one");
    client.send(requestText("POST", "/b", room.authority, "Transfer-Encoding: chunked\r\n"));
    for (const piece of ["3", "\r\nab", "c\r\n0\r", "\nX-Sum: 1\r\n", "\r\n"]) {
      client.send(piece);
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    await connection.until("\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 1\r\n\r\n");
    connection.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nxyz\r\n0\r\nX-Trailer: 1\r\n\r\n");
    expect(await client.until("X-Trailer: 1\r\n\r\n")).toContain("3\r\nxyz\r\n0\r\n");
  });

  test.each([1, 40, 1000])("answers with the same header lines are each their own, in pieces of %i", async (piece) => {
    await using room = await startTestProxy({ onConnection: () => undefined });
    const client = await room.forward();
    const dropped = "Connection: keep-alive\r\n";
    const lines = `Audit-Id: a\r\n${dropped}X-One: 1\r\n`;
    const answers = [
      { first: "200 OK", lines, passed: lines.replace(dropped, ""), body: "one" },
      { first: "200 OK", lines, passed: lines.replace(dropped, ""), body: "two" },
      { first: "404 Not Found", lines, passed: lines.replace(dropped, ""), body: "six" },
      { first: "200 ", lines, passed: lines.replace(dropped, ""), body: "ten" },
      { first: "200 OK", lines: `${lines}Last:x\r\n`, passed: "Audit-Id: a\r\nX-One: 1\r\nLast: x\r\n", body: "old" },
      { first: "200 OK", lines: "Set-Cookie: a\r\n", passed: "", body: "new" },
    ];
    for (const { first, lines: sent, passed, body } of answers) {
      const from = client.received().length;
      client.send(requestText("GET", "/", room.authority));
      const connection = await room.target.connection();
      await connection.until("GET /", connection.received().lastIndexOf("GET /"));
      const text = answerWith(body, first, sent);
      for (let at = 0; at < text.length; at += piece) {
        connection.send(text.slice(at, at + piece));
        if (piece === 40) await new Promise((resolve) => setTimeout(resolve, 5));
      }
      await client.until(body, from);
      expect(client.received().slice(from)).toBe(answerWith(body, first, passed));
    }
  });

  test("100-continue passes both ways", async () => {
    await using room = await startTestProxy({ onConnection: () => undefined });
    const client = await room.forward();
    client.send(requestText("PUT", "/a", room.authority, "Content-Length: 2\r\nExpect: 100-continue\r\n"));
    const connection = await room.target.connection();
    await connection.until("Expect: 100-continue");
    connection.send("HTTP/1.1 100 Continue\r\n\r\n");
    await client.until("HTTP/1.1 100 Continue\r\n\r\n");
    client.send("ok");
    await connection.until("\r\n\r\nok");
    connection.send(answerWith("done"));
    await client.until("done");
  });

  test("an answer that ends with the connection reaches the client so", async () => {
    await using room = await startTestProxy({
      onConnection: (connection) => {
        void connection.until("\r\n\r\n").then(() => {
          connection.send("HTTP/1.1 200 OK\r\n\r\nall of it");
          connection.socket.end();
        });
      },
    });
    const client = await room.forward();
    client.send(requestText("GET", "/", room.authority));
    expect(await client.closed()).toMatch(/^HTTP\/1\.1 200 OK\r\nConnection: close\r\n\r\nall of it$/);
  });

  test("a redirect passes and is not followed", async () => {
    await using room = await startTestProxy({
      onConnection: (connection) => {
        void connection
          .until("\r\n\r\n")
          .then(() => connection.send(answerWith("", "302 Found", "Location: https://127.0.0.1:1/\r\n")));
      },
    });
    const client = await room.forward();
    const answer = await client.ask(requestText("GET", "/", room.authority));
    expect(answer.head).toContain("Location: https://127.0.0.1:1/\r\n");
    expect(room.target.connections.length).toBe(1);
  });
});

describe("CONNECT", () => {
  const refused = async (text: (authority: string) => string) => {
    await using room = await startTestProxy();
    const client = await room.raw();
    client.send(text(room.authority));
    const answer = await client.until("\r\n\r\n");
    expect(room.target.connections.length).toBe(0);
    return { line: answer.split("\r\n", 1)[0] ?? "", answer };
  };

  test("is answered with exactly 200 OK and nothing else", async () => {
    await using room = await startTestProxy();
    const client = await room.raw();
    client.send(connectText(room.authority));
    await client.until("\r\n\r\n");
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect(client.received()).toBe("HTTP/1.1 200 OK\r\n\r\n");
  });

  test("without credentials gets a 407, and a second try on the same connection", async () => {
    await using room = await startTestProxy();
    const client = await room.raw();
    client.send(`CONNECT ${room.authority} HTTP/1.1\r\nHost: ${room.authority}\r\n\r\n`);
    const first = await client.until("}\n");
    expect(first).toMatch(/^HTTP\/1\.1 407 .*proxy-url/);
    expect(first).toContain("Proxy-Authenticate: Basic");
    client.send(connectText(room.authority));
    expect((await client.until("200 OK\r\n\r\n")).endsWith("HTTP/1.1 200 OK\r\n\r\n")).toBe(true);
  });

  test.each([
    ["a wrong token for a connector that does not exist", 407, (a: string) => connectText(a, basic("x/y", "wrong"))],
    ["a connector that does not exist", 404, (a: string) => connectText(a, basic("x/y", tunnelToken))],
    ["a wrong token", 407, (a: string) => connectText(a, basic("team-a/prod", "wrong"))],
    ["an empty token", 407, (a: string) => connectText(a, basic("team-a/prod", ""))],
    ["Bearer", 407, (a: string) => connectText(a, `Bearer ${tunnelToken}`)],
    ["an unknown connector", 404, (a: string) => connectText(a, basic("team-a/none", tunnelToken))],
    ["another port", 403, () => connectText("127.0.0.1:1")],
    ["another host", 403, (a: string) => connectText(a.replace("127.0.0.1", "127.0.0.2"))],
    ["localhost", 403, (a: string) => connectText(a.replace("127.0.0.1", "localhost"))],
    ["a GET", 405, (a: string) => `GET https://${a}/ HTTP/1.1\r\nHost: ${a}\r\n\r\n`],
    ["a body", 400, (a: string) => `CONNECT ${a} HTTP/1.1\r\nContent-Length: 1\r\n\r\n`],
    ["a bare LF", 400, (a: string) => `CONNECT ${a} HTTP/1.1\nHost: a\n\n`],
    ["a head over 16 KiB", 431, (a: string) => `CONNECT ${a} HTTP/1.1\r\nX: ${"x".repeat(17_000)}\r\n\r\n`],
  ])("with %s is refused with %i", async (_what, status, text) => {
    const { line } = await refused(text);
    expect(line).toMatch(new RegExp(`^HTTP/1\\.1 ${status} [ -~]+$`));
  });

  test("elsewhere is refused with a reason that Go's clients show", async () => {
    const { line } = await refused(() => connectText("10.9.9.9:443"));
    expect(line).toMatch(/^HTTP\/1\.1 403 connector team-a\/prod reaches only 127\.0\.0\.1:\d+$/);
  });

  test("SNI of another name ends the handshake, SNI of an IP target is not needed", async () => {
    await using room = await startTestProxy();
    await expect(room.forward("other.example")).rejects.toThrow(/closed|socket disconnected|alert/);
    expect((await (await room.forward()).ask(requestText("GET", "/", room.authority))).status).toBe(200);
  });

  test("SNI, where the target has a name, is that name", async () => {
    await using room = await startTestProxy({
      connector: (connector) => {
        const address = `https://localhost:${connector.target.port}`;
        return {
          ...connector,
          address,
          target: parseAddress(address),
          tls: { ...connector.tls, serverName: "127.0.0.1" },
        };
      },
    });
    const client = await room.forward("localhost");
    expect((await client.ask(requestText("GET", "/", room.authority))).status).toBe(200);
    await expect(room.forward("127.0.0.1.example")).rejects.toThrow(/closed|socket disconnected|alert/);
  });

  test("TLS bytes that come with the CONNECT are not lost", async () => {
    await using room = await startTestProxy();
    const client = await room.raw();
    // A TLS client whose first bytes go out together with the CONNECT.
    const { socket } = client;
    const write = socket.write.bind(socket);
    const connect = Buffer.from(connectText(room.authority));
    let first = true;
    const { Duplex } = await import("node:stream");
    const joined = new Duplex({
      read() {},
      write(chunk: Buffer, _encoding, done) {
        write(first ? Buffer.concat([connect, chunk]) : chunk);
        first = false;
        done();
      },
    });
    let answered = false;
    socket.on("data", (bytes: Buffer) => {
      const text = bytes.toString("latin1");
      const rest = answered ? bytes : bytes.subarray(text.indexOf("\r\n\r\n") + 4);
      answered = true;
      if (rest.length > 0) joined.push(rest);
    });
    const inside = await openSecure({ socket: joined as never }, { ca: room.connectorCa.certificate });
    expect((await inside.ask(requestText("GET", "/", room.authority))).status).toBe(200);
  });
});

describe("refusals", () => {
  const ask = async (text: (authority: string) => string, options: Parameters<typeof startTestProxy>[0] = {}) => {
    await using room = await startTestProxy(options);
    const client = await room.forward();
    const answer = await client.ask(text(room.authority));
    return { ...answer, reached: room.target.everything() };
  };

  test.each([
    ["no Authorization", 401, (a: string) => `GET / HTTP/1.1\r\nHost: ${a}\r\n\r\n`],
    ["an empty token", 401, (a: string) => `GET / HTTP/1.1\r\nHost: ${a}\r\nAuthorization: Bearer \r\n\r\n`],
    ["two tokens", 401, (a: string) => requestText("GET", "/", a, "Authorization: Bearer x\r\n")],
    ["another token", 401, (a: string) => `GET / HTTP/1.1\r\nHost: ${a}\r\nAuthorization: Bearer x\r\n\r\n`],
    ["another Host", 421, () => requestText("GET", "/", "other.example")],
    ["dot segments", 400, (a: string) => requestText("GET", "/api/../secrets", a)],
    ["impersonation", 403, (a: string) => requestText("GET", "/", a, "iMpErSoNaTe-User: admin\r\n")],
    ["hidden impersonation", 403, (a: string) => requestText("GET", "/", a, "Connection: Impersonate-User\r\n")],
    [
      "an upgrade with a body",
      400,
      (a: string) =>
        requestText("GET", "/", a, "Connection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 1\r\n", "x"),
    ],
    ["absolute-form", 400, (a: string) => requestText("GET", "https://other/", a)],
    ["CONNECT", 405, (a: string) => requestText("CONNECT", "10.0.0.1:443", a)],
  ])("%s: %i, and nothing reaches the target", async (_what, status, text) => {
    const answer = await ask(text);
    expect(answer.status).toBe(status);
    expect(answer.reached).toBe("");
    expect(JSON.parse(answer.body)).toMatchObject({ kind: "Status", code: status });
    expect(answer.head).toMatch(/\r\nWarning: 299 - "[ -~]+"\r\n/);
  });

  test("a connector without a token says why, and when to come again", async () => {
    const unavailable = "The Secret team-a/prod-token has no token";
    const answer = await ask((a) => requestText("GET", "/", a), {
      connector: (connector) => ({ ...connector, token: undefined, unavailable }),
    });
    expect(answer.status).toBe(503);
    expect(answer.head).toContain("Retry-After: 3\r\n");
    expect(answer.head).toContain(`Warning: 299 - "${unavailable}"\r\n`);
  });

  test("a refused request leaves the connection usable when it had no body", async () => {
    await using room = await startTestProxy();
    const client = await room.forward();
    expect((await client.ask(requestText("GET", "/a//b", room.authority))).status).toBe(400);
    expect((await client.ask(requestText("GET", "/", room.authority))).status).toBe(200);
  });

  test("each request of a connection is judged by its own token, whatever the one before had", async () => {
    await using room = await startTestProxy();
    const client = await room.forward();
    const good = requestText("GET", "/", room.authority);
    const others = [good.replace(callerToken, "of-a-stranger"), good.replace(/Authorization.*\r\n/, ""), good];
    const statuses = [];
    for (const text of [good, good, ...others]) statuses.push((await client.ask(text)).status);
    expect(statuses).toEqual([200, 200, 401, 401, 200]);
    expect(room.access.asked).toEqual([callerToken, callerToken, "of-a-stranger", callerToken]);
  });

  test("a refused request with a body ends the connection after the answer, without reading the body as a request", async () => {
    await using room = await startTestProxy();
    const client = await room.forward();
    const smuggled = requestText("GET", "/smuggled", room.authority);
    const length = `Content-Length: ${smuggled.length}\r\n`;
    client.send(requestText("POST", "/a//b", room.authority, length, smuggled));
    const all = await client.closed();
    expect(all.match(/HTTP\/1\.1 /g)?.length).toBe(1);
    expect(room.target.everything()).toBe("");
  });
});

describe("the target", () => {
  test("one that is not there is named in a 502", async () => {
    await using room = await startTestProxy();
    await room.target[Symbol.asyncDispose]();
    const client = await room.forward();
    const answer = await client.ask(requestText("GET", "/", room.authority));
    expect(answer.status).toBe(502);
    expect(answer.body).toContain(`Cannot reach the target cluster at ${room.authority}: connection refused`);
  });

  test.each([
    ["of another CA", async (room: Room) => ({ ...room.connector.tls, caBundle: room.connectorCa.certificate })],
    ["for another name", async (room: Room) => ({ ...room.connector.tls, serverName: "other.example" })],
    ["for another IP", async (room: Room) => ({ ...room.connector.tls, serverName: "10.0.0.1" })],
    ["while no CA is given", async () => ({ insecureSkipVerify: false })],
  ])("a certificate %s is refused, and no byte of the request is sent", async (_what, tls) => {
    await using room = await startTestProxy();
    room.source.put({ ...room.connector, tls: await tls(room) });
    const client = await room.forward();
    const answer = await client.ask(requestText("GET", "/", room.authority));
    expect(answer.status).toBe(502);
    expect(answer.body).toContain("is not accepted");
    expect(room.target.everything()).toBe("");
  });

  test("serverName is verified in place of the address", async () => {
    await using room = await startTestProxy();
    room.source.put({ ...room.connector, tls: { ...room.connector.tls, serverName: "target.example" } });
    const client = await room.forward();
    expect((await client.ask(requestText("GET", "/", room.authority))).status).toBe(200);
  });

  test("loopback is refused outside of standalone", async () => {
    await using room = await startTestProxy({ allowLoopbackTargets: false });
    const client = await room.forward();
    const answer = await client.ask(requestText("GET", "/", room.authority));
    expect(answer.status).toBe(502);
    expect(answer.body).toContain("may not reach");
    expect(room.target.connections.length).toBe(0);
  });
});

type Room = Awaited<ReturnType<typeof startTestProxy>>;

test("the target refuses the stored token: its 401 passes, with a warning that says whose token it is", async () => {
  await using room = await startTestProxy({
    onConnection: (connection) => {
      void connection
        .until("\r\n\r\n")
        .then(() => connection.send("HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\nno"));
    },
  });
  const client = await room.forward();
  const answer = await client.ask(requestText("GET", "/", room.authority));
  expect([answer.status, answer.body]).toEqual([401, "no"]);
  expect(answer.head).toMatch(
    /^Warning: 299 - "The target cluster at .* refuses the stored token of connector team-a\/prod; /m,
  );
});

test("the stored token is replaced: the next request has the new one, on the same connections", async () => {
  await using room = await startTestProxy();
  const client = await room.forward();
  await client.ask(requestText("GET", "/1", room.authority));
  room.source.put({ ...room.connector, token: new Secret("new-token") });
  const answer = await client.ask(requestText("GET", "/2", room.authority));
  expect(answer.body).toContain("Authorization: Bearer new-token\r\n");
  expect(room.target.connections.length).toBe(1);
});
