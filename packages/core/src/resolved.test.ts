// A resolved connector travels as four entries of a Secret. What is missing, malformed or unknown is refused: a proxy
// that does not understand a rule must not serve without it.
import { expect, test } from "vitest";
import { type DescribedConnector, parseResolved, resolvedToEntries } from "./resolved.ts";
import { Secret } from "./secret.ts";

const described: DescribedConnector = {
  namespace: "team-a",
  name: "prod",
  uid: "u1",
  address: "https://10.0.0.1:6443/p",
  tls: { insecureSkipVerify: false },
  access: { sameNamespace: "Allow" },
  serviceNames: ["c-prod.team-a.svc.cluster.local"],
};
const leaf = { certificate: "CERT", key: new Secret("KEY") };

test("what is written is read again", () => {
  const resolved = parseResolved(resolvedToEntries(described, { token: new Secret("tok"), leaf }));
  expect(resolved).toMatchObject({ ...described, target: { authority: "10.0.0.1:6443", prefix: "/p" } });
  expect(resolved.token?.reveal()).toBe("tok");
  expect(resolved.leaf.key.reveal()).toBe("KEY");
});

test("without a token it says why there is none", () => {
  const gone = { ...described, unavailable: "There is no Secret prod-token" };
  expect(parseResolved(resolvedToEntries(gone, { token: undefined, leaf })).unavailable).toContain("no Secret");
  expect(() => parseResolved(resolvedToEntries(described, { token: undefined, leaf }))).toThrow("exactly one");
});

test("a field that this version does not know is refused", () => {
  const entries = resolvedToEntries(described, { token: new Secret("tok"), leaf });
  const read = (more: object) =>
    parseResolved({ ...entries, "connector.json": new Secret(JSON.stringify({ ...described, ...more })) });
  expect(() => read({ newer: true })).toThrow("newer");
  expect(read({ policy: { preset: "ReadOnly" } }).policy).toEqual({ preset: "ReadOnly" });
  expect(() => read({ policy: { preset: "ReadOnly", newer: true } })).toThrow("newer");
  expect(() => read({ policy: { preset: "Newer" } })).toThrow("policy.preset");
  expect(() => read({ policy: {} })).toThrow("either preset or rules");
});

test("a missing entry, bad JSON and a token that no header may carry are refused, without the text", () => {
  const entries = resolvedToEntries(described, { token: new Secret("tok"), leaf });
  expect(() => parseResolved({ ...entries, "tls.key": undefined })).toThrow("tls.key missing");
  expect(() => parseResolved({ ...entries, "connector.json": new Secret("{") })).toThrow("not JSON");
  expect(() => parseResolved({ ...entries, token: new Secret("a\r\nb") })).toThrow("no header may carry");
});
