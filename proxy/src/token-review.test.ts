import { Fault, Secret } from "@kube-connector/core";
import { expect, test } from "vitest";
import { createTestClock } from "../../test/kit/clock.ts";
import { resolvedConnector } from "../../test/kit/resolved.ts";
import { createScriptedApi } from "../../test/kit/scripted-api.ts";
import { noMetrics } from "./metrics.ts";
import { createReviewLimit } from "./review-limit.ts";
import type { ServiceAccountKeys } from "./service-account-keys.ts";
import { createTokenReviewAuthenticator } from "./token-review.ts";

// Only a request token that is genuine and in its time costs a TokenReview. Its answer must be authenticated, name our
// audience, a ServiceAccount and the bound pod; anything less is unauthenticated. An API server that does not answer, or
// refuses us, is unavailable and never "no". Answers from a real API server are in test/integration/proxy-identity.test.ts.

const reviews = "POST /apis/authentication.k8s.io/v1/tokenreviews";
const token = new Secret("header.payload.signature");
const pod = { "authentication.kubernetes.io/pod-name": ["p"], "authentication.kubernetes.io/pod-uid": ["u-2"] };
const user = { username: "system:serviceaccount:team-a:default", uid: "u-1", groups: ["g"], extra: pod };
const good = { authenticated: true, audiences: ["kube-connector"], user };
const code = (code: string) => expect.objectContaining({ code }) as Error;

function make(options: { perSecond?: number } = {}) {
  const clock = createTestClock();
  const api = createScriptedApi();
  api.on(reviews, () => ({ status: good }));
  const seconds = clock.now() / 1000;
  const claims = {
    user: user.username,
    namespace: "team-a",
    pod: { name: "p", uid: "u-2" } as { name: string; uid: string } | undefined,
    expiresAt: seconds + 3_600,
    notBefore: seconds,
  };
  const asked: { word: string; audience: string }[] = [];
  const genuine = { yes: true };
  const keys: Pick<ServiceAccountKeys, "verify"> = {
    async verify(_, wanted) {
      asked.push(wanted);
      if (!genuine.yes) throw new Fault("unauthenticated", "forged");
      return claims;
    },
  };
  const limit = createReviewLimit(clock, options.perSecond ?? 500);
  const authenticator = createTokenReviewAuthenticator({ api, clock, keys, limit, metrics: noMetrics });
  return { authenticator, api, clock, claims, asked, genuine };
}

test("a request token's caller is whom the review names, with the namespace from the user name", async () => {
  const { authenticator, api } = make();
  let body: unknown;
  api.on(reviews, (request) => {
    body = request.body;
    return { status: good };
  });
  expect(await authenticator.request(token)).toEqual({
    user: user.username,
    uid: "u-1",
    groups: ["g"],
    extra: pod,
    namespace: "team-a",
    pod: { name: "p", uid: "u-2" },
  });
  expect(body).toMatchObject({ spec: { token: token.reveal(), audiences: ["kube-connector"] } });
});

test("the same token is reviewed once in ten seconds, another one by itself", async () => {
  const { authenticator, api, clock } = make();
  await Promise.all([authenticator.request(token), authenticator.request(token)]);
  clock.pass(7_000);
  await authenticator.request(token);
  expect(api.count(reviews)).toBe(1);
  await authenticator.request(new Secret("another"));
  expect(api.count(reviews)).toBe(2);
  clock.pass(3_000);
  await authenticator.request(token);
  expect(api.count(reviews)).toBe(3);
});

test("a tunnel token is verified once in ten seconds, and one that is not genuine each time", async () => {
  const { authenticator, clock, asked, genuine } = make();
  const connector = await resolvedConnector({ name: "prod" });
  for (let count = 0; count < 3; count += 1) await authenticator.tunnel(new Secret(token.reveal()), connector);
  expect(asked.length).toBe(1);
  clock.pass(10_000);
  await authenticator.tunnel(token, connector);
  expect(asked.length).toBe(2);
  await authenticator.tunnel(new Secret("another"), connector);
  expect(asked.length).toBe(3);
  genuine.yes = false;
  for (let count = 0; count < 2; count += 1)
    await expect(authenticator.tunnel(new Secret("forged"), connector)).rejects.toThrow(code("unauthenticated"));
  expect(asked.length).toBe(5);
});

