import { type ChildProcess, spawn } from "node:child_process";
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { definition } from "./jobs-checks.ts";
import { type JobsRoom, connector, namespace } from "./jobs-room.ts";
import { main } from "./standalone.ts";

// `kube-connector jobs` as processes: piped, and in a real terminal. Each place is a home of its own, with a configuration.

export interface Finished {
  status: number | null;
  stdout: string;
  stderr: string;
}

export interface Command {
  child: ChildProcess;
  stdout(): string;
  stderr(): string;
  /** Once that is in what came to standard output or error. */
  says(text: string | RegExp): Promise<void>;
  done: Promise<Finished>;
}

export interface Place {
  folder: string;
  /** Starts `kube-connector jobs ...`. */
  start(...words: string[]): Command;
  /** The same, to its end. */
  run(...words: string[]): Promise<Finished>;
  /** In a terminal of 100 columns; everything is on standard output. What is typed goes to its standard input. */
  terminal(...words: string[]): Command;
  /** A file of its own with that definition. */
  definition(...of: Parameters<typeof definition>): Promise<string>;
  /** A file in the place. */
  file(name: string, content: string | object): Promise<string>;
  stop(): Promise<void>;
}

/** The lines of a log that was printed, without the labels of their pods. */
export function linesOf(text: string): string[] {
  return text
    .trimEnd()
    .split("\n")
    .map((line) => line.slice(line.indexOf("] ") + 2));
}

const quoted = (word: string) => `'${word.replaceAll("'", String.raw`'\''`)}'`;

/** `env` is added to the environment of its commands. */
export async function createPlace(
  room: JobsRoom,
  { configured = true, env: more = {} }: { configured?: boolean; env?: Record<string, string> } = {},
): Promise<Place> {
  const folder = await room.folder();
  const env = {
    PATH: process.env.PATH,
    HOME: folder,
    XDG_CONFIG_HOME: join(folder, "config"),
    XDG_STATE_HOME: join(folder, "state"),
    XDG_RUNTIME_DIR: folder,
    TERM: "xterm",
    SHELL: "/bin/sh",
    // Half of what a short command costs is reading its own sources.
    NODE_COMPILE_CACHE: join(folder, "compiled"),
    ...more,
  };
  if (configured) {
    await mkdir(join(folder, "config/kube-connector"), { recursive: true });
    const monitorUrl = "https://monitor.example/{cluster}/{namespace}/{job}";
    const connectors = [
      { name: connector, kubeconfig: room.config.kubeconfig, defaultNamespace: namespace, monitorUrl },
    ];
    await writeFile(join(folder, "config/kube-connector/jobs.yaml"), JSON.stringify({ connectors }));
  }
  const children = new Set<ChildProcess>();
  function launch(program: string, words: readonly string[]): Command {
    const child = spawn(program, words, { env, cwd: folder, stdio: ["pipe", "pipe", "pipe"] });
    children.add(child);
    const said = { stdout: "", stderr: "" };
    for (const name of ["stdout", "stderr"] as const)
      child[name].setEncoding("utf8").on("data", (part: string) => (said[name] += part));
    child.stdin.on("error", () => undefined);
    const done = new Promise<Finished>((resolve, reject) => {
      child.once("error", reject);
      child.once("close", (status) => {
        children.delete(child);
        resolve({ status, ...said });
      });
    });
    done.catch(() => undefined);
    return {
      child,
      stdout: () => said.stdout,
      stderr: () => said.stderr,
      async says(text) {
        const isThere = () => (said.stdout + said.stderr).search(text) >= 0;
        for (const end = performance.now() + 40_000; !isThere(); ) {
          if (performance.now() > end || child.exitCode !== null)
            throw new Error(`did not say ${String(text)}: ${child.exitCode} ${said.stdout}\n${said.stderr}`);
          await new Promise((resolve) => setTimeout(resolve, 20));
        }
      },
      done,
    };
  }
  const start = (...words: string[]) => {
    const command = launch(process.execPath, [main, "jobs", ...words]);
    return command;
  };
  let definitions = 0;
  const file = async (name: string, content: string | object) => {
    const path = join(folder, name);
    await writeFile(path, typeof content === "string" ? content : JSON.stringify(content));
    return path;
  };
  return {
    folder,
    start,
    file,
    definition: (...of) => file(`run-${definitions++}.yaml`, definition(...of)),
    run(...words) {
      const command = start(...words);
      command.child.stdin?.end();
      return command.done;
    },
    terminal(...words) {
      const line = [process.execPath, main, "jobs", ...words].map(quoted).join(" ");
      return launch("script", ["-qefc", `stty cols 100 rows 30; exec ${line}`, "/dev/null"]);
    },
    async stop() {
      for (const child of children) child.kill("SIGKILL");
    },
  };
}
