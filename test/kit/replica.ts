import { type ChildProcess, fork } from "node:child_process";
import type { Readable } from "node:stream";
import { fileURLToPath } from "node:url";

// A proxy as a process of its own, before targets on this machine.

export interface ReplicaOptions {
  /** Where its connectors are. */
  directory: string;
  /** How it reaches the API server. */
  kubeconfig: string;
  /** More flags, without their dashes. */
  flags?: Readonly<Record<string, string>>;
}

/** What its parent may ask: its memory after a collection, and before that a heap snapshot in `file`. */
export interface ToReplica {
  ask: "memory" | "snapshot";
  file?: string;
}

export interface Replica {
  child: ChildProcess;
  pid: number;
  forward: number;
  reverse: number;
  /** Its audit log and its process log. */
  audit: Readable;
  log: Readable;
  ended: Promise<number | null>;
  /** A page of its private port. */
  read(path: string): Promise<string>;
  /** The memory it holds after a collection. */
  memory(snapshot?: string): Promise<NodeJS.MemoryUsage>;
  /** SIGTERM, and its status. */
  stop(): Promise<number | null>;
}

interface FromReplica {
  ports?: { forward: number; reverse: number; internal: number };
  memory?: NodeJS.MemoryUsage;
}

const main = fileURLToPath(new URL("./replica-main.ts", import.meta.url));

/** As the image starts it; and a collection can be asked for. */
const execArgv = ["--max-semi-space-size=2", "--expose-gc"];

/** Ends when it is ready. Its output has to be read. */
export async function startReplica(options: ReplicaOptions): Promise<Replica> {
  const flags = {
    "connectors-dir": options.directory,
    kubeconfig: options.kubeconfig,
    "forward-address": "127.0.0.1:0",
    "reverse-address": "127.0.0.1:0",
    "private-address": "127.0.0.1:0",
    "drain-delay": "0s",
    "drain-grace": "1s",
    ...options.flags,
  };
  const child = fork(
    main,
    Object.entries(flags).flatMap(([name, value]) => [`--${name}`, value]),
    { env: { PATH: process.env.PATH ?? "" }, execArgv, stdio: ["ignore", "pipe", "pipe", "ipc"] },
  );
  const { stdout, stderr } = child;
  if (stdout === null || stderr === null) throw new Error("the proxy has no output");
  const ended = new Promise<number | null>((resolve) => child.once("close", resolve));
  const said = <T>(find: (message: FromReplica) => T | undefined) =>
    new Promise<T>((resolve, reject) => {
      const onMessage = (message: FromReplica) => {
        const found = find(message);
        if (found === undefined) return;
        child.off("message", onMessage);
        resolve(found);
      };
      child.on("message", onMessage);
      child.once("close", (status) => reject(new Error(`the proxy ended with status ${status}`)));
    });
  const { forward, reverse, internal } = await said(({ ports }) => ports);
  const read = async (path: string) => await (await fetch(`http://127.0.0.1:${internal}${path}`)).text();
  while ((await read("/readyz")) !== "ok\n") await new Promise((resolve) => setTimeout(resolve, 50));
  return {
    child,
    pid: child.pid ?? 0,
    forward,
    reverse,
    audit: stdout,
    log: stderr,
    ended,
    read,
    async memory(snapshot) {
      const answer = said(({ memory }) => memory);
      child.send(snapshot === undefined ? { ask: "memory" } : { ask: "snapshot", file: snapshot });
      return await answer;
    },
    async stop() {
      child.kill("SIGTERM");
      return await ended;
    },
  };
}
