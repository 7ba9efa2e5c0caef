import { lstat, readFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { type Clock, files, type Log, type Running, Secret, sleep } from "@kube-connector/core";
import { dataLink } from "./files.ts";
import type { Mounts } from "./mount.ts";
import { volumeOf } from "./mountinfo.ts";
import { removeVolume } from "./node.ts";
import { readExpiry } from "./tokens.ts";
import type { Volumes } from "./volumes.ts";

export interface RepairOptions {
  driverName: string;
  mounts: Mounts;
  volumes: Volumes;
  clock: Clock;
  log: Log;
  /** Milliseconds between two rounds. */
  interval?: number;
}

/**
 * Finds the volumes of an earlier life in the mounts, and takes away those that the kubelet has forgotten: without a
 * vol_data.json beside the mount in two rounds, ten minutes apart. Errors are logged; serving goes on.
 */
export function startRepair(options: RepairOptions): Running {
  const { clock, log, interval = 600_000 } = options;
  const stopping = new AbortController();
  let suspects = new Set<string>();
  async function run(): Promise<void> {
    await recall(options).catch((error: unknown) => log.error("Cannot read the mounts of an earlier life", { error }));
    while (!stopping.signal.aborted) {
      try {
        suspects = await removeForgotten(options, suspects);
      } catch (error) {
        log.error("Cannot look for forgotten mounts", { error });
      }
      await sleep(clock, interval, stopping.signal);
    }
  }
  const done = run();
  return {
    done,
    async stop() {
      stopping.abort();
      await done;
    },
  };
}

async function ours(options: RepairOptions): Promise<Map<string, string>> {
  const found = new Map<string, string>();
  for (const entry of options.mounts.list()) {
    const volumeId = volumeOf(entry, options.driverName);
    if (volumeId !== undefined) found.set(entry.path, volumeId);
  }
  return found;
}

/** Remembers what an earlier life has mounted, so that the metric of token expiry covers it from the start. */
async function recall({ volumes, log, ...options }: RepairOptions): Promise<void> {
  const found = await ours({ volumes, log, ...options });
  for (const [target, volumeId] of found) {
    const text = await readFile(join(target, dataLink, files.token), "utf8").catch(() => undefined);
    if (volumes.get(volumeId) !== undefined) continue;
    const expiresAt = text === undefined ? undefined : readExpiry(new Secret(text));
    volumes.set(volumeId, { target, digest: undefined, connectorUid: undefined, expiresAt });
  }
  if (found.size > 0) log.info("Volumes of an earlier life are mounted", { count: found.size });
}

/** One round; answers with the paths that look forgotten now. */
async function removeForgotten(options: RepairOptions, suspects: ReadonlySet<string>): Promise<Set<string>> {
  const next = new Set<string>();
  for (const [target, volumeId] of await ours(options)) {
    const known = await lstat(join(dirname(target), "vol_data.json")).then(
      () => true,
      (error: NodeJS.ErrnoException) => error.code !== "ENOENT",
    );
    if (known) continue;
    if (!suspects.has(target)) {
      next.add(target);
      continue;
    }
    await options.volumes.exclusively(volumeId, async () => {
      await removeVolume(target, options);
      options.volumes.forget(volumeId);
      options.log.warn("A mount that the kubelet has forgotten was removed", { volume: volumeId, target });
    });
  }
  return next;
}
