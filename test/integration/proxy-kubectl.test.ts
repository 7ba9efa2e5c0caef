import { type ChildProcess, execFile, spawn } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Secret } from "@kube-connector/core";
import { afterAll, beforeAll, expect, onTestFinished, test } from "vitest";
import { createPod, requestAdminToken, requestToken } from "../kit/control-plane.ts";
import { type PodTokens, type ProxiedPlane, startProxiedPlane } from "../kit/proxied-plane.ts";

// Unmodified kubectl with a pod's kubeconfig, through the proxy to a real API server: it acts as the stored token's user,
// and what the proxy refuses it prints as a sentence.

let world: ProxiedPlane;
let pod: PodTokens;
let folder: string;
const prod = { namespace: "team-a", name: "prod", address: "" };
const target = "target-system";

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "kubectl-"));
  world = await startProxiedPlane();
  prod.address = world.plane.url;
  const { admin, ca } = world.plane;
  const stored = await requestAdminToken(admin, target, "deployer");
  await world.serve({ ...prod, tls: { caBundle: ca }, token: stored.reveal() });
  pod = await world.pod("team-a", "worker");
});
afterAll(async () => {
  await world.stop();
  await rm(folder, { recursive: true });
});

async function configFile(kubeconfig: Secret): Promise<string> {
  const file = join(folder, `config-${Math.random()}`);
  await writeFile(file, kubeconfig.reveal(), { mode: 0o600 });
  return file;
}

/** Runs kubectl with an empty discovery cache, as in a fresh pod. */
async function kubectl(tokens: PodTokens, args: string[], input = "") {
  const file = await configFile(world.kubeconfig(tokens, prod));
  const all = [`--kubeconfig=${file}`, `--cache-dir=${join(folder, String(Math.random()))}`, ...args];
  return await new Promise<{ code: number; out: string; err: string }>((resolve) => {
    const child = execFile(join(world.plane.bin, "kubectl"), all, { maxBuffer: 64e6 }, (error, out, err) =>
      resolve({ code: error === null ? 0 : 1, out, err }),
    );
    child.stdin?.end(input);
  });
}

const configMap = (data: string) =>
  JSON.stringify({ apiVersion: "v1", kind: "ConfigMap", metadata: { name: "note" }, data: { text: data } });

test("kubectl acts as the stored token's user", async () => {
  const { out, err } = await kubectl(pod, ["auth", "whoami", "-o", "jsonpath={.status.userInfo.username}"]);
  expect({ out, err }).toEqual({ out: `system:serviceaccount:${target}:deployer`, err: "" });
});

test("get, describe, create, apply, server-side apply, patch, delete and api-resources work", async () => {
  const does = async (args: string[], input = "") => {
    const { code, out, err } = await kubectl(pod, ["-n", target, ...args], input);
    expect([args.join(" "), code, err]).toEqual([args.join(" "), 0, ""]);
    return out;
  };
  expect(await does(["get", "namespaces"])).toContain(target);
  expect(await does(["create", "-f", "-", "--save-config"], configMap("one"))).toContain("created");
  expect(await does(["apply", "-f", "-"], configMap("two"))).toContain("configured");
  expect(await does(["apply", "--server-side", "--force-conflicts", "-f", "-"], configMap("three"))).toContain(
    "applied",
  );
  expect(await does(["patch", "configmap", "note", "-p", '{"data":{"text":"four"}}'])).toContain("patched");
  expect(await does(["describe", "configmap", "note"])).toContain("four");
  expect(await does(["api-resources"])).toContain("configmaps");
  expect(await does(["delete", "configmap", "note"])).toContain("deleted");
  expect(await does(["version"])).toContain("Server Version");
});

test("a watch shows changes as they come, and goes on when the stored token is replaced", async () => {
  const file = await configFile(world.kubeconfig(pod, prod));
  const args = [`--kubeconfig=${file}`, "-n", target, "get", "configmaps", "-w", "-o", "name"];
  const watch: ChildProcess = spawn(join(world.plane.bin, "kubectl"), args);
  onTestFinished(() => void watch.kill());
  let seen = "";
  watch.stdout?.on("data", (bytes: Buffer) => (seen += bytes.toString()));
  const make = (name: string) =>
    world.plane.admin.request("POST", `/api/v1/namespaces/${target}/configmaps`, { body: { metadata: { name } } });
  await make("before");
  await expect.poll(() => seen, { timeout: 10_000 }).toContain("configmap/before");
  const audience = "https://kubernetes.default.svc.cluster.local";
  const fresh = await requestToken(world.plane.admin, { namespace: target, serviceAccount: "deployer", audience });
  await world.serve({ ...prod, tls: { caBundle: world.plane.ca }, token: fresh.reveal() });
  await make("after");
  await expect.poll(() => seen, { timeout: 10_000 }).toContain("configmap/after");
  expect(watch.exitCode).toBeNull();
});

test("a list of 5 MB comes whole", async () => {
  const { admin } = world.plane;
  for (let count = 0; count < 20; count += 1) {
    await admin.request("POST", `/api/v1/namespaces/${target}/configmaps`, {
      body: { metadata: { name: `large-${count}` }, data: { text: "x".repeat(260_000) } },
    });
  }
  const { code, out } = await kubectl(pod, ["-n", target, "get", "configmaps", "-o", "json"]);
  expect(code).toBe(0);
  expect(out.length).toBeGreaterThan(5_000_000);
  expect((JSON.parse(out) as { items: unknown[] }).items.length).toBeGreaterThanOrEqual(20);
});

test("what the proxy refuses is a sentence in kubectl's output, with an empty discovery cache too", async () => {
  const stranger = await world.pod("team-b", "stranger");
  const grant = "grant it the verb use on connectors.connectors.cpaas.io/prod in namespace team-a";
  for (const args of [
    ["get", "pods"],
    ["get", "--raw", "/api/v1/namespaces"],
  ]) {
    const { code, err } = await kubectl(stranger, args);
    expect([code, err]).toEqual([1, expect.stringContaining(grant)]);
  }
  const wrongTunnel = await kubectl({ ...pod, tunnel: pod.request }, ["get", "pods"]);
  expect(wrongTunnel.err).toContain("The tunnel token has the audience kube-connector, not kube-connector-tunnel");
  const wrongRequest = await kubectl({ ...pod, request: pod.tunnel }, ["get", "pods"]);
  expect(wrongRequest.err).toContain("has the audience kube-connector-tunnel, not kube-connector");
});

test("attack 12: a pod that was deleted and made again under its name does not come in with the old token", async () => {
  const first = await world.pod("team-a", "phoenix");
  await world.plane.admin.request("DELETE", "/api/v1/namespaces/team-a/pods/phoenix", {
    query: { gracePeriodSeconds: 0 },
  });
  await createPod(world.plane.admin, "team-a", "phoenix");
  const { code, err } = await kubectl(first, ["get", "pods"]);
  expect([code, err]).toEqual([1, expect.stringContaining("no longer accepted")]);
});