test("tokens that are not genuine, too old or bound to no pod cost no review", async () => {
  const { authenticator, api, claims } = make();
  claims.pod = undefined;
  await expect(authenticator.request(token)).rejects.toThrow("bound to no pod");
  claims.pod = { name: "p", uid: "u-2" };
  claims.expiresAt -= 3_600 + 61;
  await expect(authenticator.request(token)).rejects.toThrow("expired 61 seconds ago");
  expect(api.asked).toEqual([]);
});

test.each([
  ["not authenticated", { ...good, authenticated: false }],
  ["authenticated in words only", { ...good, authenticated: "true" }],
  ["for another audience", { ...good, audiences: ["vault"] }],
  ["for no audience", { authenticated: true, user }],
  ["a person's", { ...good, user: { ...user, username: "alice" } }],
  ["nobody's", { ...good, user: undefined }],
  ["bound to no pod", { ...good, user: { ...user, extra: {} } }],
  ["without any status", undefined],
])("a review that says %s is a no for three seconds", async (_, status) => {
  const { authenticator, api, clock } = make();
  api.on(reviews, () => ({ status }));
  await expect(authenticator.request(token)).rejects.toThrow(code("unauthenticated"));
  clock.pass(2_999);
  await expect(authenticator.request(token)).rejects.toThrow(code("unauthenticated"));
  expect(api.count(reviews)).toBe(1);
  api.on(reviews, () => ({ status: good }));
  clock.pass(1);
  await authenticator.request(token);
});

test.each(["unavailable", "deadline_exceeded", "unauthenticated", "permission_denied", "internal"] as const)(
  "an API server that answers us with %s says nothing about the caller",
  async (kind) => {
    const { authenticator, api } = make();
    api.on(reviews, () => {
      throw new Fault(kind, "refused");
    });
    await expect(authenticator.request(token)).rejects.toThrow(code("unavailable"));
    api.on(reviews, () => ({ status: good }));
    await authenticator.request(token);
  },
);

test("a caller in use goes on for the rest of the ten seconds when the API server goes away, then not", async () => {
  const { authenticator, api, clock } = make();
  await authenticator.request(token);
  api.on(reviews, () => {
    throw new Fault("unavailable", "connection refused");
  });
  clock.pass(9_999);
  await authenticator.request(token);
  clock.pass(1);
  await expect(authenticator.request(token)).rejects.toThrow(code("unavailable"));
});

test("above the limit of reviews callers that are not known are asked to come again", async () => {
  const { authenticator, clock } = make({ perSecond: 2 });
  await authenticator.request(new Secret("a"));
  await authenticator.request(new Secret("b"));
  await expect(authenticator.request(new Secret("c"))).rejects.toThrow(code("unavailable"));
  await authenticator.request(new Secret("a"));
  clock.pass(1_000);
  await authenticator.request(new Secret("c"));
});

test("a stream goes on when its token has only expired since; while it has not, the review counts", async () => {
  const { authenticator, api, clock, claims } = make();
  await authenticator.streaming(token);
  expect(api.count(reviews)).toBe(1);
  api.on(reviews, () => ({ status: { authenticated: false } }));
  clock.pass(60_000);
  await expect(authenticator.streaming(token)).rejects.toThrow(code("unauthenticated"));
  clock.pass((claims.expiresAt - clock.now() / 1000) * 1000);
  await authenticator.streaming(token);
  expect(api.count(reviews)).toBe(2);
  await expect(authenticator.request(token)).rejects.toThrow(code("unauthenticated"));
});

test("a tunnel token is judged by the keys alone, for its own audience", async () => {
  const { authenticator, api, asked, claims } = make();
  claims.expiresAt = 1;
  claims.pod = undefined;
  await authenticator.tunnel(token, await resolvedConnector({ name: "prod" }));
  expect(asked).toEqual([{ word: "tunnel token", audience: "kube-connector-tunnel" }]);
  expect(api.asked).toEqual([]);
});
