import { describe, expect, test } from "vitest";
import { Refusal } from "./answers.ts";
import {
  bearerToken,
  clientHeaderLines,
  type Injected,
  mayTrailRequest,
  mayTrailResponse,
  upstreamHeaderLines,
} from "./headers.ts";
import { parseRequestHead, parseResponseHead } from "./http1/head.ts";

// Drop first, then inject: nothing by which the caller could speak as somebody else reaches the target, and the one
// Authorization that does is ours.

const injected: Injected = { host: "target:6443", token: "stored", upgrade: undefined };

function sent(lines: readonly string[], more: Partial<Injected> = {}): string[] {
  const head = parseRequestHead(["GET / HTTP/1.1", "Host: a", ...lines].join("\r\n"));
  return upstreamHeaderLines(head, { ...injected, ...more })
    .split("\r\n")
    .slice(0, -1);
}

function refusal(lines: readonly string[]): Refusal | undefined {
  try {
    sent(lines);
    return undefined;
  } catch (error) {
    if (error instanceof Refusal) return error;
    throw error;
  }
}

const ours = ["Host: target:6443", "Authorization: Bearer stored"];

test.each([
  "Authorization: Bearer caller",
  "AUTHORIZATION: Basic eDp5",
  "Proxy-Authorization: Basic eDp5",
  "Proxy-Connection: keep-alive",
  "proxy-anything: 1",
  "X-Remote-User: system:admin",
  "x-remote-group: system:masters",
  "X-Remote-Extra-Scopes: all",
  "X-Remote-Uid: 1",
  "X-Forwarded-For: 1.2.3.4",
  "X-Forwarded-Uri: /x",
  "X-Original-Url: /secret",
  "Forwarded: for=1.2.3.4",
  "Cookie: session=1",
  "Keep-Alive: 5",
  "TE: trailers",
  "Trailer: X",
  "Upgrade: h2c",
  "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA",
  "Connection: keep-alive",
])("%j does not reach the target", (line) => {
  expect(sent([line])).toEqual(ours);
});

test("everything else passes, each line on its own, in order and unchanged", () => {
  const lines = [
    "User-Agent: kubectl/v1.35.4",
    "Accept: application/json;as=Table",
    "X-Stream-Protocol-Version: v4.channel.k8s.io",
    "X-Stream-Protocol-Version: v3.channel.k8s.io",
    "Kubectl-Command: kubectl get",
    "traceparent: 00-1-2-01",
    "X_Remote_User: is another name",
    "Content-Length: 0",
    "X: \xa0\xff",
  ];
  expect(sent(lines)).toEqual([...ours, ...lines]);
});

describe("Connection", () => {
  test("what it names is dropped, over several lines too", () => {
    expect(sent(["Connection: close, X-One", "X-One: 1", "connection: x-TWO", "X-Two: 2", "X-Three: 3"])).toEqual([
      ...ours,
      "X-Three: 3",
    ]);
  });

  test("it cannot take our Authorization away", () => {
    expect(sent(["Connection: Authorization", "Authorization: Bearer caller"])).toEqual(ours);
  });

  test.each(["Host", "content-length", "Transfer-Encoding"])("naming %s is refused", (name) => {
    expect(refusal([`Connection: close, ${name}`])?.http).toBe(400);
  });
});

describe("impersonation", () => {
  test.each([
    "Impersonate-User: admin",
    "impersonate-group: system:masters",
    "IMPERSONATE-UID: 1",
    "Impersonate-Extra-Scopes: x",
    "Impersonate-Something-New: x",
    "Impersonate-User:",
    "Connection: close, Impersonate-User",
  ])("%j is refused with 403 and a sentence", (line) => {
    const refused = refusal([line]);
    expect(refused?.http).toBe(403);
    expect(refused?.message).toContain("impersonation does not pass a connector");
  });
});

