// What a caller who may use a connector cannot do with it, at both doors of a real proxy, by raw bytes against a target
// that judges nothing: reach another host, be another user, hide one request in another, or see its own headers believed.
// The last test looks at all that the target received meanwhile.
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { RawClient } from "../kit/raw-client.ts";
import { startWorkbench } from "./cluster.ts";
import { bearer, type EchoConnector, type Mounted, readMounted, requestText, startEchoConnector } from "./doors.ts";
import { kubectlOk } from "./kubectl.ts";

const key = "team-a/echo";
const sleep = (milliseconds: number) => new Promise((resolve) => setTimeout(resolve, milliseconds));
let echo: EchoConnector;
let mounted: Mounted;

beforeAll(async () => {
  echo = await startEchoConnector("team-a", "echo");
  await kubectlOk(["-n", "team-a", "delete", "pod", "attacker", "--now", "--ignore-not-found"]);
  const pod = await startWorkbench({ namespace: "team-a", name: "attacker", volumes: { echo: { connector: "echo" } } });
  mounted = await readMounted(pod, "echo");
});
afterAll(async () => {
  await echo?.[Symbol.asyncDispose]();
  await kubectlOk(["-n", "team-a", "delete", "pod", "attacker", "--now", "--ignore-not-found"]);
});

/** Whole requests that the target got for that path. */
const reached = (path: string) => echo.target.requests().filter(({ head }) => head.includes(` ${path}`));
/** Whether any byte of a request for that path came, be it whole or not. */
const touched = (path: string) => echo.target.everything().includes(path);

/** All that came until the proxy closed; what has come after 5 s when it does not. */
async function ending(client: RawClient): Promise<string> {
  const all = await Promise.race([client.closed(), sleep(5000).then(() => `still open after: ${client.received()}`)]);
  client.socket.destroy();
  return all;
}

describe("the forward door", () => {
  test("attack 14: CONNECT to another host, port or spelling of the IP is a 403 whose first line says what the connector reaches", async () => {
    const [ip = "", port = ""] = echo.target.authority.split(":");
    const hex = `0x${ip.split(".").map((part) => Number(part).toString(16).padStart(2, "0")).join("")}`; // biome-ignore format: one line
    for (const authority of [
      `172.30.0.3:${port}`,
      `${ip}:6443`,
      `${ip}:0${port}`,
      `${ip}.:${port}`,
      `${hex}:${port}`,
      `[::ffff:${ip}]:${port}`,
      `127.0.0.1:${port}`,
      "169.254.169.254:80",
      "kubernetes.default.svc:443",
      ip,
    ]) {
      const [line] = (await echo.connect({ password: mounted.tunnel, authority })).split("\r\n");
      expect(line, authority).toBe(`HTTP/1.1 403 connector ${key} reaches only ${echo.target.authority}`);
    }
  });

  test("a connector that this proxy does not serve is a 404, and anything but CONNECT a 405", async () => {
    const other = await echo.connect({ password: mounted.tunnel, user: "team-a/global" });
    expect(other).toMatch(/^HTTP\/1\.1 404 The proxy serves no connector team-a\/global/);
    const client = await echo.plain();
    client.send(requestText("GET", `${echo.target.address}/plain`, echo.target.authority, bearer(mounted.request)));
    expect(await ending(client)).toMatch(/^HTTP\/1\.1 405 .*takes only CONNECT/);
  });

  test("attack 05: bytes sent behind CONNECT before its answer are no request: they are the client's TLS, or the connection ends", async () => {
    const client = await echo.plain();
    const basic = Buffer.from(`${key}:${mounted.tunnel}`).toString("base64");
    const head = `CONNECT ${echo.target.authority} HTTP/1.1\r\nProxy-Authorization: Basic ${basic}\r\n\r\n`;
    client.send(head + requestText("GET", "/early", echo.target.authority, bearer(mounted.request)));
    expect(await ending(client)).toMatch(/^HTTP\/1\.1 200 OK\r\n\r\n/);
    expect(touched("/early")).toBe(false);
  });
});

