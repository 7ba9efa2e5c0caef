// What a publish costs, with the driver as a process of its own, started as in its container, with 110 volumes and 1,000
// Connectors. Nothing is asserted of times and sizes: each is a line, `name value unit target ok|short`.

import { describe, expect, onTestFinished, test } from "vitest";
import { startStandInApi, testConnector } from "../kit/csi-api.ts";
import { createStandInKubelet, testPod } from "../kit/csi-kubelet.ts";
import { spawnDriver } from "../kit/csi-process.ts";
import { figure } from "./figure.ts";
import { memoryOf } from "./machine.ts";

const cannotMount = process.getuid?.() !== 0 && process.env.CI !== "true";
const ca = `-----BEGIN CERTIFICATE-----\n${"MIIB".repeat(200)}\n-----END CERTIFICATE-----\n`;

describe.skipIf(cannotMount)("figures (need root, to mount)", () => {
  test("a publish, a burst, a republish and the memory", async () => {
    const kubelet = await createStandInKubelet();
    onTestFinished(() => kubelet.cleanUp());
    const api = await startStandInApi();
    onTestFinished(() => api.stop());
    for (let index = 0; index < 1000; index += 1) api.put(testConnector("team-a", `prod-${index}`, { ca }));
    const driver = await spawnDriver(kubelet, api.url, {
      bare: ["--max-old-space-size=48", "--max-semi-space-size=1", "--expose-gc"],
    });
    const pods = (count: number) =>
      Array.from({ length: count }, (_, index) => testPod({ "connector.name": `prod-${index}` }));
    const time = async (work: () => Promise<unknown>) => {
      const started = performance.now();
      await work();
      return performance.now() - started;
    };

    await kubelet.publish(pods(1)[0] ?? testPod({}));
    const singly: number[] = [];
    const unchanged: number[] = [];
    for (const pod of pods(100)) {
      singly.push(await time(() => kubelet.publish(pod)));
      unchanged.push(await time(() => kubelet.publish(pod)));
      await kubelet.unpublish(pod);
    }
    const burstPods = pods(109);
    const burst = await time(() => Promise.all(burstPods.map((pod) => kubelet.publish(pod))));
    for (let round = 0; round < 20; round += 1) {
      for (const pod of burstPods) {
        pod.renewal += 1;
        await kubelet.publish(pod);
      }
    }
    const memory = memoryOf(driver.child.pid ?? 0);
    const median = (times: number[]) => times.sort((a, b) => a - b)[Math.floor(times.length / 2)] ?? Number.NaN;
    expect(await kubelet.mounts()).toHaveLength(110);
    figure("csi publish p50", median(singly), "ms", { atMost: 5 });
    figure("csi unchanged republish p50", median(unchanged), "ms", { atMost: 5 });
    figure("csi 109 pods at once", burst, "ms", { atMost: 2000 });
    figure("csi resident, 110 volumes", memory.resident / 1024, "MiB", { atMost: 80 });
    figure("csi its own memory, 110 volumes", memory.anonymous / 1024, "MiB", { atMost: 45 });
  });
});
