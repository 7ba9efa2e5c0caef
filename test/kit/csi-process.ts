import { type ChildProcess, spawn } from "node:child_process";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { createRpcClient, Identity } from "@kube-connector/csi-driver";
import { onTestFinished } from "vitest";
import type { StandInKubelet } from "./csi-kubelet.ts";

const main = fileURLToPath(new URL("../../csi-driver/src/main.ts", import.meta.url));

export interface DriverProcess {
  child: ChildProcess;
  /** Everything it said. */
  output: () => string;
  /** SIGKILL, and waits for its end. */
  kill(): Promise<void>;
}

/** The driver as a process of its own, serving; killed after the test. */
export async function spawnNode(kubelet: StandInKubelet, apiUrl: string): Promise<DriverProcess> {
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
  const args = [`--kubelet-root=${kubelet.root}`, "--private-address=127.0.0.1:0", `--kubeconfig=${kubeconfig}`];
  const child = spawn(process.execPath, [main, ...args, "--node-id=node-1"], { stdio: ["ignore", "pipe", "pipe"] });
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
