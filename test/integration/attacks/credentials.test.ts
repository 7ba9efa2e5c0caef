import { expect, test } from "vitest";
import {
  expectAnswer,
  expectPasses,
  expectRefused,
  expectStatus,
  malformed,
  startAttackRoom,
  ways,
} from "../../kit/attacks.ts";
import { valuesOf } from "../../kit/lenient-target.ts";
import { basic, callerToken, testToken } from "../../kit/test-proxy.ts";

// The caller's own credential opens this proxy and goes no further; without exactly one good one nothing goes on, least of all as
// somebody without a name. With real tokens: cluster.test.ts.

const valid = `Bearer ${callerToken}`;

test.each(ways)(
  "attack 09: the caller's Authorization is replaced, never merged; with two it is a 401 ($name)",
  async (way) => {
    await using room = await startAttackRoom(way);
    for (const authorization of [
      [valid, "Bearer other"],
      ["Bearer other", valid],
      [valid, valid],
      [`${valid}, Bearer other`],
      [`${valid},Basic x`],
      [valid, basic("a", "b")],
    ]) {
      const how = { status: 401, says: "one Authorization header, Bearer and a token|request token is not valid" };
      await expectRefused(room, { authorization }, { ...how, says: new RegExp(how.says) });
    }
    // A credential that hides in a list of subprotocols, as browsers send it.
    const { head } = await expectPasses(room, {
      lines: [`Sec-WebSocket-Protocol: v5.channel.k8s.io, base64url.bearer.authorization.k8s.io.${btoa(callerToken)}`],
    });
    expect(valuesOf(head, "sec-websocket-protocol")).toEqual(["v5.channel.k8s.io"]);
  },
);

test.each(ways)("attack 09: a second Authorization in a trailer never arrives ($name)", async (way) => {
  await using room = await startAttackRoom(way);
  const answer = await room.ask({ method: "POST", body: "x", trailers: ["Authorization: Bearer other"] });
  expectAnswer(answer, malformed(way));
  expect(room.target.requests).toEqual([]);
  expect(room.target.seen()).not.toContain("other");
});

/** What is no token, or not exactly one. */
const nobody: (readonly string[])[] = [
  [],
  [""],
  ["Bearer"],
  ["Bearer "],
  ["bearer  "],
  ["Bearer \t"],
  ['Bearer ""'],
  ["Bearer null"],
  ["Bearer undefined"],
  ["Basic Og=="],
  [basic("system:anonymous", "")],
  [callerToken],
  [`Bearer${callerToken}`],
  [`Bearer ${callerToken} x`],
  [`Negotiate ${callerToken}`],
  [`Bearer ${testToken}`],
];

test.each(ways)("attack 11: nobody's request reaches a target that takes anybody ($name)", async (way) => {
  // A target with anonymous authentication answers 200 to whoever it does not know.
  await using room = await startAttackRoom(way);
  for (const authorization of nobody) {
    room.target.clear();
    const answer = await room.ask({ authorization });
    const what = JSON.stringify(authorization);
    // In HTTP/2 a value with a blank at its end is malformed.
    const isOdd = way.protocol === "HTTP/2" && authorization.some((value) => value !== value.trim());
    expectAnswer(answer, isOdd ? malformed(way) : { status: 401, says: /Authorization header|request token/ }, what);
    expect([...valuesOf(answer.head, "www-authenticate"), ...(isOdd ? ["Bearer"] : [])].join(), what).toContain(
      "Bearer",
    );
    expect(room.target.seen(), what).toBe("");
    await expectPasses(room);
  }
  const elsewhere = [`Proxy-Authorization: ${valid}`, `Cookie: Authorization=${valid}`, `X-Authorization: ${valid}`];
  for (const line of elsewhere) {
    const answer = await room.ask({ authorization: [], lines: [line] });
    expectStatus(answer, { status: 401, says: "has no Authorization header" }, line);
  }
});

test.each(ways)(
  "attack 11: the 401 of a target that refuses the stored token stays a 401, and says whose it is ($name)",
  async (way) => {
    await using room = await startAttackRoom(way, { respond: () => ({ status: 401, body: "no" }) });
    const answer = await room.ask();
    expect([answer.status, answer.body]).toEqual([401, "no"]);
    expect(valuesOf(answer.head, "warning").join()).toMatch(/refuses the stored token of connector team-a\/prod/);
    // Not asked again, with less.
    expect(room.target.requests.length).toBe(1);
  },
);
