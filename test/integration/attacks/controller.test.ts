import { X509Certificate } from "node:crypto";
import { readFile } from "node:fs/promises";
import { createServer, connect } from "node:tls";
import type { AddressInfo } from "node:net";
import { type ApiServer, apiVersion, type KubeObject, Secret } from "@kube-connector/core";
import { loadCertificates } from "@kube-connector/controller";
import { afterAll, beforeAll, expect, test } from "vitest";
import { parseAllDocuments } from "yaml";
import { ensureServiceAccount, requestToken } from "../../kit/control-plane.ts";
import {
  type ControllerRoom,
  createClass,
  createConnector,
  createSecret,
  eventually,
  patchConnector,
  type ProbedTarget,
  startControllerRoom,
  startProbedTarget,
  untilCondition,
} from "../../kit/controller-room.ts";

// Attacks on what the controller makes of a Connector: where its token is sent, and what its certificates are good for.

const token = "stored-token-0123456789";
let room: ControllerRoom;
let target: ProbedTarget;
let thief: ProbedTarget;
let mallory: ApiServer;
const caBundle = () => Buffer.from(target.ca.certificate).toString("base64");

beforeAll(async () => {
  room = await startControllerRoom();
  target = await startProbedTarget();
  // The worst case: one that the connector's own CA vouches for.
  thief = await startProbedTarget({ ca: target.ca });
  target.tokens.add(token);
  thief.tokens.add(token);
  await createClass(room.api, "k8s");
  await installAdmission();
  mallory = await editor("mallory");
  await room.start();
});
afterAll(async () => {
  await room?.stop();
  await Promise.all([target?.stop(), thief?.stop()]);
});

/** The admission policy of deploy/install.yaml. */
async function installAdmission(): Promise<void> {
  const text = await readFile(new URL("../../../deploy/install.yaml", import.meta.url), "utf8");
  const objects = parseAllDocuments(text).map((document) => document.toJS() as KubeObject | null);
  for (const [kind, plural] of [
    ["ValidatingAdmissionPolicy", "validatingadmissionpolicies"],
    ["ValidatingAdmissionPolicyBinding", "validatingadmissionpolicybindings"],
  ]) {
    const found = objects.filter((object) => object?.kind === kind);
    expect(found.length).toBeGreaterThan(0);
    for (const body of found) {
      await room.api.request("POST", `/apis/admissionregistration.k8s.io/v1/${plural}`, { body });
    }
  }
}

/** Somebody who may edit Connectors of team-a, and no Secret. */
async function editor(name: string): Promise<ApiServer> {
  await ensureServiceAccount(room.api, "team-a", name);
  const rbac = "/apis/rbac.authorization.k8s.io/v1/namespaces/team-a";
  const rules = [{ apiGroups: ["connectors.cpaas.io"], resources: ["connectors"], verbs: ["*"] }];
  await room.api.request("POST", `${rbac}/roles`, { body: { metadata: { name }, rules } });
  await room.api.request("POST", `${rbac}/rolebindings`, {
    body: {
      metadata: { name },
      roleRef: { apiGroup: "rbac.authorization.k8s.io", kind: "Role", name },
      subjects: [{ kind: "ServiceAccount", name, namespace: "team-a" }],
    },
  });
  const audience = "https://kubernetes.default.svc.cluster.local";
  return room.plane.as(await requestToken(room.api, { namespace: "team-a", serviceAccount: name, audience }));
}

const resolvedToken = async (name: string) => {
  const path = `/api/v1/namespaces/kube-connector-proxy/secrets/r-team-a--${name}`;
  const { data } = await room.api.request<{ data: Record<string, string> }>("GET", path);
  return data.token === undefined ? undefined : Buffer.from(data.token, "base64").toString();
};