describe.each(["forward", "reverse"] as const)("through the %s door", (door) => {
  const open = () => echo.open(door, mounted);
  const request = (method: string, path: string, lines = "", body = "") =>
    requestText(method, path, echo.host(door), bearer(mounted.request) + lines, body);

  /** Sends it on a connection of its own; all that came until the proxy closed. */
  async function refusedAndClosed(text: string): Promise<string> {
    const client = await open();
    client.send(text);
    return ending(client);
  }

  async function ask(text: string) {
    const client = await open();
    const answer = await client.ask(text);
    client.socket.destroy();
    return answer;
  }

  test("attack 14: a Host that names something else is a 421, and a server name that is not served ends the handshake", async () => {
    const wrong = ["kubernetes.default.svc", "172.30.0.3:8443", echo.host(door === "forward" ? "reverse" : "forward")];
    for (const host of wrong) {
      const { status } = await ask(requestText("GET", "/other-host", host, bearer(mounted.request)));
      expect(status, host).toBe(421);
    }
    expect(touched("/other-host")).toBe(false);
    await expect(echo.open(door, mounted, { servername: "kubernetes.default.svc" })).rejects.toThrow(/.+/);
  });

  test("attack 06: an Impersonate-* header in any spelling, an unknown one too, also named by Connection, is a 403 that says so", async () => {
    for (const line of [
      "Impersonate-User: system:admin",
      "impersonate-user: system:admin",
      "IMPERSONATE-GROUP: system:masters",
      "Impersonate-Uid: 1",
      "Impersonate-Extra-scopes: all",
      "Impersonate-Whatever-Comes: 1",
      "Impersonate-User:",
      "Connection: Impersonate-User",
      "Connection: close, impersonate-group\r\nX-More: 1",
    ]) {
      const { status, head, body } = await ask(request("GET", "/impersonated", `${line}\r\n`));
      expect(status, line).toBe(403);
      expect(body, line).toContain("impersonation does not pass a connector");
      expect(head, line).toContain("Warning: 299 - ");
    }
    expect(touched("/impersonated")).toBe(false);
  });

  test("attack 07: X-Remote-*, X-Forwarded-*, Forwarded, Cookie, Proxy-* and what Connection names are dropped, the rest stays", async () => {
    const dropped = [
      "X-Remote-User: system:admin",
      "x-remote-group: system:masters",
      "X-Remote-Extra-Scopes: all",
      "X-Forwarded-For: 10.0.0.1",
      "X-Forwarded-Host: elsewhere",
      "X-Forwarded-Client-Cert: By=me",
      "X-Original-URL: /api/v1/secrets",
      "Forwarded: for=10.0.0.1",
      `Cookie: token=${mounted.request}`,
      `Proxy-Authorization: Bearer ${mounted.tunnel}`,
      "Proxy-Connection: keep-alive",
      "Keep-Alive: timeout=5",
      "Connection: X-Named, keep-alive",
      "X-Named: 1",
      `Sec-WebSocket-Protocol: base64url.bearer.authorization.k8s.io.${mounted.request}`,
    ];
    const { status, body } = await ask(request("GET", `/dropped-${door}`, `${dropped.join("\r\n")}\r\nX-Stays: 1\r\n`));
    expect(status).toBe(200);
    expect(body.trimEnd().split("\r\n").sort()).toEqual([
      `Authorization: Bearer ${echo.stored}`,
      `GET /dropped-${door} HTTP/1.1`,
      `Host: ${echo.target.authority}`,
      "X-Stays: 1",
    ]);
  });

  test("attack 10: Connection: Authorization does not take the stored token away; two Authorization headers, or none of Bearer, are a 401", async () => {
    const named = await ask(request("GET", "/named", "Connection: close, Authorization\r\n"));
    expect([named.status, named.body]).toEqual([200, expect.stringContaining(bearer(echo.stored))]);
    const second = bearer("second");
    for (const lines of [
      bearer(mounted.request) + second,
      bearer(mounted.request).repeat(2),
      second + bearer(mounted.request),
      "",
      "Authorization: \r\n",
      "Authorization: Bearer\r\n",
      "Authorization: Bearer \r\n",
      `Authorization: Bearer ${mounted.request}, Bearer second\r\n`,
      `Authorization: ${mounted.request}\r\n`,
      `Authorization: Basic ${Buffer.from(`user:${mounted.request}`).toString("base64")}\r\n`,
      `Proxy-Authorization: Bearer ${mounted.request}\r\n`,
      `Cookie: Authorization=${mounted.request}\r\n`,
    ]) {
      const { status } = await ask(requestText("GET", "/not-once", echo.host(door), lines));
      expect(status, lines).toBe(401);
    }
    expect(touched("/not-once")).toBe(false);
  });

  test("attack 19: what parsers could frame in two ways is a 400, the connection ends, and nothing reaches the target", async () => {
    const chunked = "Transfer-Encoding: chunked\r\n";
    const cases: [string, string, string][] = [
      ["CL and TE", `Content-Length: 5\r\n${chunked}`, "0\r\n\r\n"],
      ["TE and CL", `${chunked}Content-Length: 5\r\n`, "0\r\n\r\n"],
      ["TE.TE", `${chunked}Transfer-Encoding: identity\r\n`, "0\r\n\r\n"],
      ["TE list", "Transfer-Encoding: identity, chunked\r\n", "0\r\n\r\n"],
      ["TE unknown", "Transfer-Encoding: xchunked\r\n", "0\r\n\r\n"],
      ["TE behind a vertical tab", "Transfer-Encoding: \x0bchunked\r\n", "0\r\n\r\n"],
      ["two CL, equal", "Content-Length: 5\r\nContent-Length: 5\r\n", "hello"],
      ["two CL, different", "Content-Length: 5\r\nContent-Length: 0\r\n", "hello"],
      ["CL list", "Content-Length: 5, 5\r\n", "hello"],
      ["CL with a sign", "Content-Length: +5\r\n", "hello"],
      ["CL negative", "Content-Length: -5\r\n", "hello"],
      ["space before the colon", "Transfer-Encoding : chunked\r\n", "0\r\n\r\n"],
      ["obs-fold", "X-Folded: 1\r\n Transfer-Encoding: chunked\r\n", "0\r\n\r\n"],
      ["bare LF", `X-Line: 1\n${chunked}`, "0\r\n\r\n"],
      ["bare CR", `X-Line: 1\r${chunked}`, "0\r\n\r\n"],
      ["NUL", "X-Nul: a\0b\r\n", ""],
      ["a name that is no token", "X[1]: 1\r\n", ""],
      ["Connection naming Host", "Connection: Host, close\r\n", ""],
      ["two Hosts", "Host: elsewhere\r\n", ""],
    ];
    const behind = request("GET", "/smuggled");
    for (const [what, lines, body] of cases) {
      const all = await refusedAndClosed(request("POST", "/malformed", lines, body + behind));
      expect(all, what).toMatch(/^HTTP\/1\.1 400 /);
      expect(all.match(/HTTP\/1\.1 /g)?.length, what).toBe(1);
    }
    expect(touched("/malformed") || touched("/smuggled")).toBe(false);
  });

  test("attack 19: a chunk extension, a wrong chunk end or framing in trailers is a 400, and the request never becomes whole at the target", async () => {
    for (const body of [
      "5;ext=1\r\nhello\r\n0\r\n\r\n",
      "5 \r\nhello\r\n0\r\n\r\n",
      "0x5\r\nhello\r\n0\r\n\r\n",
      "5\nhello\n0\n\n",
      `5\r\nhello${request("GET", "/smuggled")}`,
      "0\r\nHost: elsewhere\r\n\r\n",
      "0\r\nContent-Length: 5\r\n\r\n",
      "0\r\nImpersonate-User: system:admin\r\n\r\n",
      "0\r\nAuthorization: Bearer second\r\n\r\n",
    ]) {
      const head = request("POST", "/bad-chunks", "Transfer-Encoding: chunked\r\n");
      expect(await refusedAndClosed(head + body), body).toMatch(/^HTTP\/1\.1 400 /);
      // The same when the head has already gone to the target.
      const client = await open();
      client.send(head);
      await sleep(20);
      client.send(body);
      expect(await ending(client), body).toMatch(/^HTTP\/1\.1 400 /);
    }
    expect(reached("/bad-chunks")).toEqual([]);
    expect(touched("/smuggled")).toBe(false);
  });

  test("attack 19: a request inside of a body stays a body; one behind it is a request of its own and needs its own token", async () => {
    const client = await open();
    const inside = requestText("GET", "/inside", echo.target.authority, "Impersonate-User: system:admin\r\n");
    const carrier = request("POST", `/carrier-${door}`, `Content-Length: ${inside.length}\r\n`, inside);
    const behind = requestText("GET", "/without-token", echo.host(door));
    client.send(carrier + behind + request("GET", "/third"));
    const first = await client.ask("");
    expect([first.status, first.body.endsWith(inside)]).toEqual([200, true]);
    expect((await client.ask("")).status).toBe(401);
    expect((await client.ask("")).body).toContain("GET /third ");
    client.socket.destroy();
    expect(reached(`/carrier-${door}`).map(({ body }) => body)).toEqual([inside]);
    expect(reached("/inside")).toEqual([]);
    expect(touched("/without-token")).toBe(false);
  });

  test.each([403, 200])(
    "attack 01: an upgrade that the target answers with %d ends the connection: a second request on it never reaches the target",
    async (answer) => {
      const upgrade =
        "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\nSec-WebSocket-Version: 13\r\n";
      const second = requestText("GET", "/after-upgrade", echo.target.authority);
      for (const early of [second, ""]) {
        const client = await open();
        client.send(request("GET", `/exec?answer=${answer}`, upgrade) + early);
        const { status, head } = await client.ask("");
        expect(status).toBe(answer);
        expect(head).toMatch(/\r\nConnection: close\r\n/i);
        client.send(second);
        client.send(request("GET", "/after-upgrade"));
        const all = await ending(client);
        expect(all.match(/HTTP\/1\.1 \d{3} /g)?.length).toBe(1);
        client.socket.destroy();
      }
      await sleep(100);
      expect(touched("/after-upgrade")).toBe(false);
    },
  );

  test("attack 14: absolute-form, *, TRACE, CONNECT inside, other versions and unknown methods are refused", async () => {
    const absolute = `https://${echo.target.authority}/form`;
    for (const [text, status] of [
      [request("GET", absolute), 400],
      [request("GET", "https://elsewhere/form"), 400],
      [request("OPTIONS", "*"), 400],
      [request("GET", "form"), 400],
      [request("TRACE", "/form"), 405],
      [request("CONNECT", "172.30.0.3:8443"), 405],
      [request("PURGE", "/form"), 405],
      [request("GET", "/form").replace("HTTP/1.1", "HTTP/1.0"), 505],
      [request("GET", "/form").replace("HTTP/1.1", "HTTP/2.0"), 505],
      [request("GET", "/form").replace("/form HTTP", "/form  HTTP"), 400],
      [`PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n`, 505],
    ] as const) {
      const [line = ""] = (await refusedAndClosed(text)).split("\r\n");
      expect(Number(line.slice(9, 12)), text.slice(0, 60)).toBe(status);
    }
    expect(touched("/form")).toBe(false);
  });

  test("attack 20: a path that could be read in two ways is a 400", async () => {
    for (const path of [
      "/tricks/../api",
      "/tricks/.",
      "/tricks/..",
      "//tricks",
      "/tricks//api",
      "/tricks%2fapi",
      "/tricks%2Fapi",
      "/tricks/%2e%2e/api",
      "/tricks/.%2e/api",
      "/tricks%5capi",
      "/tricks\\api",
      "/tricks;a=1/api",
      "/tricks%3bapi",
      "/tricks/s%65crets",
      "/tricks%00",
      "/tricks%0d%0aHost:x",
      "/tricks%252fapi",
      "/tricks%zz",
      "/tricks%c0%ae",
      "/tricks#fragment",
      "/tricks\xe9",
      "/tricks?a=1;b=2",
      "/tricks?a=%zz",
    ]) {
      expect((await ask(request("GET", path))).status, path).toBe(400);
    }
    expect(touched("/tricks")).toBe(false);
  });
});

