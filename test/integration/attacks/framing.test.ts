import { expect, test } from "vitest";
import {
  type Attempt,
  attemptText,
  expectPasses,
  expectRefused,
  http1Ways,
  http2Ways,
  startAttackRoom,
} from "../../kit/attacks.ts";
import { answerWith, type TargetConnection } from "../../kit/servers.ts";
import { requestText, startTestProxy } from "../../kit/test-proxy.ts";

// No bytes of one request are ever read as another one, and no answer reaches anybody but its asker.

const chunked = "Transfer-Encoding: chunked";
const smuggled: Attempt = { path: "/smuggled" };

/** Each: header lines, a body that fits one reading of them, and the lines that are innocent, with the same body. */
const heads: [what: string, lines: string[], body: string, innocent: string[]][] = [
  ["CL and TE", ["Content-Length: 5", chunked], "0\r\n\r\n", [chunked]],
  ["TE and CL", [chunked, "Content-Length: 5"], "0\r\n\r\n", [chunked]],
  ["CL of 0 and TE", ["Content-Length: 0", chunked], "0\r\n\r\n", [chunked]],
  ["TE.TE", [chunked, "Transfer-Encoding: identity"], "0\r\n\r\n", [chunked]],
  ["TE twice", [chunked, chunked], "0\r\n\r\n", [chunked]],
  ["a list of TE", ["Transfer-Encoding: gzip, chunked"], "0\r\n\r\n", [chunked]],
  ["an unknown TE", ["Transfer-Encoding: xchunked"], "0\r\n\r\n", [chunked]],
  ["TE in quotes", ['Transfer-Encoding: "chunked"'], "0\r\n\r\n", [chunked]],
  ["TE behind a vertical tab", ["Transfer-Encoding: \x0bchunked"], "0\r\n\r\n", [chunked]],
  ["an empty TE", ["Transfer-Encoding:"], "", []],
  ["two CL, equal", ["Content-Length: 5", "Content-Length: 5"], "hello", ["Content-Length: 5"]],
  ["two CL, different", ["Content-Length: 5", "Content-Length: 0"], "hello", ["Content-Length: 5"]],
  ["a list of CL", ["Content-Length: 5, 5"], "hello", ["Content-Length: 5"]],
  ["a signed CL", ["Content-Length: +5"], "hello", ["Content-Length: 5"]],
  ["a hexadecimal CL", ["Content-Length: 0x5"], "hello", ["Content-Length: 5"]],
  ["a CL with a space in it", ["Content-Length: 5 0"], "hello", ["Content-Length: 5"]],
  ["a space before the colon", ["Transfer-Encoding : chunked"], "0\r\n\r\n", [chunked]],
  ["obs-fold", ["Transfer-Encoding:\r\n chunked"], "0\r\n\r\n", [chunked]],
  ["obs-fold by a tab", ["X-A: 1\r\n\tTransfer-Encoding: chunked"], "", ["X-A: 1"]],
  ["a line that begins with a space", [` ${chunked}`], "", []],
  ["a bare LF", [`X-A: 1\n${chunked}`], "0\r\n\r\n", ["X-A: 1", chunked]],
  ["a bare CR", [`X-A: 1\r${chunked}`], "0\r\n\r\n", ["X-A: 1", chunked]],
  ["a NUL", ["X-A: a\0b"], "", ["X-A: ab"]],
  ["a name with a NUL", ["X\0A: 1"], "", ["XA: 1"]],
  ["a name that is no token", ["X[A]: 1"], "", ["X-A: 1"]],
  ["a line without a colon", ["X-A"], "", ["X-A: 1"]],
  ["a line without a name", [": 1"], "", ["X-A: 1"]],
  ["a second Host", ["Host: elsewhere"], "", ["X-Host: elsewhere"]],
];

test.each(http1Ways)(
  "attack 19: a head that can be framed in two ways is a 400, and what is behind it no request ($name)",
  async (way) => {
    await using room = await startAttackRoom(way);
    const text = (lines: string[], body: string) =>
      attemptText({ method: "POST", path: "/a", lines }, room.host) + body;
    for (const [what, lines, body, innocent] of heads) {
      room.target.clear();
      const { raw } = await room.open();
      raw.send(text(lines, body) + attemptText(smuggled, room.host));
      const all = await raw.closed();
      expect(all, what).toMatch(/^HTTP\/1\.1 400 .*"kind":"Status".*malformed/s);
      expect(all.match(/HTTP\/1\.1 /g)?.length, what).toBe(1);
      expect(room.target.seen(), what).toBe("");
      const honest = await room.open();
      expect((await honest.raw.ask(text(innocent, body))).status, what).toBe(200);
      honest.raw.socket.destroy();
    }
  },
);

