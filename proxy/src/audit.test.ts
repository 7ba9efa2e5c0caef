import { createJsonLog, Fault } from "@kube-connector/core";
import { expect, test } from "vitest";
import { type AuditEvent, createTestAudit, own } from "../../test/kit/audit-log.ts";
import { answerWith, type TargetConnection } from "../../test/kit/servers.ts";
import {
  basic,
  callerToken,
  connectText,
  requestText,
  startTestProxy,
  testToken,
  tunnelToken,
} from "../../test/kit/test-proxy.ts";

// Each request and each tunnel leaves its line in the audit log, whether it was let through, refused or failed; what lasts
// leaves one when it begins and one when it ends. While the log cannot be kept nothing passes. No line, at any time, holds
// a header, a token, a query or a body.

const upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\n";
const switched = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n";
const auditId = "Audit-Id: 7d1b0c4e-0000-4000-8000-000000000002\r\n";
const traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

function answers(connection: TargetConnection): void {
  let from = 0;
  connection.socket.on("data", () => {
    const text = connection.received();
    const end = text.indexOf("\r\n\r\n", from);
    if (end < 0) return;
    const head = text.slice(from, end);
    from = end + 4;
    if (head.includes("watch=1"))
      connection.send(`HTTP/1.1 200 OK\r\n${auditId}Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n`);
    else if (head.includes("/exec")) connection.send(`${switched}${auditId}\r\nhi`);
    else if (head.includes("/slow")) connection.send("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhi");
    else if (head.includes("/cut")) {
      connection.send("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhi");
      setTimeout(() => connection.socket.destroy(), 20);
    } else if (head.includes("/busy"))
      connection.send(answerWith("busy", "429 Too Many Requests", "Retry-After: 7\r\n"));
    else connection.send(answerWith("hello", "200 OK", auditId));
  });
}

const ended = (events: AuditEvent[], method = "GET") =>
  events.filter((event) => event.stage === "ResponseComplete" && own(event, "method") === method);

test("an allowed request: who, what, where to, how it ended; traceparent passed on and told", async () => {
  const audit = createTestAudit();
  await using room = await startTestProxy({ audit, onConnection: answers, prefix: "/k8s/clusters/c1" });
  room.access.pod = { name: "ci-1", uid: "pod-uid" };
  const client = await room.forward();
  const path = "/k8s/clusters/c1/api/v1/namespaces/web/pods?limit=5&token=in-query";
  await client.ask(
    requestText("POST", path, room.authority, `traceparent: ${traceparent}\r\nContent-Length: 4\r\n`, "body"),
  );
  const [event] = await audit.until(1);
  expect(event).toMatchObject({
    stage: "ResponseComplete",
    requestURI: "/api/v1/namespaces/web/pods",
    verb: "create",
    user: { username: "system:serviceaccount:team-a:ci", uid: "u", groups: [] },
    sourceIPs: ["127.0.0.1"],
    responseStatus: { metadata: {}, code: 200 },
  });
  const told = [
    "connector.namespace",
    "connector.name",
    "connector.uid",
    "pod.name",
    "door",
    "decision",
    "bytesIn",
    "bytesOut",
  ];
  expect(told.map((name) => own(event, name))).toEqual([
    "team-a",
    "prod",
    "uid-1",
    "ci-1",
    "forward",
    "allow",
    "4",
    "5",
  ]);
  expect([own(event, "targetAuditID"), own(event, "traceparent")]).toEqual([auditId.slice(10, -2), traceparent]);
  expect(Number(own(event, "addedSeconds"))).toBeLessThanOrEqual(Number(own(event, "seconds")));
  expect(room.target.everything()).toContain(`traceparent: ${traceparent}\r\n`);
});

test("what a request is about is told as kube-apiserver reads it, below the prefix", async () => {
  const audit = createTestAudit();
  await using room = await startTestProxy({ audit, prefix: "/p" });
  const path = "/p/apis/apps/v1/namespaces/web/deployments/shop/scale?a=b";
  await (await room.forward()).ask(requestText("GET", path, room.authority));
  expect((await audit.until(1))[0]).toMatchObject({
    verb: "get",
    requestURI: "/apis/apps/v1/namespaces/web/deployments/shop/scale",
    objectRef: {
      resource: "deployments",
      subresource: "scale",
      namespace: "web",
      name: "shop",
      apiGroup: "apps",
      apiVersion: "v1",
    },
  });
});

