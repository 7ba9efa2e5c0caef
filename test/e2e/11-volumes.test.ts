// Volumes survive what happens to a node: the kubelet restarts, the driver is killed in the middle of its work. No mount
// is made twice, none is left behind, no pod starts with an empty volume.
import { beforeAll, expect, test } from "vitest";
import { connect, control, pod, type Pod, startWorkbench, target, workbenchPod } from "./cluster.ts";
import { apply, eventually, getJson, kubectlOk } from "./kubectl.ts";
import { processes, volumeMounts } from "./processes.ts";

const volumes = { global: { connector: "global", configurations: "kubeconfig" } };
let bench: Pod;

beforeAll(async () => {
  await connect("team-a", target("global"));
  bench = await startWorkbench({ namespace: "team-a", name: "volumes", volumes });
});

test("the kubelet is restarted three times: the count of mounts does not grow, and the files stay", async () => {
  const before = volumeMounts();
  expect(before).toBeGreaterThan(0);
  for (let round = 0; round < 3; round++) {
    await control("restart", "kubelet");
    await eventually(async () => {
      const { status } = await getJson<{ status: { conditions: { type: string; status: string }[] } }>([
        "node",
        "node1",
      ]);
      expect(status.conditions.find(({ type }) => type === "Ready")?.status).toBe("True");
    }, 60_000);
    await new Promise((resolve) => setTimeout(resolve, 8000));
  }
  expect(volumeMounts()).toBe(before);
  await eventually(async () => {
    expect(await bench.ok("KUBECONFIG=/access/global/kubeconfig kubectl get namespace default -o name")).toContain(
      "default",
    );
  }, 60_000);
}, 240_000);

test("the driver is killed twice while ten pods start: all of them run, each with a whole volume", async () => {
  const names = Array.from({ length: 10 }, (_, index) => `burst-${index}`);
  await apply(names.map((name) => workbenchPod({ namespace: "team-a", name, volumes })));
  for (let kill = 0; kill < 2; kill++) {
    await new Promise((resolve) => setTimeout(resolve, 100 + 150 * kill));
    await eventually(
      () => {
        const [driver] = processes("csi-driver.mjs");
        if (driver === undefined) throw new Error("no driver runs");
        process.kill(driver.pid, "SIGKILL");
      },
      60_000,
      20,
    );
  }
  await kubectlOk(
    ["-n", "team-a", "wait", "--for=condition=Ready", ...names.map((name) => `pod/${name}`), "--timeout=240s"],
    { timeout: 250_000 },
  );
  const kubectls = names.map((name) =>
    pod("team-a", name).ok("KUBECONFIG=/access/global/kubeconfig kubectl get --raw /readyz; ls /access/global"),
  );
  for (const text of await Promise.all(kubectls)) expect(text).toBe("okca.crt\nkubeconfig\ntoken\n");
  const before = volumeMounts();
  await kubectlOk(["-n", "team-a", "delete", ...names.map((name) => `pod/${name}`), "--now"], { timeout: 120_000 });
  await eventually(() => expect(volumeMounts()).toBe(before - names.length), 90_000);
}, 480_000);
