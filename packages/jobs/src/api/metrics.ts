import { collectDefaultMetrics, Counter, Gauge, Histogram, Registry } from "@prometheus-io/client";
import type { JobsCounts } from "../counts.ts";
import type { Jobs } from "../jobs.ts";
import { runStates } from "../run.ts";

export interface JobsMetrics extends JobsCounts {
  text(): Promise<string>;
  contentType: string;
  /** Whose figures are shown. */
  of(jobs: Pick<Jobs, "figures">): void;
}

const prefix = "kube_connector_jobs_";

/** Metrics that Prometheus can read; no label has a run, job, pod or namespace. */
export function createJobsMetrics(): JobsMetrics {
  const registry = new Registry();
  collectDefaultMetrics({ register: registry });
  const registers = [registry];
  const counter = <L extends string>(name: string, help: string, labelNames: readonly L[] = []) =>
    new Counter<L>({ name: prefix + name, help, labelNames, registers });
  const gauge = <L extends string>(name: string, help: string, labelNames: readonly L[] = []) =>
    new Gauge<L>({ name: prefix + name, help, labelNames, registers });
  const submits = counter("submits_total", "Runs that were asked for.", ["result"]);
  const seconds = new Histogram({
    name: `${prefix}submit_seconds`,
    help: "From a submission to its acknowledgement.",
    buckets: [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5],
    registers,
  });
  const requests = counter("api_requests_total", "Calls to clusters.", ["verb", "resource", "code"]);
  const lag = new Histogram({
    name: `${prefix}state_lag_seconds`,
    help: "From a condition's time, in whole seconds, to the moment it was seen.",
    buckets: [0.5, 1, 1.5, 2, 3, 5, 10, 60],
    registers,
  });
  const relists = counter("relists_total", "Lists because a watch could not go on.");
  const gaps = counter("log_gaps_total", "Gaps in logs.", ["reason"]);
  const runs = gauge("runs", "Runs of the history by state.", ["state"]);
  const watches = gauge("watches", "Kinds of objects followed, by watch, or by poll where watching is forbidden.", [
    "mode",
  ]);
  const follows = gauge("log_follows", "Container logs that are followed.");
  const pending = gauge("cleanup_pending", "Ended runs whose clean-up is not done.");
  let shown: Pick<Jobs, "figures"> | undefined;
  return {
    submitted(result, took) {
      submits.inc({ result });
      seconds.observe(took);
    },
    asked: (verb, resource, code) => requests.inc({ verb, resource, code: String(code) }),
    saw: (value) => lag.observe(value),
    relisted: () => relists.inc(),
    gap: (reason) => gaps.inc({ reason }),
    of(jobs) {
      shown = jobs;
    },
    contentType: registry.contentType,
    async text() {
      const figures = await shown?.figures();
      if (figures !== undefined) {
        for (const state of runStates) runs.set({ state }, figures.runs[state] ?? 0);
        for (const mode of ["watch", "poll"] as const) watches.set({ mode }, figures.watches[mode]);
        follows.set(figures.follows);
        pending.set(figures.cleanupPending);
      }
      return registry.metrics();
    },
  };
}
