import { expect, test } from "vitest";
import { schemaProblems } from "./connector.ts";
import { policySchema } from "./policy.ts";

// A policy is a preset or rules; what means nothing, or less than its author thinks, is refused with a sentence. An API
// server says the same by the CRD's CEL rules (test/integration/policy-schema.test.ts).

function problemsOf(policy: unknown): string[] {
  const parsed = policySchema.safeParse(policy);
  return parsed.success ? [] : schemaProblems(parsed.error);
}

const rule = { verbs: ["get"], apiGroups: [""], resources: ["pods"] };

test.each<[unknown]>([
  [{ preset: "Full" }],
  [{ preset: "ReadOnly", mode: "Warn" }],
  [{ rules: [] }],
  [{ rules: [rule, { verbs: ["get"], nonResourceURLs: ["/version", "/openapi/*", "*"] }] }],
  [{ rules: [{ ...rule, resources: ["*", "*/scale", "pods/log"], resourceNames: ["a"], namespaces: ["b"] }] }],
  [{ rules: [{ verbs: ["get", "list", "watch"], apiGroups: [""], resources: ["secrets"], effect: "MetadataOnly" }] }],
])("%j is fine", (policy) => {
  expect(problemsOf(policy)).toEqual([]);
});

const either = "policy should have either preset or rules";
const scope = "rules.0: a rule should have resources with apiGroups, or nonResourceURLs alone";
const metadata = "rules.0: a rule with effect MetadataOnly should name resources without a subresource";

test.each<[unknown, string]>([
  [{}, either],
  [{ mode: "Warn" }, either],
  [{ preset: "Full", rules: [rule] }, either],
  [{ preset: "Admin" }, "preset: "],
  [{ preset: "Full", more: 1 }, "more"],
  [{ rules: [{ ...rule, verbs: [] }] }, "rules.0.verbs: "],
  [{ rules: [{ ...rule, verbs: ["GET"] }] }, "rules.0.verbs.0: "],
  [{ rules: [{ ...rule, verb: "get" }] }, "verb"],
  [{ rules: [{ verbs: ["get"], resources: ["pods"] }] }, scope],
  [{ rules: [{ verbs: ["get"] }] }, scope],
  [{ rules: [{ ...rule, nonResourceURLs: ["/x"] }] }, scope],
  [{ rules: [{ verbs: ["get"], nonResourceURLs: ["/x"], namespaces: ["a"] }] }, scope],
  [{ rules: [{ verbs: ["get"], nonResourceURLs: ["/*/x"] }] }, "rules.0.nonResourceURLs.0: "],
  [{ rules: [{ ...rule, apiGroups: ["core"] }] }, 'the core API group is ""'],
  [{ rules: [{ ...rule, resources: ["Secrets"] }] }, "rules.0.resources.0: "],
  [{ rules: [{ ...rule, resources: ["pods/*"] }] }, "rules.0.resources.0: "],
  [{ rules: [{ ...rule, verbs: ["*"], effect: "MetadataOnly" }] }, metadata],
  [{ rules: [{ ...rule, resources: ["pods/log"], effect: "MetadataOnly" }] }, metadata],
])("%j is refused: %s", (policy, sentence) => {
  expect(problemsOf(policy).join("\n")).toContain(sentence);
});
