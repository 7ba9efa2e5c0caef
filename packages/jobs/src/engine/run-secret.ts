import { Fault, type KubeObject, Secret } from "@kube-connector/core";
import type { Kube } from "../kube.ts";
import { manager, runLabels } from "../labels.ts";
import { paths } from "../paths.ts";
import type { RunRecord } from "../run.ts";
import { jobName } from "../source/names.ts";

// The values of secretEnv: in a Secret of the run in its cluster and nowhere else. The first one is made before the run is
// acknowledged, so that they are not lost with this process; each belongs to the Job of its name, and goes with it.

export interface RunSecret {
  /** For that attempt, 1 unless told. One that is there already is fine. */
  create(values: ReadonlyMap<string, Secret>, attempt?: number): Promise<void>;
  /** Gives it to its Job; one that is gone is fine. */
  own(attempt: number, uid: string): Promise<void>;
  /** The values as the cluster has them, for masking and for a next attempt; empty when they are gone. */
  read(): Promise<Map<string, Secret>>;
  /** Those of no Job: of a run that was never posted. */
  remove(): Promise<void>;
}

export function createRunSecret({ id, name, namespace, engine }: RunRecord, kube: Kube): RunSecret {
  const labels = { [runLabels.run]: id, [runLabels.engine]: engine };
  const labelSelector = Object.entries(labels)
    .map(([key, value]) => `${key}=${value}`)
    .join(",");
  const list = async () =>
    (
      await needing(
        "list",
        kube.list<KubeObject & { data?: Record<string, string> }>(paths.secrets(namespace), { labelSelector }),
      )
    ).items;
  /** Says which right is missing: runs without secretEnv need none on Secrets. */
  async function needing<T>(verb: string, work: Promise<T>): Promise<T> {
    try {
      return await work;
    } catch (error) {
      if (!(error instanceof Fault && error.code === "permission_denied")) throw error;
      const message = `secretEnv needs the right ${verb} on secrets in namespace ${namespace}: ${error.message}`;
      throw new Fault(error.code, message, error, error.answer);
    }
  }
  return {
    async create(values, attempt = 1) {
      const data = [...values].map(([key, value]) => [key, Buffer.from(value.reveal()).toString("base64")]);
      try {
        const secret = {
          apiVersion: "v1",
          kind: "Secret",
          type: "Opaque",
          immutable: true,
          metadata: { name: jobName(name, id, attempt), labels: { ...labels, [runLabels.managedBy]: manager } },
          data: Object.fromEntries(data) as Record<string, string>,
        };
        await needing("create", kube.create(paths.secrets(namespace), secret));
      } catch (error) {
        if (!(error instanceof Fault && error.answer?.reason === "AlreadyExists")) throw error;
      }
    },
    async own(attempt, uid) {
      const job = jobName(name, id, attempt);
      const owner = { apiVersion: "batch/v1", kind: "Job", name: job, uid };
      const patched = kube.patch(paths.secret(namespace, job), { metadata: { ownerReferences: [owner] } });
      await needing("patch", patched).catch((error: unknown) => {
        if (!(error instanceof Fault && error.answer?.status === 404)) throw error;
      });
    },
    async read() {
      const [first] = await list();
      return new Map(
        Object.entries(first?.data ?? {}).map(([key, value]) => [
          key,
          new Secret(Buffer.from(value, "base64").toString("utf8")),
        ]),
      );
    },
    async remove() {
      for (const { metadata } of await list()) {
        const removed = kube.remove(paths.secret(namespace, metadata.name), { propagation: "Background" });
        await needing("delete", removed).catch((error: unknown) => {
          if (!(error instanceof Fault && error.answer?.status === 404)) throw error;
        });
      }
    },
  };
}
