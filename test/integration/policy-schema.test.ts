import { customResourceDefinitions, Fault, policySchema } from "@kube-connector/core";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type ControlPlane, ensureNamespace, startControlPlane } from "../kit/control-plane.ts";

// A real API server takes the CRD, and refuses in a Connector the same policies as core's schema does, with the same sentences.

let plane: ControlPlane;
const connectors = "/apis/connectors.cpaas.io/v1alpha1/namespaces/team-a/connectors";

beforeAll(async () => {
  plane = await startControlPlane();
  const crds = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
  for (const body of customResourceDefinitions()) await plane.admin.request("POST", crds, { body });
  await ensureNamespace(plane.admin, "team-a");
  const isServed = () =>
    plane.admin.request("GET", connectors).then(
      () => true,
      () => false,
    );
  for (let tries = 0; tries < 200 && !(await isServed()); tries++) {
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
});
afterAll(() => plane.stop());

/** What the API server says to a Connector with that policy; "" when it takes it. */
async function tried(policy: unknown): Promise<string> {
  const spec = {
    connectorClassName: "k8s",
    address: "https://10.0.0.1:6443",
    auth: { name: "bearerTokenAuth", secretRef: { name: "token" } },
    policy,
  };
  const body = { apiVersion: "connectors.cpaas.io/v1alpha1", kind: "Connector", metadata: { name: "prod" }, spec };
  try {
    await plane.admin.request("POST", connectors, { body, query: { dryRun: "All", fieldValidation: "Strict" } });
    return "";
  } catch (error) {
    return error instanceof Fault ? error.message : "unknown";
  }
}

const rule = { verbs: ["get"], apiGroups: [""], resources: ["pods"] };

describe("what is fine", () => {
  test.each<[unknown]>([
    [{ preset: "ReadOnly", mode: "Warn" }],
    [{ rules: [] }],
    [{ rules: [{ ...rule, resources: ["*", "*/scale", "pods/log"], resourceNames: ["a"], namespaces: ["b"] }] }],
    [{ rules: [{ verbs: ["get"], nonResourceURLs: ["/version", "/openapi/*", "*"] }] }],
    [{ rules: [{ ...rule, effect: "MetadataOnly" }] }],
  ])("%j", async (policy) => {
    expect(await tried(policy)).toBe("");
    expect(policySchema.safeParse(policy).success).toBe(true);
  });
});

describe("what is not", () => {
  test.each<[unknown, string]>([
    [{}, "policy should have either preset or rules"],
    [{ preset: "Full", rules: [rule] }, "policy should have either preset or rules"],
    [{ preset: "Admin" }, "Unsupported value"],
    [{ preset: "Full", more: 1 }, "unknown field"],
    [{ rules: [{ verbs: ["get"], resources: ["pods"] }] }, "a rule should have resources with apiGroups"],
    [{ rules: [{ ...rule, nonResourceURLs: ["/x"] }] }, "a rule should have resources with apiGroups"],
    [{ rules: [{ ...rule, verbs: ["GET"] }] }, "verbs"],
    [{ rules: [{ ...rule, resources: ["pods/*"] }] }, "resources"],
    [{ rules: [{ ...rule, apiGroups: ["core"] }] }, 'the core API group is ""'],
    [{ rules: [{ ...rule, verbs: ["patch"], effect: "MetadataOnly" }] }, "only the verbs get, list and watch"],
    [{ rules: [{ ...rule, resources: ["pods/log"], effect: "MetadataOnly" }] }, "without a subresource"],
  ])("%j", async (policy, sentence) => {
    expect(await tried(policy)).toContain(sentence);
    expect(policySchema.safeParse(policy).success).toBe(false);
  });
});
