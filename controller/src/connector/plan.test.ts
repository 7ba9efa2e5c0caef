// The plan: which children a Connector should have, where, and which of those that are there should go. Pure.
import type { Connector, ConnectorClass } from "@kube-connector/core";
import { expect, test } from "vitest";
import { childKey, digestOf, fullObject, observe } from "../kube/apply.ts";
import type { KnownChild } from "../world.ts";
import { baseOf, dedicatedProxy, type Places, sharedProxyName } from "./children.ts";
import { planChildren, planVerdicts } from "./plan.ts";
import { resolveConnector } from "./resolve.ts";

const places: Places = {
  namespace: "kube-connector",
  proxyNamespace: "kube-connector-proxy",
  sharedNamespace: "kube-connector-shared",
  proxyImage: "proxy:1",
  proxyLogLevel: "info",
  clusterDomain: "cluster.local",
};
const k8s: ConnectorClass = { metadata: { name: "k8s", uid: "c-1" }, spec: { type: "Kubernetes", auth: [] } };
const pooled: ConnectorClass = { ...k8s, spec: { ...k8s.spec, proxy: { placement: "Shared" } } };
const connector = (namespace = "team-a", name = "prod", uid = "u-1"): Connector => ({
  metadata: { name, namespace, uid, generation: 1 },
  spec: {
    connectorClassName: "k8s",
    address: "https://a.example",
    auth: { name: "bearerTokenAuth", secretRef: { name: "s" } },
  },
});
const known = (kind: KnownChild["kind"], namespace: string, name: string, uid = "u-1"): KnownChild => ({
  kind,
  namespace,
  name,
  uid: `${kind}-uid`,
  resourceVersion: "1",
  digest: "",
  connector: "team-a/prod",
  connectorUid: uid,
  class: undefined,
});

test("names are namespace and name, or the uid where that could be read in two ways or is too long", () => {
  expect(baseOf(connector())).toBe("team-a--prod");
  expect(baseOf(connector("a--b", "c"))).toBe("x-u-1");
  expect(baseOf(connector("a", "b--c"))).toBe("x-u-1");
  expect(baseOf(connector("a".repeat(40), "b".repeat(20)))).toBe("x-u-1");
  expect(sharedProxyName(k8s)).toBe("proxy-k8s");
  expect(sharedProxyName({ ...k8s, metadata: { name: "with.dots", uid: "c-1" } })).toBe("proxy-c-1");
});

test("Dedicated: five children and the Service beside the Connector; Shared: the Service alone", () => {
  const own = planChildren({ connector: connector(), class: k8s, places, children: [] });
  expect(own?.children.map(childKey)).toEqual([
    "ServiceAccount/kube-connector-proxy/p-team-a--prod",
    "Role/kube-connector-proxy/p-team-a--prod",
    "RoleBinding/kube-connector-proxy/p-team-a--prod",
    "Service/kube-connector-proxy/p-team-a--prod",
    "Deployment/kube-connector-proxy/p-team-a--prod",
    "Service/team-a/c-prod",
  ]);
  const shared = planChildren({ connector: connector(), class: pooled, places, children: [] });
  expect(shared?.children.map(childKey)).toEqual(["Service/team-a/c-prod"]);
  expect(shared?.proxy).toEqual({ namespace: "kube-connector-shared", name: "proxy-k8s" });
  expect(shared?.resolved).toEqual({ namespace: "kube-connector-shared", name: "r-team-a--prod" });
});

test("children of another placement are unwanted, those of another uid are stale", () => {
  const children = [
    known("Deployment", "kube-connector-proxy", "p-team-a--prod"),
    known("Secret", "kube-connector-proxy", "r-team-a--prod"),
    known("Secret", "kube-connector", "ca-team-a--prod"),
    known("Service", "team-a", "c-prod", "u-0"),
  ];
  const plan = planChildren({ connector: connector(), class: pooled, places, children });
  expect(plan?.unwanted.map(childKey)).toEqual([
    "Deployment/kube-connector-proxy/p-team-a--prod",
    "Secret/kube-connector-proxy/r-team-a--prod",
  ]);
  expect(plan?.stale.map(childKey)).toEqual(["Service/team-a/c-prod"]);
});

test("without a class nothing is planned, unless there is a proxy already: that one stays as it is", () => {
  expect(planChildren({ connector: connector(), class: undefined, places, children: [] })).toBeUndefined();
  const children = [
    known("Secret", "kube-connector-proxy", "r-team-a--prod"),
    known("Deployment", "kube-connector-proxy", "p-team-a--prod"),
  ];
  const plan = planChildren({ connector: connector(), class: undefined, places, children });
  expect(plan?.children.map(childKey)).toEqual(["Service/team-a/c-prod"]);
  expect(plan?.unwanted).toEqual([]);
});

test("what the API server gives back has the digest that we sent, whatever it added", () => {
  for (const child of dedicatedProxy(connector(), k8s, places)) {
    const sent = fullObject(child);
    const back = structuredClone(sent) as { metadata: Record<string, unknown>; spec?: Record<string, unknown> };
    Object.assign(back.metadata, { uid: "x", resourceVersion: "7", managedFields: [{}], generation: 1 });
    Object.assign((back.metadata.annotations ??= {}), { "deployment.kubernetes.io/revision": "3" });
    if (back.spec !== undefined) Object.assign(back.spec, { clusterIP: "10.0.0.1", progressDeadlineSeconds: 600 });
    expect(observe(child.kind, back as never).digest).toBe(digestOf(child.kind, sent));
  }
});

test("another image, other resources and other replicas each change the digest of the Deployment alone", () => {
  const digests = (more: object, image = "proxy:1") =>
    dedicatedProxy(connector(), { ...k8s, spec: { ...k8s.spec, proxy: more } }, { ...places, proxyImage: image }).map(
      (child) => digestOf(child.kind, fullObject(child)),
    );
  const usual = digests({});
  const changed = [
    digests({ replicas: 2 }),
    digests({ resources: { limits: { memory: "1Gi" } } }),
    digests({}, "proxy:2"),
  ];
  for (const list of changed)
    expect(list.map((one, index) => one !== usual[index])).toEqual([false, false, false, false, true]);
});

test("ProxyServiceReady: deploying at first, unavailable when it had served, with the Deployment's own reason", () => {
  const plan = planChildren({ connector: connector(), class: k8s, places, children: [] });
  const judge = (deployment: KnownChild["deployment"], before?: "True" | "False", reason = "Ready") => {
    const status = {
      type: "ProxyServiceReady",
      status: before ?? "False",
      reason,
      message: "",
      lastTransitionTime: "",
    } as const;
    const one = { ...connector(), ...(before === undefined ? {} : { status: { conditions: [status] } }) };
    const resolution = resolveConnector({ connector: one, class: k8s, secret: undefined }, places);
    const verdicts = planVerdicts({
      connector: one,
      class: k8s,
      resolution,
      probe: undefined,
      plan,
      deployment,
      taken: undefined,
    });
    return verdicts.ProxyServiceReady;
  };
  expect(judge(undefined)).toMatchObject({ status: "False", reason: "Deploying" });
  expect(judge({ available: 1, problem: undefined })).toMatchObject({ status: "True" });
  expect(judge({ available: 0, problem: undefined }, "True")).toMatchObject({ reason: "ProxyUnavailable" });
  expect(judge({ available: 0, problem: undefined }, "False", "ProxyUnavailable")).toMatchObject({
    reason: "ProxyUnavailable",
  });
  expect(judge({ available: 0, problem: "quota" }).message).toContain("quota");
});
