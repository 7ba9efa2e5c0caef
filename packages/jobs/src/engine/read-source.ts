import { Fault, type KubeObject } from "@kube-connector/core";
import { paths } from "../paths.ts";
import type { RunDefinition } from "../definition/definition.ts";
import type { RunRecord } from "../run.ts";
import type { JobManifest } from "../source/manifest.ts";
import { stripSource } from "../source/strip.ts";
import type { EngineParts } from "./live-run.ts";

/** The manifest that a run is cloned from, and where it was found; undefined when the run is no clone. */
export async function readSource(
  definition: RunDefinition,
  parts: Pick<EngineParts, "kube" | "store">,
): Promise<{ manifest: JobManifest | undefined; origin: NonNullable<RunRecord["source"]> } | undefined> {
  const { source, fallback, connector } = definition;
  if (source === undefined) return undefined;
  const { kind, namespace, name, onMissing } = source;
  const key = { connector, kind, namespace, name };
  const path = kind === "Job" ? paths.job(namespace, name) : paths.cronJob(namespace, name);
  try {
    const found = await parts.kube(connector).get<KubeObject>(path);
    const manifest = stripSource({ ...found, kind });
    await parts.store.saveSnapshot(key, { ...manifest });
    const { uid } = found.metadata;
    return { manifest, origin: { kind, namespace, name, used: "Live", ...(uid === undefined ? {} : { uid }) } };
  } catch (error) {
    if (!(error instanceof Fault && error.answer?.status === 404)) throw error;
  }
  const missing = `${kind} ${namespace}/${name} is not in the cluster of ${connector}`;
  if (onMissing === "Fail") throw new Fault("not_found", missing);
  if (onMissing === "Snapshot") {
    const manifest = (await parts.store.readSnapshot(key)) as JobManifest | undefined;
    if (manifest !== undefined) return { manifest, origin: { kind, namespace, name, used: "Snapshot" } };
  }
  if (fallback !== undefined) return { manifest: undefined, origin: { kind, namespace, name, used: "Fallback" } };
  throw new Fault(
    "not_found",
    `${missing}, no earlier run or discovery has kept it, and the definition has no fallback`,
  );
}
