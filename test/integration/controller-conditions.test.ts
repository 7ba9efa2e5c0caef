// Every False reason of the conditions is produced by its real cause, with a sentence that says what to change, and is
// mended to Ready without a restart. Targets are real TLS servers.
import { apiVersion, type Connector, type KubeObject } from "@kube-connector/core";
import { afterAll, beforeAll, expect, test } from "vitest";
import { createTestCa } from "../kit/certificates.ts";
import {
  type ControllerRoom,
  createClass,
  createConnector,
  createSecret,
  eventually,
  patchConnector,
  type ProbedTarget,
  readConnector,
  setAvailable,
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
  target = await startProbedTarget();
  target.tokens.add(token);
  await createClass(room.api, "k8s");
  await room.start();
});
afterAll(async () => {
  await room?.stop();
  await target?.stop();
});

const base64 = (text: string) => Buffer.from(text).toString("base64");
const tls = () => ({ caBundle: base64(target.ca.certificate) });

function message(connector: Connector, type: string): string {
  return connector.status?.conditions?.find((one) => one.type === type)?.message ?? "";
}

async function patchSecret(name: string, data: Record<string, string | null>): Promise<void> {
  await room.api.request("PATCH", `/api/v1/namespaces/team-a/secrets/${name}`, {
    contentType: "application/merge-patch+json",
    body: {
      data: Object.fromEntries(Object.entries(data).map(([key, text]) => [key, text === null ? null : base64(text)])),
    },
  });
}

async function eventsOf(name: string): Promise<string[]> {
  const query = { fieldSelector: `involvedObject.name=${name}` };
  const { items } = await room.api.request<{ items: KubeObject[] }>("GET", "/api/v1/namespaces/team-a/events", {
    query,
  });
  return items.map((one) => `${String(one.type)} ${String(one.reason)}`);
}

const until = (name: string, wanted: string, within?: number) =>
  untilCondition(room.api, "team-a", name, wanted, within);

test("ConnectorClassNotFound: an unknown class, mended by installing it; nothing was deployed before", async () => {
  await createSecret(room.api, "team-a", "unclassed-token", { token });
  await createConnector(room.api, "team-a", "unclassed", { address: target.address, class: "later", tls: tls() });
  const connector = await until("unclassed", "Ready=False/ConnectorClassNotFound");
  expect(shown(connector).slice(1, 5)).toEqual([
    "SecretReady=Unknown/NotChecked",
    "LivenessReady=Unknown/NotChecked",
    "AuthReady=Unknown/NotChecked",
    "ProxyServiceReady=Unknown/NotChecked",
  ]);
  expect(message(connector, "Ready")).toContain('There is no ConnectorClass "later"');
  await createClass(room.api, "later");
  await until("unclassed", "Ready=True/Ready");
});

test("a class that is deleted leaves its proxies, and rotated tokens still reach them", async () => {
  await room.api.request("DELETE", `/apis/${apiVersion}/connectorclasses/later`);
  const connector = await until("unclassed", "Ready=False/ConnectorClassNotFound");
  expect(shown(connector)).toContain("ProxyServiceReady=True/Ready");
  await patchSecret("unclassed-token", { token: "another" });
  await eventually("the proxy has the new token", async () => {
    const path = "/api/v1/namespaces/kube-connector-proxy/secrets/r-team-a--unclassed";
    const secret = await room.api.request<{ data: Record<string, string> }>("GET", path);
    expect(secret.data.token).toBe(base64("another"));
  });
  await patchSecret("unclassed-token", { token });
  await createClass(room.api, "later");
  await until("unclassed", "Ready=True/Ready");
});