test("what the policy did to a request is told: refused, warned of, reduced to metadata", async () => {
  const audit = createTestAudit();
  await using room = await startTestProxy({
    audit,
    connector: (connector) => ({ ...connector, policy: { preset: "ReadOnly", mode: "Warn" } }),
  });
  const client = await room.forward();
  await client.ask(requestText("GET", "/api/v1/secrets", room.authority));
  room.source.put({ ...room.connector, policy: { preset: "ReadOnly" } });
  await client.ask(requestText("GET", "/api/v1/secrets", room.authority));
  const events = await audit.until(2);
  expect(events.map((event) => [own(event, "decision"), own(event, "policy"), event.objectRef?.resource])).toEqual([
    ["allow", "Warn", "secrets"],
    ["deny", undefined, "secrets"],
  ]);
});

test("a refusal, a failure and a request that nobody could read have a line each, with the sentence", async () => {
  const audit = createTestAudit();
  await using room = await startTestProxy({ audit, onConnection: answers });
  const client = await room.forward();
  const ask = (text: string) => client.ask(text);
  await ask(`GET /no-token HTTP/1.1\r\nHost: ${room.authority}\r\n\r\n`);
  room.access.fault = new Fault("permission_denied", "grant it the verb use");
  await ask(requestText("GET", "/no-grant", room.authority));
  room.access.fault = new Fault("unavailable", "The API server cannot say");
  await ask(requestText("GET", "/nobody-knows", room.authority));
  room.access.fault = undefined;
  await ask(requestText("GET", "//", room.authority));
  await ask(requestText("GET", "/", room.authority, "Impersonate-User: admin\r\n"));
  client.send("GET\r\n\r\n");
  await client.closed();
  const events = (await audit.until(7)).filter((event) => own(event, "method") !== "CONNECT");
  const told = events.map((event) => [
    event.responseStatus?.code,
    own(event, "decision"),
    event.responseStatus?.reason,
  ]);
  expect(told).toEqual([
    [401, "deny", "Unauthorized"],
    [403, "deny", "Forbidden"],
    [503, "error", "ServiceUnavailable"],
    [400, "deny", "BadRequest"],
    [403, "deny", "Forbidden"],
    [400, "deny", "BadRequest"],
  ]);
  expect(events[1]?.responseStatus?.message).toBe("grant it the verb use");
  expect(events[0]?.user).toEqual({});
  expect(events.every((event) => own(event, "connector.name") === "prod")).toBe(true);
  expect(room.target.everything()).toBe("");
});

test("tunnels: each one that was let through when it ends, each one refused; the first without credentials only if it stays so", async () => {
  const audit = createTestAudit();
  await using room = await startTestProxy({ audit });
  const client = await room.forward();
  await client.ask(requestText("GET", "/", room.authority));
  client.socket.destroy();
  const event = (await audit.until(2)).at(-1);
  expect(event).toMatchObject({ verb: "connect", requestURI: room.authority, user: {}, responseStatus: { code: 200 } });
  expect([own(event, "decision"), own(event, "connector.uid")]).toEqual(["allow", "uid-1"]);
  const wrong = await room.raw();
  wrong.send(connectText("10.0.0.1:1"));
  await wrong.until("403");
  const stranger = await room.raw();
  stranger.send(connectText(room.authority, basic("team-a/prod", "a-guess")));
  await stranger.until("407");
  const silent = await room.raw();
  silent.send(`CONNECT ${room.authority} HTTP/1.1\r\n\r\n`);
  await silent.until("407");
  silent.socket.destroy();
  const second = await room.raw();
  second.send(`CONNECT ${room.authority} HTTP/1.1\r\n\r\n`);
  await second.until("407");
  second.send(connectText(room.authority));
  await second.until("200 OK");
  const denied = (await audit.until(5)).slice(2);
  expect(denied.map((one) => [one.responseStatus?.code, own(one, "decision")])).toEqual([
    [403, "deny"],
    [407, "deny"],
    [407, "deny"],
  ]);
  await room.proxy.stop();
  expect((await audit.until(6)).at(-1)?.responseStatus?.code).toBe(200);
});

