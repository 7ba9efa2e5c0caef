import { spawn } from "node:child_process";

/** What a program printed and how it ended. */
export interface Outcome {
  stdout: string;
  stderr: string;
  code: number;
}

export interface RunOptions {
  input?: string | Buffer;
  /** Milliseconds until it is killed; 60,000 unless told. */
  timeout?: number;
  kubeconfig?: string;
}

/** Runs a program to its end; never throws for a status that is not 0. */
export function run(program: string, args: readonly string[], options: RunOptions = {}): Promise<Outcome> {
  return new Promise((resolve, reject) => {
    const env = { ...process.env, ...(options.kubeconfig === undefined ? {} : { KUBECONFIG: options.kubeconfig }) };
    const child = spawn(program, args, { env, stdio: ["pipe", "pipe", "pipe"] });
    const out: Buffer[] = [];
    const err: Buffer[] = [];
    const timer = setTimeout(() => child.kill("SIGKILL"), options.timeout ?? 60_000);
    child.stdout.on("data", (chunk: Buffer) => out.push(chunk));
    child.stderr.on("data", (chunk: Buffer) => err.push(chunk));
    child.stdin.on("error", () => undefined);
    child.once("error", reject);
    child.once("close", (code, signal) => {
      clearTimeout(timer);
      const text = (parts: Buffer[]) => Buffer.concat(parts).toString();
      resolve({
        stdout: text(out),
        stderr: text(err) + (signal === null ? "" : `\nended by ${signal}`),
        code: code ?? 1,
      });
    });
    child.stdin.end(options.input ?? "");
  });
}

/** kubectl as the admin of the hosting cluster, or of the cluster of that kubeconfig. */
export function kubectl(args: readonly string[], options: RunOptions = {}): Promise<Outcome> {
  return run("kubectl", args, options);
}

/** Its standard output; throws with what it printed when the status is not 0. */
export async function kubectlOk(args: readonly string[], options: RunOptions = {}): Promise<string> {
  const { stdout, stderr, code } = await kubectl(args, options);
  if (code !== 0) throw new Error(`kubectl ${args.join(" ")} ended with ${code}: ${stderr}${stdout}`);
  return stdout;
}

/** `kubectl get … -o json`, parsed. */
export async function getJson<T>(args: readonly string[], options: RunOptions = {}): Promise<T> {
  return JSON.parse(await kubectlOk(["get", ...args, "-o", "json"], options)) as T;
}

/** Applies objects (server-side, so that no last-applied annotation copies a token). */
export async function apply(objects: readonly object[] | string, options: RunOptions = {}): Promise<void> {
  const input = typeof objects === "string" ? objects : objects.map((object) => JSON.stringify(object)).join("\n");
  await kubectlOk(["apply", "--server-side", "--force-conflicts", "-f", "-"], { ...options, input });
}

/** Tries until it no longer throws; then its answer. Fails with the last error after `timeout` milliseconds. */
export async function eventually<T>(check: () => Promise<T> | T, timeout = 60_000, every = 250): Promise<T> {
  const end = performance.now() + timeout;
  for (;;) {
    try {
      return await check();
    } catch (error) {
      if (performance.now() > end) throw error;
      await new Promise((resolve) => setTimeout(resolve, every));
    }
  }
}

/** A program that goes on: its output so far, and a way to end it. */
export interface Background {
  stdout(): string;
  stderr(): string;
  /** Writes to its standard input. */
  write(text: string): void;
  /** Ends when the program has ended, with its status; null when a signal ended it. */
  ended: Promise<number | null>;
  isRunning(): boolean;
  kill(): Promise<void>;
}

/** Starts a program that is ended by `kill`, or by itself. */
export function start(program: string, args: readonly string[], options: RunOptions = {}): Background {
  const env = { ...process.env, ...(options.kubeconfig === undefined ? {} : { KUBECONFIG: options.kubeconfig }) };
  const child = spawn(program, args, { env, stdio: ["pipe", "pipe", "pipe"] });
  let out = "";
  let err = "";
  let running = true;
  child.stdout.setEncoding("utf8").on("data", (text: string) => (out += text));
  child.stderr.setEncoding("utf8").on("data", (text: string) => (err += text));
  child.stdin.on("error", () => undefined);
  const ended = new Promise<number | null>((resolve) => {
    child.once("error", () => resolve(1));
    child.once("close", (code) => {
      running = false;
      resolve(code);
    });
  });
  return {
    stdout: () => out,
    stderr: () => err,
    write: (text) => child.stdin.write(text),
    ended,
    isRunning: () => running,
    async kill() {
      child.kill("SIGKILL");
      await ended;
    },
  };
}
