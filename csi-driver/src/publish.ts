import { hash } from "node:crypto";
import { lstat, mkdir, readdir, rmdir } from "node:fs/promises";
import { Fault, type Log, type Secret } from "@kube-connector/core";
import type { Authorize } from "./authorize.ts";
import type { Connectors, KnownConnector, UsableConnector } from "./connectors.ts";
import { renderContent } from "./content.ts";
import { hasFiles, writeFiles } from "./files.ts";
import type { NodePublishVolumeRequest } from "./gen/csi_pb.ts";
import type { Mounts } from "./mount.ts";
import { sourceOf } from "./mountinfo.ts";
import type { Call } from "./rpc.ts";
import { parseTokens, type Tokens } from "./tokens.ts";
import { parseWanted, type Place, type Wanted } from "./volume.ts";
import type { Volumes } from "./volumes.ts";

export interface PublishCollaborators {
  driverName: string;
  mounts: Mounts;
  connectors: Connectors;
  authorize: Authorize;
  volumes: Volumes;
  log: Log;
}

/**
 * What is at a target: nothing of ours, a volume that pods can use (*good*), what a killed first publish has left
 * (*half*), or somebody else's mount.
 */
export type TargetState = "none" | "good" | "half" | "foreign";

/** Reads what is at a target from the mounts. */
export function lookAt(target: string, source: string, mounts: Mounts): TargetState {
  const top = mounts.list().findLast((entry) => entry.path === target);
  if (top === undefined) return "none";
  if (top.fsType !== "tmpfs" || top.source !== source) return "foreign";
  return hasFiles(target) ? "good" : "half";
}

/**
 * Makes the volume, all or nothing: a first publish that fails leaves nothing, one that fails on a good volume touches
 * nothing and answers UNAVAILABLE, because the kubelet (before kubernetes/kubernetes#139045) deletes the mount
 * directory of a running pod after any final error. `target` is the place's real path; the volume is locked.
 */
export async function publish(
  request: NodePublishVolumeRequest,
  at: { place: Place; target: string },
  call: Call,
  our: PublishCollaborators,
): Promise<void> {
  const { place, target } = at;
  const source = sourceOf(our.driverName, place.volumeId);
  let state = lookAt(target, source, our.mounts);
  try {
    if (state === "half") {
      our.log.warn("A first publish that was cut off is started over", { volume: place.volumeId });
      await our.mounts.unmount(target, false);
      state = lookAt(target, source, our.mounts);
    }
    await prepare(request, { place, target, state }, call, our);
  } catch (error) {
    const fault = Fault.from(error, "Cannot publish the volume");
    if (state === "good") throw new Fault("unavailable", fault.message, fault.cause ?? fault);
    await undo(target, source, our);
    throw fault;
  }
}

async function prepare(
  request: NodePublishVolumeRequest,
  at: { place: Place; target: string; state: TargetState },
  call: Call,
  our: PublishCollaborators,
): Promise<void> {
  const { place, target, state } = at;
  const wanted = parseWanted(request);
  call.fields.pod = `${wanted.pod.namespace}/${wanted.pod.name}`;
  call.fields.connector = `${wanted.connector.namespace}/${wanted.connector.name}`;
  const tokens = parseTokens(request, { podUid: place.podUid, pod: wanted.pod });
  const known = our.volumes.get(place.volumeId);
  const now = our.connectors.get(wanted.connector);
  if (state === "good" && now !== undefined && known?.digest === digestOf(target, wanted, tokens, now)) return;
  if (state === "foreign") throw new Fault("internal", `Something else is mounted at ${target}`);
  // A driver that has just started needs a moment; the kubelet's next try would take longer.
  if (!(await our.connectors.waitSynced(state === "good" ? 0 : 2000, call.signal))) {
    throw new Fault("unavailable", "The driver has not yet read the Connectors from the API server");
  }

  const tries = state === "good" ? 0 : our.volumes.countTry(place.volumeId);
  const connector = await findConnector(
    wanted,
    { tries, authorisedUid: known?.connectorUid, signal: call.signal },
    our,
  );
  const content = renderContent(connector.usable, wanted, tokens);
  if (state !== "good") {
    await makeMountPoint(target);
    await our.mounts.mountTmpfs(target, sourceOf(our.driverName, place.volumeId), wanted.context);
    call.did = true;
  }
  const written = write(target, content, wanted.group);
  call.did ||= written;
  if (!hasFiles(target)) throw new Fault("internal", "The volume's files are not there after writing");
  our.volumes.set(place.volumeId, {
    target,
    digest: digestOf(target, wanted, tokens, connector),
    connectorUid: connector.uid,
    expiresAt: tokens.expiresAt,
  });
}

