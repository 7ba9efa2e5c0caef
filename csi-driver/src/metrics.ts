import { Counter, Gauge, Histogram, Registry } from "@prometheus-io/client";
import type { Clock } from "@kube-connector/core";
import type { Connectors } from "./connectors.ts";
import type { Mounts } from "./mount.ts";
import { stackedPaths, volumeOf } from "./mountinfo.ts";
import type { CallReport } from "./rpc.ts";
import type { Volumes } from "./volumes.ts";

export interface Metrics {
  observe(report: CallReport): void;
  text(): Promise<string>;
  contentType: string;
}

const codeNames = {
  invalid_argument: "INVALID_ARGUMENT",
  unauthenticated: "UNAUTHENTICATED",
  permission_denied: "PERMISSION_DENIED",
  not_found: "NOT_FOUND",
  conflict: "ABORTED",
  unavailable: "UNAVAILABLE",
  deadline_exceeded: "DEADLINE_EXCEEDED",
  internal: "INTERNAL",
} as const;

/** The name of the gRPC code that a call ended with. */
export function codeOf(report: CallReport): string {
  return report.fault === undefined ? "OK" : codeNames[report.fault.code];
}

export function createMetrics(our: {
  driverName: string;
  volumes: Volumes;
  connectors: Connectors;
  mounts: Mounts;
  clock: Clock;
}): Metrics {
  const registry = new Registry();
  const registers = [registry];
  const calls = new Counter({
    name: "kube_connector_csi_calls_total",
    help: "CSI calls by method and gRPC code.",
    labelNames: ["method", "code"],
    registers,
  });
  const seconds = new Histogram({
    name: "kube_connector_csi_call_seconds",
    help: "How long CSI calls took.",
    labelNames: ["method"],
    buckets: [0.001, 0.002, 0.005, 0.01, 0.05, 0.25, 1, 5, 15, 60, 120],
    registers,
  });
  const gauge = (name: string, help: string, read: () => number | Promise<number>) =>
    new Gauge({
      name: `kube_connector_csi_${name}`,
      help,
      registers,
      async collect() {
        this.set(await read());
      },
    });
  gauge("volumes", "Volumes of ours that are mounted.", async () => {
    const entries = our.mounts.list();
    return new Set(entries.filter((entry) => volumeOf(entry, our.driverName)).map((entry) => entry.path)).size;
  });
  gauge("stacked_mounts", "Paths where one of our mounts lies on another; should be 0.", async () => {
    return stackedPaths(our.mounts.list(), our.driverName).length;
  });
  gauge(
    "oldest_token_expiry_seconds",
    "Seconds until the first token of any volume expires; negative: expired.",
    () => {
      const times = [...our.volumes.values()].flatMap(({ expiresAt }) => (expiresAt === undefined ? [] : [expiresAt]));
      return times.length === 0 ? Number.NaN : (times.reduce((a, b) => Math.min(a, b)) - our.clock.now()) / 1000;
    },
  );
  gauge("connectors", "Connectors in the driver's memory.", () => our.connectors.size());
  gauge(
    "watch_silence_seconds",
    "Seconds since the API server last said anything.",
    () => our.connectors.silence() / 1000,
  );
  return {
    observe(report) {
      calls.inc({ method: report.method, code: codeOf(report) });
      seconds.observe({ method: report.method }, report.milliseconds / 1000);
    },
    text: () => registry.metrics(),
    contentType: registry.contentType,
  };
}