test("a watch and an exec have a line at their start and one at their end, with one auditID and what went through", async () => {
  const audit = createTestAudit();
  await using room = await startTestProxy({ audit, onConnection: answers });
  for (const [path, more] of [
    ["/api/v1/pods?watch=1", ""],
    ["/exec", upgrade],
  ] as const) {
    const client = await room.direct();
    const before = audit.lines.length;
    client.send(requestText("GET", path, "c-prod.team-a.svc", more));
    await client.until("hi");
    const started = (await audit.until(before + 1)).at(-1);
    expect(started?.stage).toBe("ResponseStarted");
    expect(own(started, "targetAuditID")).toBe(auditId.slice(10, -2));
    expect(audit.lines).toHaveLength(before + 1);
    client.socket.destroy();
    const end = (await audit.until(before + 2)).at(-1);
    expect(end).toMatchObject({ stage: "ResponseComplete", auditID: started?.auditID, requestURI: path.split("?")[0] });
    expect([own(end, "bytesOut"), own(end, "reason"), own(end, "door")]).toEqual([
      path === "/exec" ? "2" : "7",
      "ClientGone",
      "reverse",
    ]);
  }
});

test("an answer that breaks off, and one that nobody waits for any more, say so", async () => {
  const audit = createTestAudit();
  await using room = await startTestProxy({ audit, onConnection: answers });
  const broken = await room.direct();
  broken.send(requestText("GET", "/cut", "c-prod.team-a.svc"));
  await broken.closed();
  const gone = await room.direct();
  gone.send(requestText("GET", "/slow", "c-prod.team-a.svc"));
  await gone.until("hi");
  gone.socket.destroy();
  const events = ended(await audit.until(2));
  expect(events.map((event) => [own(event, "reason"), own(event, "decision"), event.responseStatus?.code])).toEqual([
    ["AnswerBrokenOff", "allow", 200],
    ["ClientGone", "allow", 200],
  ]);
});

test("a stream that is ended because its caller may not have it any more says so", async () => {
  const audit = createTestAudit();
  await using room = await startTestProxy({ audit, onConnection: answers, timeouts: { review: 50 } });
  const client = await room.direct();
  client.send(requestText("GET", "/exec", "c-prod.team-a.svc", upgrade));
  await client.until("hi");
  room.access.fault = new Fault("permission_denied", "no more");
  await client.closed();
  expect(own((await audit.until(2)).at(-1), "reason")).toBe("NoLongerAllowed");
});

test("attack 32: while the audit log cannot be kept nothing passes, and it goes on by itself", async () => {
  const audit = createTestAudit();
  await using room = await startTestProxy({ audit });
  const client = await room.forward();
  audit.down = "The audit log cannot be written";
  const refused = await client.ask(requestText("GET", "/", room.authority));
  expect(refused).toMatchObject({ status: 503, body: expect.stringContaining("nothing passes without it") });
  expect(refused.head).toMatch(/\r\nRetry-After: 3\r\n/);
  expect(room.target.everything()).toBe("");
  audit.down = undefined;
  expect((await client.ask(requestText("GET", "/", room.authority))).status).toBe(200);
  expect((await audit.until(2)).map((event) => own(event, "decision"))).toEqual(["error", "allow"]);
});

