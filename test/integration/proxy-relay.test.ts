import { type ChildProcess, execFile, spawn } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { parseAddress, renderKubeconfig, Secret, silentLog, systemClock, tunnelUrl } from "@kube-connector/core";
import { createLocalAccess, noMetrics, type RunningProxy, startProxy } from "@kube-connector/proxy";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { createTestCa } from "../kit/certificates.ts";
import { type ControlPlane, requestAdminToken, startControlPlane } from "../kit/control-plane.ts";
import { TestSource } from "../kit/test-proxy.ts";

// Unmodified kubectl works through both doors of the proxy against a real kube-apiserver, as the user of the stored token,
// with nothing of that token in its kubeconfig, over HTTP/2 (by our own relay, and by node:http2) and over HTTP/1.1. curl says
// which version it was.

const identity = { namespace: "team-a", name: "prod" };
let plane: ControlPlane;
const proxies: RunningProxy[] = [];
let folder: string;
/** By door and version: where curl goes. */
const curls = new Map<string, string[]>();
const source = new TestSource();
let stored: Secret;

beforeAll(async () => {
  plane = await startControlPlane();
  stored = await requestAdminToken(plane.admin, "team-a", "remote");
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
  folder = await mkdtemp(join(tmpdir(), "proxy-relay-"));
  const ca = connectorCa.certificate;
  const token = access.requestToken(identity);
  await writeFile(join(folder, "ca"), ca);
  await writeFile(join(folder, "header"), `Authorization: Bearer ${token.reveal()}\n`);
  for (const http2 of ["own", "node", "off"] as const) {
    const proxy = await startProxy({
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
      http2,
    });
    proxies.push(proxy);
    const proxyUrl = tunnelUrl(`http://127.0.0.1:${proxy.forwardPort}`, identity, access.tunnelToken(identity));
    const direct = `https://localhost:${proxy.reversePort}`;
    const version = { own: "2", node: "2-node", off: "1.1" }[http2];
    const write = (door: string, text: Secret) => writeFile(join(folder, `${door}-${version}`), text.reveal());
    await write("forward", renderKubeconfig({ server: plane.url, proxyUrl, ca, token }));
    await write("reverse", renderKubeconfig({ server: direct, ca, token }));
    curls.set(`forward-${version}`, ["--proxy", proxyUrl.reveal(), plane.url]);
    curls.set(`reverse-${version}`, [direct]);
  }
});

afterAll(async () => {
  for (const proxy of proxies) await proxy.stop();
  await plane?.stop();
  if (folder !== undefined) await rm(folder, { recursive: true });
});

const run = promisify(execFile);

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

/** ConfigMaps of 500 kB that are there. */
let big = 0;
const doors = ["forward-2", "reverse-2", "forward-2-node", "forward-1.1", "reverse-1.1"];

describe.each(doors)("through the door and with HTTP %s", (door) => {
  test("that is the version that clients choose", async () => {
    const [url = "", ...proxy] = (curls.get(door) ?? []).toReversed();
    const files = ["--cacert", join(folder, "ca"), "-H", `@${join(folder, "header")}`];
    const show = ["-sS", "-o", join(folder, "body"), "-w", "%{http_version} %{http_code}"];
    const { stdout } = await run("curl", [...show, ...files, ...proxy.toReversed(), `${url}/api/v1/namespaces`]);
    expect(stdout).toBe(`${door.split("-")[1]} 200`);
  });

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
    // What was made through another door is there; through this one goes at least one.
    do await kubectl(door, ["apply", "--server-side", "-f", "-"], configMap(`big-${big}`, { value }));
    while (++big < 10);
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
