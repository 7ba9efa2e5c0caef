import { expect, test } from "vitest";
import {
  expectAnswer,
  expectPasses,
  expectRefused,
  http1Ways,
  http2Ways,
  malformed,
  startAttackRoom,
  ways,
} from "../../kit/attacks.ts";
import { valuesOf } from "../../kit/lenient-target.ts";
import { basic, testToken } from "../../kit/test-proxy.ts";

// Headers by which a caller would be somebody else at the target, or would have its own credential believed there.

test.each(ways)("attack 06: Impersonate-* in any spelling is a 403 for the whole request ($name)", async (way) => {
  await using room = await startAttackRoom(way);
  for (const line of [
    "Impersonate-User: system:admin",
    "impersonate-user: system:admin",
    "iMpErSoNaTe-gRoUp: system:masters",
    "Impersonate-Uid: 1",
    "Impersonate-Extra-Scopes: all",
    "Impersonate-Extra-a%2fb: all",
    "Impersonate-Whatever-Comes-Next: 1",
    "Impersonate-: 1",
    "Impersonate-User:",
  ]) {
    const evil = { lines: [line, "X-More: 1"] };
    await expectRefused(room, evil, { status: 403, says: "impersonation does not pass" }, { lines: ["X-More: 1"] });
  }
  const twice = { lines: ["Impersonate-User: a", "Impersonate-Group: b", "Impersonate-Group: c"] };
  await expectRefused(room, twice, { status: 403, says: "Leave --as, --as-group and --as-uid out" });
});

test.each(ways)("attack 06: with Impersonate-* in a trailer the request never becomes whole ($name)", async (way) => {
  await using room = await startAttackRoom(way);
  const evil = { method: "POST", body: "x", trailers: ["Impersonate-User: system:admin"] };
  expectAnswer(await room.ask(evil), malformed(way));
  expect(room.target.requests).toEqual([]);
  expect(room.target.seen()).not.toMatch(/impersonate/i);
  await expectPasses(room, { ...evil, trailers: ["X-Sum: 1"] });
});

test.each(ways)(
  "attack 07: headers of authenticating proxies are dropped, and what is like them stays ($name)",
  async (way) => {
    await using room = await startAttackRoom(way);
    const { head } = await expectPasses(room, {
      lines: [
        "X-Remote-User: system:admin",
        "x-REMOTE-group: system:masters",
        "X-Remote-Group: system:nodes",
        "X-Remote-Extra-Scopes: all",
        "X-Remote-Uid: 1",
        "X-Remote-Whatever: 1",
        "X-Forwarded-For: 10.0.0.1",
        "X-Forwarded-User: admin",
        "X-Forwarded-Client-Cert: By=me",
        "X-Original-URL: /api/v1/secrets",
        "Forwarded: for=10.0.0.1",
        "Cookie: token=x",
        "X-Remotely: stays",
      ],
    });
    expect(head).not.toMatch(/x-remote-|x-forwarded|x-original|forwarded|cookie/i);
    expect(valuesOf(head, "x-remotely")).toEqual(["stays"]);
  },
);

test.each(ways)("attack 08: no header of the caller keeps ours from being set ($name)", async (way) => {
  await using room = await startAttackRoom(way);
  const own = [`Host: ${room.host}`].filter(() => way.protocol === "HTTP/2");
  const { head } = await expectPasses(room, {
    lines: [
      ...own,
      `Proxy-Authorization: ${basic("a", "b")}`,
      `X-Authorization: ${testToken.slice(0, 5)}`,
      "Authorization-Info: Bearer other",
      "X-Forwarded-Host: elsewhere.example",
      "X-Forwarded-Authorization: Bearer other",
    ],
  });
  // Exactly one Authorization and one Host: expectPasses has looked.
  expect(valuesOf(head, "host")).toEqual([room.authority]);
  expect(valuesOf(head, "proxy-authorization")).toEqual([]);
});

test.each(http1Ways)("attack 08: neither do names that only a lenient reader takes for ours ($name)", async (way) => {
  await using room = await startAttackRoom(way);
  for (const line of [
    "Authorization : Bearer x",
    " Authorization: Bearer x",
    "Authorization\t: Bearer x",
    "Host : x",
  ]) {
    await expectRefused(room, { lines: ["X-A: 1", line] }, { status: 400, says: "malformed" }, { lines: ["X-A: 1"] });
  }
});

test.each(http1Ways)(
  "attack 10: Connection cannot take our Authorization away, nor hide impersonation ($name)",
  async (way) => {
    await using room = await startAttackRoom(way);
    for (const lines of [
      ["Connection: Authorization"],
      ["Connection: keep-alive, authorization"],
      ["Connection: keep-alive", "Connection: AUTHORIZATION", "Connection: x-a"],
      ["Connection: X-Named, keep-alive", "X-Named: 1"],
    ]) {
      const { head } = await expectPasses(room, { lines: [...lines, "X-Stays: 1"] });
      expect(valuesOf(head, "x-stays")).toEqual(["1"]);
      expect(head).not.toMatch(/x-named|connection/i);
    }
    for (const lines of [
      ["Connection: Impersonate-User"],
      ["Connection: close, impersonate-group"],
      ["Connection: close", "Connection: Impersonate-User"],
      ["Connection: Impersonate-User", "Impersonate-User: admin"],
    ]) {
      const innocent = { lines: ["Connection: close"] };
      await expectRefused(room, { lines }, { status: 403, says: "impersonation does not pass" }, innocent);
    }
    for (const name of ["Host", "Content-Length", "transfer-encoding"]) {
      await expectRefused(
        room,
        { lines: [`Connection: close, ${name}`] },
        { status: 400, says: `Connection may not name ${name.toLowerCase()}` },
      );
    }
  },
);

test.each(http2Ways)("attack 10: in HTTP/2 a Connection header ends the stream ($name)", async (way) => {
  await using room = await startAttackRoom(way);
  for (const line of [
    "Connection: Authorization",
    "Connection: close",
    "Proxy-Connection: keep-alive",
    "Keep-Alive: timeout=5",
    "Transfer-Encoding: chunked",
    "Upgrade: websocket",
    "TE: gzip",
  ]) {
    await expectRefused(room, { lines: [line] }, { ended: "reset 1" }, { lines: ["TE: trailers"] });
  }
});
