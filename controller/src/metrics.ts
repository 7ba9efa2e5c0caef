import { Counter, Gauge, Histogram, Registry } from "@prometheus-io/client";
import { type Connector, findCondition } from "@kube-connector/core";

export interface Metrics {
  reconciled(result: "ok" | "failed", milliseconds: number): void;
  probed(result: string, milliseconds: number): void;
  text(): Promise<string>;
  contentType: string;
}

/** The controller's own registry. Labels name Connectors, never paths or pods. */
export function createMetrics(look: {
  depth: () => number;
  leading: () => boolean;
  connectors: () => Iterable<[string, Connector]>;
  lastRound: (key: string) => number | undefined;
}): Metrics {
  const registry = new Registry();
  const registers = [registry];
  const name = (text: string) => `kube_connector_controller_${text}`;
  const reconciles = new Counter({
    name: name("reconciles_total"),
    help: "Runs of the loop, by result.",
    labelNames: ["result"],
    registers,
  });
  const reconcileTime = new Histogram({
    name: name("reconcile_duration_seconds"),
    help: "How long a run took.",
    buckets: [0.005, 0.02, 0.1, 0.5, 2, 10],
    registers,
  });
  const probes = new Counter({
    name: name("probe_rounds_total"),
    help: "Rounds of questions to targets, by the first False reason or Ready.",
    labelNames: ["result"],
    registers,
  });
  const probeTime = new Histogram({
    name: name("probe_duration_seconds"),
    help: "How long a round took.",
    buckets: [0.01, 0.05, 0.2, 1, 5, 20],
    registers,
  });
  registers[0]?.registerMetric(
    new Gauge({
      name: name("queue_depth"),
      help: "Keys that wait to run.",
      registers: [],
      collect() {
        this.set(look.depth());
      },
    }),
  );
  registers[0]?.registerMetric(
    new Gauge({
      name: name("leader"),
      help: "1 in the replica that leads.",
      registers: [],
      collect() {
        this.set(look.leading() ? 1 : 0);
      },
    }),
  );
  const each = (metric: string, help: string, of: (connector: Connector, key: string) => number | undefined) =>
    new Gauge({
      name: name(metric),
      help,
      labelNames: ["namespace", "name"],
      registers,
      collect() {
        this.reset();
        for (const [key, connector] of look.connectors()) {
          const amount = of(connector, key);
          const { namespace = "", name } = connector.metadata;
          if (amount !== undefined) this.set({ namespace, name }, amount);
        }
      },
    });
  each("connector_ready", "1 when the Connector's Ready is True, else 0.", ({ status }) =>
    findCondition(status, "Ready")?.status === "True" ? 1 : 0,
  );
  each("credential_expiry_timestamp_seconds", "When the stored token expires, where it says so.", ({ status }) => {
    const time = Date.parse(status?.credential?.expiresAt ?? "");
    return Number.isNaN(time) ? undefined : time / 1000;
  });
  each("last_probe_timestamp_seconds", "When the target was last asked.", (_, key) => {
    const time = look.lastRound(key);
    return time === undefined ? undefined : time / 1000;
  });
  return {
    reconciled(result, milliseconds) {
      reconciles.inc({ result });
      reconcileTime.observe(milliseconds / 1000);
    },
    probed(result, milliseconds) {
      probes.inc({ result });
      probeTime.observe(milliseconds / 1000);
    },
    text: () => registry.metrics(),
    contentType: registry.contentType,
  };
}
