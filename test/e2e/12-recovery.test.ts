// Any part is killed at any time: nothing is lost, and everything recovers by itself.
import { afterAll, beforeAll, expect, test } from "vitest";
import { connect, control, type Pod, startWorkbench, target } from "./cluster.ts";
import { type Background, eventually, kubectlOk } from "./kubectl.ts";
import { processes } from "./processes.ts";

const at = target("global");
const use = "export KUBECONFIG=/access/global/kubeconfig;";
let bench: Pod;
let started: Background[] = [];

beforeAll(async () => {
  await connect("team-a", at);
  bench = await startWorkbench({
    namespace: "team-a",
    name: "recovery",
    volumes: { global: { connector: "global", configurations: "kubeconfig" } },
  });
});
afterAll(async () => {
  for (const one of started) await one.kill();
  started = [];
});

const works = () => bench.ok(`${use} kubectl get namespace kube-system -o name`);

test("a proxy that is killed comes back, and calls work again within 30 s", async () => {
  await works();
  const proxies = processes("proxy.mjs").filter(({ args }) => args.some((arg) => arg.includes("team-a--global")));
  expect(proxies.length).toBeGreaterThan(0);
  for (const { pid } of proxies) process.kill(pid, "SIGKILL");
  await eventually(works, 30_000);
});

test("a proxy pod that is deleted is replaced, and a kubectl get -w started again shows what happened meanwhile", async () => {
  await kubectlOk([
    "-n",
    "kube-connector-proxy",
    "delete",
    "pod",
    "-l",
    "connectors.cpaas.io/connector-name=global,connectors.cpaas.io/connector-namespace=team-a",
    "--wait=false",
  ]);
  await eventually(works, 60_000);
});

test("every controller is killed: a Connector created meanwhile becomes Ready", async () => {
  for (const { pid } of processes("controller.mjs")) process.kill(pid, "SIGKILL");
  await connect("recovery", at);
});

test("the leader alone is killed: the other one goes on within half a minute", async () => {
  const holder = () =>
    kubectlOk([
      "-n",
      "kube-connector",
      "get",
      "lease",
      "kube-connector-controller",
      "-o",
      "jsonpath={.spec.holderIdentity}",
    ]);
  const first = await holder();
  expect(first).not.toBe("");
  await kubectlOk(["-n", "kube-connector", "delete", "pod", first, "--force", "--grace-period=0"]);
  await eventually(async () => {
    const next = await holder();
    expect(next).not.toBe("");
    expect(next).not.toBe(first);
  }, 30_000);
  await connect("recovery-leader", at);
});

test("the driver's pod is killed: a pod made meanwhile starts", async () => {
  const killed = kubectlOk(["-n", "kube-connector-csi", "delete", "pod", "--all", "--force", "--grace-period=0"]);
  const late = await startWorkbench({
    namespace: "team-a",
    name: "late",
    volumes: { global: { connector: "global", configurations: "kubeconfig" } },
  });
  await killed;
  expect(await late.ok("ls /access/global")).toContain("kubeconfig");
  await late.delete();
});

test("the hosting API server is away for 30 s: an open watch of the target goes on, kubectl waits and gets its answer, nothing is deleted", async () => {
  // `sh` would need the API server, so the pod works by itself and writes down what happened. kubectl follows Retry-After
  // ten times, half a minute in all: it starts late in the outage, so that this covers the API server's start as well.
  const script = `${use} kubectl -n default get configmaps -w -o name > /tmp/watch 2>&1 & watch=$!
    sleep 28; kubectl create configmap made-meanwhile -n default > /tmp/made 2>&1; echo $? >> /tmp/made
    kill -0 $watch && echo watching >> /tmp/made; sleep 1; kill $watch`;
  await bench.ok(`cat > /tmp/outage.sh; setsid sh /tmp/outage.sh > /dev/null 2>&1 < /dev/null & sleep 1`, {
    input: script,
  });
  await kubectlOk(["-n", "default", "delete", "configmap", "made-meanwhile", "--ignore-not-found"], {
    kubeconfig: at.kubeconfig,
  });
  await control("stop", "apiserver");
  await new Promise((resolve) => setTimeout(resolve, 30_000));
  await control("start", "apiserver");
  // An API server that ends takes itself out of the Service kubernetes, so that nodes refuse connections to it, and kube-proxy
  // may take most of a minute to ask again.
  await control("restart", "kube-proxy");
  await eventually(async () => {
    const made = await bench.ok("cat /tmp/made");
    expect(made).toContain("watching");
    expect(made).toContain("configmap/made-meanwhile created\n0\n");
  }, 60_000);
  expect(await bench.ok("cat /tmp/watch")).toContain("configmap/made-meanwhile");
  await eventually(works, 60_000);
  const left = await kubectlOk(["-n", "kube-connector-proxy", "get", "deployments", "-o", "name"]);
  expect(left).toContain("p-team-a--global");
  // CoreDNS may take minutes to ask the API server again, and then no new connector's name is known to pods.
  // The controllers of the cluster ask again within a minute themselves.
  await kubectlOk(["-n", "kube-system", "rollout", "restart", "deployment/coredns"]);
  await kubectlOk(["-n", "kube-system", "rollout", "status", "deployment/coredns", "--timeout=150s"], {
    timeout: 160_000,
  });
}, 300_000);