async function until(holds: () => boolean): Promise<void> {
  while (!holds()) await new Promise((resolve) => setTimeout(resolve, 2));
}

const bodies: string[] = [
  "5;ext=1\r\nhello\r\n0\r\n\r\n",
  "5 \r\nhello\r\n0\r\n\r\n",
  "5\nhello\r\n0\r\n\r\n",
  "5\r\nhello\n0\r\n\r\n",
  "0x5\r\nhello\r\n0\r\n\r\n",
  "+5\r\nhello\r\n0\r\n\r\n",
  "\r\nhello\r\n0\r\n\r\n",
  "0000000000005\r\nhello\r\n0\r\n\r\n",
  "5\r\nhelloGET /smuggled HTTP/1.1\r\n\r\n",
  "0\r\nHost: b\r\n\r\n",
  "0\r\nContent-Length: 5\r\n\r\n",
  "0\r\nTransfer-Encoding: chunked\r\n\r\n",
  "0\r\nX-A: 1\r\n folded\r\n\r\n",
  "0\r\nX-A : 1\r\n\r\n",
  "0;a\r\n\r\n",
  "0\n\n",
];

test.each(http1Ways)("attack 19: a body in malformed chunks never becomes whole at the target ($name)", async (way) => {
  await using room = await startAttackRoom(way);
  const head = attemptText({ method: "POST", path: "/a", lines: [chunked] }, room.host);
  for (const body of bodies) {
    // Together with its head, and when that has gone to the target.
    for (const early of [head + body, head]) {
      room.target.clear();
      const { raw } = await room.open();
      raw.send(early);
      if (early === head) await until(() => room.target.seen().includes("POST /a "));
      raw.send(early === head ? body : "");
      const all = await raw.closed();
      expect(all, body).toMatch(/^HTTP\/1\.1 400 .*malformed/s);
      expect(room.target.requests, body).toEqual([]);
      expect(room.target.seen(), body).not.toMatch(/0\r\n\r\n|smuggled|Host: b/);
    }
  }
  const honest = await room.open();
  expect((await honest.raw.ask(`${head}5\r\nhello\r\n0\r\nX-A: 1\r\n\r\n`)).status).toBe(200);
});

test.each(http1Ways)(
  "attack 19: a request inside a body stays a body, one behind it needs a token of its own ($name)",
  async (way) => {
    await using room = await startAttackRoom(way);
    const { raw } = await room.open();
    const inside = requestText("GET", "/inside", room.authority, "Impersonate-User: system:admin\r\n");
    const behind = attemptText({ path: "/without", authorization: [] }, room.host);
    raw.send(attemptText({ method: "POST", path: "/outer", body: inside }, room.host) + behind);
    raw.send(attemptText({ path: "/third" }, room.host));
    expect((await raw.ask("")).body.endsWith(inside)).toBe(true);
    expect((await raw.ask("")).status).toBe(401);
    expect((await raw.ask("")).body).toContain("GET /third ");
    expect(room.target.requests.map(({ head }) => head.split(" ")[1])).toEqual(["/outer", "/third"]);
  },
);

test.each(http1Ways)(
  "attack 19: a refused request with a body ends the connection, and its body is no request ($name)",
  async (way) => {
    await using room = await startAttackRoom(way);
    const { raw } = await room.open();
    const body = attemptText(smuggled, room.host);
    raw.send(attemptText({ method: "POST", path: "/a//b", body }, room.host));
    const all = await raw.closed();
    expect(all.match(/HTTP\/1\.1 /g)?.length).toBe(1);
    expect(room.target.seen()).toBe("");
    await expectPasses(room, { method: "POST", path: "/a/b", body });
  },
);

test.each(http1Ways)(
  "attack 19: a pipelined request is sent only after the answer before it ($name)",
  async ({ door }) => {
    await using room = await startTestProxy({ onConnection: () => undefined });
    const client = door === "forward" ? await room.forward() : await room.direct();
    const host = door === "forward" ? room.authority : "c-prod.team-a.svc";
    client.send(requestText("GET", "/1", host) + requestText("GET", "/2", host));
    const target = await room.target.connection();
    await target.until("GET /1 HTTP/1.1\r\n");
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(target.received()).not.toContain("/2");
    target.send(answerWith("one"));
    await target.until("GET /2 HTTP/1.1\r\n");
    target.send(answerWith("two"));
    expect(await client.until("two")).toMatch(/one[^]*two$/);
  },
);

