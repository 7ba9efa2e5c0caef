import type { Policy, PolicyRule } from "@kube-connector/core";
import { describe, expect, test } from "vitest";
import { judge, reducesAnswers } from "./policy.ts";
import { requestInfo } from "./request-info.ts";

// What a policy lets pass. A request is written METHOD PATH, with a trailing ^ when it asks for an upgrade.

function ask(policy: Policy | undefined, request: string) {
  const [method = "", target = ""] = request.replace(/\^$/, "").split(" ");
  const [path = "", query] = target.split("?", 2);
  const info = requestInfo(method, path, query === undefined ? "" : `?${query}`);
  const connector = { namespace: "team-a", name: "prod", ...(policy === undefined ? {} : { policy }) };
  return judge(connector, { info, upgrade: request.endsWith("^") });
}

const effectOf = (policy: Policy | undefined, request: string) => ask(policy, request).effect;
const ns = "/api/v1/namespaces/a";
const jobs = "/apis/batch/v1/namespaces/a/jobs";

describe("presets", () => {
  test.each([
    [`GET ${ns}/pods`, "Allow", "Allow"],
    [`GET ${ns}/pods/x/log?follow=true`, "Allow", "Allow"],
    ["GET /api/v1/pods?watch=1", "Allow", "Allow"],
    ["GET /api/v1/watch/pods", "Allow", "Allow"],
    [`GET ${ns}/configmaps`, "Allow", "Deny"],
    [`GET ${ns}/events`, "Allow", "Allow"],
    [`GET ${ns}/events/x`, "Allow", "Deny"],
    [`GET ${jobs}/x/status`, "Allow", "Allow"],
    [`POST ${jobs}`, "Deny", "Allow"],
    [`POST ${jobs}?dryRun=All`, "Deny", "Allow"],
    [`PATCH ${jobs}/x`, "Deny", "Allow"],
    [`PATCH ${jobs}/x/status`, "Deny", "Deny"],
    [`DELETE ${jobs}/x`, "Deny", "Allow"],
    [`DELETE ${jobs}`, "Deny", "Deny"],
    [`PUT ${jobs}/x`, "Deny", "Deny"],
    ["GET /apis/batch/v1/cronjobs", "Allow", "Allow"],
    [`GET ${ns}/secrets`, "Deny", "Deny"],
    [`GET ${ns}/secrets/x`, "Deny", "Deny"],
    ["GET /api/v1/watch/secrets", "Deny", "Deny"],
    ["GET /api/v1/secrets?watch=1", "Deny", "Deny"],
    [`GET ${ns}/pods/x/exec?command=ls^`, "Deny", "Deny"],
    [`GET ${ns}/pods/x/exec?command=ls`, "Deny", "Deny"],
    [`POST ${ns}/pods/x/attach^`, "Deny", "Deny"],
    [`GET ${ns}/pods/x/portforward^`, "Deny", "Deny"],
    [`GET ${ns}/pods/x/proxy/`, "Deny", "Deny"],
    [`GET ${ns}/services/x/proxy/y`, "Deny", "Deny"],
    ["GET /api/v1/nodes/x/proxy/logs", "Deny", "Deny"],
    ["GET /api/v1/nodes/x/log", "Deny", "Deny"],
    ["GET /api/v1/nodes/x/metrics", "Deny", "Deny"],
    ["GET /api/v1/nodes/x/status", "Allow", "Deny"],
    ["GET /api/v1/nodes", "Allow", "Deny"],
    ["GET /api/v1/proxy/nodes/x", "Deny", "Deny"],
    [`GET ${ns}/pods?watch=1^`, "Deny", "Deny"],
    [`POST ${ns}/serviceaccounts/x/token`, "Deny", "Deny"],
    [`GET ${ns}/serviceaccounts/x/token`, "Deny", "Deny"],
    [`POST ${ns}/pods/x/eviction`, "Deny", "Deny"],
    [`PATCH ${ns}/pods/x/ephemeralcontainers`, "Deny", "Deny"],
    ["OPTIONS /api/v1/pods", "Deny", "Deny"],
    ["POST /apis/certificates.k8s.io/v1/certificatesigningrequests", "Deny", "Deny"],
    ["POST /apis/authorization.k8s.io/v1/selfsubjectaccessreviews", "Allow", "Allow"],
    ["POST /apis/authorization.k8s.io/v1/subjectaccessreviews", "Deny", "Deny"],
    ["POST /apis/authentication.k8s.io/v1/selfsubjectreviews", "Allow", "Allow"],
    ["POST /apis/authentication.k8s.io/v1/tokenreviews", "Deny", "Deny"],
    ["GET /api", "Allow", "Allow"],
    ["GET /apis/apps/v1", "Allow", "Allow"],
    ["HEAD /version", "Allow", "Allow"],
    ["GET /openapi/v3", "Allow", "Allow"],
    ["GET /livez/etcd", "Allow", "Allow"],
    ["GET /versions", "Deny", "Deny"],
    ["GET /metrics", "Deny", "Deny"],
    ["GET /debug/pprof/profile", "Deny", "Deny"],
    ["GET /logs/", "Deny", "Deny"],
    ["POST /version", "Deny", "Deny"],
  ])("%s under ReadOnly: %s, under JobRunner: %s", (request, readOnly, jobRunner) => {
    expect([effectOf({ preset: "ReadOnly" }, request), effectOf({ preset: "JobRunner" }, request)]).toEqual([
      readOnly,
      jobRunner,
    ]);
    expect([effectOf({ preset: "Full" }, request), effectOf(undefined, request)]).toEqual(["Allow", "Allow"]);
  });
});

