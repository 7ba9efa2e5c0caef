// The controller over time: a restart and a quiet hour write nothing; what strangers change is put back; a name used
// again is another Connector; certificates rotate with both CAs known; what was deleted while it was away is swept.
import { X509Certificate } from "node:crypto";
import type { Controller } from "@kube-connector/controller";
import { apiVersion, type Connector, type KubeObject, systemClock } from "@kube-connector/core";
import { afterAll, beforeAll, expect, test } from "vitest";
import { ensureNamespace } from "../kit/control-plane.ts";
import {
  type ControllerRoom,
  createClass,
  createConnector,
  createSecret,
  eventually,
  patchConnector,
  type ProbedTarget,
  readConnector,
  shown,
  startControllerRoom,
  startProbedTarget,
  untilCondition,
} from "../kit/controller-room.ts";

let room: ControllerRoom;
let target: ProbedTarget;
let controller: Controller;
const token = "stored-token-0123456789";
const mergePatch = { contentType: "application/merge-patch+json" };
let offset = 0;
/** The machine's time, moved; timers are as they are. */
const clock = { ...systemClock, now: () => Date.now() + offset };
const day = 86_400_000;

beforeAll(async () => {
  room = await startControllerRoom();
  target = await startProbedTarget();
  target.tokens.add(token);
  await createClass(room.api, "k8s");
  await createClass(room.api, "pooled", { placement: "Shared" });
  controller = await room.start({ clock });
});
afterAll(async () => {
  await room?.stop();
  await target?.stop();
});

async function makeReady(name: string, options: { namespace?: string; class?: string } = {}): Promise<Connector> {
  const namespace = options.namespace ?? "team-a";
  await createSecret(room.api, namespace, `${name}-token`, { token });
  const tls = { caBundle: Buffer.from(target.ca.certificate).toString("base64") };
  await createConnector(room.api, namespace, name, { address: target.address, class: options.class ?? "k8s", tls });
  return await untilCondition(room.api, namespace, name, "Ready=True/Ready");
}

const proxySecrets = "/api/v1/namespaces/kube-connector-proxy/secrets";
const proxyDeployments = "/apis/apps/v1/namespaces/kube-connector-proxy/deployments";
/** Where children of every kind are listed, in all namespaces. */
const childPaths = [
  ...["serviceaccounts", "secrets", "services"].map((plural) => `/api/v1/${plural}`),
  ...["roles", "rolebindings"].map((plural) => `/apis/rbac.authorization.k8s.io/v1/${plural}`),
  "/apis/apps/v1/deployments",
];
const get = (path: string) => room.api.request<KubeObject & { data: Record<string, string> }>("GET", path);

/** Our writes since then, apart from the Lease. */
async function writesSince(time: number): Promise<string[]> {
  const events = await room.plane.audited();
  return events
    .filter(({ user }) => user.username === "system:serviceaccount:kube-connector:controller")
    .filter(({ verb }) => !["get", "list", "watch"].includes(verb))
    .filter(({ requestURI }) => !requestURI.includes("/leases"))
    .filter(({ requestReceivedTimestamp }) => Date.parse(requestReceivedTimestamp) >= time)
    .map(({ verb, requestURI }) => `${verb} ${requestURI}`);
}

const pause = (milliseconds: number) => new Promise((resolve) => setTimeout(resolve, milliseconds));

test("neither quiet time with probes nor a restart writes anything", async () => {
  const names = ["one", "two", "three", "four"];
  await Promise.all(names.map((name, index) => makeReady(name, { class: index % 2 === 0 ? "k8s" : "pooled" })));
  await pause(1500);
  const quiet = Date.now();
  const asked = target.requests.length;
  await pause(3500);
  expect(target.requests.length).toBeGreaterThan(asked + 8);
  expect(await writesSince(quiet)).toEqual([]);
  // The audit log does see our writes: four Connectors, two with a Deployment of their own, one for the other two.
  expect((await writesSince(0)).length).toBeGreaterThan(4 * 3 + 3 * 5);

  await controller.stop();
  const restarted = Date.now();
  controller = await room.start({ clock });
  await controller.working;
  await pause(3500);
  expect(await writesSince(restarted)).toEqual([]);
});

