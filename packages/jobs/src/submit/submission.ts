import { randomBytes } from "node:crypto";
import { type Clock, Fault } from "@kube-connector/core";
import type { ParsedDefinition } from "../definition/parse.ts";
import { createRunSecret } from "../engine/run-secret.ts";
import { readSource } from "../engine/read-source.ts";
import type { RunKeys, Store } from "../history/store.ts";
import type { Job, Kube } from "../kube.ts";
import { paths } from "../paths.ts";
import { createRunId } from "../run-id.ts";
import type { RunRecord } from "../run.ts";
import type { JobManifest } from "../source/manifest.ts";
import type { Difference } from "../source/merge.ts";
import { renderJob, sourceDiff } from "../source/render.ts";
import type { Slots } from "./slots.ts";

/** A definition as it would be sent. */
export interface DryRun {
  manifest: JobManifest;
  /** Against the source it is cloned from; empty without one. */
  differences: Difference[];
  warnings: string[];
  source?: RunRecord["source"];
}

export interface Submitted {
  run: RunRecord;
  /** False when a key has found an earlier run. */
  created: boolean;
  warnings: string[];
}

interface SubmissionParts {
  store: Store;
  owner: string;
  clock: Clock;
  slots: Slots;
  /** Throws a Fault when there is no such connector. */
  kube: (connector: string) => Kube;
}

/** Keeps a new run, so that it survives whatever comes; then it is the engine's. */
export async function submitRun(
  { definition, secrets, warnings }: ParsedDefinition,
  parts: SubmissionParts & { keys: RunKeys; more?: Partial<RunRecord> },
): Promise<Submitted> {
  const { store, owner, clock, slots } = parts;
  const { connector, namespace, name, profile, priority } = definition;
  const kube = parts.kube(connector);
  const now = clock.now();
  const at = new Date(now).toISOString();
  const id = createRunId(now, randomBytes);
  slots.admit({ run: id, profile, connector, priority });
  const fresh: RunRecord = {
    id,
    engine: store.engine,
    connector,
    namespace,
    name,
    definition,
    state: "Queued",
    status: "Starting",
    reason: "",
    since: at,
    stale: false,
    progress: { active: 0, ready: 0, succeeded: 0, failed: 0, completions: definition.completions ?? null },
    createdAt: at,
    attempts: [],
    cleanup: { state: "Pending" },
    version: 0,
    ...parts.more,
  };
  const { record, created } = await store.create(fresh, parts.keys, owner).catch((error: unknown) => {
    slots.release(id);
    throw error;
  });
  if (!created) slots.release(id);
  if (!created || secrets.size === 0) return { run: record, created, warnings };
  try {
    // In the cluster before the run is acknowledged: they are kept nowhere else.
    await createRunSecret(record, kube).create(secrets);
  } catch (error) {
    const fault = Fault.from(error, "Cannot keep the secret values in the cluster");
    const { message } = fault;
    slots.release(id);
    const { status, progress } = { ...record, status: "Failed" as const };
    const ended: RunRecord = { ...record, state: "Failed", status, reason: "Secret", message, since: at, endedAt: at };
    await store.save(
      ended,
      [{ at, type: "state", message, data: { state: "Failed", reason: "Secret", status, progress, message } }],
      owner,
    );
    // Whoever takes it up completes it, and deletes what a call without an answer may have made.
    await store.release(owner, [id]);
    throw fault;
  }
  return { run: record, created, warnings };
}

/** What would be sent, and with `server` what the cluster says of it. Nothing is kept. */
export async function tryRun(
  { definition, warnings }: ParsedDefinition,
  where: "client" | "server",
  { store, kube, clock }: Pick<SubmissionParts, "store" | "kube" | "clock">,
): Promise<DryRun> {
  const found = await readSource(definition, { kube, store });
  const { manifest } = renderJob({
    definition,
    ...(found?.manifest === undefined ? {} : { source: found.manifest }),
    runId: createRunId(clock.now(), randomBytes),
    attempt: 1,
    engine: store.engine,
  });
  if (where === "server") {
    await kube(definition.connector).create<Job>(paths.jobs(definition.namespace), manifest, { dryRun: true });
  }
  return {
    manifest,
    differences: found?.manifest === undefined ? [] : sourceDiff(found.manifest, manifest),
    warnings,
    ...(found === undefined ? {} : { source: found.origin }),
  };
}
