import { expect, test } from "vitest";
import { parseDocuments } from "./documents.ts";
import { parseInput } from "./input.ts";

// Objects → Connectors, classes and Secrets. Each problem is a sentence with file and line, all of them at once; no value of
// a Secret is in any of them.

const input = (text: string) => parseInput(parseDocuments("a.yaml", text).objects);

const connector = (more = "") => `
apiVersion: connectors.cpaas.io/v1alpha1
kind: Connector
metadata: {name: prod}
spec:
  connectorClassName: k8s
  address: https://10.0.0.1:6443
  auth: {name: bearerTokenAuth, secretRef: {name: prod-token}}
${more}`;
const secret = (entries: string) => `
---
apiVersion: v1
kind: Secret
metadata: {name: prod-token}
type: connectors.cpaas.io/bearer-token
${entries}`;

test("reads a Connector and its Secret, both in the namespace default", () => {
  const { connectors, secrets, problems } = input(connector() + secret("stringData: {token: abc}"));
  expect(problems).toEqual([]);
  expect(connectors.get("default/prod")?.connector.spec.address).toBe("https://10.0.0.1:6443");
  expect(secrets.get("default/prod-token")?.data.token?.reveal()).toBe("abc");
});

test("data is base64, and stringData overwrites it", () => {
  const { secrets } = input(secret("data: {token: b2xk, ca.crt: Y2E=}\nstringData: {token: new}"));
  const data = secrets.get("default/prod-token")?.data;
  expect([data?.token?.reveal(), data?.["ca.crt"]?.reveal()]).toEqual(["new", "ca"]);
});

test("the class k8s is there, and a file may define others", () => {
  const { classes } = input(`
apiVersion: connectors.cpaas.io/v1alpha1
kind: ConnectorClass
metadata: {name: mine}
spec: {type: Kubernetes, auth: [{name: bearerTokenAuth, secretType: Opaque}]}
`);
  expect([...classes.keys()]).toEqual(["k8s", "mine"]);
});

test("tells every problem at once", () => {
  const { problems } = input(
    `${connector("  tls: {caBundel: x}")}${secret("stringData: {token: 123456}\ndata: {token: '???'}")}`,
  );
  expect(problems).toHaveLength(3);
  expect(problems[0]).toMatch(/^a\.yaml:2: Connector prod: .*caBundel/);
  expect(problems[1]).toBe("a.yaml:11: Secret prod-token: data.token should be base64; for plain text use stringData");
  expect(problems[2]).toBe("a.yaml:11: Secret prod-token: stringData.token should be text; put it in quotes");
  expect(problems.join()).not.toContain("123456");
});

test("the same object twice is a problem that names both places", () => {
  const { problems } = input(`${connector()}---${connector()}`);
  expect(problems).toEqual(["a.yaml:10: the Connector default/prod is here and at a.yaml:2; keep one of them"]);
});

test("a kind or version of our group that is not known is a problem, other kinds are left aside", () => {
  const other = "apiVersion: connectors.cpaas.io/v2\nkind: Connector\nmetadata: {name: a}\n";
  const job = "---\napiVersion: batch/v1\nkind: Job\nmetadata: {name: deploy}\n";
  const { problems, ignored } = input(other + job);
  expect(problems[0]).toContain("write apiVersion: connectors.cpaas.io/v1alpha1");
  expect(ignored).toEqual(["Job/deploy (a.yaml:5)"]);
});

test("names that no API server would take are problems", () => {
  const { problems } = input(connector().replace("name: prod}", "name: Prod_1, namespace: a.b}"));
  expect(problems.join("\n")).toMatch(/metadata\.name: .*\n.*metadata\.namespace: /);
});

test("a document without kind or metadata is a problem", () => {
  expect(input("token: abc\n").problems[0]).toContain("should be a Kubernetes object");
  expect(input(connector().replace("metadata: {name: prod}\n", "")).problems[0]).toMatch(
    /^a\.yaml:2: Connector without a name/,
  );
});