test("what strangers change or delete is put back, and no more than once", async () => {
  await room.api.request("PATCH", `${proxyDeployments}/p-team-a--one`, {
    ...mergePatch,
    body: { spec: { replicas: 5 } },
  });
  await eventually("the replicas are ours again", async () => {
    expect((await get(`${proxyDeployments}/p-team-a--one`)).spec).toMatchObject({ replicas: 1 });
  });
  // What we do not set stays: a rollout restart is an admin's right.
  const restart = { spec: { template: { metadata: { annotations: { "kubectl.kubernetes.io/restartedAt": "now" } } } } };
  await room.api.request("PATCH", `${proxyDeployments}/p-team-a--one`, { ...mergePatch, body: restart });
  const before = await get(`${proxySecrets}/r-team-a--one`);
  await room.api.request("PATCH", `${proxySecrets}/r-team-a--one`, {
    ...mergePatch,
    body: { data: { "tls.key": "AAAA" } },
  });
  await eventually("there is a new leaf", async () => {
    const { data } = await get(`${proxySecrets}/r-team-a--one`);
    expect(data["tls.key"]).not.toBe("AAAA");
    expect(data["tls.crt"]).not.toBe(before.data["tls.crt"]);
  });
  await room.api.request("DELETE", `${proxyDeployments}/p-team-a--one`);
  await eventually("the Deployment is there again", async () => await get(`${proxyDeployments}/p-team-a--one`));
  await room.api.request("DELETE", "/api/v1/namespaces/team-a/services/c-one");
  await eventually("the Service is there again", async () => await get("/api/v1/namespaces/team-a/services/c-one"));
  await untilCondition(room.api, "team-a", "one", "Ready=True/Ready");
  await pause(1000);
  const settled = Date.now();
  await pause(2500);
  expect(await writesSince(settled)).toEqual([]);
});

function bundleOf(connector: Connector): X509Certificate[] {
  const text = Buffer.from(connector.status?.proxy?.caBundle ?? "", "base64").toString();
  return (text.match(/-----BEGIN[^-]+-----[^-]+-----END[^-]+-----/g) ?? []).map((pem) => new X509Certificate(pem));
}

async function leafOf(name: string): Promise<X509Certificate> {
  const { data } = await get(`${proxySecrets}/r-team-a--${name}`);
  return new X509Certificate(Buffer.from(data["tls.crt"] ?? "", "base64"));
}

test("leaf and CA rotate: the next CA is in the bundle long before it signs, the last one stays until it has expired", async () => {
  const first = bundleOf(await makeReady("aging"));
  const oldLeaf = await leafOf("aging");
  const fingerprints = (list: X509Certificate[]) => list.map((one) => one.fingerprint256);
  let grant = false;
  const look = async (days: number) => {
    offset = days * day;
    grant = !grant;
    await patchConnector(room.api, "team-a", "aging", { access: { sameNamespace: grant ? "RequireGrant" : "Allow" } });
  };
  await look(21);
  await eventually("the leaf is new", async () => {
    expect((await leafOf("aging")).fingerprint256).not.toBe(oldLeaf.fingerprint256);
  });
  expect(fingerprints(bundleOf(await readConnector(room.api, "team-a", "aging")))).toEqual(fingerprints(first));

  await look(244);
  const both = await eventually("both are in the bundle", async () => {
    const bundle = bundleOf(await readConnector(room.api, "team-a", "aging"));
    expect(bundle).toHaveLength(2);
    return bundle;
  });
  expect(both[0]?.fingerprint256).toBe(first[0]?.fingerprint256);
  expect((await leafOf("aging")).verify(first[0]!.publicKey)).toBe(true);

  await look(336);
  await eventually("the next one signs", async () => {
    expect((await leafOf("aging")).verify(both[1]!.publicKey)).toBe(true);
  });
  await eventually("both are still in the bundle", async () => {
    const bundle = fingerprints(bundleOf(await readConnector(room.api, "team-a", "aging")));
    expect(bundle).toEqual([both[1]!.fingerprint256, both[0]!.fingerprint256]);
  });

  await look(367);
  await eventually("the first one is gone", async () => {
    const bundle = fingerprints(bundleOf(await readConnector(room.api, "team-a", "aging")));
    expect(bundle).toEqual([both[1]!.fingerprint256]);
  });
  offset = 0;
});

async function eventsOf(name: string, reason: string): Promise<string[]> {
  const query = { fieldSelector: `involvedObject.name=${name},reason=${reason}` };
  const { items } = await room.api.request<{ items: KubeObject[] }>("GET", "/api/v1/namespaces/team-a/events", {
    query,
  });
  return items.map((one) => String(one.message));
}

