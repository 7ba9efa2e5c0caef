// The stored token is read from one Secret and written to one target. It is in no other place: not in the pod that uses
// the connector, in no log at debug level, no event, no status. The Secret is made with plain kubectl apply, so that
// its last-applied annotation holds the token too.
import { beforeAll, expect, test } from "vitest";
import { connector, createToken, type Pod, startWorkbench, target, waitFor } from "./cluster.ts";
import { apply, eventually, kubectlOk } from "./kubectl.ts";
import { findLeaks, logs } from "./leaks.ts";

const at = target("global");
const namespace = "secrets";
let token: string;
let pod: Pod;

async function logAtDebugLevel(): Promise<void> {
  const settings = "KUBE_CONNECTOR_LOG_LEVEL=debug";
  await kubectlOk([
    "-n",
    "kube-connector",
    "set",
    "env",
    "deployment/controller",
    settings,
    "KUBE_CONNECTOR_PROXY_LOG_LEVEL=debug",
  ]);
  await kubectlOk(["-n", "kube-connector-csi", "set", "env", "daemonset/csi-driver", settings]);
  await kubectlOk(["-n", "kube-connector", "rollout", "status", "deployment/controller", "--timeout=90s"], {
    timeout: 100_000,
  });
  await kubectlOk(["-n", "kube-connector-csi", "rollout", "status", "daemonset/csi-driver", "--timeout=90s"], {
    timeout: 100_000,
  });
}

beforeAll(async () => {
  await logAtDebugLevel();
  token = await createToken(at, "secrets");
  await apply([{ apiVersion: "v1", kind: "Namespace", metadata: { name: namespace } }]);
  const secret = { apiVersion: "v1", kind: "Secret", metadata: { name: "global-token", namespace } };
  const input = JSON.stringify({ ...secret, type: "connectors.cpaas.io/bearer-token", stringData: { token } });
  await kubectlOk(["apply", "-f", "-"], { input });
  const annotations = await kubectlOk([
    "-n",
    namespace,
    "get",
    "secret",
    "global-token",
    "-o",
    "jsonpath={.metadata.annotations}",
  ]);
  if (!annotations.includes(token)) throw new Error("the annotation should hold the token, to be dangerous");
  await apply([connector(namespace, "global", at)]);
  await waitFor(namespace, "global", {});
  pod = await startWorkbench({ namespace, name: "user", volumes: { global: { connector: "global" } } });
}, 300_000);

test("the pod's files, environment and arguments do not hold it", async () => {
  const shown = await pod.ok(
    "cat /access/global/*; find /access -type f | xargs cat; env; cat /proc/*/environ /proc/*/cmdline",
  );
  expect(shown).toContain("current-context: k8s");
  for (const part of [token, token.split(".")[2] ?? "", Buffer.from(token).toString("base64").slice(0, -4)]) {
    expect(part.length).toBeGreaterThan(40);
    expect(shown).not.toContain(part);
  }
  expect(shown).not.toMatch(/client-key|client-certificate|password:/);
});

test("no log at debug level, event, status or other object holds it, after calls that work and calls that fail", async () => {
  const use = "export KUBECONFIG=/access/global/kubeconfig;";
  for (const door of ["kubeconfig", "kubeconfig-direct"]) {
    await pod.ok(`KUBECONFIG=/access/global/${door} kubectl get namespaces -v=9`);
    await pod.sh(`KUBECONFIG=/access/global/${door} kubectl get --raw /nothing`);
    await pod.sh(`KUBECONFIG=/access/global/${door} kubectl get namespaces --as=somebody`);
    await pod.sh(`KUBECONFIG=/access/global/${door} kubectl --token=wrong get namespaces`);
  }
  expect((await pod.ok(`${use} kubectl get namespaces -v=9 2>&1`)).includes(token)).toBe(false);
  // A failure of each part: the Connector points nowhere, then its Secret is gone for a while.
  await apply([connector(namespace, "global", { address: `https://${new URL(at.address).hostname}:6444`, ca: at.ca })]);
  await waitFor(namespace, "global", { status: "False", reason: "ConnectionFailed" });
  await pod.sh(`${use} kubectl --request-timeout=5s get namespaces`);
  await apply([connector(namespace, "global", at)]);
  await waitFor(namespace, "global", {});
  const atDebug = await eventually(async () => {
    const texts = await logs();
    for (const room of ["kube-connector/", "kube-connector-proxy/p-secrets", "kube-connector-csi/"]) {
      expect(
        texts.some(([place, text]) => place.startsWith(room) && text.includes('"level":"debug"')),
        room,
      ).toBe(true);
    }
    return texts.length;
  }, 20_000);
  expect(atDebug).toBeGreaterThan(2);
  expect(await findLeaks([token])).toEqual([]);
});
