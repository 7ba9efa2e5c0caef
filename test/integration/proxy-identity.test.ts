import { randomBytes } from "node:crypto";
import { Secret } from "@kube-connector/core";
import { afterAll, beforeAll, expect, test } from "vitest";
import { requestToken } from "../kit/control-plane.ts";
import { type PodTokens, type ProxiedPlane, requestText, startProxiedPlane } from "../kit/proxied-plane.ts";
import {
  clusterTokenSigner,
  createTokenSigner,
  serviceAccountClaims,
  tamper,
  type TokenSigner,
} from "../kit/tokens.ts";

// Who comes in, judged with a real API server's tokens and reviews: the two tokens of a live pod, each for its own
// purpose, and nothing else. What is refused never reaches the target, and what is not genuine costs no review.

let world: ProxiedPlane;
let pod: PodTokens;
let cluster: TokenSigner;
const host = "c-prod.team-a.svc.cluster.local";
const hourAgo = Math.floor(Date.now() / 1000) - 3_600;
const sleep = (milliseconds: number) => new Promise((resolve) => setTimeout(resolve, milliseconds));

beforeAll(async () => {
  world = await startProxiedPlane();
  await world.serve({ name: "prod" });
  pod = await world.pod("team-a", "worker");
  const [head = ""] = pod.request.reveal().split(".");
  const { kid } = JSON.parse(Buffer.from(head, "base64url").toString()) as { kid: string };
  cluster = await clusterTokenSigner(world.plane.tokenKey, kid);
});
afterAll(() => world.stop());

test("the two tokens of a pod open the way, and the target sees the stored token only", async () => {
  const answer = await world.get(pod);
  expect(answer.status).toBe(200);
  expect(answer.body).toContain("Authorization: Bearer stored-token\r\n");
  const direct = await world.direct();
  expect((await direct.ask(requestText(host, pod.request))).body).toContain("Authorization: Bearer stored-token\r\n");
  expect(world.reached()).not.toContain(pod.request.reveal());
  expect(world.reached()).not.toContain(pod.tunnel.reveal());
});

test("a pod in use costs a review every eight to ten seconds, not one a request", async () => {
  const before = await world.reviews();
  for (let count = 0; count < 50; count += 1) await world.get(pod);
  const after = await world.reviews();
  expect(after.tokens - before.tokens).toBeLessThanOrEqual(2);
  expect(after.accesses).toBe(before.accesses);
});

test("a tunnel token that expired an hour ago still opens a tunnel", async () => {
  const audience = "kube-connector-tunnel";
  const tunnel = await cluster.sign(serviceAccountClaims({ audience, issued: hourAgo - 3_600, expires: hourAgo }));
  expect((await world.get({ ...pod, tunnel })).status).toBe(200);
});

test("attack 12: tunnel tokens that are forged, tampered with, for another audience or malformed get 407 and why", async () => {
  const forger = await createTokenSigner(cluster.jwk.kid ?? "", "RS256");
  const stranger = await createTokenSigner("made-up");
  const claims = serviceAccountClaims({ audience: "kube-connector-tunnel" });
  const foreign = await requestToken(world.plane.admin, { namespace: "team-a", audience: "vault" });
  const person = await cluster.sign({ ...claims, sub: "alice" });
  for (const [tunnel, why] of [
    [await forger.sign(claims), "not signed by this cluster"],
    [await stranger.sign(claims), "key that this cluster does not know"],
    [tamper(pod.tunnel, { aud: ["kube-connector"] }), "not signed by this cluster"],
    [foreign, "has the audience vault, not kube-connector-tunnel"],
    [pod.request, "has the audience kube-connector, not kube-connector-tunnel"],
    [await cluster.sign({ ...claims, iss: "https://other" }), "another issuer"],
    [await cluster.sign({ ...claims, aud: ["kube-connector-tunnel", "kube-connector"] }), "has the audience"],
    [person, "is not a ServiceAccount's"],
    [new Secret("nonsense"), "is not a service account token"],
  ] as const) {
    const answer = await world.get({ ...pod, tunnel });
    expect([answer.status, answer.head]).toEqual([407, expect.stringContaining(why)]);
  }
});

