// A mount that the kubelet has forgotten is taken away, but only when it looks so in two rounds; all others stay.

import { mkdir, mkdtemp, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Clock, silentLog } from "@kube-connector/core";
import { expect, onTestFinished, test } from "vitest";
import type { Mounts } from "./mount.ts";
import type { MountEntry } from "./mountinfo.ts";
import { startRepair } from "./repair.ts";
import { createVolumes } from "./volumes.ts";

/** A clock whose one timer the test lets run out. */
function manualClock(): { clock: Clock; next: () => Promise<void> } {
  let waiting: (() => void) | undefined;
  const clock: Clock = {
    now: () => 0,
    monotonic: () => 0,
    after(_, then) {
      waiting = then;
      return () => undefined;
    },
  };
  const next = async () => {
    await expect.poll(() => waiting).toBeDefined();
    const then = waiting;
    waiting = undefined;
    then?.();
    await expect.poll(() => waiting).toBeDefined();
  };
  return { clock, next };
}

test("two rounds without vol_data.json, and the mount goes", async () => {
  const root = await mkdtemp(join(tmpdir(), "repair-"));
  onTestFinished(() => rm(root, { recursive: true }));
  const target = async (name: string, known: boolean) => {
    await mkdir(join(root, name, "mount"), { recursive: true });
    if (known) await writeFile(join(root, name, "vol_data.json"), "{}");
    return join(root, name, "mount");
  };
  const forgotten = await target("forgotten", false);
  const known = await target("known", true);
  const late = await target("late", false);
  const foreign = await target("foreign", false);
  let entries: MountEntry[] = [
    { path: forgotten, fsType: "tmpfs", source: "connectors-csi:csi-01" },
    { path: known, fsType: "tmpfs", source: "connectors-csi:csi-02" },
    { path: late, fsType: "tmpfs", source: "connectors-csi:csi-03" },
    { path: foreign, fsType: "tmpfs", source: "tmpfs" },
  ];
  const mounts: Mounts = {
    list: () => entries,
    mountTmpfs: () => Promise.reject(new Error("not asked")),
    async unmount(path) {
      entries = entries.filter((entry) => entry.path !== path);
    },
  };
  const { clock, next } = manualClock();
  const volumes = createVolumes();
  const repair = startRepair({ driverName: "connectors-csi", mounts, volumes, clock, log: silentLog });
  await expect.poll(() => volumes.size()).toBe(3);
  expect(entries).toHaveLength(4);
  await writeFile(join(root, "late", "vol_data.json"), "{}");
  await next();
  expect(entries.map(({ path }) => path)).toEqual([known, late, foreign]);
  await expect(stat(forgotten)).rejects.toThrow("ENOENT");
  expect(volumes.size()).toBe(2);
  const stopped = repair.stop();
  await stopped;
});