test("a deleted CA Secret, or another target host, means a new CA at once, with a Warning", async () => {
  const before = bundleOf(await makeReady("moved"));
  await room.api.request("DELETE", "/api/v1/namespaces/kube-connector/secrets/ca-team-a--moved");
  const after = await eventually("there is a new CA", async () => {
    const bundle = bundleOf(await readConnector(room.api, "team-a", "moved"));
    expect(bundle[0]?.fingerprint256).not.toBe(before[0]?.fingerprint256);
    return bundle;
  });
  expect((await leafOf("moved")).verify(after[0]!.publicKey)).toBe(true);
  await patchConnector(room.api, "team-a", "moved", { address: `https://localhost:${target.port}` });
  await eventually("the leaf is for the new host", async () => {
    expect((await leafOf("moved")).subjectAltName).toContain("DNS:localhost,");
  });
  await untilCondition(room.api, "team-a", "moved", "Ready=True/Ready");
  await eventually("both are told", async () => {
    const told = (await eventsOf("moved", "CertificateAuthorityReplaced")).join(" ");
    expect(told).toContain("was deleted");
    expect(told).toContain("host has changed");
  });
});

test("a name used again is another Connector: its children are new, and none of the former one's is left", async () => {
  const before = await makeReady("again");
  const ca = bundleOf(before)[0]!.fingerprint256;
  await room.api.request("DELETE", `/apis/${apiVersion}/namespaces/team-a/connectors/again`);
  const tls = { caBundle: Buffer.from(target.ca.certificate).toString("base64") };
  await createConnector(room.api, "team-a", "again", { address: target.address, tls });
  const after = await untilCondition(room.api, "team-a", "again", "Ready=True/Ready");
  expect(bundleOf(after)[0]!.fingerprint256).not.toBe(ca);
  for (const path of [
    `${proxySecrets}/r-team-a--again`,
    `${proxyDeployments}/p-team-a--again`,
    "/api/v1/namespaces/team-a/services/c-again",
  ]) {
    const labels = (await get(path)).metadata.labels as Record<string, string>;
    expect(labels["connectors.cpaas.io/connector-uid"]).toBe(after.metadata.uid);
  }
});

test("a class that turns Shared moves its Connectors without a gap: all stays until the new proxy serves", async () => {
  await createClass(room.api, "turning");
  await makeReady("turned", { class: "turning" });
  room.deploymentsWork = false;
  const placement = { spec: { proxy: { placement: "Shared" } } };
  await room.api.request("PATCH", `/apis/${apiVersion}/connectorclasses/turning`, { ...mergePatch, body: placement });
  await eventually("the new proxy is given the connector", async () => {
    await get("/api/v1/namespaces/kube-connector-shared/secrets/r-team-a--turned");
  });
  await pause(500);
  const outside = async () => (await get("/api/v1/namespaces/team-a/services/c-turned")).spec;
  expect(await outside()).toMatchObject({ externalName: "p-team-a--turned.kube-connector-proxy.svc.cluster.local" });
  await get(`${proxyDeployments}/p-team-a--turned`);
  room.deploymentsWork = true;
  await eventually("it has moved", async () => {
    expect(await outside()).toMatchObject({ externalName: "proxy-turning.kube-connector-shared.svc.cluster.local" });
  });
  await eventually("the old children are gone", async () => {
    for (const path of [`${proxySecrets}/r-team-a--turned`, `${proxyDeployments}/p-team-a--turned`]) {
      await expect(get(path)).rejects.toThrow("not found");
    }
  });
  await untilCondition(room.api, "team-a", "turned", "Ready=True/Ready");
});

test("somebody who keeps changing a child is told of, and left alone for a minute", async () => {
  await makeReady("fought");
  const replicas = async () => (await get(`${proxyDeployments}/p-team-a--fought`)).spec as { replicas: number };
  for (let round = 0; round < 4; round += 1) {
    await room.api.request("PATCH", `${proxyDeployments}/p-team-a--fought`, {
      ...mergePatch,
      body: { spec: { replicas: 3 } },
    });
    await eventually("it is put back", async () => expect(await replicas()).toMatchObject({ replicas: 1 }));
  }
  await eventually("the admin is told", async () => {
    expect((await eventsOf("fought", "ChildContested")).join()).toContain(
      "Deployment kube-connector-proxy/p-team-a--fought",
    );
  });
  await room.api.request("PATCH", `${proxyDeployments}/p-team-a--fought`, {
    ...mergePatch,
    body: { spec: { replicas: 3 } },
  });
  await pause(1500);
  expect(await replicas()).toMatchObject({ replicas: 3 });
});

