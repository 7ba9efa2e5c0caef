// Class, Secret and spec are judged without network or clock: what a proxy is given, or a sentence that says what to
// change. Without a usable token the proxy is told what to say; the token itself is in no sentence.
import { type Connector, type ConnectorClass, Secret } from "@kube-connector/core";
import { expect, test } from "vitest";
import { createTestCa } from "../../../test/kit/certificates.ts";
import { resolveConnector, tokenExpiry } from "./resolve.ts";

const options = { clusterDomain: "cluster.local" };
const k8s: ConnectorClass = {
  metadata: { name: "k8s" },
  spec: { type: "Kubernetes", auth: [{ name: "bearerTokenAuth", secretType: "connectors.cpaas.io/bearer-token" }] },
};

function connector(spec: Partial<Connector["spec"]> = {}): Connector {
  return {
    metadata: { name: "prod", namespace: "team-a", uid: "u-1", generation: 3 },
    spec: {
      connectorClassName: "k8s",
      address: "https://API.prod.example:6443/kubernetes/global/",
      auth: { name: "bearerTokenAuth", secretRef: { name: "prod-token" } },
      ...spec,
    },
  };
}

function secret(data: Record<string, string>, type = "connectors.cpaas.io/bearer-token") {
  return { type, data: Object.fromEntries(Object.entries(data).map(([name, text]) => [name, new Secret(text)])) };
}

test("all is well: the proxy is given the normalised address, the names and the token", () => {
  const resolution = resolveConnector(
    { connector: connector(), class: k8s, secret: secret({ token: "abc\n" }) },
    options,
  );
  expect(resolution.secretReady.status).toBe("True");
  expect(resolution.token?.reveal()).toBe("abc");
  expect(resolution.described).toEqual({
    namespace: "team-a",
    name: "prod",
    uid: "u-1",
    address: "https://api.prod.example:6443/kubernetes/global",
    tls: { insecureSkipVerify: false },
    access: { sameNamespace: "Allow" },
    limits: { requestsPerSecond: 1000, burst: 2000, streams: 500 },
    serviceNames: ["c-prod.team-a.svc.cluster.local", "c-prod.team-a.svc"],
  });
});

test("a policy goes to the proxy as it is written", () => {
  const policy = { preset: "ReadOnly", mode: "Warn" } as const;
  const input = { connector: connector({ policy }), class: k8s, secret: secret({ token: "abc" }) };
  expect(resolveConnector(input, options).described?.policy).toEqual(policy);
});

test("limits are those of the Connector, then of its class, then the defaults", () => {
  const limited = { ...k8s, spec: { ...k8s.spec, limits: { requestsPerSecond: 10, streams: 3 } } };
  const input = { connector: connector({ limits: { streams: 7 } }), class: limited, secret: secret({ token: "a" }) };
  const limits = { requestsPerSecond: 10, burst: 20, streams: 7 };
  expect(resolveConnector(input, options).described?.limits).toEqual(limits);
});

const cases: [string, { data?: Record<string, string>; type?: string; spec?: Partial<Connector["spec"]> }, string][] = [
  ["no Secret", {}, "SecretNotFound"],
  ["another type", { data: { token: "a" }, type: "Opaque" }, "WrongSecretType"],
  ["no token", { data: { other: "a" } }, "TokenMissing"],
  ["an empty token", { data: { token: "\n" } }, "TokenMissing"],
  ["a line break within", { data: { token: "a\nb" } }, "TokenMalformed"],
  ["a header's worth more", { data: { token: "a\r\nX-Remote-User: admin" } }, "TokenMalformed"],
  ["letters beyond ASCII", { data: { token: "tökén" } }, "TokenMalformed"],
  ["70,000 characters", { data: { token: "a".repeat(70_000) } }, "TokenMalformed"],
  ["a ca.crt without a certificate", { data: { token: "a", "ca.crt": "hello" } }, "InvalidCA"],
  ["a bundle that is not base64 PEM", { data: { token: "a" }, spec: { tls: { caBundle: "aGVsbG8=" } } }, "InvalidCA"],
  ["addresses without this one", { data: { token: "a", addresses: "https://other.example" } }, "AddressNotAllowed"],
  ["addresses that are empty", { data: { token: "a", addresses: "" } }, "AddressNotAllowed"],
];

