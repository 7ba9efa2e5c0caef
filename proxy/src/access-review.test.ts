import { Fault } from "@kube-connector/core";
import { expect, test } from "vitest";
import { createTestClock } from "../../test/kit/clock.ts";
import { resolvedConnector } from "../../test/kit/resolved.ts";
import { createScriptedApi } from "../../test/kit/scripted-api.ts";
import { createAccessReviewAuthorizer } from "./access-review.ts";
import type { Caller } from "./authenticate.ts";
import { noMetrics } from "./metrics.ts";
import { createReviewLimit } from "./review-limit.ts";

// Callers of the connector's own namespace need no grant where the connector says so. All others cost a
// SubjectAccessReview for the verb use; a no names the missing grant; no answer is unavailable. Verdicts never mix.

const reviews = "POST /apis/authorization.k8s.io/v1/subjectaccessreviews";
const prod = await resolvedConnector({ name: "prod" });
const guarded = await resolvedConnector({ name: "guarded", sameNamespace: "RequireGrant" });
const code = (code: string) => expect.objectContaining({ code }) as Error;

function callerOf(namespace: string, more: Partial<Caller> = {}): Caller {
  const user = `system:serviceaccount:${namespace}:default`;
  return {
    user,
    uid: "u",
    groups: ["g1", "g2"],
    extra: { k: ["v"] },
    namespace,
    pod: { name: "p", uid: "u" },
    ...more,
  };
}

function make() {
  const clock = createTestClock();
  const api = createScriptedApi();
  api.on(reviews, () => ({ status: { allowed: true } }));
  const limit = createReviewLimit(clock, 500);
  return { authorizer: createAccessReviewAuthorizer({ api, clock, limit, metrics: noMetrics }), api, clock };
}

test("a caller of the connector's own namespace may, and nobody is asked", async () => {
  const { authorizer, api } = make();
  await authorizer.may(callerOf("team-a"), prod);
  expect(api.asked).toEqual([]);
});

test("where the connector requires a grant, its own namespace needs one too", async () => {
  const { authorizer, api } = make();
  api.on(reviews, () => ({ status: { allowed: false } }));
  await expect(authorizer.may(callerOf("team-a"), guarded)).rejects.toThrow(code("permission_denied"));
});

test("a caller without a namespace is nobody's neighbour", async () => {
  const { authorizer, api } = make();
  await authorizer.may(callerOf("team-a", { namespace: undefined }), prod);
  expect(api.count(reviews)).toBe(1);
});

test("the review asks for the verb use on this connector, as this user with all that is known of it", async () => {
  const { authorizer, api } = make();
  let body: unknown;
  api.on(reviews, (request) => {
    body = request.body;
    return { status: { allowed: true } };
  });
  await authorizer.may(callerOf("team-b"), prod);
  expect(body).toMatchObject({
    spec: {
      resourceAttributes: {
        group: "connectors.cpaas.io",
        resource: "connectors",
        verb: "use",
        namespace: "team-a",
        name: "prod",
      },
      user: "system:serviceaccount:team-b:default",
      uid: "u",
      groups: ["g1", "g2"],
      extra: { k: ["v"] },
    },
  });
});

test("a no says which grant is missing, in one short line", async () => {
  const { authorizer, api } = make();
  api.on(reviews, () => ({ status: { allowed: false } }));
  const refusal = await Promise.resolve(authorizer.may(callerOf("team-b"), prod)).catch((error: unknown) => error);
  expect(refusal).toMatchObject({
    code: "permission_denied",
    message:
      "system:serviceaccount:team-b:default may not use the connector team-a/prod: " +
      "grant it the verb use on connectors.connectors.cpaas.io/prod in namespace team-a",
  });
});

test.each([[{ allowed: "true" }], [{ allowed: true, denied: true }], [{}], [undefined]])(
  "an answer that is no plain yes is a no: %j",
  async (status) => {
    const { authorizer, api } = make();
    api.on(reviews, () => ({ status }));
    await expect(authorizer.may(callerOf("team-b"), prod)).rejects.toThrow(code("permission_denied"));
  },
);

test("an API server that does not answer, or refuses us, is no verdict", async () => {
  const { authorizer, api } = make();
  for (const kind of ["unavailable", "permission_denied", "internal"] as const) {
    api.on(reviews, () => {
      throw new Fault(kind, "refused");
    });
    await expect(authorizer.may(callerOf("team-b"), prod)).rejects.toThrow(code("unavailable"));
  }
  api.on(reviews, () => ({ status: { allowed: true } }));
  await authorizer.may(callerOf("team-b"), prod);
});

test("a yes counts ten seconds", async () => {
  const { authorizer, api, clock } = make();
  await authorizer.may(callerOf("team-b"), prod);
  api.on(reviews, () => ({ status: { allowed: false } }));
  clock.pass(7_999);
  await authorizer.may(callerOf("team-b"), prod);
  clock.pass(2_001);
  await expect(authorizer.may(callerOf("team-b"), prod)).rejects.toThrow(code("permission_denied"));
});

test("attack 31: no two callers and no two connectors share a verdict, however their parts are cut", async () => {
  const { authorizer, api } = make();
  const callers: Partial<Caller>[] = [
    {},
    { user: "system:serviceaccount:team-b:defaul", uid: "tu" },
    { uid: "u2" },
    { groups: ["g1g2"] },
    { groups: ["g1,g2"] },
    { groups: ['g1","g2'] },
    { groups: ["g2", "g1"] },
    { extra: { k: ["v", ""] } },
    { extra: {} },
    { extra: { k: [], v: [] } },
  ];
  for (const more of callers) await authorizer.may(callerOf("team-b", more), prod);
  expect(api.count(reviews)).toBe(callers.length);
  await authorizer.may(callerOf("team-b"), { ...prod, uid: "used-again" });
  await authorizer.may(callerOf("team-b"), { ...prod, namespace: "team-", name: "aprod" });
  expect(api.count(reviews)).toBe(callers.length + 2);
});

test("a connector's change makes its verdicts be asked again, and no other's", async () => {
  const { authorizer, api } = make();
  await authorizer.may(callerOf("team-b"), prod);
  await authorizer.may(callerOf("team-b"), guarded);
  authorizer.forget(prod);
  await authorizer.may(callerOf("team-b"), prod);
  await authorizer.may(callerOf("team-b"), guarded);
  expect(api.count(reviews)).toBe(3);
});
