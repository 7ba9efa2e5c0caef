import { rm } from "node:fs/promises";
import { type Clock, Fault, type KubeObject, type Log, type Running, sleep } from "@kube-connector/core";
import type { Store } from "../history/store.ts";
import type { Kube } from "../kube.ts";
import { runLabels } from "../labels.ts";
import { runFolder } from "../logs/files.ts";
import { sweepLogs } from "../logs/sweep.ts";
import { paths } from "../paths.ts";
import { isTerminal } from "../run.ts";

// What runs have left behind: objects with our engine's label that no run needs any more, kept Jobs whose time is over, and
// log folders. At the start and every five minutes.

const sweepEvery = 300_000;
/** Younger ones may be of a POST whose answer is on its way. Milliseconds. */
const leastAge = 600_000;
const pageSize = 500;

export interface SweepReport {
  /** What was deleted, as `connector kind namespace/name`. */
  deleted: string[];
  /** What is of our engine, runs, and is in no history; deleted only when orphans were asked for. */
  orphans: string[];
  /** What could not be looked at, a sentence each. */
  problems: string[];
}

export interface Sweeper extends Running {
  sweep(orphans: boolean): Promise<SweepReport>;
  removeLogs(runs: readonly string[]): Promise<void>;
}

interface Cluster {
  kube: Kube;
}

export function startSweeper(options: {
  store: Store;
  clusters: ReadonlyMap<string, Cluster>;
  /** Has the engine look after those runs again. */
  takeUp: (runs: readonly string[]) => Promise<void>;
  logs: string;
  clock: Clock;
  log: Log;
}): Sweeper {
  const { store, clusters, clock, log } = options;
  const stopping = new AbortController();

  async function sweep(orphans: boolean): Promise<SweepReport> {
    const report: SweepReport = { deleted: [], orphans: [], problems: [] };
    for (const { connector, namespace } of await store.places()) {
      const cluster = clusters.get(connector);
      if (cluster === undefined) continue;
      for (const kind of ["jobs", "pods", "secrets"] as const) {
        try {
          await sweepKind({ ...cluster, connector, namespace, kind, orphans, report });
        } catch (error) {
          const fault = Fault.from(error, `Cannot look for left ${kind}`);
          const needs = fault.code === "permission_denied" ? ` (needs the rights list and delete on ${kind})` : "";
          report.problems.push(`${connector} ${namespace} ${kind}: ${fault.message}${needs}`);
        }
      }
    }
    return report;
  }

  async function sweepKind(one: {
    kube: Kube;
    connector: string;
    namespace: string;
    kind: "jobs" | "pods" | "secrets";
    orphans: boolean;
    report: SweepReport;
  }): Promise<void> {
    const { kube, connector, namespace, kind, report } = one;
    let cursor: string | undefined;
    do {
      const page = await kube.list<KubeObject>(paths[kind](namespace), {
        labelSelector: `${runLabels.engine}=${store.engine}`,
        limit: pageSize,
        ...(cursor === undefined ? {} : { continue: cursor }),
      });
      for (const object of page.items) {
        const verdict = await judge(object, kind);
        const name = `${connector} ${kind.slice(0, -1)} ${namespace}/${object.metadata.name}`;
        if (verdict === "orphan") report.orphans.push(name);
        if (verdict !== "left" && !(verdict === "orphan" && one.orphans)) continue;
        await kube
          .remove(`${paths[kind](namespace)}/${object.metadata.name}`, {
            propagation: "Background",
            ...(object.metadata.uid === undefined ? {} : { uid: object.metadata.uid }),
          })
          .then(() => report.deleted.push(name))
          .catch((error: unknown) => {
            const status = error instanceof Fault ? error.answer?.status : undefined;
            if (status !== 404 && status !== 409) throw error;
          });
      }
      cursor = page.next;
    } while (cursor !== undefined);
  }

  /** left: nothing needs it; orphan: it works, and no run is known for it. */
  async function judge(object: KubeObject, kind: "jobs" | "pods" | "secrets"): Promise<"needed" | "left" | "orphan"> {
    const { labels, creationTimestamp, deletionTimestamp, ownerReferences } = object.metadata as {
      labels?: Record<string, string>;
      creationTimestamp?: string;
      deletionTimestamp?: string;
      ownerReferences?: unknown[];
    };
    const isYoung = clock.now() - Date.parse(creationTimestamp ?? "") < leastAge;
    if (isYoung || deletionTimestamp !== undefined) return "needed";
    // What a Job owns goes with it.
    if (kind !== "jobs" && (ownerReferences ?? []).length > 0) return "needed";
    const run = await store.read(labels?.[runLabels.run] ?? "");
    if (run !== undefined) return isTerminal(run.state) && run.cleanup.state === "Done" ? "left" : "needed";
    const { active = 0 } = (object.status ?? {}) as { active?: number };
    return kind === "jobs" && active > 0 ? "orphan" : "left";
  }

  /** Failed runs that were kept for a time, and whose time is over, are taken up again for their clean-up. */
  async function endKept(): Promise<void> {
    const over: string[] = [];
    let cursor: string | undefined;
    do {
      const page = await store.list({
        cleanup: "Kept",
        limit: pageSize,
        ...(cursor === undefined ? {} : { cursor }),
      });
      for (const { id, cleanup } of page.runs) {
        if (cleanup.until !== undefined && Date.parse(cleanup.until) <= clock.now()) over.push(id);
      }
      cursor = page.next;
    } while (cursor !== undefined);
    if (over.length > 0) await options.takeUp(over);
  }

  async function run(): Promise<void> {
    let known: readonly string[] = [];
    while (!stopping.signal.aborted) {
      try {
        await endKept();
        const { deleted, problems } = await sweep(false);
        await sweepLogs(options.logs, clock.now(), async (id) => (await store.read(id))?.definition.logRetentionDays);
        for (const key of deleted) log.info("Deleted what a run has left behind", { key });
        // Runs do without some of these rights, so each is said once.
        for (const reason of problems) {
          if (!known.includes(reason)) log.warn("Cannot look for what runs have left behind", { reason });
        }
        known = problems;
      } catch (error) {
        log.warn("The sweep failed and is tried again", { error });
      }
      await sleep(clock, sweepEvery, stopping.signal);
    }
  }

  const done = run();
  return {
    done,
    sweep,
    async removeLogs(runs) {
      for (const id of runs) await rm(runFolder(options.logs, id), { recursive: true, force: true });
    },
    async stop() {
      stopping.abort();
      await done;
    },
  };
}
