import type { RunRecord, RunState } from "@kube-connector/jobs";

/** An id as runs have them: made at that time, in milliseconds, and the count-th of it. */
export function testRunId(count: number, millis = Date.UTC(2026, 2, 1)): string {
  const digits = "0123456789abcdefghjkmnpqrstvwxyz";
  const text = (number: number, length: number): string =>
    length === 0 ? "" : text(Math.floor(number / 32), length - 1) + digits.charAt(number % 32);
  return text(millis, 10) + text(count, 16);
}

/** A run as the history keeps it, one hour long when its state is an ended one. */
export function testRun(count: number, parts: Partial<RunRecord> = {}): RunRecord {
  const millis = Date.UTC(2026, 2, 1) + count * 1000;
  const state: RunState = parts.state ?? "Queued";
  const at = new Date(millis).toISOString();
  const ended = ["Succeeded", "Failed", "TimedOut", "Cancelled", "Lost"].includes(state);
  const run: Omit<RunRecord, "definition"> = {
    id: testRunId(count, millis),
    engine: "engine0000",
    connector: "team-a/prod",
    namespace: "batch",
    name: "report",
    state,
    status: "Starting",
    reason: "",
    since: at,
    stale: false,
    progress: { active: 0, ready: 0, succeeded: 0, failed: 0, completions: 1 },
    createdAt: at,
    attempts: [],
    cleanup: { state: "Pending" },
    version: 1,
    ...(ended && { endedAt: new Date(millis + 3_600_000).toISOString() }),
    ...parts,
  };
  return {
    ...run,
    definition: {
      connector: run.connector,
      namespace: run.namespace,
      name: run.name,
      image: "images.example/report:1.4",
      container: "main",
      command: ["python", "-m", "report"],
      completions: 1,
      parallelism: 1,
      mounts: [],
      env: { MODE: "full" },
      secretEnv: [],
      retry: { maxAttempts: 1, backoff: "Exponential", initialDelay: 10, maxDelay: 600, on: ["Infra"] },
      deadlines: { queue: 3600, collect: 300 },
      timeout: 86_400,
      cleanup: "Always",
      keepFailedFor: 604_800,
      failFast: {},
      logRetentionDays: 30,
      priority: 0,
      labels: {},
      annotations: {},
    },
    ...parts,
  };
}