describe("WebSocket", () => {
  const bearer = "base64url.bearer.authorization.k8s.io.dG9rZW4";

  test("a bearer token among the subprotocols is dropped, the rest stays", () => {
    const line = `Sec-WebSocket-Protocol: ${bearer}, v5.channel.k8s.io,v4.channel.k8s.io`;
    expect(sent([line])).toEqual([...ours, "Sec-WebSocket-Protocol: v5.channel.k8s.io, v4.channel.k8s.io"]);
  });

  test("a line with nothing else is dropped whole", () => {
    expect(sent([`Sec-WebSocket-Protocol: ${bearer.toUpperCase()}`])).toEqual(ours);
  });

  test("an upgrade gets its Connection and Upgrade from us", () => {
    expect(sent(["Connection: keep-alive, Upgrade", "Upgrade: websocket"], { upgrade: "websocket" })).toEqual([
      ...ours,
      "Connection: Upgrade",
      "Upgrade: websocket",
    ]);
  });
});

test("a token with a line break never becomes a second Authorization", () => {
  expect(() => sent([], { token: "a\r\nAuthorization: Bearer b" })).toThrow(/another Authorization/);
});

describe("the caller's token", () => {
  const read = (...lines: string[]) =>
    bearerToken(parseRequestHead(["GET / HTTP/1.1", "Host: a", ...lines].join("\r\n")).headers);

  test.each(["Authorization: Bearer abc", "authorization: bearer  abc"])("is read from %j", (line) => {
    expect(read(line)).toBe("abc");
  });

  test.each([
    [[]],
    [["Authorization: Bearer"]],
    [["Authorization: Bearer "]],
    [["Authorization: abc"]],
    [["Authorization: Basic abc"]],
    [["Authorization: Bearer a b"]],
    [["Authorization: Bearer abc", "Authorization: Bearer abc"]],
    [["Authorization: Bearer abc", "authorization: Basic x"]],
    [["X-Authorization: Bearer abc"]],
  ])("is not found in %j", (lines) => {
    expect(read(...lines)).toBeUndefined();
  });
});

describe("answers", () => {
  const passed = (lines: readonly string[], status = "200 OK") =>
    clientHeaderLines(parseResponseHead([`HTTP/1.1 ${status}`, ...lines].join("\r\n"), "GET"));

  test.each([
    "Connection: keep-alive",
    "Keep-Alive: timeout=5",
    "Proxy-Authenticate: Basic",
    "Upgrade: h2c",
    'Alt-Svc: h3=":443"',
    "Set-Cookie: a=b",
  ])("%j does not reach the client", (line) => {
    expect(passed([line])).toBe("");
  });

  test("what Connection names is dropped, but never the framing", () => {
    expect(passed(["Connection: X-One, Content-Length", "X-One: 1", "Content-Length: 5"])).toBe(
      "Content-Length: 5\r\n",
    );
  });

  test("the rest passes as it is", () => {
    const lines = [
      "Location: https://elsewhere/",
      "Retry-After: 1",
      "Audit-Id: 1",
      "Warning: 299 - a",
      "Warning: 299 - b",
    ];
    expect(passed(lines)).toBe(lines.map((line) => `${line}\r\n`).join(""));
  });

  test("a 204 carries no framing", () => {
    expect(passed(["Content-Length: 5", "Audit-Id: 1"], "204 No Content")).toBe("Audit-Id: 1\r\n");
  });
});

test.each([
  "host",
  "content-length",
  "transfer-encoding",
  "authorization",
  "x-remote-user",
  "impersonate-user",
  "expect",
  "trailer",
])("a request's trailer may not be %s", (name) => {
  expect(mayTrailRequest(name)).toBe(false);
});

test("other trailers may pass", () => {
  expect(mayTrailRequest("x-checksum")).toBe(true);
  expect(mayTrailResponse("grpc-status")).toBe(true);
  expect(mayTrailResponse("set-cookie")).toBe(false);
});
