// The controller against a real API server: a Connector becomes a proxy Deployment, its Service and its resolved Secret,
// the ExternalName Service beside it, and a status; nothing is written twice; what is deleted is swept.
import { X509Certificate } from "node:crypto";
import { apiVersion, type KubeObject, parseResolved, Secret } from "@kube-connector/core";
import { afterAll, beforeAll, expect, test } from "vitest";
import {
  type ControllerRoom,
  createClass,
  createConnector,
  createSecret,
  eventually,
  type ProbedTarget,
  readConnector,
  shown,
  startControllerRoom,
  startProbedTarget,
  untilCondition,
} from "../kit/controller-room.ts";

let room: ControllerRoom;
let target: ProbedTarget;
const token = "stored-token-0123456789";

beforeAll(async () => {
  room = await startControllerRoom();
  target = await startProbedTarget({ prefix: "/kubernetes/global" });
  target.tokens.add(token);
  await createClass(room.api, "k8s");
  await createClass(room.api, "pooled", { placement: "Shared" });
  await room.start();
});
afterAll(async () => {
  await room?.stop();
  await target?.stop();
});

const caBundle = () => Buffer.from(target.ca.certificate).toString("base64");
const get = (path: string) => room.api.request<KubeObject>("GET", path);

function entriesOf(secret: KubeObject): Record<string, Secret> {
  const data = secret.data as Record<string, string>;
  return Object.fromEntries(
    Object.entries(data).map(([name, value]) => [name, new Secret(Buffer.from(value, "base64").toString())]),
  );
}

test("a Connector with its Secret becomes Ready, and all it needs is there", async () => {
  await createSecret(room.api, "team-a", "prod-token", { token });
  await createConnector(room.api, "team-a", "prod", { address: target.address, tls: { caBundle: caBundle() } });
  const connector = await untilCondition(room.api, "team-a", "prod", "Ready=True/Ready");
  expect(shown(connector)).toEqual([
    "ConnectorClassReady=True/Ready",
    "SecretReady=True/Ready",
    "LivenessReady=True/Ready",
    "AuthReady=True/Ready",
    "ProxyServiceReady=True/Ready",
    "Ready=True/Ready",
  ]);
  const { status, metadata } = connector;
  expect(status?.observedGeneration).toBe(metadata.generation);
  expect(status?.target?.version).toBe("v1.35.4");
  expect(status?.proxy?.httpAddress?.url).toBe("http://c-prod.team-a.svc.cluster.local");
  expect(status?.proxy?.httpsAddress?.url).toBe("https://c-prod.team-a.svc.cluster.local");
  const ca = new X509Certificate(Buffer.from(status?.proxy?.caBundle ?? "", "base64"));

  const resolved = await get("/api/v1/namespaces/kube-connector-proxy/secrets/r-team-a--prod");
  expect(resolved.type).toBe("connectors.cpaas.io/resolved");
  expect((resolved.metadata.labels as Record<string, string>)["connectors.cpaas.io/proxy"]).toBe("p-team-a--prod");
  const given = parseResolved(entriesOf(resolved));
  expect(given).toMatchObject({ namespace: "team-a", name: "prod", uid: metadata.uid, address: target.address });
  expect(given.token?.reveal()).toBe(token);
  const leaf = new X509Certificate(given.leaf.certificate);
  expect(leaf.checkIssued(ca) && leaf.verify(ca.publicKey)).toBe(true);
  expect(leaf.subjectAltName).toBe("IP Address:127.0.0.1, DNS:c-prod.team-a.svc.cluster.local, DNS:c-prod.team-a.svc");

  const deployment = await get("/apis/apps/v1/namespaces/kube-connector-proxy/deployments/p-team-a--prod");
  expect(deployment.spec).toMatchObject({
    replicas: 1,
    template: {
      spec: {
        serviceAccountName: "p-team-a--prod",
        containers: [
          {
            image: "proxy:test",
            args: [
              "--secrets-namespace",
              "kube-connector-proxy",
              "--secret-name",
              "r-team-a--prod",
              "--log-level",
              "info",
            ],
          },
        ],
      },
    },
  });
  const role = await get("/apis/rbac.authorization.k8s.io/v1/namespaces/kube-connector-proxy/roles/p-team-a--prod");
  expect(role.rules).toEqual([
    { apiGroups: [""], resources: ["secrets"], resourceNames: ["r-team-a--prod"], verbs: ["get", "list", "watch"] },
  ]);
  const service = await get("/api/v1/namespaces/team-a/services/c-prod");
  expect(service.spec).toMatchObject({
    type: "ExternalName",
    externalName: "p-team-a--prod.kube-connector-proxy.svc.cluster.local",
  });
  expect(service.metadata.ownerReferences).toMatchObject([{ kind: "Connector", name: "prod", uid: metadata.uid }]);
  const seen = new Set(target.requests.map(({ path }) => path));
  expect([...seen]).toEqual(["/kubernetes/global/livez", "/kubernetes/global/api", "/kubernetes/global/version"]);
});

