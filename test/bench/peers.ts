import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { isAbsolute, join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";
import { bundling } from "../../scripts/bundling.ts";
import { createTestCa, type KeyPair } from "../kit/certificates.ts";
import {
  type ControlPlane,
  createPod,
  ensureServiceAccount,
  requestToken,
  startControlPlane,
} from "../kit/control-plane.ts";
import { resolvedParts } from "../kit/resolved.ts";
import { listPath, rules } from "./asked.ts";
import { openTls } from "./clients.ts";
import { type HaproxyDoor, haproxyConfig, kubeconfig, nginxProxy, nginxTarget } from "./peer-configs.ts";
import { freePort, listening, measuredCore, otherCore, type Started, start } from "./machine.ts";

// One target and the proxies before it. All have certificates of one kind (P-256), verify the target, keep their
// connections to it, write no access log and work in one thread; the proxies have the measured core, the target the other.

const token = "stored-token-0123456789-0123456789-0123456789";

/** As the image has them. */
const imageFlags = ["--max-semi-space-size=2", "--expose-gc"];
export const imageEnvironment = {
  MALLOC_ARENA_MAX: "1",
  MALLOC_TRIM_THRESHOLD_: "131072",
  MALLOC_MMAP_THRESHOLD_: "65536",
  GLIBC_TUNABLES: "glibc.malloc.tcache_count=20",
};

/** One thing to send requests to. */
export interface Subject {
  name: string;
  pid: number;
  /** Where it takes TLS (`kubectl proxy`: plain TCP). */
  port: number;
  tls: boolean;
  /** For ours: where CONNECT is taken. */
  forward?: number;
  /** Header lines that a request to it needs. */
  headers: readonly string[];
}

export type SubjectName =
  | "nginx"
  | "haproxy"
  | "byte pipe"
  | "ours"
  | "ours, whole"
  | "kubectl proxy"
  | "node:http"
  // HTTP/2 on the side of the client, and on that of the target too; nginx has HTTP/1.1 there, as it knows no other.
  | "nginx, h2"
  | "haproxy, h2"
  // With a connection to the target for each of its clients, as ours has.
  | "haproxy, h2 unshared";

interface OurOptions {
  /** The target's. */
  port: number;
  /** With reviews, metrics and audit log. */
  whole?: boolean;
  /** Of a whole one: where the audit log goes, standard output unless told; and the policy's preset. */
  audit?: "off" | "file";
  preset?: "Full" | "ReadOnly";
  /** Our own relay unless told. */
  http2?: "node";
  /** With a policy of rules instead. */
  policy?: boolean;
  /** The target's CA and the stored token, where they are others than the bench's own. */
  caBundle?: string;
  token?: string;
}

export interface Bench extends AsyncDisposable {
  subjects: Record<SubjectName, Subject>;
  plane: ControlPlane;
  target: { port: number; pid: number };
  /** The same one, where it speaks HTTP/2. */
  http2Target: { port: number };
  /** PEM of the CA that signed all certificates. */
  ca: string;
  identity: KeyPair;
  /** Requests that the target has answered. */
  answered(): Promise<number>;
  /** A second proxy of ours in front of another target. */
  ours(name: string, options: OurOptions): Promise<Subject>;
  /** A byte pipe in front of another target; with its CA, if that is not the bench's, and what both sides agree on by ALPN. */
  byteInFrontOf(port: number, options?: { caBundle?: string; protocol?: "h2" }): Promise<Subject>;
  /** A haproxy in front of another target, with its CA, the token to send, and the protocol of both sides. */
  haproxyInFrontOf(
    port: number,
    options: { caBundle: string; token: string; protocol: HaproxyDoor["protocol"] },
  ): Promise<Subject>;
  /** A folder with one connector, as a proxy reads it. */
  connectors(): Promise<string>;
  /** The connector's tunnel token. */
  tunnelToken: string;
  /** A token that may do everything at the API server. */
  adminToken: string;
}

export async function startBench(): Promise<Bench> {
  const stack = new AsyncDisposableStack();
  try {
    return await prepare(stack);
  } catch (error) {
    await stack.disposeAsync();
    throw error;
  }
}

async function prepare(stack: AsyncDisposableStack): Promise<Bench> {
  const folder = await mkdtemp(join(tmpdir(), "bench-"));
  stack.defer(() => rm(folder, { recursive: true }));
  const plane = await startControlPlane();
  stack.defer(() => plane.stop());
  const testCa = await createTestCa();
  const identity = await testCa.leaf(["127.0.0.1", "localhost"]);
  const files = {
    ca: join(folder, "ca.pem"),
    certificate: join(folder, "tls.pem"),
    key: join(folder, "tls.key"),
    both: join(folder, "both.pem"),
  };
  await writeFile(files.ca, testCa.certificate);
  await writeFile(files.certificate, identity.certificate);
  await writeFile(files.key, identity.key);
  await writeFile(files.both, `${identity.certificate}\n${identity.key}\n`);
  await mkdir(join(folder, "www"));
  await writeFile(join(folder, "www/small"), "s".repeat(2048));
  await mkdir(join(folder, `www${listPath}/..`), { recursive: true });
  await writeFile(join(folder, `www${listPath}`), "s".repeat(2048));
  await writeFile(join(folder, "www/big"), "b".repeat(5 << 20));

  const own = async (
    core: number,
    command: readonly string[],
    options?: Parameters<typeof start>[2],
  ): Promise<Started> => stack.use(await start(core, command, options));
  const node = (script: string, more: object, flags: readonly string[] = []) => [
    process.execPath,
    ...flags,
    isAbsolute(script) ? script : fileURLToPath(new URL(script, import.meta.url)),
    JSON.stringify(more),
  ];

  const [target, status, nginx, haproxy, nodeHttp, kubectl, target2, nginx2, haproxy2, haproxy3] = (await Promise.all(
    Array.from({ length: 10 }, () => freePort()),
  )) as [number, number, number, number, number, number, number, number, number, number];
  await writeFile(join(folder, "target.conf"), nginxTarget(folder, files, { target, target2, status }));
  await writeFile(join(folder, "proxy.conf"), nginxProxy(folder, files, { nginx, nginx2, target, token }));
  const doors: readonly HaproxyDoor[] = [
    { listen: haproxy, target, protocol: "http/1.1", reuse: "always", ca: files.ca, token },
    { listen: haproxy2, target: target2, protocol: "h2", reuse: "always", ca: files.ca, token },
    { listen: haproxy3, target: target2, protocol: "h2", reuse: "never", ca: files.ca, token },
  ];
  await writeFile(join(folder, "haproxy.cfg"), haproxyConfig(files, doors));
  await writeFile(join(folder, "kubeconfig"), kubeconfig(target, files.ca, token));
  await bundleOurProxy(folder);
  const nginxOf = (file: string) => ["nginx", "-e", "stderr", "-p", folder, "-c", join(folder, file)];
  const parts = { ca: testCa.certificate, ...identity, token };

  const started = {
    target: await own(otherCore, nginxOf("target.conf")),
    nginx: await own(measuredCore, nginxOf("proxy.conf")),
    haproxy: await own(measuredCore, ["haproxy", "-q", "-db", "-f", join(folder, "haproxy.cfg")]),
    nodeHttp: await own(measuredCore, node("node-http.ts", { ...parts, listen: nodeHttp, target }), { ready: "ready" }),
    kubectl: await own(
      measuredCore,
      [
        join(plane.bin, "kubectl"),
        `--kubeconfig=${join(folder, "kubeconfig")}`,
        "proxy",
        `--port=${kubectl}`,
        "--accept-paths=.*",
        "--accept-hosts=.*",
      ],
      // It complains of each request that is under way when the load ends.
      { quiet: true },
    ),
  };
  await Promise.all([target, status, nginx, haproxy, kubectl, target2, nginx2, haproxy2, haproxy3].map(listening));

  const uid = await createPod(plane.admin, "team-a", "bench");
  const admin = await adminToken(plane);
  const tokens = await Promise.all(
    ["kube-connector-tunnel", "kube-connector"].map((audience) =>
      requestToken(plane.admin, { namespace: "team-a", audience, pod: { name: "bench", uid } }),
    ),
  );
  const [tunnelToken, callerToken] = tokens.map((one) => one.reveal()) as [string, string];

  let count = 0;
  const connectors = async (options: OurOptions): Promise<string> => {
    const directory = join(folder, `connectors-${(count += 1)}`);
    await mkdir(join(directory, "prod"), { recursive: true });
    const entries = await resolvedParts({
      name: "prod",
      address: `https://127.0.0.1:${options.port}`,
      tls: { caBundle: options.caBundle ?? testCa.certificate },
      token: options.token ?? token,
      ca: testCa,
      // wrk sends the host of its URL as SNI.
      more: {
        serviceNames: ["localhost"],
        ...(options.policy ? { policy: { mode: "Enforce", rules } } : {}),
        limits: { requestsPerSecond: 100_000, burst: 1_000_000, streams: 100_000 },
        ...(options.preset === undefined ? {} : { policy: { preset: options.preset, mode: "Enforce" } }),
      },
    });
    for (const [entry, one] of Object.entries(entries)) await writeFile(join(directory, "prod", entry), one.reveal());
    return directory;
  };
  const ours: Bench["ours"] = async (name, options) => {
    const directory = await connectors(options);
    const [forward, reverse] = [await freePort(), await freePort()];
    const audits = { off: "off", file: { file: join(folder, `audit-${count}`) }, stdout: "stdout" };
    const asked = {
      directory,
      forward,
      reverse,
      audit: audits[options.audit ?? "stdout"],
      http2: options.http2 ?? "own",
      ...(options.whole ? { api: { url: plane.url, ca: plane.ca, token: admin } } : {}),
    };
    const proxy = await own(measuredCore, node(join(folder, "our-proxy.mjs"), asked, imageFlags), {
      ready: "ready",
      quiet: true,
      env: imageEnvironment,
    });
    await serving(reverse);
    const headers = [`Authorization: Bearer ${callerToken}`];
    return { name, pid: proxy.pid, port: reverse, tls: true, forward, headers };
  };
  const peer = (name: string, one: Started, port: number, tls = true): Subject => ({
    name,
    pid: one.pid,
    port,
    tls,
    headers: [`Authorization: Bearer ${callerToken}`],
  });
  const byteInFrontOf: Bench["byteInFrontOf"] = async (port, { caBundle = testCa.certificate, protocol } = {}) => {
    const listen = await freePort();
    const asked = { ...parts, ca: caBundle, listen, target: port, protocol };
    const pipe = await own(measuredCore, node("byte-pipe.ts", asked), { ready: "ready" });
    return peer("byte pipe", pipe, listen);
  };
  const haproxyInFrontOf: Bench["haproxyInFrontOf"] = async (port, { caBundle, token: sent, protocol }) => {
    const listen = await freePort();
    const [ca, file] = [join(folder, `ca-${listen}.pem`), join(folder, `haproxy-${listen}.cfg`)];
    await writeFile(ca, caBundle);
    const door = { listen, target: port, protocol, reuse: "always", ca, token: sent } as const;
    await writeFile(file, haproxyConfig(files, [door]));
    const one = await own(measuredCore, ["haproxy", "-q", "-db", "-f", file]);
    await listening(listen);
    return peer("haproxy", one, listen);
  };
  return {
    subjects: {
      nginx: peer("nginx", started.nginx, nginx),
      haproxy: peer("haproxy", started.haproxy, haproxy),
      "byte pipe": await byteInFrontOf(target),
      ours: await ours("ours", { port: target }),
      "ours, whole": await ours("ours, whole", { port: target, whole: true, policy: true }),
      "kubectl proxy": peer("kubectl proxy", started.kubectl, kubectl, false),
      "node:http": peer("node:http", started.nodeHttp, nodeHttp),
      "nginx, h2": peer("nginx, h2", started.nginx, nginx2),
      "haproxy, h2": peer("haproxy, h2", started.haproxy, haproxy2),
      "haproxy, h2 unshared": peer("haproxy, h2 unshared", started.haproxy, haproxy3),
    },
    plane,
    target: { port: target, pid: started.target.pid },
    http2Target: { port: target2 },
    ca: testCa.certificate,
    identity,
    tunnelToken,
    adminToken: admin,
    connectors: () => connectors({ port: target }),
    ours,
    byteInFrontOf,
    haproxyInFrontOf,
    async answered() {
      const text = await (await fetch(`http://127.0.0.1:${status}/`)).text();
      return Number(/requests\s+\d+ \d+ (\d+)/.exec(text)?.[1]);
    },
    [Symbol.asyncDispose]: () => stack.disposeAsync(),
  };
}

/** Our proxy is measured as the image has it: as one file, `our-proxy.mjs`. */
async function bundleOurProxy(folder: string): Promise<void> {
  const entryPoints = [{ in: fileURLToPath(new URL("our-proxy.ts", import.meta.url)), out: "our-proxy" }];
  await build({ ...bundling, entryPoints, outdir: folder });
}

/** Ends when the proxy there has read its connector: before, it knows no name. */
async function serving(port: number): Promise<void> {
  for (let tries = 0; ; tries += 1) {
    try {
      (await openTls({ port })).destroy();
      return;
    } catch (error) {
      if (tries === 200) throw error;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }
}

async function adminToken(plane: ControlPlane): Promise<string> {
  await ensureServiceAccount(plane.admin, "team-a", "admin");
  await plane.admin.request("POST", "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", {
    body: {
      metadata: { name: "bench" },
      roleRef: { apiGroup: "rbac.authorization.k8s.io", kind: "ClusterRole", name: "cluster-admin" },
      subjects: [{ kind: "ServiceAccount", namespace: "team-a", name: "admin" }],
    },
  });
  const audience = "https://kubernetes.default.svc.cluster.local";
  return (await requestToken(plane.admin, { namespace: "team-a", serviceAccount: "admin", audience })).reveal();
}
