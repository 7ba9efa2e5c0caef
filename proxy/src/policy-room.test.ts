import type { Policy, PolicyRule } from "@kube-connector/core";
import { describe, expect, test } from "vitest";
import { answerWith, type OnTargetConnection } from "../../test/kit/servers.ts";
import { requestText, startTestProxy, type TestProxy } from "../../test/kit/test-proxy.ts";

// The policy in the path of a request: what it forbids never reaches the target, a change of it acts at once, and where
// only metadata may leave, the target is asked for that and its answer is believed in nothing.

const ns = "/api/v1/namespaces/a";
const mark = "canary-value";

const start = (policy: Policy, onConnection?: OnTargetConnection) =>
  startTestProxy({
    connector: (connector) => ({ ...connector, policy }),
    ...(onConnection === undefined ? {} : { onConnection }),
  });

const ask = async (kit: TestProxy, method: string, path: string, more = "") =>
  (await kit.forward()).ask(requestText(method, path, kit.authority, more));

/** Sends an upgrade and waits for its head. */
async function upgrade(kit: TestProxy, path: string) {
  const client = await kit.forward();
  client.send(requestText("GET", path, kit.authority, "Connection: Upgrade\r\nUpgrade: websocket\r\n"));
  return await client.until("\r\n\r\n");
}

const switching: OnTargetConnection = (connection) => {
  void connection
    .until("\r\n\r\n")
    .then(() => connection.send("HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"));
};

