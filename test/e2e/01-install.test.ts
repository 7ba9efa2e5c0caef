// An admin installs the product on an empty cluster with the files in deploy/, unchanged, and looks at what is there.
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { connect, targets } from "./cluster.ts";
import { getJson, kubectl, kubectlOk } from "./kubectl.ts";

const deploy = fileURLToPath(new URL("../../deploy", import.meta.url));

interface PodList {
  items: { metadata: { name: string }; status: { conditions?: { type: string; status: string }[] } }[];
}

test("kubectl apply of crd/ and install.yaml makes all pods Ready, and a second time changes nothing", async () => {
  await kubectlOk(["apply", "-f", `${deploy}/crd/`]);
  await kubectlOk(["apply", "-f", `${deploy}/install.yaml`]);
  await kubectlOk(["-n", "kube-connector", "rollout", "status", "deployment/controller", "--timeout=120s"], {
    timeout: 130_000,
  });
  await kubectlOk(["-n", "kube-connector-csi", "rollout", "status", "daemonset/csi-driver", "--timeout=120s"], {
    timeout: 130_000,
  });
  for (const [namespace, least] of [
    ["kube-connector", 2],
    ["kube-connector-csi", 1],
  ] as const) {
    const { items } = await getJson<PodList>(["-n", namespace, "pods"]);
    expect(items.length).toBeGreaterThanOrEqual(least);
    for (const { metadata, status } of items) {
      expect(status.conditions?.find(({ type }) => type === "Ready")?.status, metadata.name).toBe("True");
    }
  }
  const again = await kubectlOk(["apply", "-k", deploy]);
  // kubectl calls a PodDisruptionBudget configured each time: its selector's patch strategy is "replace".
  const changed = again.split("\n").filter((line) => line !== "" && !line.endsWith(" unchanged"));
  expect(changed.filter((line) => !line.startsWith("poddisruptionbudget"))).toEqual([]);
});

test("kubectl explain connector.spec.address prints our sentence", async () => {
  const text = await kubectlOk(["explain", "connector.spec.address"]);
  expect(text.replaceAll(/\s+/g, " ")).toContain("Where the target's API server is: https://HOST[:PORT][/PREFIX].");
});

test("two Connectors become Ready, and kubectl get connectors prints Class, Address, Ready, Reason, Age", async () => {
  for (const target of targets()) await connect("team-a", target);
  const [head, ...rows] = (await kubectlOk(["-n", "team-a", "get", "connectors"])).trim().split("\n");
  expect(head?.split(/\s+/)).toEqual(["NAME", "CLASS", "ADDRESS", "READY", "REASON", "AGE"]);
  for (const { name, address } of targets()) {
    const row = rows.find((line) => line.startsWith(`${name} `))?.split(/\s+/);
    expect(row?.slice(0, 4)).toEqual([name, "k8s", address, "True"]);
  }
  const { stdout } = await kubectl(["-n", "team-a", "get", "conn", "-o", "name"]);
  expect(stdout.trim().split("\n").length).toBe(2);
});