test.each(cases)("%s", (_, given, reason) => {
  const stored = given.data === undefined ? undefined : secret(given.data, given.type);
  const resolution = resolveConnector({ connector: connector(given.spec), class: k8s, secret: stored }, options);
  expect(resolution.secretReady).toMatchObject({ status: "False", reason });
  expect(resolution.secretReady.message).toMatch(/^[A-Z].*[.]$/s);
  expect(resolution.token).toBeUndefined();
  expect(resolution.described?.unavailable).toBe(resolution.secretReady.message);
});

test("a malformed token is in no sentence", () => {
  const stored = secret({ token: "looks like a token" });
  expect(
    JSON.stringify(resolveConnector({ connector: connector(), class: k8s, secret: stored }, options)),
  ).not.toContain("looks");
});

test("a ServiceAccount's token Secret is accepted, with its own CA; the Connector's bundle comes first", async () => {
  const [one, two] = [await createTestCa("one"), await createTestCa("two")];
  const stored = secret({ token: "a", "ca.crt": one.certificate }, "kubernetes.io/service-account-token");
  const own = resolveConnector({ connector: connector(), class: k8s, secret: stored }, options);
  expect(own.described?.tls.caBundle?.trim()).toBe(one.certificate.trim());
  const tls = { caBundle: Buffer.from(`# two\n${two.certificate}\n${one.certificate}`).toString("base64") };
  const given = resolveConnector({ connector: connector({ tls }), class: k8s, secret: stored }, options);
  expect(given.described?.tls.caBundle?.match(/BEGIN CERTIFICATE/g)).toHaveLength(2);
});

test("a private key in the public bundle is refused, and not repeated", async () => {
  const ca = await createTestCa();
  const tls = { caBundle: Buffer.from(`${ca.certificate}\n${ca.key}`).toString("base64") };
  const resolution = resolveConnector(
    { connector: connector({ tls }), class: k8s, secret: secret({ token: "a" }) },
    options,
  );
  expect(resolution.secretReady).toMatchObject({ reason: "InvalidCA" });
  expect(resolution.secretReady.message).toContain("holds a private key");
});

test("addresses are compared as they are meant, not as they are written", () => {
  const stored = secret({ token: "a", addresses: "nonsense\nhttps://api.prod.example:6443/kubernetes/global\n" });
  expect(resolveConnector({ connector: connector(), class: k8s, secret: stored }, options).secretReady.status).toBe(
    "True",
  );
});

test("without a class the Secret is not judged, but the well-known types still reach the proxy", () => {
  const resolution = resolveConnector(
    { connector: connector(), class: undefined, secret: secret({ token: "a" }) },
    options,
  );
  expect(resolution.classReady).toMatchObject({ status: "False", reason: "ConnectorClassNotFound" });
  expect(resolution.secretReady).toMatchObject({ status: "Unknown", reason: "NotChecked" });
  expect(resolution.token?.reveal()).toBe("a");
});

test("an address that passed the API server and still cannot be used is a sentence", () => {
  const address = "https://api.prod.example/a//b";
  const resolution = resolveConnector(
    { connector: connector({ address }), class: k8s, secret: secret({ token: "a" }) },
    options,
  );
  expect(resolution.addressProblem).toContain("plain path prefix");
  expect(resolution.described).toBeUndefined();
});

test("exp is read from a JWT, and from nothing else", () => {
  const jwt = (claims: unknown) => new Secret(`e30.${Buffer.from(JSON.stringify(claims)).toString("base64url")}.c2ln`);
  expect(tokenExpiry(jwt({ exp: 1_700_000_000 }))).toBe(1_700_000_000_000);
  for (const odd of [{}, { exp: "1" }, { exp: -1 }, { exp: 1e300 }, null, []])
    expect(tokenExpiry(jwt(odd))).toBeUndefined();
  for (const text of ["a.b", "a.b.c", "e30.bm90IGpzb24.c2ln", "opaque"])
    expect(tokenExpiry(new Secret(text))).toBeUndefined();
});
