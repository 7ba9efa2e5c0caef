import type { Log, ResolvedConnector } from "@kube-connector/core";
import type { ConnectorChange, ConnectorSource } from "./source.ts";
import type { ConnectorVersion } from "./usable.ts";

/** What a source serves right now. The half of every source that has nothing to do with where connectors come from. */
export interface ServedConnectors extends Omit<ConnectorSource, "done" | "stop"> {
  /** What one place (a folder, a Secret) holds now; undefined: nothing that can be served. */
  put(place: string, version: ConnectorVersion | undefined): void;
  /** The places that hold something. */
  places(): string[];
  /** Says that the first full reading is done. */
  announceSynced(): void;
}

export function createServedConnectors(log: Log): ServedConnectors {
  const byPlace = new Map<string, ConnectorVersion>();
  const placesOf = new Map<string, Set<string>>();
  const served = new Map<string, ConnectorVersion>();
  const listeners = new Set<(change: ConnectorChange) => void>();
  let isSynced = false;
  let announce: () => void = () => undefined;
  const synced = new Promise<void>((resolve) => {
    announce = resolve;
  });

  /** The one version for that key. Two places that name the same connector contradict each other: none is served. */
  function versionFor(key: string): ConnectorVersion | undefined {
    const [place, ...others] = placesOf.get(key) ?? [];
    if (others.length > 0) log.error("Two places name the same connector, so it is not served", { key });
    return place === undefined || others.length > 0 ? undefined : byPlace.get(place);
  }

  function setPlace(place: string, version: ConnectorVersion | undefined): void {
    const before = byPlace.get(place);
    if (before !== undefined) placesOf.get(keyOf(before.connector))?.delete(place);
    if (version === undefined) {
      byPlace.delete(place);
      return;
    }
    byPlace.set(place, version);
    const key = keyOf(version.connector);
    placesOf.set(key, (placesOf.get(key) ?? new Set()).add(place));
  }

  function judge(key: string): void {
    const before = served.get(key);
    const after = versionFor(key);
    if (before?.fingerprint === after?.fingerprint) return;
    if (after === undefined) served.delete(key);
    else served.set(key, after);
    const line = after === undefined ? "A connector is no longer served" : "A connector is served";
    log.info(line, { connector: key, connectorUid: (after ?? before)?.connector.uid ?? "" });
    for (const listener of listeners) {
      try {
        listener({ before: before?.connector, after: after?.connector });
      } catch (error) {
        log.error("A listener for connectors failed", { key, error });
      }
    }
  }

  return {
    put(place, version) {
      const before = byPlace.get(place);
      setPlace(place, version);
      const keys = new Set([before, version].flatMap((one) => (one === undefined ? [] : [keyOf(one.connector)])));
      for (const key of keys) {
        judge(key);
        if (placesOf.get(key)?.size === 0) placesOf.delete(key);
      }
    },
    places: () => [...byPlace.keys()],
    announceSynced() {
      isSynced = true;
      announce();
    },
    get: (key) => served.get(key)?.connector,
    all: () => [...served.values()].map((version) => version.connector),
    isSynced: () => isSynced,
    synced,
    subscribe(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
  };
}

function keyOf(connector: ResolvedConnector): string {
  return `${connector.namespace}/${connector.name}`;
}
