// Credentials change while clients work: the stored token, the proxy's leaf and the connector's CA. Calls go on, and a
// watch that was opened before goes on.
import { X509Certificate } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { loadCertificates } from "@kube-connector/controller";
import { Secret } from "@kube-connector/core";
import { afterAll, beforeAll, expect, test } from "vitest";
import {
  bearerSecret,
  type ConnectorObject,
  connect,
  createToken,
  type Pod,
  revokeToken,
  startWorkbench,
  target,
} from "./cluster.ts";
import { apply, type Background, eventually, getJson, kubectlOk, run } from "./kubectl.ts";

const at = target("global");
const k = "export KUBECONFIG=/access/global/kubeconfig;";
let bench: Pod;
let watch: Background;

const proxyNamespace = "kube-connector-proxy";
const resolved = "r-rotation--global";
const authority = "ca-rotation--global";

async function secretData(namespace: string, name: string): Promise<Record<string, string>> {
  const { data } = await getJson<{ data: Record<string, string> }>(["-n", namespace, "secret", name]);
  return Object.fromEntries(Object.entries(data).map(([key, text]) => [key, Buffer.from(text, "base64").toString()]));
}

async function patchSecret(namespace: string, name: string, entries: Record<string, string>): Promise<void> {
  const data = Object.entries(entries).map(([key, text]) => [key, Buffer.from(text).toString("base64")]);
  const patch = JSON.stringify({ data: Object.fromEntries(data) });
  await kubectlOk(["-n", namespace, "patch", "secret", name, "--type=merge", `--patch=${patch}`]);
}

/** The serial number of the certificate that the forward door shows inside a tunnel, as kubectl sees it. */
const leafSerial = async () =>
  new X509Certificate((await secretData(proxyNamespace, resolved))["tls.crt"] ?? "").serialNumber;

const day = 86_400_000;

/** What the connector's certificates are about. */
async function names() {
  const { uid } = (await getJson<ConnectorObject>(["-n", "rotation", "connector", "global"])).metadata;
  const service = "c-global.rotation.svc";
  return { uid, host: new URL(at.address).hostname, serviceNames: [`${service}.cluster.local`, service] };
}

/** Gives the connector a CA of 250 days, which is past two thirds of its life: a second one joins the bundle. */
async function ageAuthority(): Promise<void> {
  const { mintAuthority } = await loadCertificates();
  const aged = await mintAuthority(await names(), Date.now() - 250 * day);
  await patchSecret("kube-connector", authority, { "ca.crt": aged.certificate, "ca.key": aged.key.reveal() });
  await eventually(async () => {
    const { status } = await getJson<ConnectorObject>(["-n", "rotation", "connector", "global"]);
    const bundle = Buffer.from(status?.proxy?.caBundle ?? "", "base64").toString();
    expect(bundle).toContain(aged.certificate.trim());
    expect(bundle.match(/BEGIN CERTIFICATE/g)?.length).toBe(2);
  }, 30_000);
}

beforeAll(async () => {
  await apply([{ apiVersion: "v1", kind: "Namespace", metadata: { name: "rotation" } }], { kubeconfig: at.kubeconfig });
  await connect("rotation", at);
  await ageAuthority();
  bench = await startWorkbench({
    namespace: "rotation",
    name: "rotation",
    volumes: { global: { connector: "global" } },
  });
  watch = bench.start(`${k} kubectl -n rotation get configmaps -w --no-headers -o name`);
  await seen("before");
});
afterAll(() => watch.kill());

/** Makes a ConfigMap through the proxy; the watch that was opened first must show it. */
async function seen(name: string): Promise<void> {
  await eventually(() => bench.ok(`${k} kubectl -n rotation create configmap ${name}`), 10_000);
  await eventually(() => expect(watch.stdout()).toContain(`configmap/${name}`), 10_000);
  expect(watch.isRunning()).toBe(true);
}

test("the Secret's token is replaced and the old one revoked: calls go on, and the watch goes on", async () => {
  const token = await createToken(at, "rotation-new");
  await apply([bearerSecret("rotation", "global-token", token)]);
  await eventually(async () => {
    expect(await bench.ok(`${k} kubectl auth whoami -o jsonpath='{.status.userInfo.username}'`)).toBe(
      "system:serviceaccount:access:rotation-new",
    );
  }, 5000);
  await revokeToken(at, "rotation-global-token");
  await seen("token");
  // The target forgets a revoked token after its own cache of 10 s.
  await new Promise((resolve) => setTimeout(resolve, 12_000));
  await seen("token-later");
});

test("the leaf is replaced before it expires: calls go on, and the watch goes on", async () => {
  const { mintLeaf } = await loadCertificates();
  const ca = await secretData("kube-connector", authority);
  // A leaf of 21 days, which is past two thirds of its life.
  const signing = { certificate: ca["ca.crt"] ?? "", key: new Secret(ca["ca.key"] ?? "") };
  const old = await mintLeaf(signing, await names(), Date.now() - 21 * day);
  const serial = new X509Certificate(old.certificate).serialNumber;
  await patchSecret(proxyNamespace, resolved, { "tls.crt": old.certificate, "tls.key": old.key.reveal() });
  await eventually(async () => expect(await leafSerial()).not.toBe(serial), 30_000);
  await seen("leaf");
});

test("the CA is replaced: the second one of the bundle takes over, and the watch and a client of before go on", async () => {
  const proxy = "kubectl --kubeconfig=/access/global/kubeconfig proxy --append-server-path --port=18002";
  await bench.ok(`setsid ${proxy} > /tmp/proxy.log 2>&1 < /dev/null & sleep 1`);
  const call = "wget -qO- http://127.0.0.1:18002/api/v1/namespaces/kube-system";
  await eventually(async () => expect(await bench.ok(call)).toContain("kube-system"), 15_000);

  // The same CA with 20 days left, less than a leaf's life: the second one signs from now on.
  const ca = await secretData("kube-connector", authority);
  const folder = mkdtempSync(`${tmpdir()}/ca-`);
  writeFileSync(`${folder}/ca.crt`, ca["ca.crt"] ?? "");
  writeFileSync(`${folder}/ca.key`, ca["ca.key"] ?? "", { mode: 0o600 });
  const ending = await run("openssl", [
    "x509",
    "-in",
    `${folder}/ca.crt`,
    "-signkey",
    `${folder}/ca.key`,
    "-days",
    "20",
  ]);
  rmSync(folder, { recursive: true });
  expect(ending.code, ending.stderr).toBe(0);
  await patchSecret("kube-connector", authority, { "ca.crt": ending.stdout });
  await eventually(async () => {
    const signing = (await secretData("kube-connector", authority))["ca.crt"] ?? "";
    expect(signing).toBe(ca["next.crt"]);
    const leaf = new X509Certificate((await secretData(proxyNamespace, resolved))["tls.crt"] ?? "");
    expect(leaf.verify(new X509Certificate(signing).publicKey)).toBe(true);
  }, 30_000);
  await seen("authority");
  // The old process opens new connections, as these calls are at once: its bundle had both.
  const calls = await bench.ok(`for i in 1 2 3 4 5 6; do ${call} & done; wait`);
  expect(calls.match(/"uid"/g)?.length).toBe(6);
}, 120_000);
