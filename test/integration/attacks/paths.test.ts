import type { Policy } from "@kube-connector/core";
import { expect, test } from "vitest";
import { expectPasses, expectRefused, expectStatus, startAttackRoom, type Way, ways } from "../../kit/attacks.ts";

// Paths and queries that two readers could take for two things: what is judged is what the target sees.

const prefix = "/kubernetes/global";
const ns = "/api/v1/namespaces/a";

/** Below the connector's prefix: the forward door's clients write it, the reverse door adds it. */
const below = (way: Way, path: string) => (way.door === "forward" ? prefix + path : path);

const start = (way: Way, policy: Policy) =>
  startAttackRoom(way, { prefix, connector: (connector) => ({ ...connector, policy }) });

test.each(ways)("attack 20: no spelling of a path leads past the policy to Secrets ($name)", async (way) => {
  await using room = await start(way, { preset: "ReadOnly" });
  const innocent = { path: below(way, `${ns}/configmaps`) };
  for (const path of [
    `${ns}/configmaps/../secrets`,
    `${ns}/configmaps/./secrets`,
    `${ns}/configmaps/%2e%2e/secrets`,
    `${ns}/configmaps/.%2E/secrets`,
    `${ns}/configmaps%2F..%2Fsecrets`,
    `${ns}/configmaps/..%2fsecrets`,
    `${ns}//secrets`,
    `/${ns}/secrets`,
    `${ns}/s%65crets`,
    `${ns}/%73ecrets`,
    `${ns}/secrets%2fx`,
    `${ns}/secrets%00`,
    `${ns}/secrets%20%0d%0aX:1`,
    `${ns}/secrets%252fx`,
    `${ns}/secrets;a=1`,
    `${ns}/secrets%3ba=1`,
    `${ns}\\secrets`,
    `${ns}%5csecrets`,
    `${ns}/secrets#x`,
    `${ns}/secrets%zz`,
    `${ns}/secrets%c0%ae`,
    `${ns}/secrets\xe9`,
    `${ns}/configmaps/..`,
    `${ns}/configmaps/.`,
  ]) {
    await expectRefused(
      room,
      { path: below(way, path) },
      { status: 400, says: "path of the request cannot be used" },
      innocent,
    );
  }
  for (const path of [
    `${ns}/secrets`,
    `${ns}/secrets/`,
    `${ns}/secrets/x`,
    "/api/v1/secrets",
    "/api/v1/watch/secrets",
    `/api/v1/watch/namespaces/a/secrets/x`,
    "/api/v1/proxy/namespaces/a/services/x/secrets",
    "/api/v1/proxy/nodes/x/y",
  ]) {
    for (const method of ["GET", "HEAD"]) {
      const answer = await room.ask({ method, path: below(way, path) });
      expect(answer.status, path).toBe(403);
      if (method === "GET") expectStatus(answer, { status: 403, says: "policy of connector" }, path);
    }
  }
  expect(room.target.seen()).not.toContain("secret");
  // What looks odd and means one thing alone.
  for (const path of [
    `${ns}/configmaps/`,
    `${ns}/configmaps/system%3Anode`,
    `${ns}/configmaps/a.`,
    `${ns}/configmaps/..a`,
  ]) {
    const { head } = await expectPasses(room, { path: below(way, path) });
    expect(head.split(" ")[1]).toBe(prefix + path);
  }
});

test.each(ways)("attack 20: nothing outside of the connector's prefix can be asked for ($name)", async (way) => {
  await using room = await start(way, { preset: "Full" });
  for (const path of [
    "/api",
    "/kubernetes",
    "/kubernetes/globalapi",
    "/kubernetes/globa",
    "/KUBERNETES/global/api",
    "/",
  ]) {
    room.target.clear();
    const { status, body } = await room.ask({ path });
    const refused = [status, body.includes(`should begin with ${prefix}`), room.target.seen()];
    const added = [status, ...room.target.requests.map(({ head }) => head.split(" ")[1])];
    // The reverse door adds the prefix, also to what looks as if it had it.
    expect(way.door === "forward" ? refused : added, path).toEqual(
      way.door === "forward" ? [404, true, ""] : [200, prefix + path],
    );
  }
  for (const path of [`${prefix}/../other/api`, `${prefix}/%2e%2e/other`, `${prefix}%2fapi`]) {
    await expectRefused(room, { path }, { status: 400, says: "cannot be used" }, { path: `${prefix}/api` });
  }
});

const rules: Policy = {
  rules: [
    { verbs: ["list"], apiGroups: [""], resources: ["pods"] },
    { verbs: ["list"], apiGroups: [""], resources: ["configmaps"], resourceNames: ["mine"] },
  ],
};

test.each(ways)(
  "attack 21: a query is read as the API server reads it, and goes on byte for byte ($name)",
  async (way) => {
    await using room = await start(way, rules);
    const ask = (method: string, path: string) => room.ask({ method, path: below(way, path) });
    for (const query of [
      "watch=1&watch=0",
      "w%61tch=true",
      "watch=",
      "watch",
      "watch=yes",
      "limit=1&watch=+1",
      "watch=%30%30",
    ]) {
      expectStatus(await ask("GET", `${ns}/pods?${query}`), { status: 403, says: "watch of pods" }, query);
    }
    for (const query of [
      "fieldSelector=metadata.name!%3Dmine",
      "fieldSelector=metadata.name%3Dmine%5C,x",
      "fieldSelector=a%3Db&fieldSelector=metadata.name%3Dmine",
      "fieldSelector=metadata.name%3Dother&fieldSelector=metadata.name%3Dmine",
      "fieldSelector=metadata.name%3D",
    ]) {
      expectStatus(await ask("GET", `${ns}/configmaps?${query}`), { status: 403, says: "list of configmaps" }, query);
    }
    // dryRun makes no write a read: its body replaces the query in a DELETE, and aggregated APIs may ignore it.
    for (const [method, path] of [
      ["DELETE", `${ns}/pods/x?dryRun=All`],
      ["DELETE", `${ns}/pods?dryRun=All`],
      ["POST", `${ns}/pods?dryRun=All`],
      ["PATCH", `${ns}/pods/x?dryRun=All&dryRun=`],
    ] as const) {
      expectStatus(await ask(method, path), { status: 403, says: "of pods" }, path);
    }
    const odd = { status: 400, says: "query of the request cannot be used" };
    for (const query of [
      "a=b;watch=1",
      ";watch=1",
      "watch=%zz",
      "watch=%",
      "a=\xe9",
      "a=b#c",
      `${"a&".repeat(1_001)}watch=1`,
      `${"a=1&".repeat(10_001)}watch=1`,
    ]) {
      const answer = await ask("GET", `${ns}/pods?${query}`);
      expectStatus(answer, odd, query.slice(0, 50));
    }
    expect(room.target.seen()).toBe("");
    for (const query of [
      "watch=0&watch=1",
      "watch=false",
      "watch=FALSE",
      "a=b+c&watch=0",
      `${"a&".repeat(999)}limit=1`,
      "a=%3B&continue=%2F%25",
    ]) {
      const { head } = await expectPasses(room, { path: below(way, `${ns}/pods?${query}`) });
      expect(head.split(" ")[1]).toBe(`${prefix}${ns}/pods?${query}`);
    }
    await expectPasses(room, { path: below(way, `${ns}/configmaps?fieldSelector=metadata.name%3Dmine`) });
  },
);
