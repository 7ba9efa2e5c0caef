// Mounting by the machine's programs: util-linux' and busybox' take the same options. Needs root; without it these tests
// are named and skipped, under CI=true they fail.

import { execFileSync } from "node:child_process";
import { existsSync } from "node:fs";
import { chmod, mkdir, mkdtemp, open, readdir, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { silentLog } from "@kube-connector/core";
import { describe, expect, onTestFinished, test } from "vitest";
import { createMounts } from "./mount.ts";

const ci = process.env.CI === "true";
const cannotMount = process.getuid?.() !== 0 && !ci;
const busybox = ["/usr/bin/busybox", "/bin/busybox"].find((path) => existsSync(path));

async function folders(): Promise<{ folder: string; programs: string }> {
  const root = await mkdtemp(join(tmpdir(), "mounts-"));
  onTestFinished(async () => {
    for (const path of ["target", "folder/.probe"]) {
      if (existsSync(join(root, path))) {
        try {
          execFileSync("umount", ["-l", join(root, path)], { stdio: "ignore" });
        } catch {
          // It is not mounted, as it should be.
        }
      }
    }
    await rm(root, { recursive: true });
  });
  for (const name of ["folder", "programs", "target"]) await mkdir(join(root, name));
  return { folder: join(root, "folder"), programs: join(root, "programs") };
}

describe.skipIf(cannotMount)("mounts (need root)", () => {
  test.skipIf(busybox === undefined && !ci).each([["util-linux"], ["busybox"]])(
    "work with the programs of %s",
    async (kind) => {
      const { folder, programs } = await folders();
      for (const name of ["mount", "umount"]) {
        const program = kind === "busybox" ? (busybox ?? "busybox is missing") : `/usr/bin/${name}`;
        await symlink(program, join(programs, name));
      }
      const mounts = await createMounts({ folder, log: silentLog, programs: [programs] });
      expect(await readdir(folder)).toEqual([]);
      const target = join(folder, "../target");
      await mounts.mountTmpfs(target, "connectors-csi:csi-01");
      const path = target.replace("/folder/..", "");
      expect(mounts.list().filter((entry) => entry.path === path)).toEqual([
        { path, fsType: "tmpfs", source: "connectors-csi:csi-01" },
      ]);
      await writeFile(join(target, "big"), Buffer.alloc(1 << 20));
      await expect(writeFile(join(target, "more"), "x")).rejects.toThrow("ENOSPC");
      const file = await open(join(target, "big"));
      await expect(mounts.unmount(path, false)).rejects.toThrow("busy");
      await mounts.unmount(path, true);
      await file.close();
      expect(mounts.list().some((entry) => entry.path === path)).toBe(false);
    },
  );

  test("without the right to mount the driver ends at its start, with a sentence", async () => {
    const { folder, programs } = await folders();
    for (const name of ["mount", "umount"]) {
      await writeFile(join(programs, name), "#!/bin/sh\necho mount: permission denied >&2\nexit 32\n");
      await chmod(join(programs, name), 0o755);
    }
    const mounts = createMounts({ folder, log: silentLog, programs: [programs] });
    await expect(mounts).rejects.toThrow("the driver has to run as root in a privileged container");
    await expect(createMounts({ folder, log: silentLog, programs: [folder] })).rejects.toThrow(
      "Cannot find the program mount",
    );
  });
});
