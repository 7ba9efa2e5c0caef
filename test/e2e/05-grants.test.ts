// Another namespace uses a connector with a grant and not without: at the mount, on each request, and on streams that are
// open. Each refusal says in kubectl's output which grant is missing.
import { readFileSync } from "node:fs";
import { beforeAll, expect, test } from "vitest";
import { connect, events, type Pod, pod, target, workbenchPod } from "./cluster.ts";
import { apply, eventually, kubectlOk } from "./kubectl.ts";
import { startSubject } from "./subject.ts";

const bench = {
  namespace: "team-b",
  name: "guest",
  serviceAccount: "deployer",
  volumes: { global: { connector: "global", namespace: "team-a" } },
};
let guest: Pod;

beforeAll(async () => {
  await connect("team-a", target("global"));
  await startSubject(target("global"));
  await apply([
    { apiVersion: "v1", kind: "Namespace", metadata: { name: "team-b" } },
    { apiVersion: "v1", kind: "ServiceAccount", metadata: { name: "deployer", namespace: "team-b" } },
  ]);
});

/** The grant of deploy/examples, for this namespace's pods. */
async function grant(): Promise<void> {
  const example = readFileSync(new URL("../../deploy/examples/grant.yaml", import.meta.url), "utf8");
  await apply(example.replaceAll("prod", "global"));
}

test("without a grant the mount fails, and the pod's event says which grant is missing", async () => {
  await apply([workbenchPod(bench)]);
  const message = await eventually(async () => {
    const found = (await events("team-b", "guest")).find((text) => text.includes("FailedMount"));
    expect(found).toBeDefined();
    return found;
  }, 60_000);
  expect(message).toContain("PermissionDenied");
  expect(message).toContain("ServiceAccount team-b/deployer may not use the Connector team-a/global");
  expect(message).toContain('verb "use" on connectors.connectors.cpaas.io');
});

test("with the RoleBinding of examples/ the same pod starts and works", async () => {
  await grant();
  await kubectlOk(["-n", "team-b", "wait", "--for=condition=Ready", "pod/guest", "--timeout=150s"], {
    timeout: 160_000,
  });
  guest = pod("team-b", "guest");
  expect(await guest.ok("KUBECONFIG=/access/global/kubeconfig kubectl get namespaces")).toContain("kube-system");
});

test("after the binding is removed: 403 within 15 s, our sentence in kubectl 1.29 and 1.35 with and without a discovery cache, and the open exec ends within 75 s", async () => {
  const k = "export KUBECONFIG=/access/global/kubeconfig;";
  // Warm caches in one home, none in the other.
  await guest.ok(`${k} for p in kubectl kubectl-1.29; do HOME=/tmp/warm-$p $p get namespaces > /dev/null; done`);
  const exec = guest.start(`${k} kubectl -n work exec -i subject -- sh -c 'echo open; sleep 600'`);
  await eventually(() => expect(exec.stdout()).toContain("open"), 20_000);
  await kubectlOk(["-n", "team-a", "delete", "rolebinding", "--all"]);
  const removed = performance.now();
  await eventually(async () => {
    const { code } = await guest.sh(`${k} HOME=/tmp/warm-kubectl kubectl get namespaces`);
    expect(code).toBe(1);
  }, 15_000);
  expect(performance.now() - removed).toBeLessThan(15_000);
  for (const program of ["kubectl", "kubectl-1.29"]) {
    for (const home of [`/tmp/warm-${program}`, "/tmp/cold-$RANDOM"]) {
      const { stderr, code } = await guest.sh(`${k} HOME=${home} ${program} get namespaces`);
      expect(code).toBe(1);
      expect(stderr, `${program} ${home}`).toMatch(/verb.*use|use .*connector/i);
      expect(stderr, `${program} ${home}`).toContain("team-b");
    }
  }
  await Promise.race([
    exec.ended,
    new Promise((resolve) => setTimeout(resolve, 75_000 - (performance.now() - removed))),
  ]);
  expect(exec.isRunning()).toBe(false);
  await guest.delete();
});