function write(target: string, content: Map<string, Secret>, group: number | undefined): boolean {
  try {
    return writeFiles(target, content, { group });
  } catch (error) {
    throw new Fault("internal", "Cannot write the volume's files; see the driver's log", error);
  }
}

/** The digest of all that the files are made of: the same one means nothing to do. */
function digestOf(target: string, wanted: Wanted, tokens: Tokens, connector: KnownConnector): string {
  // JSON of a Secret is ***, so the tokens go in as texts.
  const parts = [target, wanted, connector.digest, tokens.tunnel.reveal(), tokens.request.reveal()];
  return hash("sha256", JSON.stringify(parts), "base64");
}

/** The Connector, when the pod may use it and it has a proxy. `tries` is 0 on a good volume: no wait at all then. */
async function findConnector(
  wanted: Wanted,
  how: { tries: number; authorisedUid: string | undefined; signal: AbortSignal },
  our: PublishCollaborators,
): Promise<KnownConnector & { usable: UsableConnector }> {
  const { connector: name, pod } = wanted;
  const foreign = name.namespace !== pod.namespace;
  const before = our.connectors.get(name);
  // A foreign name is reviewed before it is looked up, so that strangers do not learn what there is.
  const needed = foreign && (before === undefined || before.uid !== how.authorisedUid);
  if (needed) await our.authorize({ pod, connector: name });

  const found = await our.connectors.wait(name, {
    until: (known) => known !== undefined,
    milliseconds: how.tries === 0 ? 0 : 2000,
    signal: how.signal,
  });
  if (found === undefined) {
    throw new Fault(
      "not_found",
      `There is no Connector ${name.namespace}/${name.name}; create it, or mend the pod's connector.name`,
    );
  }
  if (!foreign && !found.openToOwnNamespace && found.uid !== how.authorisedUid) {
    await our.authorize({ pod, connector: name });
  }
  const last = await our.connectors.wait(name, {
    until: (known) => known?.usable !== undefined,
    milliseconds: [0, 10_000][how.tries] ?? 90_000,
    signal: how.signal,
  });
  if (last?.usable !== undefined) return { ...last, usable: last.usable };
  throw new Fault("unavailable", last?.problem ?? `The Connector ${name.namespace}/${name.name} was deleted`);
}

async function makeMountPoint(target: string): Promise<void> {
  await mkdir(target, { mode: 0o750 }).catch(async (error: NodeJS.ErrnoException) => {
    if (error.code !== "EEXIST") throw new Fault("internal", `Cannot make the folder ${target}`, error);
    const empty = (await lstat(target)).isDirectory() && (await readdir(target)).length === 0;
    if (!empty) throw new Fault("internal", `There is something at ${target} already, and it is no empty folder`);
  });
}

/** Leaves nothing of a first publish that failed; what cannot be undone is logged, the first error goes to the kubelet. */
async function undo(target: string, source: string, our: PublishCollaborators): Promise<void> {
  try {
    const state = lookAt(target, source, our.mounts);
    if (state === "foreign") return;
    if (state !== "none") await our.mounts.unmount(target, false).catch(() => our.mounts.unmount(target, true));
    await rmdir(target);
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    if (code !== "ENOENT") our.log.warn("A failed publish could not be undone", { target, error });
  }
}
