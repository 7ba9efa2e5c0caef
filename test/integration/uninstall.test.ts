// `kube-connector uninstall` against a real API server with deploy/ applied: while a pod holds a volume it names the pod and
// deletes nothing; with none left, no object of the product is there any more, and nobody else's is touched.
import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type ControlPlane, startControlPlane } from "../kit/control-plane.ts";
import { main, start } from "../kit/standalone.ts";

const deploy = fileURLToPath(new URL("../../deploy", import.meta.url));
let plane: ControlPlane;

beforeAll(async () => {
  plane = await startControlPlane({ controllers: true });
});
afterAll(() => plane.stop());

async function kube(...args: string[]): Promise<string> {
  const env = { ...process.env, KUBECONFIG: plane.kubeconfig };
  const { stdout } = await promisify(execFile)(`${plane.bin}/kubectl`, args, { env });
  return stdout;
}

const uninstall = (...flags: string[]) =>
  start(process.execPath, [main, "uninstall", "--kubeconfig", plane.kubeconfig, ...flags], {}).done;

const pod = {
  apiVersion: "v1",
  kind: "Pod",
  metadata: { name: "holds-it", namespace: "team-a" },
  spec: {
    containers: [{ name: "main", image: "registry.example/none" }],
    volumes: [{ name: "access", csi: { driver: "connectors-csi", readOnly: true } }],
  },
};
const connector = {
  apiVersion: "connectors.cpaas.io/v1alpha1",
  kind: "Connector",
  metadata: { name: "prod", namespace: "team-a" },
  spec: {
    connectorClassName: "k8s",
    address: "https://10.0.0.1:6443",
    auth: { name: "bearerTokenAuth", secretRef: { name: "prod-token" } },
  },
};

/** Everything in the cluster that has our name or group in its own. */
async function ours(): Promise<string[]> {
  const kinds =
    "namespaces,csidrivers,customresourcedefinitions,clusterroles,clusterrolebindings,validatingadmissionpolicies,validatingadmissionpolicybindings";
  const names = `${await kube("get", kinds, "-o", "name")}${await kube("get", "all", "-A", "-o", "name")}`;
  return names.split("\n").filter((name) => /connector/.test(name));
}

test("uninstall leaves nothing of the product, and nothing is deleted while a pod holds a volume", async () => {
  await kube("apply", "-f", `${deploy}/crd/`);
  await kube(
    "wait",
    "--for=condition=Established",
    "crd/connectors.connectors.cpaas.io",
    "crd/connectorclasses.connectors.cpaas.io",
  );
  await kube("apply", "-f", `${deploy}/install.yaml`);
  await kube("create", "namespace", "team-a");
  await kube("-n", "team-a", "wait", "--for=create", "serviceaccount/default");
  await kube("create", "clusterrole", "kube-connector-of-a-stranger", "--verb=get", "--resource=pods");
  await plane.admin.request("POST", "/api/v1/namespaces/team-a/pods", { body: pod });
  await plane.admin.request("POST", "/apis/connectors.cpaas.io/v1alpha1/namespaces/team-a/connectors", {
    body: connector,
  });
  const before = await ours();

  const refused = await uninstall("--yes");
  expect(refused.status).toBe(6);
  expect(refused.output).toMatch(
    /A pod still holds a volume of connectors-csi; .*Nothing was deleted\.\n {2}team-a\/holds-it\n$/,
  );
  expect(await ours()).toEqual(before);
  await kube("delete", "pod", "-n", "team-a", "holds-it", "--grace-period=0", "--force");

  const asked = await uninstall();
  expect(asked).toMatchObject({ status: 2, output: expect.stringContaining("give --yes") as unknown });
  const dry = await uninstall("--dry-run");
  expect(dry).toMatchObject({
    status: 0,
    output: expect.stringContaining("would delete connector team-a/prod") as unknown,
  });
  expect(await ours()).toEqual(before);

  const done = await uninstall("--yes");
  expect(done).toMatchObject({
    status: 0,
    output: expect.stringContaining("kube-connector is uninstalled.") as unknown,
  });
  expect(await ours()).toEqual(["clusterrole.rbac.authorization.k8s.io/kube-connector-of-a-stranger"]);
  const again = await uninstall("--yes");
  expect(again).toMatchObject({ status: 0, output: "Nothing of kube-connector is installed here.\n" });
});
