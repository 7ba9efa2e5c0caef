import type { Running } from "@kube-connector/core";
import { type JobsOptions, startJobs } from "../jobs.ts";
import type { JobsApiOptions } from "./server.ts";

export type JobsServiceOptions = Omit<JobsOptions, "counts"> & Omit<JobsApiOptions, "jobs" | "metrics">;

export interface JobsService extends Running {
  port: number;
  url: string;
}

/** The engine with its HTTP API, page and metrics. What only a server needs is imported now. */
export async function startJobsService(options: JobsServiceOptions): Promise<JobsService> {
  const [{ createJobsMetrics }, { startJobsApi }] = await Promise.all([import("./metrics.ts"), import("./server.ts")]);
  const metrics = createJobsMetrics();
  const jobs = await startJobs({ ...options, counts: metrics });
  metrics.of(jobs);
  try {
    const api = await startJobsApi({ ...options, jobs, metrics });
    return {
      port: api.port,
      url: api.url,
      done: Promise.all([api.done, jobs.done]).then(() => undefined),
      async stop() {
        await api.stop();
        await jobs.stop();
      },
    };
  } catch (error) {
    await jobs.stop();
    throw error;
  }
}
