import type { Log, ResolvedConnector } from "@kube-connector/core";
import { type ConnectorSource, createServedConnectors } from "@kube-connector/proxy";

/** A source whose connectors are given to it. */
export interface GivenSource extends ConnectorSource {
  /** What is served from now on, by `namespace/name`. A connector that is the same object as before has not changed. */
  give(connectors: ReadonlyMap<string, ResolvedConnector>): void;
}

export function startGivenSource(log: Log): GivenSource {
  const served = createServedConnectors(log);
  const fingerprints = new WeakMap<ResolvedConnector, string>();
  let count = 0;
  let end = () => {};
  const done = new Promise<void>((resolve) => {
    end = resolve;
  });
  return {
    ...served,
    done,
    give(connectors) {
      for (const key of served.places()) if (!connectors.has(key)) served.put(key, undefined);
      for (const [key, connector] of connectors) {
        const fingerprint = fingerprints.get(connector) ?? String((count += 1));
        fingerprints.set(connector, fingerprint);
        served.put(key, { connector, fingerprint });
      }
      served.announceSynced();
    },
    async stop() {
      end();
    },
  };
}
