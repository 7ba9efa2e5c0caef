// The driver's life around publishing, with real sockets and mounts: volumes are taken away whole, a restart repairs, the
// kubelet and Prometheus are told the truth, no token is logged.
//
// Mounting needs root. Without it these tests are named and skipped; under CI=true they fail.

import { execFileSync } from "node:child_process";
import { open, readdir, readlink, rename, stat, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { describe, expect, test } from "vitest";
import { testConnector } from "../../test/kit/csi-api.ts";
import { refusalOf, testPod, testToken, testTokens } from "../../test/kit/csi-kubelet.ts";
import { startTestDriver } from "../../test/kit/csi-room.ts";

const code = { invalidArgument: 3, notFound: 5, permissionDenied: 7, aborted: 10, internal: 13, unavailable: 14 };
const prod = { "connector.name": "prod" };
const tokensKey = "csi.storage.k8s.io/serviceAccount.tokens";
const cannotMount = process.getuid?.() !== 0 && process.env.CI !== "true";

describe.skipIf(cannotMount)("unpublish (needs root, to mount)", () => {
  test("takes the mount and its folder away, twice if asked, stacked ones too", async () => {
    const { kubelet, api, get } = await startTestDriver();
    api.put(testConnector("team-a", "prod"));
    const pod = testPod(prod);
    await kubelet.publish(pod);
    for (let more = 0; more < 3; more += 1) {
      execFileSync("mount", ["-t", "tmpfs", `connectors-csi:${kubelet.volumeId(pod)}`, kubelet.target(pod)]);
    }
    expect((await get("/metrics")).text).toContain("kube_connector_csi_stacked_mounts 1");
    await kubelet.unpublish(pod);
    expect(await kubelet.mounts()).toEqual([]);
    expect(await readdir(kubelet.folder(pod))).toEqual([]);
    await kubelet.unpublish(pod);
    await kubelet.unpublish(testPod(prod));
  });

  test("works while somebody still has a file open", async () => {
    const { kubelet, api } = await startTestDriver();
    api.put(testConnector("team-a", "prod"));
    const pod = testPod(prod);
    await kubelet.publish(pod);
    const file = await open(join(kubelet.target(pod), "token"));
    await kubelet.unpublish(pod);
    expect(await kubelet.mounts()).toEqual([]);
    await file.close();
  });

  test("never deletes files: a folder that is not empty is an error", async () => {
    const { kubelet, api } = await startTestDriver();
    api.put(testConnector("team-a", "prod"));
    const pod = testPod(prod);
    execFileSync("mkdir", ["-p", kubelet.target(pod)]);
    await writeFile(join(kubelet.target(pod), "precious"), "");
    expect((await refusalOf(kubelet.unpublish(pod)))?.code).toBe(code.internal);
    expect((await kubelet.refusal(pod))?.details).toContain("it is no empty folder");
    expect(await readdir(kubelet.target(pod))).toEqual(["precious"]);
  });

  test("a path that leads through a link is refused", async () => {
    const { kubelet } = await startTestDriver();
    const pod = testPod(prod);
    execFileSync("mkdir", ["-p", dirname(kubelet.folder(pod)), `${kubelet.root}/elsewhere/mount`]);
    execFileSync("ln", ["-s", `${kubelet.root}/elsewhere`, kubelet.folder(pod)]);
    const refusal = await refusalOf(kubelet.unpublish(pod));
    expect(refusal?.code).toBe(code.invalidArgument);
    expect(await readdir(`${kubelet.root}/elsewhere`)).toEqual(["mount"]);
  });
});

describe.skipIf(cannotMount)("the process (needs root, to mount)", () => {
  test("registers, is ready, and takes its sockets away when it stops", async () => {
    const { kubelet, driver, get } = await startTestDriver({ registered: false });
    expect(await get("/readyz")).toEqual({ status: 503, text: "the kubelet has not registered the driver yet\n" });
    expect((await stat(driver.socket)).mode & 0o777).toBe(0o600);
    expect(await kubelet.register()).toEqual({ name: "connectors-csi", endpoint: kubelet.socket, nodeId: "node-1" });
    expect((await get("/readyz")).status).toBe(200);
    expect((await get("/livez")).status).toBe(200);
    await rename(`${kubelet.root}/plugins_registry/connectors-csi-reg.sock`, `${kubelet.root}/away`);
    expect((await get("/livez")).status).toBe(503);
    await rename(`${kubelet.root}/away`, `${kubelet.root}/plugins_registry/connectors-csi-reg.sock`);
    await driver.stop();
    expect(await readdir(`${kubelet.root}/plugins_registry`)).toEqual([]);
    expect(await readdir(`${kubelet.root}/plugins/connectors-csi`)).toEqual([]);
  });

  test("ends with a sentence when the kubelet refuses it", async () => {
    const { kubelet, driver } = await startTestDriver({ registered: false });
    await kubelet.register(false);
    await expect(driver.done).rejects.toThrow("The kubelet refused the driver: no such node");
  });

  test("finds its volumes again after a restart, and writes nothing that is right already", async () => {
    const { kubelet, api, restart, get } = await startTestDriver();
    api.put(testConnector("team-a", "prod"));
    const pod = testPod(prod);
    await kubelet.publish(pod);
    const link = await readlink(join(kubelet.target(pod), "..data"));
    await restart();
    expect((await get("/metrics")).text).toMatch(/oldest_token_expiry_seconds 3\d{3}/);
    await kubelet.publish(pod);
    expect(await readlink(join(kubelet.target(pod), "..data"))).toBe(link);
    expect(await kubelet.mounts()).toHaveLength(1);
  });

  test("says how full a volume is, and NOT_FOUND for what is none", async () => {
    const { kubelet, api } = await startTestDriver();
    api.put(testConnector("team-a", "prod"));
    const pod = testPod(prod);
    await kubelet.publish(pod);
    const at = { volumeId: kubelet.volumeId(pod), volumePath: kubelet.target(pod) };
    const { usage } = await kubelet.call((client) => client.nodeGetVolumeStats(at));
    expect(usage.map(({ unit, total }) => [unit, total > 0n])).toEqual([
      [1, true],
      [2, true],
    ]);
    expect(usage[0]?.total).toBe(1_048_576n);
    const nowhere = await refusalOf(kubelet.call((client) => client.nodeGetVolumeStats({ ...at, volumePath: "/x" })));
    expect(nowhere?.code).toBe(code.notFound);
  });

  test("no token is in any log line at debug level, whatever happens", async () => {
    const { kubelet, api, lines } = await startTestDriver();
    api.put(testConnector("team-a", "prod"));
    const pod = testPod(prod);
    await kubelet.publish(pod);
    await kubelet.refusal(testPod(prod), (request) => {
      request.volumeContext[tokensKey] = `{"kube-connector": ${testToken(pod, "kube-connector")}`;
    });
    await kubelet.refusal(testPod(prod), (request) => {
      request.secrets = { [tokensKey]: testTokens(pod) };
    });
    expect(lines.some((line) => line.includes("A call came") && line.includes('\\"connector.name\\":\\"prod\\"'))).toBe(
      true,
    );
    expect(lines.filter((line) => line.includes("eyJ"))).toEqual([]);
  });

  test("a burst of 110 pods is served", async () => {
    const { kubelet, api } = await startTestDriver();
    api.put(testConnector("team-a", "prod"));
    const pods = Array.from({ length: 110 }, () => testPod(prod));
    await Promise.all(pods.map((pod) => kubelet.publish(pod)));
    expect(await kubelet.mounts()).toHaveLength(110);
  });
});