test("the proxy's pod passes the restricted Pod Security level", async () => {
  await room.api.request("PATCH", "/api/v1/namespaces/kube-connector-proxy", {
    contentType: "application/merge-patch+json",
    body: { metadata: { labels: { "pod-security.kubernetes.io/enforce": "restricted" } } },
  });
  const deployment = await get("/apis/apps/v1/namespaces/kube-connector-proxy/deployments/p-team-a--prod");
  const { template } = deployment.spec as { template: { metadata: object; spec: object } };
  const pods = "/api/v1/namespaces/kube-connector-proxy/pods";
  const body = { metadata: { ...template.metadata, name: "dry" }, spec: template.spec };
  await room.api.request("POST", pods, { query: { dryRun: "All" }, body });
  const containers = [{ name: "main", image: "none" }];
  const loose = { metadata: { name: "dry" }, spec: { serviceAccountName: "p-team-a--prod", containers } };
  await expect(room.api.request("POST", pods, { query: { dryRun: "All" }, body: loose })).rejects.toThrow(
    "PodSecurity",
  );
});

test("a replaced token is in the resolved Secret within a second, and the leaf is not touched", async () => {
  const before = await get("/api/v1/namespaces/kube-connector-proxy/secrets/r-team-a--prod");
  target.tokens.add("rotated");
  const started = performance.now();
  await room.api.request("PATCH", "/api/v1/namespaces/team-a/secrets/prod-token", {
    contentType: "application/merge-patch+json",
    body: { stringData: { token: "rotated" } },
  });
  const after = await eventually("the token is there", async () => {
    const secret = await get("/api/v1/namespaces/kube-connector-proxy/secrets/r-team-a--prod");
    expect(parseResolved(entriesOf(secret)).token?.reveal()).toBe("rotated");
    return secret;
  });
  expect(performance.now() - started).toBeLessThan(1000);
  expect((after.data as Record<string, string>)["tls.crt"]).toBe((before.data as Record<string, string>)["tls.crt"]);
  expect(shown(await readConnector(room.api, "team-a", "prod"))).toContain("Ready=True/Ready");
});

test("a changed policy is in the resolved Secret within a second, and a policy that means nothing is refused", async () => {
  const path = `/apis/${apiVersion}/namespaces/team-a/connectors/prod`;
  const set = async (policy: unknown) =>
    await room.api.request("PATCH", path, { contentType: "application/merge-patch+json", body: { spec: { policy } } });
  const started = performance.now();
  await set({ preset: "ReadOnly" });
  await eventually("the policy is there", async () => {
    const secret = await get("/api/v1/namespaces/kube-connector-proxy/secrets/r-team-a--prod");
    expect(parseResolved(entriesOf(secret)).policy).toMatchObject({ preset: "ReadOnly" });
  });
  expect(performance.now() - started).toBeLessThan(1000);
  await expect(set({ rules: [] })).rejects.toThrow("policy should have either preset or rules");
  await set(null);
  await eventually("the policy is gone", async () => {
    const secret = await get("/api/v1/namespaces/kube-connector-proxy/secrets/r-team-a--prod");
    expect(parseResolved(entriesOf(secret)).policy).toBeUndefined();
  });
});

test("the proxy's ServiceAccount may read and watch its one Secret, and no other", async () => {
  const tokenPath = "/api/v1/namespaces/kube-connector-proxy/serviceaccounts/p-team-a--prod/token";
  const issued = await room.api.request<{ status: { token: string } }>("POST", tokenPath, { body: { spec: {} } });
  const proxy = room.plane.as(new Secret(issued.status.token));
  const folder = "/api/v1/namespaces/kube-connector-proxy/secrets";
  const one = { fieldSelector: "metadata.name=r-team-a--prod" };
  const { items } = await proxy.request<{ items: KubeObject[] }>("GET", folder, { query: one });
  expect(items).toHaveLength(1);
  await expect(proxy.request("GET", folder)).rejects.toThrow("forbidden");
  await expect(proxy.request("GET", "/api/v1/namespaces/kube-connector/secrets/ca-team-a--prod")).rejects.toThrow(
    "forbidden",
  );
  await expect(proxy.request("GET", "/api/v1/namespaces/team-a/secrets/prod-token")).rejects.toThrow("forbidden");
});

