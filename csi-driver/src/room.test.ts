// The driver as a whole: a real gRPC server on a unix socket, real tmpfs mounts, and a stand-in on each side (the kubelet
// that calls, the API server that is asked). What is published is whole and right, what may not be published leaves
// nothing, what was published is never made worse.
//
// Mounting needs root. Without it these tests are named and skipped; under CI=true they fail.

import { execFileSync } from "node:child_process";
import { readdir, readFile, readlink, stat } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { testConnector } from "../../test/kit/csi-api.ts";
import { refusalOf, testPod, testToken, testTokens } from "../../test/kit/csi-kubelet.ts";
import { startTestDriver } from "../../test/kit/csi-room.ts";
import { spawnDriver } from "../../test/kit/csi-process.ts";

const code = { invalidArgument: 3, notFound: 5, permissionDenied: 7, aborted: 10, internal: 13, unavailable: 14 };
const prod = { "connector.name": "prod" };
const tokensKey = "csi.storage.k8s.io/serviceAccount.tokens";
const cannotMount = process.getuid?.() !== 0 && process.env.CI !== "true";

describe.skipIf(cannotMount)("publish (needs root, to mount)", () => {
  test("gives a pod its kubeconfig, token and CA, swapped in by one link", async () => {
    const { kubelet, api } = await startTestDriver();
    api.put(testConnector("team-a", "prod"));
    const pod = testPod(prod);
    await kubelet.publish(pod);

    const tunnel = testToken(pod, "kube-connector-tunnel");
    const request = testToken(pod, "kube-connector");
    const kubeconfig = await kubelet.read(pod, "kubeconfig");
    expect(kubeconfig).toContain('server: "https://api.prod.example:6443/kubernetes/global"');
    expect(kubeconfig).toContain(`proxy-url: "http://team-a%2Fprod:${tunnel}@c-prod.team-a.svc.cluster.local"`);
    expect(kubeconfig).toContain('tokenFile: "token"');
    expect(kubeconfig).toContain(`token: "${request}"`);
    expect(await kubelet.read(pod, "token")).toBe(request);
    expect(await kubelet.read(pod, "ca.crt")).toContain("BEGIN CERTIFICATE");
    expect((await readdir(kubelet.target(pod))).filter((name) => !name.startsWith(".."))).toEqual([
      "ca.crt",
      "kubeconfig",
      "token",
    ]);
    expect(await readlink(join(kubelet.target(pod), "token"))).toBe("..data/token");
    expect((await stat(join(kubelet.target(pod), "token"))).mode & 0o777).toBe(0o644);
    const mount = (await readFile("/proc/self/mountinfo", "utf8")).split("\n").find((line) => line.includes(pod.uid));
    expect(mount).toMatch(/ rw,nosuid,nodev,noexec,.* - tmpfs connectors-csi:csi-[0-9a-f]{64} .*size=1024k/);
  });

  test("gives the reverse door's kubeconfig when the pod asks for it", async () => {
    const { kubelet, api } = await startTestDriver();
    api.put(testConnector("team-a", "prod"));
    const pod = testPod({ ...prod, "configuration.names": "kubeconfig-direct" });
    await kubelet.publish(pod);
    const direct = await kubelet.read(pod, "kubeconfig-direct");
    expect(direct).toContain('server: "https://c-prod.team-a.svc.cluster.local"');
    expect(direct).not.toContain("proxy-url");
    await expect(kubelet.read(pod, "kubeconfig")).rejects.toThrow("ENOENT");
  });

  test("gives the files to the pod's fsGroup alone, mode 0440", async () => {
    const { kubelet, api } = await startTestDriver();
    api.put(testConnector("team-a", "prod"));
    const pod = testPod(prod, { fsGroup: 4711 });
    await kubelet.publish(pod);
    const found = await stat(join(kubelet.target(pod), "kubeconfig"));
    expect([found.mode & 0o777, found.gid, found.uid]).toEqual([0o440, 4711, 0]);
    const script = `require("fs").readFileSync(${JSON.stringify(join(kubelet.target(pod), "token"))})`;
    // The temporary folder of the test itself is root's alone, so a reader is let in by its folder's mode.
    execFileSync("chmod", ["-R", "o+x", kubelet.root]);
    expect(() => execFileSync(process.execPath, ["-e", script], { uid: 1000, gid: 4711 })).not.toThrow();
    expect(() => execFileSync(process.execPath, ["-e", script], { uid: 1000, gid: 1000, stdio: "pipe" })).toThrow(
      "EACCES",
    );
  });

  test("an unchanged republish asks nothing of the API server and starts no process", async () => {
    const { kubelet, api } = await startTestDriver();
    api.put(testConnector("team-a", "prod", { spec: { access: { sameNamespace: "RequireGrant" } } }));
    api.grants.add("system:serviceaccount:team-a:default team-a/prod");
    const pod = testPod(prod);
    await kubelet.publish(pod);
    const before = { asked: api.requests.length, link: await readlink(join(kubelet.target(pod), "..data")) };
    const children = await childFaults();
    expect(children).toBeGreaterThan(0);
    for (let round = 0; round < 5; round += 1) await kubelet.publish(pod);
    expect(await childFaults()).toBe(children);
    expect(api.requests.length).toBe(before.asked);
    expect(await readlink(join(kubelet.target(pod), "..data"))).toBe(before.link);
    expect(await kubelet.mounts()).toHaveLength(1);
  });

  test("new tokens and a new CA reach the files, without a second mount", async () => {
    const { kubelet, api } = await startTestDriver();
    api.put(testConnector("team-a", "prod"));
    const pod = testPod(prod);
    await kubelet.publish(pod);
    pod.renewal += 1;
    await kubelet.publish(pod);
    expect(await kubelet.read(pod, "token")).toBe(testToken(pod, "kube-connector"));
    const ca = "-----BEGIN CERTIFICATE-----\nMIICnew\n-----END CERTIFICATE-----\n";
    api.put(testConnector("team-a", "prod", { ca }));
    await expect.poll(async () => (await kubelet.publish(pod), await kubelet.read(pod, "ca.crt"))).toBe(ca);
    expect(await kubelet.mounts()).toHaveLength(1);
    expect((await readdir(kubelet.target(pod))).filter((name) => name.startsWith(".."))).toHaveLength(2);
  });

  test("waits for the Connector's proxy, and says what the Connector says when there is none", async () => {
    const { kubelet, api } = await startTestDriver();
    const conditions = [
      { type: "Ready", status: "False", reason: "Deploying", message: "The proxy is being deployed" },
    ];
    api.put(testConnector("team-a", "prod", { status: { proxy: undefined, conditions } }));
    const pod = testPod(prod);
    const publishing = kubelet.publish(pod);
    setTimeout(() => api.put(testConnector("team-a", "prod")), 500);
    await publishing;
    expect(await kubelet.read(pod, "ca.crt")).toContain("BEGIN");

    api.put(testConnector("team-a", "slow", { status: { proxy: undefined, conditions } }));
    const refusal = await kubelet.refusal(testPod({ "connector.name": "slow" }));
    expect(refusal?.code).toBe(code.unavailable);
    expect(refusal?.details).toBe("The Connector team-a/slow has no proxy yet: The proxy is being deployed");
    expect(await kubelet.mounts()).toHaveLength(1);
  });

  test("a missing Connector is a sentence after two seconds, and nothing is left", async () => {
    const { kubelet } = await startTestDriver();
    const pod = testPod(prod);
    const started = performance.now();
    const refusal = await kubelet.refusal(pod);
    expect(refusal?.code).toBe(code.notFound);
    expect(refusal?.details).toContain("There is no Connector team-a/prod; create it");
    expect(performance.now() - started).toBeGreaterThan(1900);
    expect(await readdir(kubelet.folder(pod))).toEqual(["vol_data.json"]);
  });

  test("a pod of another namespace needs a grant, and learns nothing without one", async () => {
    const { kubelet, api } = await startTestDriver();
    api.put(testConnector("team-a", "prod"));
    const attributes = { ...prod, "connector.namespace": "team-a" };
    const pod = testPod(attributes, { namespace: "team-b", serviceAccount: "ci" });
    const refused = await kubelet.refusal(pod);
    expect(refused?.code).toBe(code.permissionDenied);
    expect(refused?.details).toContain("ServiceAccount team-b/ci may not use the Connector team-a/prod");
    expect(refused?.details).toContain('verb "use" on connectors.connectors.cpaas.io, resourceNames ["prod"]');
    const absent = await kubelet.refusal(
      testPod({ ...attributes, "connector.name": "none" }, { namespace: "team-b", serviceAccount: "ci" }),
    );
    expect(absent?.details).toBe(refused?.details.replaceAll("prod", "none"));
    expect(await readdir(kubelet.folder(pod))).toEqual(["vol_data.json"]);

    api.grants.add("system:serviceaccount:team-b:ci team-a/prod");
    await kubelet.publish(pod);
    expect(api.reviews.at(-1)).toEqual({
      user: "system:serviceaccount:team-b:ci",
      groups: ["system:serviceaccounts", "system:serviceaccounts:team-b", "system:authenticated"],
      resourceAttributes: {
        namespace: "team-a",
        name: "prod",
        verb: "use",
        group: "connectors.cpaas.io",
        resource: "connectors",
      },
    });
  });

  test("a Connector that asks for a grant asks its own namespace too, and again when it is another one", async () => {
    const { kubelet, api } = await startTestDriver();
    const guarded = { spec: { access: { sameNamespace: "RequireGrant" } } };
    api.put(testConnector("team-a", "prod", guarded));
    const pod = testPod(prod);
    expect((await kubelet.refusal(pod))?.code).toBe(code.permissionDenied);
    api.grants.add("system:serviceaccount:team-a:default team-a/prod");
    await kubelet.publish(pod);
    api.grants.clear();
    await kubelet.publish(pod);
    api.put(testConnector("team-a", "prod", { ...guarded, uid: "another" }));
    await expect.poll(async () => (await kubelet.refusal(pod))?.code).toBe(code.unavailable);
    expect(await kubelet.read(pod, "token")).toContain(".");
  });

  test("tokens that are not this pod's are refused", async () => {
    const { kubelet, api } = await startTestDriver();
    api.put(testConnector("team-a", "prod"));
    const pod = testPod(prod);
    const other = testPod(prod);
    const refusal = await kubelet.refusal(pod, (request) => {
      request.volumeContext[tokensKey] = testTokens(other);
    });
    expect(refusal?.code).toBe(code.permissionDenied);
    expect(refusal?.details).toContain("is not this pod's: pod uid, pod name differ");
    expect(await kubelet.mounts()).toEqual([]);
  });

  test("with the API server gone, a republish keeps the old files and answers UNAVAILABLE; a new pod is refused", async () => {
    const { kubelet, api, restart } = await startTestDriver();
    api.put(testConnector("team-a", "prod", { spec: { access: { sameNamespace: "RequireGrant" } } }));
    api.grants.add("system:serviceaccount:team-a:default team-a/prod");
    const pod = testPod(prod);
    await kubelet.publish(pod);
    const old = await kubelet.read(pod, "token");
    api.setDown(true);
    await restart();
    pod.renewal += 1;
    const refusal = await kubelet.refusal(pod);
    expect(refusal?.code).toBe(code.unavailable);
    expect(refusal?.details).toContain("has not yet read the Connectors");
    expect(await kubelet.read(pod, "token")).toBe(old);
    const fresh = testPod(prod);
    expect((await kubelet.refusal(fresh))?.code).toBe(code.unavailable);
    expect(await readdir(kubelet.folder(fresh))).toEqual(["vol_data.json"]);
    api.setDown(false);
    await expect.poll(() => kubelet.refusal(pod), { timeout: 15_000 }).toBeUndefined();
    expect(await kubelet.read(pod, "token")).toBe(testToken(pod, "kube-connector"));
  });

  test("a republish that fails for good reasons still keeps the files and answers UNAVAILABLE", async () => {
    const { kubelet, api } = await startTestDriver();
    api.put(testConnector("team-a", "prod"));
    const pod = testPod(prod);
    await kubelet.publish(pod);
    api.remove("team-a", "prod");
    const change = (request: { volumeContext: Record<string, string> }) => {
      request.volumeContext["no.such"] = "attribute";
    };
    expect((await kubelet.refusal(pod, change))?.code).toBe(code.unavailable);
    await expect.poll(async () => (await kubelet.refusal(pod))?.details ?? "").toContain("There is no Connector");
    expect((await kubelet.refusal(pod))?.code).toBe(code.unavailable);
    expect(await kubelet.read(pod, "token")).toBe(testToken(pod, "kube-connector"));
  });

  test("of two publishes of one volume at once, one works and the other is told to try again", async () => {
    const { kubelet, api } = await startTestDriver();
    const pod = testPod(prod);
    const first = refusalOf(kubelet.publish(pod));
    const second = refusalOf(kubelet.publish(pod));
    setTimeout(() => api.put(testConnector("team-a", "prod")), 300);
    const codes = [await first, await second].map((refusal) => refusal?.code ?? 0);
    expect(codes.sort((a, b) => a - b)).toEqual([0, code.aborted]);
    expect(await kubelet.mounts()).toHaveLength(1);
  });

  test("starts over what a killed first publish has left", async () => {
    const { kubelet, api } = await startTestDriver();
    api.put(testConnector("team-a", "prod"));
    const pod = testPod(prod);
    execFileSync("mkdir", ["-p", kubelet.target(pod)]);
    execFileSync("mount", ["-t", "tmpfs", `connectors-csi:${kubelet.volumeId(pod)}`, kubelet.target(pod)]);
    await kubelet.publish(pod);
    expect(await kubelet.read(pod, "token")).toBe(testToken(pod, "kube-connector"));
    expect(await kubelet.mounts()).toHaveLength(1);
  });

  test("leaves a mount of somebody else alone", async () => {
    const { kubelet, api } = await startTestDriver();
    api.put(testConnector("team-a", "prod"));
    const pod = testPod(prod);
    execFileSync("mkdir", ["-p", kubelet.target(pod)]);
    execFileSync("mount", ["-t", "tmpfs", "foreign", kubelet.target(pod)]);
    const refusal = await kubelet.refusal(pod);
    expect(refusal?.code).toBe(code.internal);
    expect(refusal?.details).toContain("Something else is mounted");
    expect(await kubelet.mounts()).toHaveLength(1);
  });

  test("a driver that is killed in the middle of publishes is repaired by the next tries", {
    timeout: 60_000,
  }, async () => {
    const room = await startTestDriver({ registered: false });
    const { kubelet, api } = room;
    api.put(testConnector("team-a", "prod"));
    const pods = Array.from({ length: 24 }, () => testPod(prod));
    await room.driver.stop();
    const cut: number[] = [];
    for (const wait of [50, 80, 120, 200]) {
      const life = await spawnDriver(kubelet, api.url);
      const publishing = pods.map((pod) => kubelet.refusal(pod));
      await new Promise((resolve) => setTimeout(resolve, wait));
      await life.kill();
      cut.push((await Promise.all(publishing)).filter((refusal) => refusal !== undefined).length);
    }
    // Else nothing was killed in the middle.
    expect(Math.max(...cut)).toBeGreaterThan(0);
    const last = await spawnDriver(kubelet, api.url);
    for (const pod of pods) {
      await expect.poll(() => kubelet.refusal(pod)).toBeUndefined();
      expect(await kubelet.read(pod, "token")).toBe(testToken(pod, "kube-connector"));
    }
    expect(await kubelet.mounts()).toHaveLength(pods.length);
    for (const pod of pods) await kubelet.unpublish(pod);
    expect(await kubelet.mounts()).toEqual([]);
    await last.kill();
  });
});

/** Grows with each child process that has ended: the page faults of waited-for children, proc_pid_stat(5). */
async function childFaults(): Promise<number> {
  const text = await readFile("/proc/self/stat", "utf8");
  return Number(text.slice(text.lastIndexOf(")") + 2).split(" ")[8]);
}