describe("a policy", () => {
  test("refuses with a Status and a Warning that name verb, resource, namespace and policy; the target sees nothing", async () => {
    await using kit = await start({ preset: "ReadOnly" });
    const answer = await ask(kit, "DELETE", `${ns}/pods/x`);
    const sentence =
      'The policy of connector team-a/prod (preset ReadOnly) does not allow delete of pods "x" in namespace a';
    expect(answer.status).toBe(403);
    expect(JSON.parse(answer.body)).toMatchObject({
      kind: "Status",
      reason: "Forbidden",
      code: 403,
      message: sentence,
    });
    expect(answer.head).toContain("Warning: 299 - ");
    expect((await ask(kit, "GET", `${ns}/pods/x`)).status).toBe(200);
    expect(kit.target.everything()).not.toContain("DELETE");
  });

  test("judges what follows the prefix, and refuses upgrades whatever the method", async () => {
    await using kit = await startTestProxy({
      prefix: "/kubernetes/one",
      connector: (connector) => ({ ...connector, policy: { preset: "ReadOnly" } }),
    });
    expect((await ask(kit, "GET", `/kubernetes/one${ns}/pods`)).status).toBe(200);
    expect((await ask(kit, "GET", `/kubernetes/one${ns}/secrets`)).status).toBe(403);
    expect(await upgrade(kit, `/kubernetes/one${ns}/pods/x/exec?command=ls`)).toContain("HTTP/1.1 403 ");
    expect(await upgrade(kit, `/kubernetes/one${ns}/pods?watch=1`)).toContain("HTTP/1.1 403 ");
    expect(kit.target.everything()).not.toMatch(/secrets|exec|watch/);
  });

  test("does not speak before the caller is known to be allowed", async () => {
    await using kit = await start({ preset: "ReadOnly" });
    const client = await kit.forward();
    const answer = await client.ask(`DELETE ${ns}/pods/x HTTP/1.1\r\nHost: ${kit.authority}\r\n\r\n`);
    expect(answer.status).toBe(401);
  });

  test("in mode Warn only warns", async () => {
    await using kit = await start({ preset: "ReadOnly", mode: "Warn" });
    const answer = await ask(kit, "DELETE", `${ns}/pods/x`);
    expect(answer.status).toBe(200);
    expect(answer.head).toMatch(/Warning: 299 - "The policy .* does not allow delete .* its mode is Warn/);
    expect((await ask(kit, "GET", `${ns}/pods/x`)).head).not.toContain("Warning");
  });

  test("that changes is what the next request is judged by, and ends at once the streams it forbids", async () => {
    await using kit = await start({ preset: "Full" }, switching);
    const change = (policy: Policy) => kit.source.put({ ...kit.connector, policy });
    const client = await kit.forward();
    client.send(
      requestText("GET", `${ns}/pods/x/exec`, kit.authority, "Connection: Upgrade\r\nUpgrade: websocket\r\n"),
    );
    expect(await client.until("\r\n\r\n")).toContain("101");
    change({ rules: [{ verbs: ["create"], apiGroups: [""], resources: ["pods/exec"] }] });
    client.send("still open");
    await (await kit.target.connection(0)).until("still open");
    change({ preset: "ReadOnly" });
    await client.closed();
    expect((await ask(kit, "GET", `${ns}/secrets`)).status).toBe(403);
  });
});

describe("a rule that shows only metadata", () => {
  const all: PolicyRule = { verbs: ["*"], apiGroups: ["*"], resources: ["*"] };
  const masked: PolicyRule = {
    verbs: ["get", "list", "watch"],
    apiGroups: [""],
    resources: ["secrets"],
    effect: "MetadataOnly",
  };
  const policy: Policy = { rules: [all, masked] };
  const secret = JSON.stringify({ kind: "Secret", apiVersion: "v1", metadata: { name: "x" }, data: { a: mark } });
  const metadata = JSON.stringify({
    kind: "PartialObjectMetadata",
    apiVersion: "meta.k8s.io/v1",
    metadata: { name: "x", managedFields: [{ fieldsV1: mark }] },
  });
  const json = "Content-Type: application/json\r\n";
  const chunked = (...pieces: string[]) =>
    `${pieces.map((piece) => `${piece.length.toString(16)}\r\n${piece}\r\n`).join("")}0\r\n\r\n`;

  /** Answers every request alike. */
  const answering =
    (answer: string): OnTargetConnection =>
    (connection) => {
      let seen = 0;
      connection.socket.on("data", () => {
        const heads = connection.received().split("\r\n\r\n").length - 1;
        for (; seen < heads; seen++) connection.send(answer);
      });
    };

  test("asks the target for metadata in plain JSON, once, whatever the client accepts", async () => {
    await using kit = await start(policy);
    const more =
      "Accept: application/vnd.kubernetes.protobuf\r\nAccept: application/json\r\nAccept-Encoding: gzip\r\nRange: bytes=0-9\r\n";
    await ask(kit, "GET", `${ns}/secrets/x`, more);
    const [head = ""] = kit.target.everything().split("\r\n\r\n");
    expect(head.split("\r\n").filter((line) => /^(accept|range)/i.test(line))).toEqual([
      "Accept: application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1",
      "Accept-Encoding: identity",
    ]);
  });

  test.each([
    "application/vnd.kubernetes.protobuf",
    "application/yaml",
    "application/cbor",
    "application/json;as=Table;g=meta.k8s.io;v=v1beta1",
    "application/json;q=0, text/plain",
  ])("a client that takes only %s gets 406 and a sentence", async (accept) => {
    await using kit = await start(policy);
    const answer = await ask(kit, "GET", `${ns}/secrets`, `Accept: ${accept}\r\n`);
    expect(answer.status).toBe(406);
    expect(answer.body).toContain("application/json");
    expect(kit.target.everything()).toBe("");
  });

  test.each([
    ["by length", answerWith(metadata, "200 OK", json)],
    [
      "in chunks",
      `HTTP/1.1 200 OK\r\n${json}Transfer-Encoding: chunked\r\n\r\n${chunked(metadata.slice(0, 9), metadata.slice(9))}`,
    ],
  ])("reduces an answer that comes %s, and the connection goes on", async (_, sent) => {
    await using kit = await start(policy, answering(sent));
    const client = await kit.forward();
    for (let count = 0; count < 2; count++) {
      const answer = await client.ask(requestText("GET", `${ns}/secrets/x`, kit.authority));
      expect([answer.status, /Transfer-Encoding: chunked/.test(answer.head)]).toEqual([200, true]);
      expect(answer.body).toContain('"metadata":{"name":"x"}');
    }
    expect(kit.target.connections.length).toBe(1);
    expect(client.received()).not.toContain(mark);
  });

  test.each([
    ["the whole object", answerWith(secret, "200 OK", json)],
    ["the whole object in chunks", `HTTP/1.1 200 OK\r\n${json}Transfer-Encoding: chunked\r\n\r\n${chunked(secret)}`],
    ["protobuf", answerWith(mark, "200 OK", "Content-Type: application/vnd.kubernetes.protobuf\r\n")],
    ["no type", answerWith(metadata, "200 OK")],
    ["something compressed", answerWith(metadata, "200 OK", `${json}Content-Encoding: gzip\r\n`)],
    ["something that ends with its connection", `HTTP/1.1 200 OK\r\n${json}\r\n${metadata}`],
    ["nothing", answerWith("", "200 OK", json)],
    ["another success", answerWith(metadata, "206 Partial", json)],
    ["a redirect", answerWith(mark, "302 Found", "Location: /\r\n")],
  ])("a target that sends %s is answered with 502", async (_, sent) => {
    await using kit = await start(policy, answering(sent));
    const client = await kit.forward();
    const answer = await client.ask(requestText("GET", `${ns}/secrets/x`, kit.authority));
    expect(answer.status).toBe(502);
    expect(JSON.parse(answer.body)).toMatchObject({ kind: "Status", code: 502 });
    expect(client.received()).not.toContain(mark);
  });

  test("a target's error passes with its number and its headers, but not with its body", async () => {
    await using kit = await start(policy, answering(answerWith(mark, "429 Slow", "Retry-After: 2\r\n")));
    const answer = await ask(kit, "GET", `${ns}/secrets/x`);
    expect(answer.status).toBe(429);
    expect(answer.head).toContain("Retry-After: 2");
    expect(answer.body).toContain('"kind":"Status"');
    expect(answer.head + answer.body).not.toContain(mark);
  });

  test("a watch's head comes at once, its events as they come, and one with content ends it without a clean end", async () => {
    await using kit = await start(policy, (connection) => {
      void connection.until("\r\n\r\n").then(() => {
        connection.send(`HTTP/1.1 200 OK\r\n${json}Transfer-Encoding: chunked\r\n\r\n`);
      });
    });
    const client = await kit.forward();
    client.send(requestText("GET", "/api/v1/secrets?watch=1", kit.authority));
    await client.until("\r\n\r\n");
    const target = await kit.target.connection(0);
    const event = (object: string) => `{"type":"ADDED","object":${object}}\n`;
    const send = (text: string) => target.send(`${text.length.toString(16)}\r\n${text}\r\n`);
    send(event(metadata));
    await client.until('"name":"x"');
    send(event(secret));
    const all = await client.closed();
    expect(all).not.toContain(mark);
    expect(all).not.toContain("0\r\n\r\n");
  });

  test("writes and upgrades are refused, and a stream that began before the rule ends", async () => {
    await using kit = await start({ preset: "Full" }, (connection) => {
      void connection.until("\r\n\r\n").then(() => {
        connection.send(`HTTP/1.1 200 OK\r\n${json}Transfer-Encoding: chunked\r\n\r\n`);
      });
    });
    const client = await kit.forward();
    client.send(requestText("GET", "/api/v1/secrets?watch=1", kit.authority));
    await client.until("\r\n\r\n");
    kit.source.put({ ...kit.connector, policy });
    await client.closed();
    expect((await ask(kit, "DELETE", `${ns}/secrets/x`)).status).toBe(403);
    expect(await upgrade(kit, "/api/v1/secrets?watch=1")).toContain("HTTP/1.1 403 ");
  });
});
