import { expect, test } from "vitest";
import { createRandom } from "../../../test/kit/random.ts";
import { createAuditFormat } from "./event.ts";
import type { Line } from "./line.ts";
import { type AuditRecord, targetAuditIdOf, traceparentOf } from "./record.ts";

// A record becomes one line in the form of audit.k8s.io/v1 Event: what API servers' tools read is where they look for it,
// what is ours is in annotations, each of them a text. Whatever the fields hold, it is one line of JSON.

const record: AuditRecord = {
  id: "7d1b0c4e-0000-4000-8000-000000000001",
  stage: "ResponseComplete",
  decision: "allow",
  door: "forward",
  remote: "::ffff:10.1.2.3",
  connector: { namespace: "team-a", name: "prod", uid: "uid-1" },
  caller: {
    user: "system:serviceaccount:team-b:ci",
    uid: "sa-uid",
    groups: ["system:serviceaccounts", "system:authenticated"],
    extra: { "authentication.kubernetes.io/credential-id": ["JTI=not-for-the-log"] },
    namespace: "team-b",
    pod: { name: "ci-1", uid: "pod-uid" },
  },
  method: "GET",
  path: "/apis/apps/v1/namespaces/web/deployments/front/scale",
  info: {
    verb: "get",
    isResource: true,
    path: "",
    apiGroup: "apps",
    apiVersion: "v1",
    namespace: "web",
    resource: "deployments",
    subresource: "scale",
    name: "front",
  },
  code: 200,
  bytesIn: 0,
  bytesOut: 345,
  milliseconds: 12.3456,
  addedMilliseconds: 0.25,
  protocol: "http/1.1",
  targetAuditId: "7d1b0c4e-0000-4000-8000-000000000002",
  traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
};
const now = Date.UTC(2026, 10, 21, 10, 30, 5, 250);
const own = (name: string) => `proxy.connectors.cpaas.io/${name}`;
const parse = (line: Line | string) =>
  JSON.parse(line.toString()) as { annotations: Record<string, string>; [key: string]: unknown };

test("an allowed request", () => {
  const line = createAuditFormat()(record, now).toString();
  expect(line.endsWith("}\n")).toBe(true);
  expect(parse(line)).toEqual({
    kind: "Event",
    apiVersion: "audit.k8s.io/v1",
    level: "Metadata",
    auditID: record.id,
    stage: "ResponseComplete",
    requestURI: record.path,
    verb: "get",
    user: {
      username: "system:serviceaccount:team-b:ci",
      uid: "sa-uid",
      groups: ["system:serviceaccounts", "system:authenticated"],
    },
    sourceIPs: ["10.1.2.3"],
    objectRef: {
      resource: "deployments",
      namespace: "web",
      name: "front",
      apiGroup: "apps",
      apiVersion: "v1",
      subresource: "scale",
    },
    responseStatus: { metadata: {}, code: 200 },
    requestReceivedTimestamp: "2026-11-21T10:30:05.237654Z",
    stageTimestamp: "2026-11-21T10:30:05.250000Z",
    annotations: {
      [own("connector.namespace")]: "team-a",
      [own("connector.name")]: "prod",
      [own("connector.uid")]: "uid-1",
      [own("pod.namespace")]: "team-b",
      [own("pod.name")]: "ci-1",
      [own("pod.uid")]: "pod-uid",
      [own("door")]: "forward",
      [own("protocol")]: "http/1.1",
      [own("method")]: "GET",
      [own("decision")]: "allow",
      [own("bytesIn")]: "0",
      [own("bytesOut")]: "345",
      [own("seconds")]: "0.012346",
      [own("addedSeconds")]: "0.000250",
      [own("targetAuditID")]: record.targetAuditId,
      [own("traceparent")]: record.traceparent,
    },
  });
});

test("a refusal before anybody was known has our Status and no user", () => {
  const line = createAuditFormat()(
    {
      ...record,
      decision: "deny",
      caller: undefined,
      connector: undefined,
      info: undefined,
      method: "POST",
      code: 401,
      reason: "Unauthorized",
      message: 'say "please"',
      addedMilliseconds: undefined,
    },
    now,
  );
  const event = parse(line);
  expect(event).toMatchObject({
    verb: "post",
    user: {},
    responseStatus: { metadata: {}, status: "Failure", reason: "Unauthorized", message: 'say "please"', code: 401 },
  });
  expect(event).not.toHaveProperty("objectRef");
  expect(event.annotations[own("reason")]).toBe("Unauthorized");
  expect(Object.keys(event.annotations).filter((name) => name.includes("pod"))).toEqual([]);
});