test("SecretNotFound, then WrongSecretType, then TokenMissing, then TokenMalformed, then Ready", async () => {
  await createConnector(room.api, "team-a", "sealed", { address: target.address, tls: tls() });
  const missing = await until("sealed", "SecretReady=False/SecretNotFound");
  expect(message(missing, "SecretReady")).toContain("create it with type connectors.cpaas.io/bearer-token");
  // Its type is not watched, so this one is seen at the next look.
  await createSecret(room.api, "team-a", "sealed-token", { token }, "Opaque");
  await patchConnector(room.api, "team-a", "sealed", { access: { sameNamespace: "RequireGrant" } });
  const wrong = await until("sealed", "SecretReady=False/WrongSecretType");
  expect(message(wrong, "SecretReady")).toContain('has the type "Opaque"');
  await room.api.request("DELETE", "/api/v1/namespaces/team-a/secrets/sealed-token");
  await createSecret(room.api, "team-a", "sealed-token", { other: "x" });
  await until("sealed", "SecretReady=False/TokenMissing");
  await patchSecret("sealed-token", { token: "" });
  await until("sealed", "SecretReady=False/TokenMissing");
  await patchSecret("sealed-token", { token: "two words" });
  const malformed = await until("sealed", "SecretReady=False/TokenMalformed");
  expect(message(malformed, "SecretReady")).not.toContain("two words");
  await patchSecret("sealed-token", { token: `${token}\n` });
  await until("sealed", "Ready=True/Ready");
  const events = await eventsOf("sealed");
  for (const reason of ["SecretNotFound", "WrongSecretType", "TokenMissing", "TokenMalformed"]) {
    expect(events).toContain(`Warning ${reason}`);
  }
  expect(events).toContain("Normal SecretReady");
  expect(events.filter((one) => one === "Warning TokenMissing")).toHaveLength(1);
});

test("InvalidCA: a bundle that is no PEM, in the spec and in the Secret", async () => {
  await createSecret(room.api, "team-a", "unsure-token", { token, "ca.crt": "no certificate" });
  await createConnector(room.api, "team-a", "unsure", { address: target.address });
  const stored = await until("unsure", "SecretReady=False/InvalidCA");
  expect(message(stored, "SecretReady")).toContain('The entry "ca.crt" of the Secret "unsure-token"');
  await patchSecret("unsure-token", { "ca.crt": target.ca.certificate });
  await until("unsure", "Ready=True/Ready");
  await patchConnector(room.api, "team-a", "unsure", { tls: { caBundle: base64("-----BEGIN nothing") } });
  expect(message(await until("unsure", "SecretReady=False/InvalidCA"), "SecretReady")).toContain("spec.tls.caBundle");
  await patchConnector(room.api, "team-a", "unsure", { tls: null });
  await until("unsure", "Ready=True/Ready");
});

test("attack 16: AddressNotAllowed: the Secret lists where its token may go, and this address is not in it", async () => {
  await createSecret(room.api, "team-a", "bound-token", { token, addresses: "https://api.prod.example:6443\n" });
  await createConnector(room.api, "team-a", "bound", { address: target.address, tls: tls() });
  const connector = await until("bound", "SecretReady=False/AddressNotAllowed");
  expect(message(connector, "SecretReady")).toContain('the entry "addresses" of the Secret "bound-token"');
  const resolved = await room.api.request<{ data: object }>(
    "GET",
    "/api/v1/namespaces/kube-connector-proxy/secrets/r-team-a--bound",
  );
  expect(Object.keys(resolved.data)).not.toContain("token");
  await patchSecret("bound-token", { addresses: `https://api.prod.example:6443\n${target.address}\n` });
  await until("bound", "Ready=True/Ready");
});

