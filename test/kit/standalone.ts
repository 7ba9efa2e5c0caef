import { type ChildProcess, spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { homedir, tmpdir } from "node:os";
import { join } from "node:path";
import { Secret } from "@kube-connector/core";
import { onTestFinished } from "vitest";
import { connectorYaml, secretYaml } from "./connector-files.ts";
import { type SampleApiServer, startSampleApiServer } from "./sample-api-server.ts";

// The command standalone as a process of its own, with a directory of files, the sample API server as its target, and the
// real kubectl. All of it is gone when the test has ended.

export const main = new URL("../../packages/cli/src/main.ts", import.meta.url).pathname;
const cache =
  process.env.KUBE_CONNECTOR_CACHE ?? join(process.env.XDG_CACHE_HOME ?? join(homedir(), ".cache"), "kube-connector");
const built = join(process.env.CLUSTER_BIN ?? join(cache, "kubernetes-1.35.4/bin"), "kubectl");
export const kubectl = existsSync(built) ? built : "kubectl";
export const canaryToken = "stored-canary-4f1d2c";

export interface Finished {
  status: number | null;
  output: string;
}

export interface Started {
  child: ChildProcess;
  /** Standard output and error so far. */
  output(): string;
  /** Sends Ctrl-C and waits. */
  interrupt(): Promise<Finished>;
  done: Promise<Finished>;
}

export function start(program: string, args: readonly string[], env: NodeJS.ProcessEnv, input?: Buffer): Started {
  const child = spawn(program, args, { env: { ...process.env, ...env }, stdio: ["pipe", "pipe", "pipe"] });
  let output = "";
  child.stdout.on("data", (part: Buffer) => (output += part.toString("utf8")));
  child.stderr.on("data", (part: Buffer) => (output += part.toString("utf8")));
  child.stdin.on("error", () => undefined);
  child.stdin.end(input);
  const done = new Promise<Finished>((resolve, reject) => {
    child.once("error", reject);
    child.once("close", (status) => resolve({ status, output }));
  });
  done.catch(() => undefined);
  return {
    child,
    output: () => output,
    interrupt() {
      child.kill("SIGINT");
      return done;
    },
    done,
  };
}

export async function until(what: string, check: () => boolean): Promise<void> {
  const end = performance.now() + 15_000;
  while (!check()) {
    if (performance.now() > end) throw new Error(`did not happen within 15 s: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

export async function createFolder(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), "standalone-test-"));
  onTestFinished(() => rm(folder, { recursive: true, force: true }));
  return folder;
}

export interface Scene {
  target: SampleApiServer;
  /** The directory of Connector files. */
  directory: string;
  /** Where private folders go. */
  temporary: string;
  /** The command, with `temporary` as its runtime directory. */
  run(...args: string[]): Started;
}

export async function createScene(options: { token?: string; prefix?: string } = {}): Promise<Scene> {
  const token = new Secret(options.token ?? canaryToken);
  const target = await startSampleApiServer({ token, prefix: options.prefix ?? "", logInterval: 100 });
  onTestFinished(() => target.stop());
  const directory = await createFolder();
  const temporary = await createFolder();
  await writeFile(join(directory, "connector.yaml"), connectorYaml("prod", target, { namespace: "team-a" }));
  await writeFile(join(directory, "secret.yaml"), secretYaml("prod", token, { namespace: "team-a" }));
  const run = (...args: string[]) => {
    const started = start(process.execPath, [main, ...args], { XDG_RUNTIME_DIR: temporary });
    onTestFinished(async () => {
      if (started.child.exitCode === null) started.child.kill("SIGKILL");
      await started.done;
    });
    return started;
  };
  return { target, directory, temporary, run };
}

/** The command, ready, and a kubectl that uses what it wrote. */
export async function createServing(scene: Scene, ...flags: string[]) {
  const standalone = scene.run("standalone", scene.directory, ...flags);
  await until(`ready: ${standalone.output()}`, () => {
    if (standalone.child.exitCode !== null) throw new Error(standalone.output());
    return standalone.output().includes("Ctrl-C");
  });
  const kubeconfig = /export KUBECONFIG=(\S+)/.exec(standalone.output())?.[1] ?? "";
  const cacheFolder = await createFolder();
  const launch = (args: readonly string[], input?: Buffer, file = kubeconfig) => {
    const started = start(kubectl, args, { KUBECONFIG: file, KUBECACHEDIR: cacheFolder }, input);
    onTestFinished(async () => {
      if (started.child.exitCode === null) started.child.kill("SIGKILL");
      await started.done.catch(() => undefined);
    });
    return started;
  };
  return { standalone, kubeconfig, launch, kube: (...args: string[]) => launch(args).done };
}
