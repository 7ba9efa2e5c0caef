// `make demo`: the product at work in a few seconds, with no cluster at hand. A sample API server stands in for the
// target; everything between it and kubectl is the real thing. Stays until Ctrl-C on a terminal, else ends by itself;
// its exit status says whether the call succeeded.
import { spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { styleText } from "node:util";
import {
  type ApiServer,
  createJsonLog,
  Fault,
  openApiServer,
  readKubeconfig,
  type Running,
  runMain,
  Secret,
  stopAll,
  systemClock,
} from "@kube-connector/core";
import { type Standalone, startStandalone } from "../../packages/cli/src/standalone.ts";
import { connectorYaml, secretYaml } from "./connector-files.ts";
import { type SampleApiServer, startSampleApiServer } from "./sample-api-server.ts";

const say = (line: string) => void process.stdout.write(`${line}\n`);
const shown = (lines: string) => say(lines.replaceAll(/^(?=.)/gm, "  "));
const good = (line: string) => say(`${styleText("green", "✓")} ${line}`);
const bad = (line: string) => say(`${styleText("red", "✗")} ${line}`);
const command = (line: string) => say(`\n${styleText("bold", `$ ${line}`)}`);

async function startDemo(env: NodeJS.ProcessEnv): Promise<Running> {
  const folder = await mkdtemp(join(tmpdir(), "kube-connector-demo-"));
  const started: Running[] = [{ done: Promise.resolve(), stop: () => rm(folder, { recursive: true, force: true }) }];
  try {
    const token = new Secret(`stored-${randomBytes(24).toString("base64url")}`);
    const target = await startSampleApiServer({ token });
    started.push(target);
    say("A sample API server stands in for your cluster. Two files say where it is and hold its token:");
    await writeFile(join(folder, "connector.yaml"), connectorYaml("demo", target));
    await writeFile(join(folder, "secret.yaml"), secretYaml("demo", token), { mode: 0o600 });
    shown(`${join(folder, "connector.yaml")}\n${join(folder, "secret.yaml")}`);

    command(`kube-connector standalone ${folder}`);
    const standalone = await startStandalone({
      directory: folder,
      forwardPort: 0,
      reversePort: 0,
      kubeconfigs: {
        output: undefined,
        temporary: env.XDG_RUNTIME_DIR || tmpdir(),
        process: { id: process.pid, isAlive: () => true },
      },
      audit: undefined,
      clock: systemClock,
      log: createJsonLog("warn", {}, process.stderr),
      say: shown,
    });
    started.push(standalone);
    const succeeded = await show({ standalone, target, token, folder, env });
    const stays = succeeded && process.stdin.isTTY;
    if (stays) sayMore(standalone);
    let end = () => {};
    const asked = new Promise<void>((resolve) => {
      end = resolve;
    });
    if (!stays) end();
    const done = asked.then(() => stopAll(started)).then(() => verdict(succeeded));
    return {
      done,
      async stop() {
        end();
        await done;
      },
    };
  } catch (error) {
    await stopAll(started);
    throw error;
  }
}

function verdict(succeeded: boolean): void {
  if (!succeeded) throw new Fault("unavailable", "The demo did not succeed; what is marked with ✗ says why");
}

interface Shown {
  standalone: Standalone;
  target: SampleApiServer;
  token: Secret;
  folder: string;
  env: NodeJS.ProcessEnv;
}

/** A call, and what the kubeconfig does not hold. */
async function show({ standalone, target, token, folder, env }: Shown): Promise<boolean> {
  const [files] = standalone.kubeconfigs;
  if (files === undefined) return false;
  const before = target.requests.length;
  const called = (await callKubectl(files.kubeconfig, folder, env)) ?? (await callBuiltIn(files.direct));
  const reached = target.requests.slice(before).includes("GET /api/v1/namespaces/default/pods");
  const text = `${await readFile(files.kubeconfig, "utf8")}${await readFile(files.direct, "utf8")}`;
  const kept = !text.includes(token.reveal());
  say("");
  if (called && reached) good("the answer came through the proxy, which added the stored token");
  else bad("the call through the proxy failed");
  if (kept) good("the stored token is nowhere in the kubeconfig; what is there opens only this proxy, on this machine");
  else bad("the stored token is in the kubeconfig");
  return called && reached && kept;
}

/** Whether `kubectl get pods` succeeded; undefined where there is no kubectl. */
async function callKubectl(kubeconfig: string, folder: string, env: NodeJS.ProcessEnv): Promise<boolean | undefined> {
  const child = spawn("kubectl", ["get", "pods"], {
    env: { ...env, KUBECONFIG: kubeconfig, KUBECACHEDIR: join(folder, "cache") },
    stdio: ["ignore", "pipe", "pipe"],
  });
  const timer = setTimeout(() => child.kill(), 20_000);
  const parts: Buffer[] = [];
  child.stdout.on("data", (part: Buffer) => parts.push(part));
  child.stderr.on("data", (part: Buffer) => parts.push(part));
  const status = await new Promise<number | null | undefined>((resolve) => {
    child.on("error", () => resolve(undefined));
    child.on("close", (code) => resolve(code));
  });
  clearTimeout(timer);
  if (status === undefined) return undefined;
  command(`KUBECONFIG=${kubeconfig} kubectl get pods`);
  shown(Buffer.concat(parts).toString("utf8").trimEnd());
  return status === 0;
}

/** The same without kubectl, by the reverse door. */
async function callBuiltIn(direct: string): Promise<boolean> {
  command("GET /api/v1/namespaces/default/pods   (there is no kubectl here, so this is a built-in call)");
  let api: ApiServer | undefined;
  try {
    api = openApiServer(await readKubeconfig(direct));
    const list = await api.request<{ items: { metadata: { name: string }; status: { phase: string } }[] }>(
      "GET",
      "/api/v1/namespaces/default/pods",
    );
    for (const { metadata, status } of list.items) shown(`${metadata.name.padEnd(8)} ${status.phase}`);
    return list.items.length > 0;
  } catch (error) {
    shown(Fault.from(error).message);
    return false;
  } finally {
    await api?.stop();
  }
}

function sayMore({ kubeconfigs: [files] }: Standalone): void {
  say("\nTry more in another terminal:");
  shown(`export KUBECONFIG=${files?.kubeconfig}`);
  shown("kubectl get pods -w\nkubectl describe pod web\nkubectl logs -f web\nkubectl exec -it web -- sh");
  shown("kubectl create configmap mine --from-literal=a=b\nkubectl auth whoami");
  say("Ctrl-C ends it.");
}

await runMain((_argv, env) => startDemo(env));
