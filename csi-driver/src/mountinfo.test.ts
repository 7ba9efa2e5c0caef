// The kernel's list of mounts, read as proc_pid_mountinfo(5) says.

import { expect, test } from "vitest";
import { parseMountinfo, sourceOf, stackedPaths, volumeOf } from "./mountinfo.ts";

const text = `22 27 0:20 / /sys rw,nosuid shared:2 - sysfs sysfs rw
216 27 0:107 / /var/lib/kubelet/pods/a/volumes/kubernetes.io~csi/x/mount rw,noexec shared:7 master:3 - tmpfs connectors-csi:csi-01 rw,size=1024k
217 216 0:108 / /var/lib/kubelet/pods/a/volumes/kubernetes.io~csi/x/mount rw,noexec - tmpfs connectors-csi:csi-01 rw,size=1024k
218 27 0:109 / /mnt/with\\040blank\\134 rw - tmpfs a\\011tab rw
219 27 8:1 / /mnt/a-b rw - ext4 /dev/sda1 rw
garbage
`;

test("mounts come in order, with escapes undone and optional fields passed over", () => {
  const entries = parseMountinfo(text);
  expect(entries.map(({ fsType }) => fsType)).toEqual(["sysfs", "tmpfs", "tmpfs", "tmpfs", "ext4"]);
  expect(entries[3]).toEqual({ path: "/mnt/with blank\\", fsType: "tmpfs", source: "a\ttab" });
});

test("ours are told by file system and source", () => {
  const entries = parseMountinfo(text);
  expect(entries.map((entry) => volumeOf(entry, "connectors-csi"))).toEqual([
    undefined,
    "csi-01",
    "csi-01",
    undefined,
    undefined,
  ]);
  expect(sourceOf("connectors-csi", "csi-01")).toBe("connectors-csi:csi-01");
  expect(stackedPaths(entries, "connectors-csi")).toEqual([
    "/var/lib/kubelet/pods/a/volumes/kubernetes.io~csi/x/mount",
  ]);
});