test("a caller beyond its limits gets 429, when to come again, and a line; the target's own 429 is passed on", async () => {
  const audit = createTestAudit();
  await using room = await startTestProxy({
    audit,
    onConnection: answers,
    connector: (connector) => ({ ...connector, limits: { requestsPerSecond: 1, burst: 2, streams: 10 } }),
  });
  const client = await room.forward();
  const theirs = await client.ask(requestText("GET", "/busy", room.authority));
  expect(theirs).toMatchObject({ status: 429, body: "busy", head: expect.stringContaining("Retry-After: 7\r\n") });
  await client.ask(requestText("GET", "/", room.authority));
  const ours = await client.ask(requestText("GET", "/", room.authority));
  expect(ours.status).toBe(429);
  expect(ours.head).toMatch(/\r\nRetry-After: 1\r\n/);
  expect(ours.head).toMatch(/\r\nWarning: 299 - "Too many requests to the connector team-a\/prod: /);
  expect(JSON.parse(ours.body)).toMatchObject({
    kind: "Status",
    reason: "TooManyRequests",
    code: 429,
    details: { retryAfterSeconds: 1 },
  });
  room.access.pod = { name: "other", uid: "other" };
  expect((await client.ask(requestText("GET", "/", room.authority))).status).toBe(200);
  const events = ended(await audit.until(4));
  expect(events.map((event) => [event.responseStatus?.code, own(event, "decision")])).toEqual([
    [429, "allow"],
    [200, "allow"],
    [429, "deny"],
    [200, "allow"],
  ]);
});

test("what is in progress counts until it has ended, however it ends", async () => {
  await using room = await startTestProxy({
    onConnection: answers,
    connector: (connector) => ({ ...connector, limits: { requestsPerSecond: 1000, burst: 1000, streams: 2 } }),
  });
  const probe = await room.direct();
  const free = async () => (await probe.ask(requestText("GET", "/", "c-prod.team-a.svc"))).status === 200;
  for (const [path, more] of [
    ["/?watch=1", ""],
    ["/exec", upgrade],
    ["/slow", ""],
    ["/cut", ""],
  ] as const) {
    const clients = [await room.direct(), await room.direct()];
    for (const client of clients) client.send(requestText("GET", path, "c-prod.team-a.svc", more));
    for (const client of clients) await client.until("hi");
    expect(path === "/cut" || !(await free())).toBe(true);
    for (const client of clients) client.socket.destroy();
    await expect.poll(free).toBe(true);
  }
});

test("attack 28: nothing secret is in any line of the audit log, nor in a log line at any level", async () => {
  const audit = createTestAudit();
  const logged: string[] = [];
  await using room = await startTestProxy({
    audit,
    log: createJsonLog("debug", {}, { write: (line) => logged.push(line) }),
    // A target that says the token wherever it can.
    onConnection: (connection) => {
      connection.socket.on("data", () => {
        const told = `${testToken} ${callerToken}`;
        connection.send(answerWith(told, `200 ${testToken}`, `Audit-Id: ${testToken}\r\nX-Told: ${told}\r\n`));
      });
    },
  });
  const marks = ["mark-of-query", "mark-of-body", "mark-of-header", "mark-of-cookie", "mark-of-agent", "mark-of-trace"];
  const [query, body, header, cookie, agent, trace] = marks;
  const headers = `X-Header: ${header}\r\nCookie: ${cookie}\r\nUser-Agent: ${agent}\r\ntraceparent: ${trace}\r\nContent-Length: 12\r\n`;
  const client = await room.forward();
  await client.ask(requestText("POST", `/api?token=${query}`, room.authority, headers, body));
  for (const [host, more] of [
    [room.authority, "Impersonate-User: mark-of-header\r\n"],
    ["elsewhere", ""],
  ] as const) {
    const refused = await room.forward();
    await refused.ask(requestText("GET", `/api?${query}`, host, more));
  }
  for (const token of ["mark-of-guess", tunnelToken]) {
    const stranger = await room.raw();
    stranger.send(connectText("10.0.0.1:1", basic("team-a/prod", token)));
    await stranger.until("\r\n\r\n");
    const direct = await room.direct();
    await direct.ask(`GET /?${query} HTTP/1.1\r\nHost: c-prod.team-a.svc\r\nAuthorization: Bearer ${token}\r\n\r\n`);
  }
  await audit.until(7);
  await room.proxy.stop();
  expect(audit.lines.length).toBeGreaterThanOrEqual(10);
  for (const output of [audit.lines.join(""), logged.join("")]) {
    for (const mark of [...marks, testToken, callerToken, "mark-of-guess"]) expect(output).not.toContain(mark);
    expect(output).not.toMatch(/"[^"]*tunnel-token[^"]*"/);
  }
});

test("what is open is shown with who has to move next, and never a query", async () => {
  await using room = await startTestProxy({ onConnection: answers });
  room.access.pod = { name: "ci-1", uid: "pod-uid" };
  const clients = [];
  for (const [path, more, first] of [
    ["/?watch=1", "", "hi"],
    ["/exec", upgrade, "hi"],
    ["/slow?q=hidden", "", "hi"],
  ] as const) {
    const client = await room.forward();
    clients.push(client);
    client.send(requestText("GET", path, room.authority, more));
    await client.until(first);
  }
  await room.direct();
  await room.raw();
  await expect.poll(() => room.proxy.openStreams().length).toBe(5);
  const shown = room.proxy.openStreams();
  const told = shown.map(({ state, waitsFor, path }) => `${state}, ${waitsFor}, ${path}`);
  expect(new Set(told)).toEqual(
    new Set([
      "before the tunnel, client, undefined",
      "answering, target, /",
      "upgraded, both, /exec",
      "answering, target, /slow",
      "between requests, client, undefined",
    ]),
  );
  expect(shown.find(({ path }) => path === "/exec")).toMatchObject({
    connector: "team-a/prod",
    user: "system:serviceaccount:team-a:ci",
    pod: "team-a/ci-1",
    bytesOut: 2,
  });
  expect(JSON.stringify(shown)).not.toMatch(/hidden|token/);
});