describe("rules", () => {
  const rule = (parts: Partial<PolicyRule>): Policy => ({
    rules: [{ verbs: ["get", "list"], apiGroups: [""], resources: ["pods"], ...parts }],
  });

  test.each<[string, Partial<PolicyRule>, string]>([
    [`GET ${ns}/pods`, {}, "Allow"],
    [`GET ${ns}/pods/x/log`, {}, "Deny"],
    [`GET ${ns}/pods/x/log`, { resources: ["pods/log"] }, "Allow"],
    [`GET ${ns}/pods/x/log`, { resources: ["*/log"] }, "Allow"],
    [`GET ${ns}/pods/x/log`, { resources: ["*"] }, "Allow"],
    [`GET ${ns}/pods`, { apiGroups: ["apps"] }, "Deny"],
    [`GET ${ns}/pods`, { apiGroups: ["*"] }, "Allow"],
    [`GET ${ns}/pods?watch=1`, {}, "Deny"],
    [`DELETE ${ns}/pods`, { verbs: ["delete"] }, "Deny"],
    ["OPTIONS /api/v1/pods", {}, "Deny"],
    ["OPTIONS /api/v1/pods", { verbs: ["*"] }, "Allow"],
    [`GET ${ns}/pods/x`, { resourceNames: ["x"] }, "Allow"],
    [`GET ${ns}/pods/y`, { resourceNames: ["x"] }, "Deny"],
    [`GET ${ns}/pods`, { resourceNames: ["x"] }, "Deny"],
    [`GET ${ns}/pods?fieldSelector=metadata.name%3Dx`, { resourceNames: ["x"] }, "Allow"],
    [`GET ${ns}/pods`, { namespaces: ["a"] }, "Allow"],
    [`GET ${ns}/pods`, { namespaces: ["b"] }, "Deny"],
    ["GET /api/v1/pods", { namespaces: ["a"] }, "Deny"],
    [`GET ${ns}`, { namespaces: ["a"], resources: ["namespaces"] }, "Allow"],
    ["GET /api/v1/namespaces", { namespaces: ["a"], resources: ["namespaces"] }, "Deny"],
    [`GET ${ns}/pods/x/exec^`, { resources: ["pods/exec"] }, "Deny"],
    [`GET ${ns}/pods/x/exec^`, { resources: ["*"] }, "Deny"],
    [`GET ${ns}/pods/x/exec^`, { resources: ["pods/exec"], verbs: ["create"] }, "Allow"],
    [`POST ${ns}/pods/x/exec^`, { resources: ["pods/exec"], verbs: ["create"] }, "Allow"],
    ["GET /api/v1/nodes/n/proxy/x", { resources: ["nodes/proxy"] }, "Allow"],
    ["GET /api/v1/nodes/n/proxy/exec^", { resources: ["nodes/proxy"] }, "Deny"],
    ["GET /api/v1/nodes/n/proxy/exec^", { resources: ["nodes/proxy"], verbs: ["get", "create"] }, "Allow"],
    [`GET ${ns}/pods?watch=1^`, { verbs: ["watch"] }, "Allow"],
    ["GET /version", {}, "Deny"],
    ["GET /version", { verbs: ["*"], apiGroups: ["*"], resources: ["*"] }, "Deny"],
  ])("%s with %j: %s", (request, parts, effect) => {
    expect(effectOf(rule(parts), request)).toBe(effect);
  });

  test.each([
    ["GET /version", ["/version"], "Allow"],
    ["GET /version/", ["/version"], "Deny"],
    ["GET /openapi/v3", ["/openapi/*"], "Allow"],
    ["GET /openapi", ["/openapi/*"], "Deny"],
    ["GET /x", ["*"], "Allow"],
    ["POST /x", ["*"], "Deny"],
    ["GET /api/v1/pods", ["*"], "Deny"],
  ])("%s with the paths %j: %s", (request, nonResourceURLs, effect) => {
    expect(effectOf({ rules: [{ verbs: ["get"], nonResourceURLs }] }, request)).toBe(effect);
  });

  test("without a rule nothing passes", () => {
    expect(effectOf({ rules: [] }, "GET /api")).toBe("Deny");
  });

  test("a refusal names verb, resource, namespace and policy, and what is missing", () => {
    expect(ask({ preset: "ReadOnly" }, `DELETE /apis/apps/v1/namespaces/a/deployments/x`)).toEqual({
      effect: "Deny",
      sentence:
        'The policy of connector team-a/prod (preset ReadOnly) does not allow delete of deployments.apps "x" in namespace a',
    });
    expect(ask({ rules: [] }, "GET /api/v1/pods")).toMatchObject({
      sentence: "The policy of connector team-a/prod (rules) does not allow list of pods for all namespaces",
    });
    expect(ask({ rules: [] }, "GET /metrics")).toMatchObject({
      sentence: "The policy of connector team-a/prod (rules) does not allow get of the path /metrics",
    });
  });
});

