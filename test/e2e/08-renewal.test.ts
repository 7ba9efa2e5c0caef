// Tokens are renewed while a pod lives: the kubelet's republish changes the file, and a client that read its kubeconfig
// once, at its start, goes on after its first tokens have expired.
import { expect, test } from "vitest";
import { connect, control, startWorkbench, target } from "./cluster.ts";
import { eventually, kubectlOk } from "./kubectl.ts";
import { remintFor } from "./tokens.ts";

test("the kubelet's republish changes token, and a client that started before goes on when its first tokens have expired", async () => {
  await connect("team-a", target("global"));
  await kubectlOk(["-n", "team-a", "delete", "pod", "renewal", "--now", "--ignore-not-found"]);
  const bench = await startWorkbench({
    namespace: "team-a",
    name: "renewal",
    volumes: { global: { connector: "global", configurations: "kubeconfig" } },
  });
  const first = await bench.ok("cat /access/global/token");
  const config = await bench.ok("cat /access/global/kubeconfig");
  const tunnel = /proxy-url: "http:\/\/[^:]+:([^@]+)@/.exec(config)?.[1] ?? "";
  expect(tunnel).not.toBe("");

  // The same pod's tokens with 20 s to live, in a kubeconfig that is read once. client-go reads `token` again.
  const shortRequest = remintFor(first, 20);
  const shortTunnel = remintFor(decodeURIComponent(tunnel), 20);
  const short = config.replaceAll(first, shortRequest).replaceAll(tunnel, shortTunnel);
  await bench.ok("mkdir -p /tmp/short && cat > /tmp/short/kubeconfig", { input: short });
  await bench.ok("cat > /tmp/short/token", { input: shortRequest });
  // Detached, as the exec stream that starts it goes through the kubelet.
  const proxy = "kubectl --kubeconfig=/tmp/short/kubeconfig proxy --append-server-path --port=18001";
  await bench.ok(`setsid ${proxy} > /tmp/proxy.log 2>&1 < /dev/null & sleep 1`);
  const call = "wget -qO- http://127.0.0.1:18001/api/v1/namespaces/kube-system";
  await eventually(async () => expect(await bench.ok(call)).toContain("kube-system"), 15_000);
  const raw = `kubectl --kubeconfig=/tmp/short/kubeconfig get --raw /api`;
  await bench.ok(raw);

  await control("restart", "kubelet");
  await eventually(async () => expect(await bench.ok("cat /access/global/token")).not.toBe(first), 150_000, 2000);
  const second = await bench.ok("cat /access/global/token");
  expect(await bench.ok("cat /access/global/kubeconfig")).toContain(second);

  // Both short tokens are refused as request tokens by now; the tunnel token still opens tunnels.
  await eventually(async () => expect((await bench.sh(raw)).stderr).toMatch(/Unauthorized|expired/i), 110_000, 3000);
  await bench.ok("cp /access/global/token /tmp/short/token.new && mv /tmp/short/token.new /tmp/short/token");
  await eventually(async () => expect(await bench.ok(call)).toContain("kube-system"), 90_000, 3000);
  expect(await bench.ok("ps -o pid,args | grep -c '[k]ubectl.*18001'")).toBe("1\n");
  await bench.delete();
}, 480_000);