test("of all that reached the target: one Authorization in each request, always the stored token; no identity header, no byte of a pod's token", () => {
  const all = echo.target.requests();
  expect(all.length).toBeGreaterThan(10);
  for (const { head } of all) {
    const [first, ...lines] = head.trimEnd().split("\r\n");
    expect(first).toMatch(/^[A-Z]+ \/\S* HTTP\/1\.1$/);
    const values = (name: RegExp) => lines.filter((line) => name.test(line));
    // The controller's own probes write names in lower case.
    expect(values(/^authorization/i).map((line) => line.replace(/^a/, "A"))).toEqual([bearer(echo.stored).trimEnd()]);
    expect(values(/^host/i).map((line) => line.toLowerCase())).toEqual([`host: ${echo.target.authority}`]);
    expect(values(/^(impersonate|x-remote|x-forwarded|x-original|proxy|forwarded|cookie)/i)).toEqual([]);
  }
  const bytes = echo.target.everything();
  for (const token of [mounted.request, mounted.tunnel]) {
    for (const part of token.split(".")) expect(bytes.includes(part.slice(0, 20))).toBe(false);
  }
});

test("the connector serves its honest callers as before", async () => {
  const answers: Promise<number>[] = [];
  const get = async (door: "forward" | "reverse") => (await echo.get(door, mounted)).status;
  for (let count = 0; count < 20; count += 1) answers.push(get(count % 2 === 0 ? "forward" : "reverse"));
  expect(new Set(await Promise.all(answers))).toEqual(new Set([200]));
});