test("attack 12: request tokens that are not a live pod's own get 401 and why, and reach nothing", async () => {
  const { admin } = world.plane;
  const reached = world.reached();
  const forger = await createTokenSigner(cluster.jwk.kid ?? "", "RS256");
  const claims = serviceAccountClaims({ audience: "kube-connector" });
  const unbound = await requestToken(admin, { namespace: "team-a", audience: "kube-connector" });
  const kubernetes = "https://kubernetes.default.svc.cluster.local";
  const foreign = await requestToken(admin, { namespace: "team-a", audience: kubernetes });
  const old = serviceAccountClaims({ audience: "kube-connector", issued: hourAgo - 3_600, expires: hourAgo });
  for (const [request, why] of [
    [await forger.sign(claims), "not signed by this cluster"],
    [tamper(pod.request, { sub: "system:serviceaccount:team-b:default" }), "not signed by this cluster"],
    [foreign, `has the audience ${kubernetes}, not kube-connector`],
    [pod.tunnel, "has the audience kube-connector-tunnel, not kube-connector"],
    [unbound, "is bound to no pod"],
    [await cluster.sign(old), "expired 36"],
    // Signed with the cluster's own key, so only the review can tell that there never was such a pod.
    [await cluster.sign(claims), "no longer accepted"],
    [new Secret("nonsense"), "is not a service account token"],
  ] as const) {
    const answer = await world.get({ ...pod, request });
    expect([answer.status, answer.body]).toEqual([401, expect.stringContaining(why)]);
    expect(answer.head).toContain(why);
  }
  expect(world.reached()).toBe(reached);
});

test("attack 12: a request token that expires is refused within eighty seconds, with the leeway that the API server gives", async () => {
  const [, payload = ""] = pod.request.reveal().split(".");
  const claims = JSON.parse(Buffer.from(payload, "base64url").toString()) as Record<string, unknown>;
  const expires = Math.floor(Date.now() / 1000) - 52;
  const request = await cluster.sign({ ...claims, iat: hourAgo, nbf: hourAgo, exp: expires });
  let last = (await world.get({ ...pod, request })).status;
  expect(last).toBe(200);
  while (last === 200 && Date.now() / 1000 < expires + 90) {
    await sleep(500);
    last = (await world.get({ ...pod, request })).status;
  }
  const seconds = Date.now() / 1000 - expires;
  console.log(`an expired token was refused ${seconds.toFixed(0)} s after its end`);
  expect(last).toBe(401);
  expect(seconds).toBeLessThan(80);
});

test("ten thousand random tokens cost no review and disturb nobody", async () => {
  await world.get(pod);
  const before = await world.reviews();
  const [head = ""] = pod.request.reveal().split(".");
  const random = (kind: number) => {
    const payload = Buffer.from(JSON.stringify({ jti: randomBytes(8).toString("hex") })).toString("base64url");
    if (kind === 0) return randomBytes(30).toString("base64url");
    return `${kind === 1 ? head : randomBytes(30).toString("base64url")}.${payload}.${randomBytes(256).toString("base64url")}`;
  };
  const started = performance.now();
  let slowest = 0;
  let refused = 0;
  const flood = Array.from({ length: 10 }, async (_, client) => {
    let connection = await world.direct();
    for (let count = 0; count < 1_000; count += 1) {
      if (connection.socket.destroyed) connection = await world.direct();
      const answer = await connection.ask(requestText(host, new Secret(random((client + count) % 3))));
      if (answer.status === 401) refused += 1;
      if (/connection: close/i.test(answer.head)) connection.socket.destroy();
    }
  });
  const friend = (async () => {
    for (let count = 0; count < 20; count += 1) {
      const asked = performance.now();
      expect((await world.get(pod)).status).toBe(200);
      slowest = Math.max(slowest, performance.now() - asked);
      await sleep(50);
    }
  })();
  await Promise.all([...flood, friend]);
  const after = await world.reviews();
  console.log(
    `10,000 random tokens: ${Math.round(performance.now() - started)} ms; a pod's slowest call beside them: ${Math.round(slowest)} ms`,
  );
  expect(refused).toBe(10_000);
  expect(after.tokens - before.tokens).toBeLessThanOrEqual(3);
  expect(slowest).toBeLessThan(2_000);
});

test("attack 12: a deleted pod is refused within twenty seconds, also when it never stops calling", async () => {
  const doomed = await world.pod("team-a", "doomed");
  expect((await world.get(doomed)).status).toBe(200);
  await sleep(9_000);
  expect((await world.get(doomed)).status).toBe(200);
  await world.plane.admin.request("DELETE", "/api/v1/namespaces/team-a/pods/doomed", {
    query: { gracePeriodSeconds: 0 },
  });
  const deleted = performance.now();
  let last = 200;
  while (last === 200 && performance.now() - deleted < 25_000) {
    await sleep(250);
    last = (await world.get(doomed)).status;
  }
  const seconds = (performance.now() - deleted) / 1000;
  console.log(`a deleted pod was refused after ${seconds.toFixed(1)} s`);
  expect(last).toBe(401);
  expect(seconds).toBeLessThan(20);
});