describe("MetadataOnly", () => {
  const everything: PolicyRule = { verbs: ["*"], apiGroups: ["*"], resources: ["*"] };
  const masked: PolicyRule = {
    verbs: ["get", "list", "watch"],
    apiGroups: [""],
    resources: ["secrets"],
    effect: "MetadataOnly",
  };

  test.each([
    [`GET ${ns}/secrets`, "MetadataOnly"],
    [`GET ${ns}/secrets/x`, "MetadataOnly"],
    [`HEAD ${ns}/secrets/x`, "MetadataOnly"],
    ["GET /api/v1/secrets?watch=1", "MetadataOnly"],
    ["GET /api/v1/watch/secrets", "MetadataOnly"],
    [`GET ${ns}/secrets?watch=1^`, "Deny"],
    [`POST ${ns}/secrets`, "Deny"],
    [`PATCH ${ns}/secrets/x`, "Deny"],
    [`PUT ${ns}/secrets/x?dryRun=All`, "Deny"],
    [`DELETE ${ns}/secrets/x`, "Deny"],
    [`DELETE ${ns}/secrets`, "Deny"],
    [`GET ${ns}/secrets/x/anything`, "Deny"],
    ["OPTIONS /api/v1/secrets", "Deny"],
    [`GET ${ns}/pods`, "Allow"],
    ["GET /apis/other.example/v1/secrets", "Allow"],
  ])("%s, where another rule allows everything: %s", (request, effect) => {
    expect(effectOf({ rules: [everything, masked] }, request)).toBe(effect);
    expect(effectOf({ rules: [masked, everything] }, request)).toBe(effect);
  });

  test("a write passes when a rule names the resource; a read stays reduced even then", () => {
    const named: PolicyRule = { verbs: ["create", "get"], apiGroups: [""], resources: ["secrets"] };
    expect(effectOf({ rules: [masked, named] }, `POST ${ns}/secrets`)).toBe("Allow");
    expect(effectOf({ rules: [masked, named] }, `GET ${ns}/secrets/x`)).toBe("MetadataOnly");
    expect(effectOf({ rules: [masked, named] }, `PATCH ${ns}/secrets/x`)).toBe("Deny");
  });

  test("a rule for some names or namespaces reduces every request that could reach these", () => {
    const some: PolicyRule = { ...masked, namespaces: ["a"], resourceNames: ["x"] };
    const effects = [`${ns}/secrets/x`, `${ns}/secrets/y`, `${ns}/secrets`, "/api/v1/secrets"].map((path) =>
      effectOf({ rules: [everything, some] }, `GET ${path}`),
    );
    expect(effects).toEqual(["MetadataOnly", "Allow", "MetadataOnly", "MetadataOnly"]);
    expect(effectOf({ rules: [everything, some] }, "GET /api/v1/namespaces/b/secrets")).toBe("Allow");
    expect(effectOf({ rules: [some] }, "GET /api/v1/secrets")).toBe("Deny");
  });

  test("only an enforced policy reduces answers", () => {
    expect(reducesAnswers({ rules: [everything, masked] })).toBe(true);
    expect(reducesAnswers({ rules: [everything, masked], mode: "Warn" })).toBe(false);
    expect([reducesAnswers({ rules: [everything] }), reducesAnswers(undefined)]).toEqual([false, false]);
  });
});
