import { type ApiServer, type Clock, connectorAccess, Fault, type Log, openApiServer } from "@kube-connector/core";
import type { JobsCounts } from "./counts.ts";
import type { Kube } from "./kube.ts";
import { callsAtOnce, createKube } from "./kube-api.ts";
import { type ClusterView, createClusterView } from "./observe/cluster-view.ts";
import type { RunRecord } from "./run.ts";

/** A cluster, as somebody configured it. */
export interface ConnectorConfig {
  /** `namespace/name` of the Connector. */
  name: string;
  /** A kubeconfig that kube-connector made: of a volume, or of standalone. */
  kubeconfig: string;
  /** Where runs go that name no namespace. */
  defaultNamespace?: string | undefined;
  /** Shown for its runs; {cluster}, {namespace} and {job} are filled in. */
  monitorUrl?: string | undefined;
}

/** The page about a run elsewhere, where its connector has a template for one. */
export function fillMonitorUrl(
  config: ConnectorConfig | undefined,
  { connector, namespace, attempts }: Pick<RunRecord, "connector" | "namespace" | "attempts">,
): string | undefined {
  const values: Record<string, string> = { cluster: connector, namespace, job: attempts.at(-1)?.job ?? "" };
  return config?.monitorUrl?.replaceAll(/\{(\w+)\}/g, (whole, name: string) =>
    values[name] === undefined ? whole : encodeURIComponent(values[name]),
  );
}

export interface Cluster {
  config: ConnectorConfig;
  api: ApiServer;
  kube: Kube;
  view: ClusterView;
}

export interface Clusters {
  all: ReadonlyMap<string, Cluster>;
  /** Throws a `not_found` Fault that says which there are. */
  of(connector: string): Cluster;
  stop(): Promise<void>;
}

/** One pool of connections for each connector. Throws a Fault when a kubeconfig cannot be read or is of another connector. */
export async function openClusters(
  configs: readonly ConnectorConfig[],
  options: {
    engine: string;
    /** Streams at a time. */
    streams: number;
    clock: Clock;
    log: Log;
    counts: JobsCounts;
    onChange: (run: string) => void;
  },
): Promise<Clusters> {
  const { clock, log, engine, counts, onChange } = options;
  const all = new Map<string, Cluster>();
  for (const config of configs) {
    const access = await connectorAccess(config.kubeconfig);
    if (access.connector !== undefined && access.connector !== config.name) {
      throw new Fault(
        "invalid_argument",
        `The kubeconfig ${config.kubeconfig} is for connector ${access.connector}, and is configured for ${config.name}`,
      );
    }
    const api = openApiServer({ ...access, connections: options.streams + callsAtOnce });
    all.set(config.name, {
      config,
      api,
      kube: createKube(api, clock, counts),
      view: createClusterView({ api, engine, clock, log: log.with({ connector: config.name }), onChange, counts }),
    });
  }
  return {
    all,
    of(connector) {
      const found = all.get(connector);
      if (found !== undefined) return found;
      const known = all.size === 0 ? "none" : [...all.keys()].join(", ");
      throw new Fault("not_found", `Connector ${connector} is not configured; there are: ${known}`);
    },
    async stop() {
      for (const { view, api } of all.values()) {
        await view.stop();
        await api.stop();
      }
    },
  };
}