test("ConnectionFailed: nothing listens at the address, until something does", async () => {
  const short = await startProbedTarget({ ca: target.ca });
  short.tokens.add(token);
  await short.stop();
  await createSecret(room.api, "team-a", "silent-token", { token });
  await createConnector(room.api, "team-a", "silent", { address: short.address, tls: tls() });
  const connector = await until("silent", "LivenessReady=False/ConnectionFailed");
  expect(message(connector, "LivenessReady")).toContain("connection refused");
  expect(shown(connector)).toContain("AuthReady=Unknown/NotChecked");
  expect(shown(connector)).toContain("Ready=False/ConnectionFailed");
  const again = await startProbedTarget({ ca: target.ca, port: short.port });
  again.tokens.add(token);
  await until("silent", "Ready=True/Ready");
  await again.stop();
  await until("silent", "LivenessReady=False/ConnectionFailed", 30_000);
});

test("CertificateRejected: the wrong CA, and another name; the token was not sent; mended by the right bundle", async () => {
  const other = await startProbedTarget({ ca: await createTestCa("other"), hosts: ["elsewhere.example"] });
  other.tokens.add(token);
  await createSecret(room.api, "team-a", "doubted-token", { token });
  await createConnector(room.api, "team-a", "doubted", { address: other.address, tls: tls() });
  const unknown = await until("doubted", "LivenessReady=False/CertificateRejected");
  expect(message(unknown, "LivenessReady")).toContain("not in the CA bundle");
  await patchConnector(room.api, "team-a", "doubted", { tls: { caBundle: base64(other.ca.certificate) } });
  const named = await eventually("the name is named", async () => {
    const connector = await readConnector(room.api, "team-a", "doubted");
    expect(message(connector, "LivenessReady")).toContain("spec.tls.serverName");
    return connector;
  });
  expect(shown(named)).toContain("LivenessReady=False/CertificateRejected");
  expect(other.requests).toEqual([]);
  await patchConnector(room.api, "team-a", "doubted", { tls: { serverName: "elsewhere.example" } });
  await until("doubted", "Ready=True/Ready");
  await other.stop();
});

test("insecureSkipVerify is said by the condition and by a Warning", async () => {
  const other = await startProbedTarget({ ca: await createTestCa("other") });
  other.tokens.add(token);
  await createSecret(room.api, "team-a", "reckless-token", { token });
  await createConnector(room.api, "team-a", "reckless", { address: other.address, tls: { insecureSkipVerify: true } });
  const connector = await until("reckless", "Ready=True/Ready");
  expect(shown(connector)).toContain("LivenessReady=True/InsecureSkipVerify");
  await eventually("the Event is there", async () => {
    expect(await eventsOf("reckless")).toContain("Warning InsecureSkipVerify");
  });
  await other.stop();
});

test("UnexpectedStatus: an error, and a redirect that is not followed", async () => {
  const odd = await startProbedTarget({ ca: target.ca });
  odd.tokens.add(token);
  odd.answers.set("/livez", { status: 500 });
  await createSecret(room.api, "team-a", "odd-token", { token });
  await createConnector(room.api, "team-a", "odd", { address: odd.address, tls: tls() });
  expect(message(await until("odd", "LivenessReady=False/UnexpectedStatus"), "LivenessReady")).toContain(
    "answered 500",
  );
  odd.answers.set("/livez", { status: 302, headers: { location: `${target.address}/stolen` } });
  await eventually("the redirect is named", async () => {
    expect(message(await readConnector(room.api, "team-a", "odd"), "LivenessReady")).toContain("not followed");
  });
  odd.answers.set("/livez", { status: 401 });
  await until("odd", "Ready=True/Ready");
  expect(target.requests.filter(({ path }) => path.includes("stolen"))).toEqual([]);
  await odd.stop();
});

