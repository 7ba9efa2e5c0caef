import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { createServer, type AddressInfo } from "node:net";
import { availableParallelism, setPriority } from "node:os";

// Processes that are measured: pinned to one core, while load, targets and this process have the other one. Debian's
// nginx and haproxy stand in /usr/sbin, which is not in everybody's PATH.

const path = `${process.env.PATH ?? ""}:/usr/sbin:/sbin`;
const cores = availableParallelism();

/** The core of what is measured, and the one of everything else. On a machine with one core they are the same. */
export const measuredCore = 0;
export const otherCore = cores > 1 ? 1 : 0;

/** Moves this process, and thereby all it starts later, off the measured core; as root it also goes before others. */
export function leaveMeasuredCore(): void {
  const env = { ...process.env, PATH: path };
  execFileSync("taskset", ["-a", "-c", "-p", String(otherCore), String(process.pid)], { env });
  if (process.getuid?.() === 0) setPriority(0, -10);
}

export interface Started extends AsyncDisposable {
  pid: number;
  child: ChildProcess;
  /** Ends with the process. */
  ended: Promise<void>;
  /** The last of what it wrote to standard output. */
  said(): string;
}

/** Starts a program on that core. Ends when it says a line with `ready`, if that is given. */
export async function start(
  core: number,
  command: readonly string[],
  options: { ready?: string; quiet?: boolean; env?: Readonly<Record<string, string>> } = {},
): Promise<Started> {
  const child = spawn("taskset", ["-c", String(core), ...command], {
    env: { ...process.env, ...options.env, PATH: path },
    stdio: ["ignore", "pipe", options.quiet ? "ignore" : "inherit"],
  });
  const ended = new Promise<void>((resolve) => child.once("close", () => resolve()));
  const { ready } = options;
  let last: Buffer[] = [];
  child.stdout.on("data", (bytes: Buffer) => {
    last = [...last.slice(-1), bytes];
  });
  const said = () => Buffer.concat(last).toString();
  if (ready !== undefined) {
    await new Promise<void>((resolve, reject) => {
      child.once("close", (code) => reject(new Error(`${command.slice(0, 2).join(" ")} ended with status ${code}`)));
      const look = () => {
        if (!said().includes(ready)) return;
        child.stdout.off("data", look);
        resolve();
      };
      child.stdout.on("data", look);
    });
  }
  return {
    // taskset becomes the program, so its id is the program's.
    pid: child.pid ?? 0,
    child,
    ended,
    said,
    async [Symbol.asyncDispose]() {
      child.kill("SIGKILL");
      await ended;
    },
  };
}

/** CPU time of all threads of a process so far, in microseconds. */
export function cpuOf(pid: number): number {
  let nanoseconds = 0;
  for (const thread of readdirSync(`/proc/${pid}/task`)) {
    nanoseconds += Number(readFileSync(`/proc/${pid}/task/${thread}/schedstat`, "utf8").split(" ", 1)[0]);
  }
  return nanoseconds / 1000;
}

/** Resident memory of a process in KiB: all, what is its own, and pages of files (Node's program), which processes share. */
export function memoryOf(pid: number): { resident: number; anonymous: number; files: number } {
  const status = readFileSync(`/proc/${pid}/status`, "utf8");
  const read = (name: string) => Number(new RegExp(`^${name}:\\s+(\\d+) kB`, "m").exec(status)?.[1]);
  return { resident: read("VmRSS"), anonymous: read("RssAnon"), files: read("RssFile") };
}

/** Resident memory of a process in KiB. */
export function residentOf(pid: number): number {
  return memoryOf(pid).resident;
}

/** A port of loopback that is free now. */
export async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/** Ends when something listens there. */
export async function listening(port: number): Promise<void> {
  const { openRaw } = await import("../kit/raw-client.ts");
  for (let tries = 0; ; tries += 1) {
    try {
      (await openRaw(port)).socket.destroy();
      return;
    } catch (error) {
      if (tries === 200) throw error;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }
}
