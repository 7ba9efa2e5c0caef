// Unmodified kubectl in a pod with the volume, against both targets (one behind nginx under a path prefix, with another
// CA) and through both doors: everything a person types works as if the pod had a credential of its own.
import { beforeAll, describe, expect, test } from "vitest";
import { connect, type Pod, startWorkbench, type Target, targets } from "./cluster.ts";
import { apply, eventually } from "./kubectl.ts";
import { startSubject } from "./subject.ts";

const doors = ["kubeconfig", "kubeconfig-direct"] as const;
const megabytes10 = 10 * 1024 * 1024;

/** 5 MB of ConfigMaps in the target. */
async function fill(at: Target): Promise<void> {
  const maps = Array.from({ length: 10 }, (_, index) => ({
    apiVersion: "v1",
    kind: "ConfigMap",
    metadata: { name: `big-${index}`, namespace: "work", labels: { size: "big" } },
    data: { text: "x".repeat(500_000) },
  }));
  await apply(maps, { kubeconfig: at.kubeconfig });
}

let bench: Pod;
beforeAll(async () => {
  for (const at of targets()) {
    await connect("team-a", at);
    await startSubject(at);
    await fill(at);
  }
  bench = await startWorkbench({
    namespace: "team-a",
    name: "workbench",
    volumes: { host: { connector: "host" }, global: { connector: "global" } },
  });
  await bench.ok(`head -c ${megabytes10} /dev/urandom > /tmp/big`);
});