test("AuthenticationFailed: a revoked token, mended by a new one; CredentialExpired when the token had said so", async () => {
  const strict = await startProbedTarget({ ca: target.ca });
  await createSecret(room.api, "team-a", "revoked-token", { token: "revoked" });
  await createConnector(room.api, "team-a", "revoked", { address: strict.address, tls: tls() });
  const connector = await until("revoked", "AuthReady=False/AuthenticationFailed");
  expect(message(connector, "AuthReady")).toContain("401");
  const jwt = (exp: number) => `e30.${Buffer.from(JSON.stringify({ exp })).toString("base64url")}.c2ln`;
  await patchSecret("revoked-token", { token: jwt(1_700_000_000) });
  const expired = await until("revoked", "AuthReady=False/CredentialExpired");
  expect(message(expired, "AuthReady")).toContain("2023-11-14");
  const valid = jwt(Math.floor(Date.now() / 1000) + 3 * 86_400);
  strict.tokens.add(valid);
  await patchSecret("revoked-token", { token: valid });
  const mended = await until("revoked", "Ready=True/Ready");
  expect(mended.status?.credential?.expiresAt).toMatch(/^20\d\d-/);
  await eventually("the admin is warned", async () => {
    expect(await eventsOf("revoked")).toContain("Warning CredentialExpiresSoon");
  });
  strict.answers.set("/api", { status: 403 });
  expect(message(await until("revoked", "AuthReady=False/AuthenticationFailed", 30_000), "AuthReady")).toContain(
    "system:discovery",
  );
  await strict.stop();
});

test("Deploying, Ready, ProxyUnavailable with the Deployment's own reason, Ready", async () => {
  room.deploymentsWork = false;
  await createSecret(room.api, "team-a", "slow-token", { token });
  await createConnector(room.api, "team-a", "slow", { address: target.address, tls: tls() });
  const deploying = await until("slow", "ProxyServiceReady=False/Deploying");
  expect(deploying.status?.proxy?.httpAddress?.url).toBe("http://c-slow.team-a.svc.cluster.local");
  expect(deploying.status?.proxy?.caBundle).toBeTruthy();
  const set = (count: number, conditions?: unknown[]) =>
    setAvailable(room.api, "kube-connector-proxy", "p-team-a--slow", count, conditions);
  await set(1);
  await until("slow", "Ready=True/Ready");
  await set(0);
  await until("slow", "ProxyServiceReady=False/ProxyUnavailable");
  await set(0, [{ type: "ReplicaFailure", status: "True", reason: "FailedCreate", message: "exceeded quota" }]);
  await eventually("the quota is named", async () => {
    expect(message(await readConnector(room.api, "team-a", "slow"), "ProxyServiceReady")).toContain("exceeded quota");
  });
  room.deploymentsWork = true;
  await set(1);
  await until("slow", "Ready=True/Ready");
});

test("ServiceNameTaken: a foreign Service is never overwritten, and its removal mends it", async () => {
  const foreign = { metadata: { name: "c-taken" }, spec: { ports: [{ port: 1234 }] } };
  await room.api.request("POST", "/api/v1/namespaces/team-a/services", { body: foreign });
  await createSecret(room.api, "team-a", "taken-token", { token });
  await createConnector(room.api, "team-a", "taken", { address: target.address, tls: tls() });
  const connector = await until("taken", "ProxyServiceReady=False/ServiceNameTaken");
  expect(connector.status?.proxy).toBeUndefined();
  const service = await room.api.request<{ spec: { type: string } }>(
    "GET",
    "/api/v1/namespaces/team-a/services/c-taken",
  );
  expect(service.spec.type).toBe("ClusterIP");
  await room.api.request("DELETE", "/api/v1/namespaces/team-a/services/c-taken");
  await until("taken", "Ready=True/Ready", 40_000);
}, 60_000);

test("no sentence anywhere holds a token", async () => {
  const { items } = await room.api.request<{ items: object[] }>("GET", "/api/v1/events");
  const connectors = await room.api.request<object>("GET", `/apis/${apiVersion}/connectors`);
  const everything = room.lines.join("") + JSON.stringify(items) + JSON.stringify(connectors);
  for (const mark of [token, "two words", '"revoked"', "another"])
    expect(everything.includes(`Bearer ${mark}`)).toBe(false);
  expect(everything).not.toContain(token);
});
