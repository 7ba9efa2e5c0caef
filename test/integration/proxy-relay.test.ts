import { type ChildProcess, execFile, spawn } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseAddress, renderKubeconfig, Secret, silentLog, systemClock, tunnelUrl } from "@kube-connector/core";
import { createLocalAccess, noMetrics, type RunningProxy, startProxy } from "@kube-connector/proxy";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { createTestCa } from "../kit/certificates.ts";
import { type ControlPlane, ensureServiceAccount, requestToken, startControlPlane } from "../kit/control-plane.ts";
import { TestSource } from "../kit/test-proxy.ts";

// Unmodified kubectl works through both doors of the proxy against a real kube-apiserver, as the user of the stored token,
// with nothing of that token in its kubeconfig.

const identity = { namespace: "team-a", name: "prod" };
let plane: ControlPlane;
let proxy: RunningProxy;
let folder: string;
const source = new TestSource();
let stored: Secret;

beforeAll(async () => {
  plane = await startControlPlane();
  await ensureServiceAccount(plane.admin, "team-a", "remote");
  await plane.admin.request("POST", "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", {
    body: {
      metadata: { name: "remote" },
      roleRef: { apiGroup: "rbac.authorization.k8s.io", kind: "ClusterRole", name: "cluster-admin" },
      subjects: [{ kind: "ServiceAccount", name: "remote", namespace: "team-a" }],
    },
  });
  const audience = "https://kubernetes.default.svc.cluster.local";
  stored = await requestToken(plane.admin, { namespace: "team-a", serviceAccount: "remote", audience });
  const connectorCa = await createTestCa("connector CA");
  const leaf = await connectorCa.leaf(["127.0.0.1", "localhost"]);
  source.put({
    ...identity,
    uid: "uid-1",
    address: plane.url,
    tls: { caBundle: plane.ca, insecureSkipVerify: false },
    access: { sameNamespace: "Allow" },
    serviceNames: ["localhost"],
    target: parseAddress(plane.url),
    token: stored,
    leaf: { certificate: leaf.certificate, key: new Secret(leaf.key) },
  });
  const access = createLocalAccess();
  proxy = await startProxy({
    forward: { host: "127.0.0.1", port: 0 },
    reverse: { host: "127.0.0.1", port: 0 },
    connectors: source,
    authenticator: access.authenticator,
    authorizer: access.authorizer,
    metrics: noMetrics,
    clock: systemClock,
    log: silentLog,
    timeouts: { drainWait: 0, drainGrace: 0 },
    allowLoopbackTargets: true,
  });
  folder = await mkdtemp(join(tmpdir(), "proxy-relay-"));
  const token = access.requestToken(identity);
  const ca = connectorCa.certificate;
  const proxyUrl = tunnelUrl(`http://127.0.0.1:${proxy.forwardPort}`, identity, access.tunnelToken(identity));
  const direct = `https://localhost:${proxy.reversePort}`;
  await writeFile(join(folder, "forward"), renderKubeconfig({ server: plane.url, proxyUrl, ca, token }).reveal());
  await writeFile(join(folder, "reverse"), renderKubeconfig({ server: direct, ca, token }).reveal());
});

afterAll(async () => {
  await proxy?.stop();
  await plane?.stop();
  if (folder !== undefined) await rm(folder, { recursive: true });
});

interface Said {
  status: number;
  out: string;
  err: string;
}

function kubectl(door: string, args: readonly string[], input = ""): Promise<Said> {
  const flags = ["--kubeconfig", join(folder, door), "--cache-dir", join(folder, `cache-${door}`)];
  return new Promise((resolve) => {
    const child = execFile(join(plane.bin, "kubectl"), [...flags, ...args], { maxBuffer: 1e8 }, (error, out, err) =>
      resolve({ status: error === null ? 0 : Number(error.code), out, err }),
    );
    child.stdin?.end(input);
  });
}

const configMap = (name: string, data: Record<string, string>) =>
  JSON.stringify({ apiVersion: "v1", kind: "ConfigMap", metadata: { name, namespace: "team-a" }, data });

describe.each(["forward", "reverse"])("through the %s door", (door) => {
  test("whoami answers with the stored token's user", async () => {
    const said = await kubectl(door, ["auth", "whoami", "-o", "jsonpath={.status.userInfo.username}"]);
    expect(said).toEqual({ status: 0, out: "system:serviceaccount:team-a:remote", err: "" });
  });

  test("apply, server-side apply, patch, get and delete work", async () => {
    const name = `made-${door}`;
    const steps: string[][] = [
      ["apply", "-f", "-"],
      ["apply", "--server-side", "--force-conflicts", "-f", "-"],
      ["patch", "-n", "team-a", "configmap", name, "-p", '{"data":{"more":"1"}}'],
      ["get", "-n", "team-a", "configmap", name, "-o", "jsonpath={.data}"],
      ["delete", "-n", "team-a", "configmap", name],
    ];
    const said = [];
    for (const step of steps) said.push(await kubectl(door, step, configMap(name, { key: "value" })));
    expect(said.map(({ status, err }) => ({ status, err }))).toEqual(steps.map(() => ({ status: 0, err: "" })));
    expect(said[3]?.out).toBe('{"key":"value","more":"1"}');
  });

  test("api-resources and a 5 MB list work", async () => {
    const resources = await kubectl(door, ["api-resources"]);
    expect(resources.status).toBe(0);
    expect(resources.out).toContain("configmaps");
    const value = "x".repeat(500_000);
    for (let i = 0; i < 10; i++)
      await kubectl(door, ["apply", "--server-side", "-f", "-"], configMap(`big-${i}`, { value }));
    const list = await kubectl(door, ["get", "-n", "team-a", "configmaps", "-o", "json"]);
    expect(list.out.length).toBeGreaterThan(5_000_000);
  });

  test("get -w shows a change as it comes", async () => {
    const args = ["--kubeconfig", join(folder, door), "get", "-n", "team-a", "configmaps", "-w", "-o", "name"];
    const child = spawn(join(plane.bin, "kubectl"), args);
    try {
      const seen = waitFor(child, `configmap/watched-${door}`);
      await waitFor(child, "configmap/");
      await kubectl(door, ["apply", "-f", "-"], configMap(`watched-${door}`, {}));
      await seen;
    } finally {
      child.kill();
    }
  });

  test("kubectl shows why impersonation is refused", async () => {
    const said = await kubectl(door, ["get", "pods", "--as", "system:admin"]);
    expect(said.status).toBe(1);
    expect(said.err).toContain("impersonation does not pass a connector");
  });
});

function waitFor(child: ChildProcess, text: string): Promise<void> {
  return new Promise((resolve, reject) => {
    let said = "";
    const listen = (chunk: Buffer) => {
      said += chunk.toString();
      if (said.includes(text)) resolve();
    };
    child.stdout?.on("data", listen);
    child.stderr?.on("data", listen);
    child.once("close", () => reject(new Error(`ended without ${text}: ${said}`)));
  });
}
