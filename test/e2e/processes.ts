import { readdirSync, readFileSync } from "node:fs";

/** A process of ours, as the machine that runs the pods sees it. */
export interface Process {
  pid: number;
  args: string[];
}

/** The processes one of whose arguments ends like that, for example `proxy.mjs`. */
export function processes(ending: string): Process[] {
  const found: Process[] = [];
  for (const entry of readdirSync("/proc")) {
    if (!/^\d+$/.test(entry)) continue;
    try {
      const args = readFileSync(`/proc/${entry}/cmdline`, "utf8").split("\0").filter(Boolean);
      if (args.some((arg) => arg.endsWith(ending))) found.push({ pid: Number(entry), args });
    } catch {
      // It ended while we looked.
    }
  }
  return found;
}

/** Resident memory in bytes. */
export function residentBytes(pid: number): number {
  const status = readFileSync(`/proc/${pid}/status`, "utf8");
  return Number(/VmRSS:\s+(\d+) kB/.exec(status)?.[1] ?? 0) * 1024;
}

/** How many mounts of the csi-driver the kubelet has; those of stand-in kubelets (`kubelet-…`) are other tests. */
export function volumeMounts(): number {
  return readFileSync("/proc/self/mountinfo", "utf8")
    .split("\n")
    .filter((line) => line.includes("connectors-csi:") && !line.includes("/kubelet-")).length;
}