test("what ended a stream is a reason and no failure", () => {
  const event = parse(createAuditFormat()({ ...record, reason: "ClientGone", code: 0 }, now));
  expect(event).not.toHaveProperty("responseStatus");
  expect(event.annotations[own("reason")]).toBe("ClientGone");
  expect(parse(createAuditFormat()({ ...record, reason: "ClientGone" }, now)).responseStatus).toEqual({
    metadata: {},
    code: 200,
  });
});

test.each([
  [0.5, "2026-11-21T10:30:05.249500Z", "0.000500"],
  [250, "2026-11-21T10:30:05.000000Z", "0.250000"],
  [250.001, "2026-11-21T10:30:04.999999Z", "0.250001"],
  [3_600_000, "2026-11-21T09:30:05.250000Z", "3600.000000"],
])("%f ms before now", (milliseconds, received, seconds) => {
  const event = parse(createAuditFormat()({ ...record, milliseconds }, now));
  expect(event).toMatchObject({ requestReceivedTimestamp: received, stageTimestamp: "2026-11-21T10:30:05.250000Z" });
  expect(event.annotations[own("seconds")]).toBe(seconds);
});

test("other steps' annotations stand beside ours", () => {
  const event = parse(createAuditFormat()({ ...record, annotations: { policy: "warn" } }, now));
  expect(event.annotations[own("policy")]).toBe("warn");
});

test("each line has its own parts, also when callers and connectors are the same objects", () => {
  const format = createAuditFormat();
  const first = parse(format(record, now));
  const second = parse(format({ ...record, path: "/api", info: undefined }, now + 3_600_000));
  expect(first.requestURI).toBe(record.path);
  expect(second).toMatchObject({ requestURI: "/api", stageTimestamp: "2026-11-21T11:30:05.250000Z" });
});

test.each(['"', "\\", "\n", "\u0000", "\u2028", "é\ud800", '"},"x":{"'])("a path with %j is still one line", (text) => {
  const line = createAuditFormat()({ ...record, path: `/${text}` }, now).toString();
  expect(line).toMatch(/^[\x20-\x7e]*\n$/);
  expect(parse(line).requestURI).toBe(`/${text}`);
});

test("lines of many callers, connectors and addresses in any order are as if each were the first", () => {
  const format = createAuditFormat();
  const { caller, connector } = record;
  const random = createRandom(1);
  const callers = [caller, caller && { ...caller, user: "system:serviceaccount:team-b:other" }, undefined];
  const connectors = [connector, connector && { ...connector, name: "test" }];
  for (let turn = 0; turn < 5000; turn += 1) {
    const each: AuditRecord = {
      ...record,
      caller: random.pick(callers),
      connector: random.pick(connectors),
      door: random.pick(["forward", "reverse"] as const),
      // Two that come again and again, and more than are kept at a time.
      remote: `10.1.1.${random.number(2) + (random.chance(0.2) ? random.number(600) : 0)}`,
      protocol: random.pick(["http/1.1", "h2"]),
    };
    expect(format(each, now).toString()).toBe(createAuditFormat()(each, now).toString());
  }
});

test("an endless path is cut, and marked", () => {
  const uri = parse(createAuditFormat()({ ...record, path: `/${"a".repeat(60_000)}` }, now)).requestURI as string;
  expect(uri.length).toBe(4096 + 3);
  expect(uri.endsWith("a...")).toBe(true);
});

const header = (name: string, value: string) => ({ lower: name, value });

test("a traceparent is told only when it is exactly one and has its form", () => {
  const good = record.traceparent ?? "";
  expect(traceparentOf([header("traceparent", good)])).toBe(good);
  expect(traceparentOf([])).toBeUndefined();
  expect(traceparentOf([header("traceparent", good), header("traceparent", good)])).toBeUndefined();
  expect(traceparentOf([header("traceparent", `${good}-x`)])).toBeUndefined();
  expect(traceparentOf([header("traceparent", "a-secret")])).toBeUndefined();
});

test("the target's Audit-Id is told only when it is a UUID and no part of the stored token", () => {
  const id = record.targetAuditId ?? "";
  const token = (text: string) => ({ reveal: () => text });
  expect(targetAuditIdOf([header("audit-id", id)], token("other"))).toBe(id);
  expect(targetAuditIdOf([header("audit-id", "stored-token")], token("stored-token"))).toBeUndefined();
  expect(targetAuditIdOf([header("audit-id", id)], token(`x${id}y`))).toBeUndefined();
  expect(targetAuditIdOf([], undefined)).toBeUndefined();
});