test("a deleted Secret takes the token out of the resolved Secret, and the proxy is told what to say", async () => {
  await room.api.request("DELETE", "/api/v1/namespaces/team-a/secrets/prod-token");
  const connector = await untilCondition(room.api, "team-a", "prod", "SecretReady=False/SecretNotFound");
  expect(shown(connector)).toEqual([
    "ConnectorClassReady=True/Ready",
    "SecretReady=False/SecretNotFound",
    "LivenessReady=Unknown/NotChecked",
    "AuthReady=Unknown/NotChecked",
    "ProxyServiceReady=True/Ready",
    "Ready=False/SecretNotFound",
  ]);
  const secret = await get("/api/v1/namespaces/kube-connector-proxy/secrets/r-team-a--prod");
  expect(Object.keys(secret.data as object)).not.toContain("token");
  expect(parseResolved(entriesOf(secret)).unavailable).toContain('There is no Secret "prod-token"');
  await createSecret(room.api, "team-a", "prod-token", { token });
  await untilCondition(room.api, "team-a", "prod", "Ready=True/Ready");
});

test("a Shared class has one proxy for all its Connectors, and none when there are none", async () => {
  for (const name of ["one", "two"]) {
    await createSecret(room.api, "team-b", `${name}-token`, { token });
    const tls = { caBundle: caBundle() };
    await createConnector(room.api, "team-b", name, { address: target.address, class: "pooled", tls });
  }
  for (const name of ["one", "two"]) await untilCondition(room.api, "team-b", name, "Ready=True/Ready");
  const folder = "/apis/apps/v1/namespaces/kube-connector-shared/deployments";
  const { items } = await room.api.request<{ items: KubeObject[] }>("GET", folder);
  expect(items.map(({ metadata }) => metadata.name)).toEqual(["proxy-pooled"]);
  expect(items[0]?.spec).toMatchObject({
    template: {
      spec: {
        containers: [
          {
            args: [
              "--secrets-namespace",
              "kube-connector-shared",
              "--secrets-selector",
              "connectors.cpaas.io/proxy=proxy-pooled",
              "--log-level",
              "info",
            ],
          },
        ],
      },
    },
  });
  const service = await get("/api/v1/namespaces/team-b/services/c-one");
  expect(service.spec).toMatchObject({ externalName: "proxy-pooled.kube-connector-shared.svc.cluster.local" });
  for (const name of ["one", "two"]) {
    await room.api.request("DELETE", `/apis/${apiVersion}/namespaces/team-b/connectors/${name}`);
  }
  await eventually("nothing is left", async () => {
    expect(await leftOf("kube-connector-shared")).toEqual([]);
  });
});

async function leftOf(namespace: string): Promise<string[]> {
  const selector = { labelSelector: "app.kubernetes.io/managed-by=kube-connector" };
  const kinds = [
    "/api/v1|secrets",
    "/api/v1|services",
    "/api/v1|serviceaccounts",
    "/apis/apps/v1|deployments",
    "/apis/rbac.authorization.k8s.io/v1|roles",
    "/apis/rbac.authorization.k8s.io/v1|rolebindings",
  ];
  const found: string[] = [];
  for (const kind of kinds) {
    const [root, plural] = kind.split("|");
    const path = `${root}/namespaces/${namespace}/${plural}`;
    const { items } = await room.api.request<{ items: KubeObject[] }>("GET", path, { query: selector });
    found.push(...items.map(({ metadata }) => `${plural}/${metadata.name}`));
  }
  return found;
}

test("a deleted Connector leaves nothing; there is no garbage collector here, so all of it is our sweep", async () => {
  await room.api.request("DELETE", `/apis/${apiVersion}/namespaces/team-a/connectors/prod`);
  await eventually("nothing is left", async () => {
    const namespaces = ["kube-connector", "kube-connector-proxy", "team-a"];
    const left = await Promise.all(namespaces.map((namespace) => leftOf(namespace)));
    expect(left.flat()).toEqual([]);
  });
});

test("no token is in a log line, an Event or a status", async () => {
  const { items } = await room.api.request<{ items: unknown[] }>("GET", "/api/v1/events");
  expect(items.length).toBeGreaterThan(0);
  for (const text of [room.lines.join(""), JSON.stringify(items)]) {
    expect(text).not.toContain(token);
    expect(text).not.toContain("rotated");
    expect(text).not.toContain("PRIVATE KEY");
  }
});
