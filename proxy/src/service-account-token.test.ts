import { expect, test } from "vitest";
import { checkTime, parseServiceAccountToken } from "./service-account-token.ts";

// The claims of a token whose signature is good: who it is, for this audience alone, from this issuer, and when.

const claims = {
  iss: "https://issuer",
  aud: ["kube-connector"],
  sub: "system:serviceaccount:team-a:builder",
  exp: 2_000,
  nbf: 1_000,
  "kubernetes.io": {
    namespace: "team-a",
    serviceaccount: { name: "builder", uid: "u-1" },
    pod: { name: "job-1", uid: "u-2" },
  },
};
const purpose = { word: "request token", issuer: "https://issuer", audience: "kube-connector" };
const parse = (value: unknown) => parseServiceAccountToken(Buffer.from(JSON.stringify(value)), purpose);

test("a bound token names its user, namespace and pod", () => {
  expect(parse(claims)).toEqual({
    user: "system:serviceaccount:team-a:builder",
    namespace: "team-a",
    pod: { name: "job-1", uid: "u-2" },
    expiresAt: 2_000,
    notBefore: 1_000,
  });
});

test("a token that is bound to nothing has no pod", () => {
  const { pod: _, ...unbound } = claims["kubernetes.io"];
  expect(parse({ ...claims, "kubernetes.io": unbound }).pod).toBeUndefined();
});

test.each([
  ["another issuer", { iss: "https://other" }, "from another issuer"],
  ["another audience", { aud: ["vault"] }, "has the audience vault, not kube-connector"],
  [
    "the other audience besides",
    { aud: ["kube-connector", "kube-connector-tunnel"] },
    "has the audience kube-connector ",
  ],
  ["a longer audience", { aud: ["kube-connector-tunnel"] }, "has the audience kube-connector-tunnel, not"],
  ["no audience", { aud: undefined }, "has the audience (none)"],
  ["an audience with a line end", { aud: ["a\r\nX: y"] }, "has the audience a??X:?y"],
  ["a person's name", { sub: "alice" }, "not a ServiceAccount's"],
  [
    "a namespace that differs from its user's",
    { sub: "system:serviceaccount:team-b:builder" },
    "not a ServiceAccount's",
  ],
  ["no claims of Kubernetes", { "kubernetes.io": undefined }, "not a ServiceAccount's"],
  ["no times", { exp: undefined }, "how long it is good"],
])("a token with %s is refused", (_, wrong, sentence) => {
  const refusal = expect.objectContaining({ code: "unauthenticated", message: expect.stringContaining(sentence) });
  expect(() => parse({ ...claims, ...wrong })).toThrow(refusal as Error);
});

test("a payload that is no JSON object is refused", () => {
  for (const text of ["", "{", "null", "[]", "1", "\xff"]) {
    expect(() => parseServiceAccountToken(Buffer.from(text, "latin1"), purpose), text).toThrow("another issuer");
  }
});

test("times have the API server's leeway of a minute, both ways", () => {
  const token = parse(claims);
  for (const seconds of [940, 1_000, 2_000, 2_060]) checkTime(token, seconds * 1_000);
  expect(() => checkTime(token, 939_000)).toThrow("not valid yet");
  expect(() => checkTime(token, 2_061_000)).toThrow("expired 61 seconds ago");
});
