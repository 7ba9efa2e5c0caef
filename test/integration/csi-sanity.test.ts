// The Container Storage Interface's own conformance test, csi-sanity v5.6.0, against the real driver process: all 17 of
// its Identity and Node specs pass. The count is required, because specs that are skipped look green too.

import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { chmod, mkdir, readFile, writeFile } from "node:fs/promises";
import { homedir } from "node:os";
import { join } from "node:path";
import { describe, expect, onTestFinished, test } from "vitest";
import { startStandInApi, testConnector } from "../kit/csi-api.ts";
import { createStandInKubelet, testPod } from "../kit/csi-kubelet.ts";
import { spawnDriver } from "../kit/csi-process.ts";
import { startCsiShim } from "../kit/csi-shim.ts";

const cacheHome = process.env.XDG_CACHE_HOME ?? join(homedir(), ".cache");
const cache = process.env.KUBE_CONNECTOR_CACHE ?? join(cacheHome, "kube-connector");
const bin = process.env.CLUSTER_BIN ?? join(cache, "kubernetes-1.35.4", "bin");
const cannotMount = process.getuid?.() !== 0 && process.env.CI !== "true";

describe.skipIf(cannotMount)("csi-sanity (needs root, to mount)", () => {
  test("all 17 Identity and Node specs pass", async () => {
    const program = join(bin, "csi-sanity");
    expect(existsSync(program), `${program} is missing; build it with test/cluster/build.sh`).toBe(true);
    const kubelet = await createStandInKubelet();
    onTestFinished(() => kubelet.cleanUp());
    const api = await startStandInApi();
    onTestFinished(() => api.stop());
    api.put(testConnector("team-a", "prod"));
    const driver = await spawnDriver(kubelet, api.url);
    const pod = testPod({ "connector.name": "prod" }, { volume: "sanity" });
    const { volumeContext } = kubelet.request(pod);
    const socket = join(kubelet.root, "shim.sock");
    const shim = await startCsiShim({ socket, driver: kubelet.socket, volumeContext });
    onTestFinished(() => shim.stop());

    const mountDir = kubelet.folder(pod);
    await mkdir(join(mountDir, ".."), { recursive: true });
    const checkPath = join(kubelet.root, "check-path");
    await writeFile(
      checkPath,
      `#!/bin/sh
path=$1
case $path in */target) path=\${path%/target}/mount;; esac
if [ -f "$path" ]; then echo file
elif [ -d "$path" ]; then echo directory
elif [ ! -e "$path" ]; then echo not_found
else echo other; fi
`,
    );
    await chmod(checkPath, 0o755);
    const report = join(kubelet.root, "sanity.xml");
    const { output, status } = await run(program, [
      `--csi.endpoint=unix://${socket}`,
      `--csi.stagingdir=${kubelet.root}/staging`,
      `--csi.mountdir=${mountDir}`,
      `--csi.checkpathcmd=${checkPath}`,
      `--ginkgo.junit-report=${report}`,
      String.raw`--ginkgo.skip=\[Controller Server\]|GroupController|SnapshotMetadata`,
      "--ginkgo.no-color",
    ]);
    expect(status, `${output}\n${driver.output()}`).toBe(0);
    const cases = [
      ...(await readFile(report, "utf8")).matchAll(/<testcase name="\[It\] ([^"]*)"[^>]*status="([^"]*)"/g),
    ];
    const passed = cases.filter(([, , state]) => state === "passed").map(([, name]) => name);
    expect(passed, output).toHaveLength(17);
    expect(await kubelet.mounts()).toEqual([]);
  });
});

function run(program: string, args: readonly string[]): Promise<{ output: string; status: number | null }> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { stdio: ["ignore", "pipe", "pipe"] });
    let output = "";
    for (const stream of [child.stdout, child.stderr]) stream.on("data", (chunk) => (output += String(chunk)));
    child.once("error", reject);
    child.once("exit", (status) => resolve({ output, status }));
  });
}