/** A target that says more than it was asked for: an answer for whoever asks next. */
const poisoning = (when: "with the answer" | "while idle") => (connection: TargetConnection) => {
  void connection.until("\r\n\r\n").then(() => {
    const poison = connection.index === 0 ? answerWith("poison") : "";
    connection.send(answerWith(`answer ${connection.index}`) + (when === "with the answer" ? poison : ""));
    if (when === "while idle") setTimeout(() => connection.send(poison), 30);
  });
};

test.each(["with the answer", "while idle"] as const)(
  "attack 19: bytes past the end of an answer, sent %s, are nobody's answer (CVE-2026-48931)",
  async (when) => {
    await using room = await startTestProxy({ onConnection: poisoning(when) });
    const client = await room.forward();
    expect((await client.ask(requestText("GET", "/1", room.authority))).body).toBe("answer 0");
    if (when === "while idle") await new Promise((resolve) => setTimeout(resolve, 80));
    const other = await room.direct();
    expect((await other.ask(requestText("GET", "/2", "c-prod.team-a.svc"))).body).toBe("answer 1");
  },
);

test.each([
  "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
  "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
  "HTTP/1.1 200 OK\r\nTransfer-Encoding: xchunked\r\n\r\n",
  "HTTP/1.1 200 OK\r\nX : 1\r\n\r\n",
  "HTTP/1.1 200 OK\r\nX: 1\r\n folded\r\n\r\n",
  "HTTP/1.1 200 OK\r\nX: a\0b\r\n\r\n",
  "HTTP/1.1 200 OK\n\n",
  "HTTP/1.1 100 Continue\r\n\r\n".repeat(9),
  "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
  `HTTP/1.1 200 OK\r\nX: ${"x".repeat(70_000)}\r\n\r\n`,
  "SSH-2.0-OpenSSH\r\n\r\n",
])("attack 19: an answer that can be read in two ways is a 502 and reaches nobody: %j", async (answer) => {
  await using room = await startTestProxy({
    onConnection: (connection) => void connection.until("\r\n\r\n").then(() => connection.send(answer)),
  });
  const client = await room.forward();
  client.send(requestText("GET", "/", room.authority));
  const all = await client.until("HTTP/1.1 502 Bad Gateway");
  expect(all).not.toContain("200 OK");
  await expect.poll(() => room.target.open()).toBe(0);
});

test.each(http2Ways)(
  "attack 19: in HTTP/2 a head that another protocol would frame otherwise ends the stream ($name)",
  async (way) => {
    await using room = await startAttackRoom(way);
    for (const [lines, body] of [
      [["Transfer-Encoding: chunked"], "0\r\n\r\n"],
      [["Content-Length: 5", "Content-Length: 5"], "hello"],
      [["Content-Length: +5"], "hello"],
      [["Content-Length: 5, 5"], "hello"],
      [["X-A: 1\r\nTransfer-Encoding: chunked"], ""],
      [["X-A: 1\nHost: elsewhere"], ""],
      [["X-A: a\0b"], ""],
      [["X-A: 1\r"], ""],
      [["X A: 1"], ""],
      [["X\r\nA: 1"], ""],
    ] as const) {
      const attempt: Attempt = { method: "POST", path: "/a", body };
      await expectRefused(room, { ...attempt, lines }, { ended: "reset 1" }, { ...attempt, lines: ["X-A: 1"] });
    }
    // A length that the body contradicts: its head may be there already, but it never becomes a request.
    for (const length of [3, 30]) {
      room.target.clear();
      const answer = await room.ask({
        method: "POST",
        path: "/a",
        body: "hello",
        lines: [`Content-Length: ${length}`],
      });
      expect(answer.ended).toBe("reset 1");
      expect(room.target.requests).toEqual([]);
    }
    await expectPasses(room, { method: "POST", path: "/a", body: "hello", lines: ["Content-Length: 5"] });
    const path = `/a HTTP/1.1\r\nHost: x\r\n\r\nGET /smuggled`;
    const answer = await room.ask({ path });
    expect(answer.ended).toBe("reset 1");
    expect(room.target.seen()).not.toContain("smuggled");
  },
);