test("attack 16: who may not read the Secret cannot point a Connector that names it anywhere", async () => {
  await createSecret(room.api, "team-a", "guarded-token", { token });
  await createConnector(room.api, "team-a", "guarded", { address: target.address, tls: { caBundle: caBundle() } });
  await untilCondition(room.api, "team-a", "guarded", "Ready=True/Ready");
  const says =
    /you may not get the Secret guarded-token in namespace team-a, so you may not let a Connector send its token/;
  const path = `/apis/${apiVersion}/namespaces/team-a/connectors/guarded`;
  const contentType = "application/merge-patch+json";
  // The policy takes a moment to be in force; until it is, only as if.
  await eventually("the policy refuses", async () => {
    const change = { contentType, query: { dryRun: "All" }, body: { spec: { address: thief.address } } };
    await expect(mallory.request("PATCH", path, change)).rejects.toThrow(says);
  });
  await expect(patchConnector(mallory, "team-a", "guarded", { address: thief.address })).rejects.toThrow(says);
  for (const spec of [
    { tls: { insecureSkipVerify: true } },
    { tls: { serverName: "evil.example" } },
    { policy: { preset: "Full" } },
  ]) {
    await expect(patchConnector(mallory, "team-a", "guarded", spec)).rejects.toThrow(says);
  }
  const own = { address: thief.address, secret: "guarded-token", tls: { caBundle: caBundle() } };
  await expect(createConnector(mallory, "team-a", "mine", own)).rejects.toThrow(says);
  expect(thief.requests).toEqual([]);
  expect(await resolvedToken("guarded")).toBe(token);
  // Labels and annotations are free, and who may read the Secret may do the rest.
  await mallory.request("PATCH", path, { contentType, body: { metadata: { labels: { by: "mallory" } } } });
  await patchConnector(room.api, "team-a", "guarded", { policy: { preset: "ReadOnly" } });
});

test("attack 16: where the Secret lists its addresses, its token goes to no other, whoever has edited the Connector", async () => {
  await createSecret(room.api, "team-a", "listed-token", { token, addresses: `${target.address}\n` });
  await createConnector(room.api, "team-a", "listed", { address: target.address, tls: { caBundle: caBundle() } });
  await untilCondition(room.api, "team-a", "listed", "Ready=True/Ready");
  expect(await resolvedToken("listed")).toBe(token);
  await patchConnector(room.api, "team-a", "listed", { address: thief.address });
  await untilCondition(room.api, "team-a", "listed", "SecretReady=False/AddressNotAllowed");
  await eventually("the proxy has no token", async () => expect(await resolvedToken("listed")).toBeUndefined());
  const { port } = thief;
  for (const address of [`https://127.0.0.1:${port}/a`, `https://localhost:${port}`, `https://[::1]:${port}`]) {
    await patchConnector(room.api, "team-a", "listed", { address });
    await new Promise((resolve) => setTimeout(resolve, 300));
    expect(await resolvedToken("listed")).toBeUndefined();
  }
  expect(thief.requests.filter(({ authorization }) => authorization !== undefined)).toEqual([]);
  await patchConnector(room.api, "team-a", "listed", { address: target.address });
  await untilCondition(room.api, "team-a", "listed", "Ready=True/Ready");
  expect(await resolvedToken("listed")).toBe(token);
});

test("attack 18: nobody but the controller may read a CA's key", async () => {
  await createSecret(room.api, "team-a", "prod-token", { token });
  await createConnector(room.api, "team-a", "prod", { address: target.address, tls: { caBundle: caBundle() } });
  await untilCondition(room.api, "team-a", "prod", "Ready=True/Ready");
  const may = async (user: string, verb: string, name?: string) => {
    const resourceAttributes = {
      resource: "secrets",
      verb,
      namespace: "kube-connector",
      ...(name === undefined ? {} : { name }),
    };
    const groups = ["system:serviceaccounts", "system:authenticated", `system:serviceaccounts:${user.split(":")[2]}`];
    const path = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
    const { status } = await room.api.request<{ status: { allowed: boolean } }>("POST", path, {
      body: { spec: { user, groups, resourceAttributes } },
    });
    return status.allowed;
  };
  const key = "ca-team-a--prod";
  const users = [
    "kube-connector-proxy:p-team-a--prod",
    "kube-connector-proxy:default",
    "kube-connector-shared:default",
    "kube-connector-csi:csi-driver",
    "kube-connector:default",
    "team-a:mallory",
  ].map((name) => `system:serviceaccount:${name}`);
  for (const user of users) {
    for (const verb of ["get", "list", "watch", "update", "delete"]) {
      expect([user, verb, await may(user, verb, key), await may(user, verb)]).toEqual([user, verb, false, false]);
    }
  }
  expect(await may("system:serviceaccount:kube-connector:controller", "get", key)).toBe(true);
  // And it is nowhere else: not with the proxy, not in the connector's namespace, not in its status.
  const authority = await room.api.request<{ data: Record<string, string> }>(
    "GET",
    `/api/v1/namespaces/kube-connector/secrets/${key}`,
  );
  const line =
    Buffer.from(authority.data["ca.key"] ?? "", "base64")
      .toString()
      .split("\n")[1] ?? "";
  expect(line.length).toBeGreaterThan(40);
  for (const path of [
    "/api/v1/namespaces/kube-connector-proxy/secrets",
    "/api/v1/namespaces/team-a/secrets",
    `/apis/${apiVersion}/namespaces/team-a/connectors`,
    "/api/v1/namespaces/team-a/configmaps",
  ]) {
    const { items } = await room.api.request<{ items: { data?: Record<string, string> }[] }>("GET", path);
    const texts = items.map(
      (item) =>
        JSON.stringify(item) +
        Object.values(item.data ?? {})
          .map((value) => Buffer.from(value, "base64").toString())
          .join(""),
    );
    expect(texts.join("").includes(line), path).toBe(false);
  }
});

