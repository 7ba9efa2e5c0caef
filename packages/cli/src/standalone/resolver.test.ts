import { X509Certificate } from "node:crypto";
import { Secret } from "@kube-connector/core";
import { expect, test } from "vitest";
import { createTestClock } from "../../../../test/kit/clock.ts";
import { connectorYaml, secretYaml } from "../../../../test/kit/connector-files.ts";
import { parseDocuments } from "./documents.ts";
import { parseInput } from "./input.ts";
import { createResolver } from "./resolver.ts";

// Objects → what the proxy serves. What has not changed is the same object, so that nothing is disturbed; the CA stays while
// the target's host does, and leaves are renewed long before they expire.

const day = 86_400_000;

function input(options: { url?: string; token?: string | undefined; preset?: string }) {
  const { url = "https://10.0.0.1:6443", token, preset } = options;
  const policy = preset === undefined ? "" : `  policy: {preset: ${preset}}\n`;
  const text = connectorYaml("prod", { url, ca: "" }).replace(/ {2}tls:\n.*\n/, "") + policy;
  const secret = token === undefined ? "" : secretYaml("prod", new Secret(token));
  return parseInput(parseDocuments("a.yaml", `${text}---\n${secret}`).objects);
}

function createCase() {
  const clock = createTestClock();
  const resolver = createResolver(clock);
  const resolve = async (options: Parameters<typeof input>[0]) => {
    const { connectors, problems } = await resolver.resolve(input(options));
    const resolved = connectors.get("default/prod");
    if (resolved === undefined) throw new Error(problems.join());
    return { ...resolved, problems };
  };
  return { clock, resolve };
}

test("what has not changed is the same object, until its leaf is due", async () => {
  const { clock, resolve } = createCase();
  const first = await resolve({ token: "abc" });
  expect((await resolve({ token: "abc" })).connector).toBe(first.connector);
  clock.pass(21 * day);
  const later = await resolve({ token: "abc" });
  expect(later.connector.leaf.certificate).not.toBe(first.connector.leaf.certificate);
  expect({ ca: later.ca, uid: later.connector.uid }).toEqual({ ca: first.ca, uid: first.connector.uid });
});

test("another token keeps leaf and CA, another host does not keep the CA", async () => {
  const { resolve } = createCase();
  const first = await resolve({ token: "abc" });
  const second = await resolve({ token: "def" });
  expect(second.connector.token?.reveal()).toBe("def");
  expect(second.connector.leaf).toBe(first.connector.leaf);
  const moved = await resolve({ token: "def", url: "https://api.example:6443" });
  expect(moved.ca).not.toBe(first.ca);
  const leaf = new X509Certificate(moved.connector.leaf.certificate);
  expect([leaf.checkHost("api.example"), leaf.checkHost("localhost"), leaf.checkIP("10.0.0.1")]).toEqual([
    "api.example",
    "localhost",
    undefined,
  ]);
});

test("a policy is served as it is written, and a change of it is another version", async () => {
  const { resolve } = createCase();
  const first = await resolve({ token: "abc", preset: "ReadOnly" });
  expect(first.connector.policy).toEqual({ preset: "ReadOnly" });
  const second = await resolve({ token: "abc", preset: "JobRunner" });
  expect(second.connector.policy).toEqual({ preset: "JobRunner" });
  expect(second.connector.leaf).toBe(first.connector.leaf);
  expect((await resolve({ token: "abc" })).connector.policy).toBeUndefined();
  expect(input({ token: "abc", preset: "Admin" }).problems.join()).toContain("spec.policy.preset");
});

test("a Secret that is not there is a problem, and calls are answered with it", async () => {
  const { connector, problems } = await createCase().resolve({});
  expect(problems).toEqual([expect.stringMatching(/^a\.yaml:1: Connector prod: There is no Secret "prod-token"/)]);
  expect({ token: connector.token, says: connector.unavailable }).toEqual({
    token: undefined,
    says: expect.stringContaining('There is no Secret "prod-token"') as unknown,
  });
});
