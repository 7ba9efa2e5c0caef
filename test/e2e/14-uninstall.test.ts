// The end: a Connector is deleted, then the whole product, and nothing of it stays.
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { connect, events, type Pod, startWorkbench, target, workbenchPod } from "./cluster.ts";
import { apply, eventually, kubectl, kubectlOk, run } from "./kubectl.ts";
import { volumeMounts } from "./processes.ts";

const at = target("global");
const cli = fileURLToPath(new URL("../../packages/cli/src/main.ts", import.meta.url));
const uninstall = (...args: string[]) => run("node", [cli, "uninstall", "--yes", ...args], { timeout: 240_000 });
let bench: Pod;

test("a Connector is deleted: its streams end, its children go, and the mount of a new pod fails with a sentence", async () => {
  await connect("leaving", at);
  bench = await startWorkbench({ namespace: "leaving", name: "holder", volumes: { global: { connector: "global" } } });
  // The cluster's DNS may take a while to know a new name, after an outage above all.
  await eventually(() => bench.ok("KUBECONFIG=/access/global/kubeconfig kubectl get namespaces"), 60_000);
  const watch = bench.start("KUBECONFIG=/access/global/kubeconfig kubectl get namespaces -w");
  await eventually(() => expect(watch.stdout()).toContain("kube-system"), 20_000);

  await kubectlOk(["-n", "leaving", "delete", "connector", "global"]);
  await Promise.race([watch.ended, new Promise((resolve) => setTimeout(resolve, 20_000))]);
  expect(watch.isRunning()).toBe(false);
  await eventually(async () => {
    const labels = "-l=connectors.cpaas.io/connector-namespace=leaving";
    const kinds = "deployments,services,secrets,serviceaccounts,roles,rolebindings";
    for (const namespace of ["kube-connector-proxy", "kube-connector", "leaving"]) {
      expect(await kubectlOk(["-n", namespace, "get", kinds, labels, "-o", "name"])).toBe("");
    }
  }, 60_000);

  await apply([workbenchPod({ namespace: "leaving", name: "late", volumes: { global: { connector: "global" } } })]);
  await eventually(async () => {
    const texts = (await events("leaving", "late")).join("\n");
    expect(texts).toContain("NotFound");
    expect(texts).toContain("leaving/global");
  }, 60_000);
});

test("uninstall names the pods that still hold a volume, and stops", async () => {
  const { stdout, stderr, code } = await uninstall();
  expect(code).not.toBe(0);
  expect(stdout + stderr).toContain("leaving/holder");
  expect((await kubectl(["get", "crd", "connectors.connectors.cpaas.io"])).code).toBe(0);
});

test("with none left, uninstall leaves no object, mount or finalizer", async () => {
  await kubectlOk(["delete", "pod", "-A", "-l", "app", "--field-selector=metadata.namespace!=kube-system", "--now"], {
    timeout: 120_000,
  }).catch(() => "");
  const { items } = JSON.parse(await kubectlOk(["get", "pods", "-A", "-o", "json"])) as {
    items: { metadata: { namespace: string; name: string }; spec: { volumes?: { csi?: { driver: string } }[] } }[];
  };
  for (const { metadata, spec } of items) {
    if (!spec.volumes?.some(({ csi }) => csi?.driver === "connectors-csi")) continue;
    await kubectlOk(["-n", metadata.namespace, "delete", "pod", metadata.name, "--now"]);
  }
  await kubectlOk(["-n", "team-a", "delete", "jobs", "--all"]);
  // A kubelet whose driver was away tries to unmount again later and later, up to every two minutes.
  await eventually(() => expect(volumeMounts()).toBe(0), 200_000, 500);
  const { stdout, stderr, code } = await uninstall();
  expect(code, stdout + stderr).toBe(0);
  expect(volumeMounts()).toBe(0);
  const kinds = await kubectlOk(["api-resources", "--verbs=list", "-o", "name"]);
  const names = kinds
    .trim()
    .split("\n")
    .filter((kind) => !/^(events|componentstatuses)/.test(kind));
  const left = await kubectlOk(["get", names.join(","), "-A", "-o", "name", "--ignore-not-found"], {
    timeout: 120_000,
  });
  const ours = left.split("\n").filter((line) => /kube-connector|connectors[.-]|\/(p|r|ca)-/.test(line));
  expect(ours).toEqual([]);
  for (const kind of ["namespaces", "crd"])
    expect(await kubectlOk(["get", kind, "-o", "name"])).not.toMatch(/connector/);
}, 480_000);

test("installed again, it works again", async () => {
  const deploy = fileURLToPath(new URL("../../deploy", import.meta.url));
  await kubectlOk(["apply", "-f", `${deploy}/crd/`]);
  await kubectlOk(["apply", "-f", `${deploy}/install.yaml`]);
  await connect("again", at);
}, 240_000);