test("attack 18: a leaf is for its connector's names alone, a CA can vouch for no other, and both end", async () => {
  const entries = async (namespace: string, name: string) => {
    const { data } = await room.api.request<{ data: Record<string, string> }>(
      "GET",
      `/api/v1/namespaces/${namespace}/secrets/${name}`,
    );
    return (entry: string) => Buffer.from(data[entry] ?? "", "base64").toString();
  };
  const ca = await entries("kube-connector", "ca-team-a--prod");
  const resolved = await entries("kube-connector-proxy", "r-team-a--prod");
  const leaf = { certificate: resolved("tls.crt"), key: resolved("tls.key") };
  const names = ["c-prod.team-a.svc.cluster.local", "c-prod.team-a.svc"];
  expect(new X509Certificate(leaf.certificate).subjectAltName).toBe(
    `IP Address:127.0.0.1, DNS:${names.join(", DNS:")}`,
  );
  for (const name of ["127.0.0.1", ...names]) expect(await handshake(leaf, ca("ca.crt"), name), name).toBe("ok");
  for (const name of [
    "127.0.0.2",
    "c-other.team-a.svc",
    "c-prod.team-b.svc",
    "kubernetes.default.svc",
    "evil.example",
  ]) {
    expect(await handshake(leaf, ca("ca.crt"), name), name).toMatch(/does not match|altnames/i);
  }
  // Whoever had the CA's key still could not be anybody else.
  const { mintLeaf, authorityLife, leafLife } = await loadCertificates();
  const authority = { certificate: ca("ca.crt"), key: new Secret(ca("ca.key")) };
  for (const host of ["evil.example", "kubernetes.default.svc", "127.0.0.2"]) {
    const forged = await mintLeaf(authority, { uid: "x", host, serviceNames: [host] }, Date.now());
    const shown = { certificate: forged.certificate, key: forged.key.reveal() };
    expect(await handshake(shown, ca("ca.crt"), host), host).toMatch(/permitted subtree|name constraint/i);
  }
  const life = (pem: string) => {
    const { validFromDate, validToDate } = new X509Certificate(pem);
    return validToDate.getTime() - validFromDate.getTime();
  };
  const hour = 3_600_000;
  expect(life(leaf.certificate)).toBeLessThanOrEqual(leafLife + hour);
  expect(life(ca("ca.crt"))).toBeLessThanOrEqual(authorityLife + hour);
});

/** How a client that trusts that CA finds a server that shows that certificate, under that name: "ok" or why not. */
async function handshake(shown: { certificate: string; key: string }, ca: string, name: string): Promise<string> {
  const server = createServer({ cert: shown.certificate, key: shown.key });
  server.on("secureConnection", (socket) => socket.on("error", () => undefined));
  server.on("tlsClientError", () => undefined);
  const isIp = /^[\d.]+$/.test(name);
  const host = isIp ? name : "127.0.0.1";
  await new Promise<void>((resolve) => server.listen(0, host, resolve));
  const { port } = server.address() as AddressInfo;
  const socket = connect({ host, port, ca, ...(isIp ? {} : { servername: name }) });
  const how = await new Promise<string>((resolve) => {
    socket.once("secureConnect", () => resolve("ok"));
    socket.once("error", (error) => resolve(error.message));
  });
  socket.destroy();
  await new Promise((resolve) => server.close(resolve));
  return how;
}
