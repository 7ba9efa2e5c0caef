import { type ChildProcess, spawn } from "node:child_process";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { type BuildOptions, build } from "esbuild";
import { createRpcClient, Identity } from "@kube-connector/csi-driver";
import { onTestFinished } from "vitest";
import type { StandInKubelet } from "./csi-kubelet.ts";

const main = fileURLToPath(new URL("../../csi-driver/src/main.ts", import.meta.url));
const bare = fileURLToPath(new URL("csi-bare-process.ts", import.meta.url));

/** As scripts/bundle.ts does for the image; the reader of kubeconfigs is not called. */
const bundling = {
  bundle: true,
  platform: "node",
  target: "node24",
  format: "esm",
  external: ["@kubernetes/client-node"],
  minifySyntax: true,
  logLevel: "error",
  banner: { js: 'import { createRequire } from "node:module"; const require = createRequire(import.meta.url);' },
} satisfies BuildOptions;

/** As deploy/ sets them: one arena is enough for one thread, and saves 10 MiB; what is free goes back. */
const driverEnv = { PATH: "/nowhere", MALLOC_ARENA_MAX: "1", MALLOC_TRIM_THRESHOLD_: "131072" };

export interface DriverProcess {
  child: ChildProcess;
  /** Everything it said. */
  output: () => string;
  /** SIGKILL, and waits for its end. */
  kill(): Promise<void>;
}

/**
 * The driver as a process of its own, serving; killed after the test. `bare`: as small as in a pod, with these arguments
 * for node.
 */
export async function spawnDriver(
  kubelet: StandInKubelet,
  apiUrl: string,
  options: { bare?: readonly string[] } = {},
): Promise<DriverProcess> {
  const kubeconfig = join(kubelet.root, "kubeconfig.yaml");
  await writeFile(
    kubeconfig,
    `apiVersion: v1
kind: Config
current-context: a
clusters: [{name: a, cluster: {server: "${apiUrl}", insecure-skip-tls-verify: true}}]
users: [{name: a, user: {}}]
contexts: [{name: a, context: {cluster: a, user: a}}]
`,
  );
  const flags = [`--kubelet-root=${kubelet.root}`, "--private-address=127.0.0.1:0", "--node-id=node-1"];
  const command = [main, ...flags, `--kubeconfig=${kubeconfig}`];
  if (options.bare !== undefined) {
    const bundle = join(kubelet.root, "driver.mjs");
    await build({ ...bundling, entryPoints: [bare], outfile: bundle });
    command.splice(0, command.length, ...options.bare, bundle, apiUrl, ...flags);
  }
  const child = spawn(process.execPath, command, { stdio: ["ignore", "pipe", "pipe"], env: driverEnv });
  let said = "";
  for (const stream of [child.stdout, child.stderr]) stream.on("data", (chunk) => (said += String(chunk)));
  const ended = new Promise<void>((resolve) => child.once("exit", () => resolve()));
  const life: DriverProcess = {
    child,
    output: () => said,
    async kill() {
      child.kill("SIGKILL");
      await ended;
    },
  };
  onTestFinished(() => life.kill());
  const until = Date.now() + 15_000;
  for (;;) {
    if (said.includes("The driver serves")) break;
    if (child.exitCode !== null || Date.now() > until) throw new Error(`the driver did not start: ${said}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  const client = createRpcClient(Identity, kubelet.socket);
  await client.probe({});
  client.close();
  return life;
}
