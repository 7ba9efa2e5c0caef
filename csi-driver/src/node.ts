import { lstat, realpath, rmdir, statfs } from "node:fs/promises";
import { dirname } from "node:path";
import { Fault } from "@kube-connector/core";
import { Node } from "./gen/csi_pb.ts";
import { sourceOf } from "./mountinfo.ts";
import { lookAt, publish, type PublishCollaborators } from "./publish.ts";
import { type Served, served } from "./rpc.ts";
import { parsePlace, type Place } from "./volume.ts";

/** NodeServiceCapability.RPC.Type and VolumeUsage.Unit of the specification. */
const capability = { getVolumeStats: 2, volumeMountGroup: 6 } as const;
const unit = { bytes: 1, inodes: 2 } as const;

export interface NodeOptions extends PublishCollaborators {
  kubeletRoot: string;
  nodeId: string;
}

/** The Node service: what the kubelet calls for a volume of a pod. */
export function createNode(our: NodeOptions): Served {
  const locked = async <T>(place: Place, work: () => Promise<T>): Promise<T> => {
    const answer = await our.volumes.exclusively(place.volumeId, work);
    if (answer === undefined)
      throw new Fault("conflict", `Another call for the volume ${place.volumeId} is not done yet`);
    return answer.value;
  };
  return served(Node, {
    async nodePublishVolume(request, call) {
      call.fields.volume = request.volumeId.slice(0, 100);
      const place = parsePlace(request.volumeId, request.targetPath, our.kubeletRoot);
      if (request.volumeCapability === undefined) {
        throw new Fault("invalid_argument", "The request has no volume capability");
      }
      const target = await findTarget(place, our.kubeletRoot);
      if (target === undefined) {
        throw new Fault(
          "invalid_argument",
          `The folder ${dirname(place.path)} is not there; the kubelet should have made it`,
        );
      }
      await locked(place, () => publish(request, { place, target }, call, our));
      return {};
    },
    async nodeUnpublishVolume(request, call) {
      call.fields.volume = request.volumeId.slice(0, 100);
      const place = parsePlace(request.volumeId, request.targetPath, our.kubeletRoot);
      const target = await findTarget(place, our.kubeletRoot);
      await locked(place, async () => {
        if (target !== undefined) call.did = await removeVolume(target, our);
        our.volumes.forget(place.volumeId);
      });
      return {};
    },
    async nodeGetVolumeStats(request, call) {
      call.fields.volume = request.volumeId.slice(0, 100);
      if (request.volumeId === "") throw new Fault("invalid_argument", "The request has no volume id");
      if (request.volumePath === "") throw new Fault("invalid_argument", "The request has no volume path");
      return { usage: await readUsage(request.volumeId, request.volumePath, our) };
    },
    async nodeGetCapabilities() {
      const types = [capability.getVolumeStats, capability.volumeMountGroup];
      return { capabilities: types.map((type) => ({ type: { case: "rpc" as const, value: { type } } })) };
    },
    async nodeGetInfo() {
      return { nodeId: our.nodeId };
    },
  });
}

/**
 * The target's real path; undefined when its folder is not there. Below the kubelet's root nothing may be a link: a
 * link there would let us mount or delete elsewhere (CVE-2020-8567).
 */
async function findTarget(place: Place, kubeletRoot: string): Promise<string | undefined> {
  const root = await realpath(kubeletRoot);
  const parent = await realpath(dirname(place.path)).catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return undefined;
    throw new Fault("invalid_argument", `The folder ${dirname(place.path)} cannot be used`, error);
  });
  if (parent === undefined) return undefined;
  const target = root + place.below;
  const found = await lstat(target).catch(() => undefined);
  if (parent !== dirname(target) || (found !== undefined && !found.isDirectory())) {
    throw new Fault("invalid_argument", `The path ${place.path} leads through a link, or is no folder`);
  }
  return target;
}

/** Takes all mounts at a path and its folder away; false when there was nothing. */
export async function removeVolume(target: string, our: Pick<NodeOptions, "mounts">): Promise<boolean> {
  const count = () => our.mounts.list().filter((entry) => entry.path === target).length;
  const before = count();
  for (let left = before; left > 0; ) {
    const failed = await our.mounts.unmount(target, false).then(
      () => undefined,
      (error: unknown) => error,
    );
    let now = count();
    if (now >= left) {
      // Busy, or umount does not answer: out of the tree at once, and gone when its last user is.
      await our.mounts.unmount(target, true).catch(() => undefined);
      now = count();
    }
    if (now >= left) throw new Fault("internal", `Cannot unmount ${target}; see the driver's log`, failed);
    left = now;
  }
  return await rmdir(target).then(
    () => true,
    (error: NodeJS.ErrnoException) => {
      if (error.code === "ENOENT") return before > 0;
      throw new Fault("internal", `Cannot remove the folder ${target}; is there something in it?`, error);
    },
  );
}

async function readUsage(volumeId: string, path: string, our: NodeOptions) {
  const unknown = () => new Fault("not_found", "There is no such volume at that path");
  let place: Place;
  try {
    place = parsePlace(volumeId, path, our.kubeletRoot);
  } catch {
    throw unknown();
  }
  const target = await findTarget(place, our.kubeletRoot).catch(() => undefined);
  if (target === undefined) throw unknown();
  const state = lookAt(target, sourceOf(our.driverName, place.volumeId), our.mounts);
  if (state !== "good") throw unknown();
  const found = await statfs(target, { bigint: true }).catch((error: unknown) => {
    throw new Fault("internal", `Cannot read the usage of ${target}`, error);
  });
  return [
    {
      unit: unit.bytes,
      available: found.bavail * found.bsize,
      total: found.blocks * found.bsize,
      used: (found.blocks - found.bfree) * found.bsize,
    },
    { unit: unit.inodes, available: found.ffree, total: found.files, used: found.files - found.ffree },
  ];
}