test("labels alone make no child: a stranger's Service with a Connector's labels is not touched, and slows nobody", async () => {
  const { metadata } = await makeReady("mimicked");
  const labels = {
    "app.kubernetes.io/managed-by": "kube-connector",
    "connectors.cpaas.io/connector-namespace": "team-a",
    "connectors.cpaas.io/connector-name": "mimicked",
    "connectors.cpaas.io/connector-uid": `not-${metadata.uid}`.slice(0, 30),
  };
  const body = { metadata: { name: "mimic", labels }, spec: { ports: [{ port: 80 }] } };
  await room.api.request("POST", "/api/v1/namespaces/team-b/services", { body });
  await patchConnector(room.api, "team-a", "mimicked", { access: { sameNamespace: "RequireGrant" } });
  await eventually(
    "the change is reported",
    async () => {
      expect((await readConnector(room.api, "team-a", "mimicked")).status?.observedGeneration).toBe(2);
    },
    3000,
  );
  await get("/api/v1/namespaces/team-b/services/mimic");
});

test("in a namespace that is ending nothing is made, and nothing is tried again and again", async () => {
  await ensureNamespace(room.api, "team-ending");
  const tls = { caBundle: Buffer.from(target.ca.certificate).toString("base64") };
  await createConnector(room.api, "team-ending", "late", { address: target.address, class: "unborn", tls });
  await untilCondition(room.api, "team-ending", "late", "Ready=False/ConnectorClassNotFound");
  await room.api.request("DELETE", "/api/v1/namespaces/team-ending");
  await createClass(room.api, "unborn");
  await eventually("it is seen", async () => {
    await Promise.resolve();
    expect(room.lines.join("")).toContain("The namespace is ending");
  });
  const since = Date.now();
  await pause(3000);
  // Once more when the Deployment becomes available, and not with a back-off.
  expect((await writesSince(since)).filter((write) => write.includes("team-ending")).length).toBeLessThan(3);
});

test("names that could be read in two ways become the uid", async () => {
  await ensureNamespace(room.api, "team--c");
  const connector = await makeReady("prod", { namespace: "team--c" });
  await get(`${proxyDeployments}/p-x-${connector.metadata.uid}`);
});

test("what was deleted while the controller was away is swept at its next start; a stranger's objects stay", async () => {
  const gone = await makeReady("gone");
  await controller.stop();
  await room.api.request("DELETE", `/apis/${apiVersion}/namespaces/team-a/connectors/gone`);
  const stranger = { metadata: { name: "stranger", labels: { "app.kubernetes.io/managed-by": "kube-connector" } } };
  await room.api.request("POST", proxySecrets, { body: stranger });
  controller = await room.start({ clock });
  await eventually("the children are gone", async () => {
    const query = { labelSelector: `connectors.cpaas.io/connector-uid=${gone.metadata.uid}` };
    for (const path of childPaths) {
      const { items } = await room.api.request<{ items: KubeObject[] }>("GET", path, { query });
      expect(items, path).toEqual([]);
    }
  });
  await get(`${proxySecrets}/stranger`);
});

test("an API server that is away for longer than the Lease loses nothing: the leader ends, its next start deletes nothing", async () => {
  const before = (await room.api.request<{ items: KubeObject[] }>("GET", proxySecrets)).items.length;
  const stopped = Date.now();
  await room.plane.control("stop", "apiserver");
  await expect(controller.done).rejects.toThrow("could not be renewed in time");
  await room.plane.control("start", "apiserver");
  await eventually("the API server is back", async () => await get(`${proxySecrets}/stranger`), 60_000);
  // What the kubelet does.
  controller = await room.start({ clock });
  await createSecret(room.api, "team-a", "after-token", { token });
  const tls = { caBundle: Buffer.from(target.ca.certificate).toString("base64") };
  await createConnector(room.api, "team-a", "after", { address: target.address, tls });
  await untilCondition(room.api, "team-a", "after", "Ready=True/Ready", 60_000);
  expect((await room.api.request<{ items: KubeObject[] }>("GET", proxySecrets)).items.length).toBe(before + 1);
  expect((await writesSince(stopped)).filter((write) => write.startsWith("delete"))).toEqual([]);
}, 150_000);

test("/readyz and /metrics tell how it goes, per Connector and without a token", async () => {
  const url = `http://127.0.0.1:${controller.privatePort}`;
  expect((await fetch(`${url}/readyz`)).status).toBe(200);
  const text = await (await fetch(`${url}/metrics`)).text();
  expect(text).toContain('kube_connector_controller_connector_ready{namespace="team-a",name="one"} 1');
  expect(text).toContain("kube_connector_controller_leader 1");
  expect(text).toMatch(/probe_rounds_total\{result="Ready"\} \d+/);
  expect(text).not.toContain(token);
  expect(shown(await readConnector(room.api, "team-a", "one"))).toContain("Ready=True/Ready");
});