describe.each(targets())("at the target $name", (at) => {
  describe.each(doors)("with %s", (door) => {
    const use = `export KUBECONFIG=/access/${at.name}/${door};`;
    const k = (script: string, options?: { input?: string | Buffer; timeout?: number }) =>
      bench.ok(`${use} ${script}`, options);
    const id = `${at.name}-${door}`;

    test("the server is the target's own address, or the proxy's for the direct form", async () => {
      const server = (await k("kubectl config view --minify -o jsonpath='{.clusters[0].cluster.server}'")).trim();
      expect(server).toBe(door === "kubeconfig" ? at.address : `https://c-${at.name}.team-a.svc.cluster.local`);
    });

    test("auth whoami answers with the stored token's user", async () => {
      const name = await k("kubectl auth whoami -o jsonpath='{.status.userInfo.username}'");
      expect(name).toBe(`system:serviceaccount:access:team-a-${at.name}`);
    });

    test("top-level discovery and api-resources", async () => {
      expect(await k("kubectl get --raw /apis")).toContain("apps");
      expect(await k("kubectl version")).toContain("Server Version: v1.35");
      const resources = await k("rm -rf /tmp/.kube; kubectl api-resources");
      for (const word of ["deployments", "configmaps", "customresourcedefinitions"]) expect(resources).toContain(word);
    });

    test("get and describe", async () => {
      expect(await k("kubectl -n work get pods")).toMatch(/subject\s+1\/1\s+Running/);
      expect(await k("kubectl -n work describe pod subject")).toContain("localhost/tools:1");
    });

    test("create, apply, server-side apply, patch, get -w and delete", async () => {
      const watch = bench.start(`${use} kubectl -n work get configmap -l from=${id} -w --no-headers`);
      const name = `cm-${id}`;
      await k(`kubectl -n work create configmap ${name} --from-literal=a=1`);
      await k(`kubectl -n work label configmap ${name} from=${id}`);
      const manifest = (a: string) =>
        `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"${name}-applied","namespace":"work","labels":{"from":"${id}"}},"data":{"a":"${a}"}}`;
      expect(await k("kubectl apply -f -", { input: manifest("1") })).toContain("created");
      expect(await k("kubectl apply -f -", { input: manifest("2") })).toContain("configured");
      expect(await k("kubectl apply --server-side --force-conflicts -f -", { input: manifest("3") })).toContain(
        "serverside-applied",
      );
      await k(`kubectl -n work patch configmap ${name} --type=merge -p '{"data":{"b":"2"}}'`);
      expect(await k(`kubectl -n work get configmap ${name} -o jsonpath='{.data}'`)).toBe('{"a":"1","b":"2"}');
      expect(await k(`kubectl -n work get configmap ${name}-applied -o jsonpath='{.data.a}'`)).toBe("3");
      await k(`kubectl -n work delete configmap ${name} ${name}-applied`);
      await eventually(() => expect(watch.stdout()).toMatch(new RegExp(`${name} [\\s\\S]*${name}-applied `)), 10_000);
      expect(watch.isRunning()).toBe(true);
      await watch.kill();
    });

    test("logs -f follows", async () => {
      const name = `talker-${id}`;
      const talk = "for i in 1 2 3 4 5; do echo line $i; sleep 0.3; done";
      await k(
        `kubectl -n work run ${name} --image=localhost/tools:1 --image-pull-policy=Never --restart=Never -- sh -c '${talk}'`,
      );
      await k(`kubectl -n work wait --for=jsonpath='{.status.phase}'=Running pod/${name} --timeout=60s || true`);
      expect((await k(`kubectl -n work logs -f ${name}`)).trim().split("\n")).toEqual(
        [1, 2, 3, 4, 5].map((i) => `line ${i}`),
      );
      await k(`kubectl -n work delete pod ${name} --now`);
    });

    test.each([
      ["WebSocket", "true"],
      ["SPDY", "false"],
    ])("exec by %s: stdin, exit status, and 10 MB both ways with equal checksums", async (_, websockets) => {
      const remote = `env KUBECTL_REMOTE_COMMAND_WEBSOCKETS=${websockets} kubectl -n work exec -i subject --`;
      expect(await k(`echo hello | ${remote} tr a-z A-Z`)).toBe("HELLO\n");
      const { code } = await bench.sh(`${use} ${remote} sh -c 'exit 7'`);
      expect(code).toBe(7);
      const sums = await k(`md5sum < /tmp/big; ${remote} cat < /tmp/big | md5sum`);
      const [sent, received] = sums.trim().split("\n");
      expect(received).toBe(sent);
    });

    test("attach reaches the running process", async () => {
      const out = await k(
        "(echo attached-words; sleep 2) | timeout 10 kubectl -n work attach -i subject -c main || true",
      );
      expect(out).toContain("attached-words");
    });

    test("cp in both directions", async () => {
      await k(`kubectl -n work cp /tmp/big subject:/tmp/big-${id}`);
      await k(`kubectl -n work cp subject:/tmp/big-${id} /tmp/back`);
      const [a, b] = (await k("md5sum < /tmp/big; md5sum < /tmp/back")).trim().split("\n");
      expect(b).toBe(a);
      await k(`kubectl -n work exec subject -- rm /tmp/big-${id}`);
    });

    test.each([
      ["WebSocket", "true"],
      ["SPDY", "false"],
    ])("port-forward by %s", async (_, websockets) => {
      const script = `${use} export KUBECTL_PORT_FORWARD_WEBSOCKETS=${websockets};
        rm -f /tmp/forward; kubectl -n work port-forward pod/subject 18080:8080 > /tmp/forward 2>&1 & id=$!
        for i in $(seq 50); do grep -qs Forwarding /tmp/forward && break; sleep 0.1; done
        for i in 1 2 3; do wget -qO- http://127.0.0.1:18080/ || cat /tmp/forward; done; kill $id`;
      expect(await bench.ok(script)).toBe("served\n".repeat(3));
    });

    test("a list of 5 MB arrives whole", async () => {
      const count = await k("kubectl -n work get configmap -l size=big -o json | wc -c");
      expect(Number(count)).toBeGreaterThan(5_000_000);
    });

    test("an error of the target is passed on as the target said it", async () => {
      const { stderr, code } = await bench.sh(`${use} kubectl -n work get pod nothing`);
      expect(code).toBe(1);
      expect(stderr).toContain('Error from server (NotFound): pods "nothing" not found');
    });

    test("kubectl 1.29 works as well", async () => {
      expect(await k("kubectl-1.29 -n work get pods")).toContain("subject");
      expect(await k("echo old | kubectl-1.29 -n work exec -i subject -- cat")).toBe("old\n");
    });
  });
});
