import type { ResolvedConnector, Running } from "@kube-connector/core";

/** What changed: `before` is undefined for a new connector, `after` for one that is gone or can no longer be used. */
export interface ConnectorChange {
  before: ResolvedConnector | undefined;
  after: ResolvedConnector | undefined;
}

/**
 * Where resolved connectors come from: a directory or watched Secrets. Each version of a connector is one immutable
 * object, swapped whole; a request takes one reference.
 */
export interface ConnectorSource extends Running {
  /** By `namespace/name`. */
  get(key: string): ResolvedConnector | undefined;
  all(): readonly ResolvedConnector[];
  /** Whether the first full reading is done. Until then nothing is served. */
  isSynced(): boolean;
  /** Ends when isSynced. */
  synced: Promise<void>;
  /** Called after each change. The answer ends the subscription. */
  subscribe(listener: (change: ConnectorChange) => void): () => void;
}
