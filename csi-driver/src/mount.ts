import { execFile } from "node:child_process";
import { readFileSync } from "node:fs";
import { access, constants, mkdir, rmdir } from "node:fs/promises";
import { Fault, type Log } from "@kube-connector/core";
import { type MountEntry, parseMountinfo } from "./mountinfo.ts";

/** Mounts and unmounts, by the machine's own programs: no native code in a privileged process. */
export interface Mounts {
  /** All mounts of this mount namespace, in order. */
  list(): MountEntry[];
  /** Mounts a fresh tmpfs of 1 MiB. `context` is a whole option, `context=...`. */
  mountTmpfs(path: string, source: string, context?: string): Promise<void>;
  /** Takes the topmost mount away; lazily: from the tree now, for good when nobody uses it any more. */
  unmount(path: string, lazily: boolean): Promise<void>;
}

const tmpfsOptions = "size=1m,mode=0755,nosuid,nodev,noexec";
const atOnce = 8;
const limit = 10_000;

/**
 * Finds mount and umount, and tries them in `folder`: so a driver without the right to mount ends at its start with a
 * sentence, and `noswap` (Linux 6.4) is used where the kernel has it.
 */
export async function createMounts(options: {
  folder: string;
  log: Log;
  /** Where to look for the programs; the usual places unless told. */
  programs?: readonly string[];
}): Promise<Mounts> {
  const { programs: places = ["/bin", "/usr/bin", "/sbin", "/usr/sbin"] } = options;
  const programs = { mount: await findProgram("mount", places), umount: await findProgram("umount", places) };
  const turn = createTurns(atOnce);
  const mount = (path: string, source: string, mountOptions: string) =>
    turn(() => run(programs.mount, ["-t", "tmpfs", "-o", mountOptions, source, path]));
  const unmount = (path: string, lazily: boolean) => turn(() => run(programs.umount, lazily ? ["-l", path] : [path]));

  const probe = `${options.folder}/.probe`;
  await mkdir(probe, { recursive: true });
  let swap = ",noswap";
  try {
    await mount(probe, "probe", tmpfsOptions + swap);
  } catch {
    swap = "";
    await mount(probe, "probe", tmpfsOptions).catch((error: unknown) => {
      const why = "the driver has to run as root in a privileged container";
      throw new Fault("permission_denied", `Cannot mount a tmpfs in ${options.folder}; ${why}`, error);
    });
    options.log.warn("The kernel has no tmpfs option noswap (Linux 6.4): tokens may be written to swap");
  }
  await unmount(probe, false);
  await rmdir(probe);

  return {
    // The kernel writes it as it is read, so there is nothing to wait for.
    list: () => parseMountinfo(readFileSync("/proc/self/mountinfo", "utf8")),
    mountTmpfs: (path, source, context) =>
      mount(path, source, tmpfsOptions + swap + (context === undefined ? "" : `,${context}`)),
    unmount,
  };
}

async function findProgram(name: string, folders: readonly string[]): Promise<string> {
  const places = folders.map((folder) => `${folder}/${name}`);
  for (const place of places) {
    const found = await access(place, constants.X_OK).then(
      () => true,
      () => false,
    );
    if (found) return place;
  }
  throw new Fault(
    "invalid_argument",
    `Cannot find the program ${name}; the image should have one of ${places.join(", ")}`,
  );
}

/** Runs a program without shell or environment; its standard error goes into the Fault's cause, for the log. */
function run(program: string, args: readonly string[]): Promise<void> {
  return new Promise((resolve, reject) => {
    execFile(program, args, { env: {}, timeout: limit, killSignal: "SIGKILL" }, (error, _, said) => {
      if (error === null) return resolve();
      const text = said.trim().slice(0, 500) || (error.killed === true ? "no end after 10 s" : error.message);
      reject(new Fault("internal", `${program} failed: ${text}`, error));
    });
  });
}

/** Lets so many run at a time; the others wait in order. */
function createTurns(most: number): <T>(work: () => Promise<T>) => Promise<T> {
  let running = 0;
  const waiting: (() => void)[] = [];
  return async (work) => {
    if (running >= most) await new Promise<void>((resolve) => waiting.push(resolve));
    else running += 1;
    try {
      return await work();
    } finally {
      const next = waiting.shift();
      if (next === undefined) running -= 1;
      else next();
    }
  };
}
