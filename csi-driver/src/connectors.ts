import { hash } from "node:crypto";
import {
  apiVersion,
  type ApiServer,
  type Clock,
  type Connector,
  type KubeObject,
  keyOf,
  type Log,
  parseAddress,
  type Running,
  sleep,
  startReflector,
} from "@kube-connector/core";

/** What is kept of a Connector: only what goes into files and decisions. */
export type KnownConnector = {
  uid: string;
  /** Whether pods of its own namespace may use it without a grant. */
  openToOwnNamespace: boolean;
  /** Changes when anything that is rendered does. */
  digest: string;
} & ({ usable: UsableConnector } | { usable: undefined; problem: string });

/** A Connector that has a proxy. */
export interface UsableConnector {
  /** The target's address, normalised. */
  server: string;
  httpUrl: string;
  httpsUrl: string;
  /** PEM. */
  ca: string;
}

export interface Connectors extends Running {
  isSynced(): boolean;
  /** Waits until the Connectors have been read once, at most that many milliseconds; answers whether they have. */
  waitSynced(milliseconds: number, signal: AbortSignal): Promise<boolean>;
  /** Milliseconds since the API server last said anything. */
  silence(): number;
  size(): number;
  get(connector: { namespace: string; name: string }): KnownConnector | undefined;
  /**
   * Waits until the Connector passes the test, at most that many milliseconds. Answers with the Connector as it is then,
   * whether it passes or not.
   */
  wait(
    connector: { namespace: string; name: string },
    options: { until: (known: KnownConnector | undefined) => boolean; milliseconds: number; signal: AbortSignal },
  ): Promise<KnownConnector | undefined>;
}

/** Watches all Connectors. */
export function startConnectors(options: { api: ApiServer; clock: Clock; log: Log }): Connectors {
  const waiting = new Map<string, Set<() => void>>();
  const reflector = startReflector<KnownConnector>({
    ...options,
    path: `/apis/${apiVersion}/connectors`,
    keep: keepConnector,
    onChange: (key) => {
      for (const look of waiting.get(key) ?? []) look();
    },
  });
  return {
    done: reflector.done,
    stop: () => reflector.stop(),
    isSynced: () => reflector.isSynced(),
    async waitSynced(milliseconds, signal) {
      if (milliseconds > 0) await Promise.race([reflector.synced, sleep(options.clock, milliseconds, signal)]);
      return reflector.isSynced();
    },
    silence: () => reflector.silence(),
    size: () => reflector.size(),
    get: ({ namespace, name }) => reflector.get(`${namespace}/${name}`),
    async wait({ namespace, name }, { until, milliseconds, signal }) {
      const key = `${namespace}/${name}`;
      if (until(reflector.get(key)) || milliseconds <= 0 || signal.aborted) return reflector.get(key);
      const looks = waiting.get(key) ?? new Set();
      waiting.set(key, looks);
      await new Promise<void>((resolve) => {
        const end = () => {
          cancel();
          signal.removeEventListener("abort", end);
          looks.delete(look);
          if (looks.size === 0) waiting.delete(key);
          resolve();
        };
        const look = () => {
          if (until(reflector.get(key))) end();
        };
        const cancel = options.clock.after(milliseconds, end);
        signal.addEventListener("abort", end, { once: true });
        looks.add(look);
      });
      return reflector.get(key);
    },
  };
}

/** The API's object → what is kept. Its status is written by the controller alone, but is checked for form all the same. */
export function keepConnector(object: KubeObject): KnownConnector | undefined {
  const connector = object as unknown as Partial<Connector>;
  const uid = connector.metadata?.uid ?? "";
  if (uid === "" || object.metadata.deletionTimestamp !== undefined) return undefined;
  const openToOwnNamespace = (connector.spec?.access?.sameNamespace ?? "Allow") === "Allow";
  const found = readUsable(connector, keyOf(object));
  const rendered = typeof found === "string" ? { usable: undefined, problem: found } : { usable: found };
  const digest = hash("sha256", JSON.stringify([uid, rendered]), "base64");
  return { uid, openToOwnNamespace, digest, ...rendered };
}

/** What is needed of a Connector, or a sentence that says why it is not there. */
function readUsable(connector: Partial<Connector>, key: string): UsableConnector | string {
  const { httpAddress, httpsAddress, caBundle } = connector.status?.proxy ?? {};
  const httpUrl = readUrl(httpAddress?.url, "http:");
  const httpsUrl = readUrl(httpsAddress?.url, "https:");
  const ca = Buffer.from(caBundle ?? "", "base64").toString("utf8");
  const said = connector.status?.conditions?.find(({ type }) => type === "Ready")?.message?.trim();
  const why = said ? `: ${said.slice(0, 1000)}` : "; is the controller running?";
  if (httpUrl === undefined || httpsUrl === undefined || !ca.includes("-----BEGIN CERTIFICATE-----")) {
    return `The Connector ${key} has no proxy yet${why}`;
  }
  try {
    return { server: parseAddress(connector.spec?.address ?? "").url, httpUrl, httpsUrl, ca };
  } catch (error) {
    return `The Connector ${key} cannot be used: ${error instanceof Error ? error.message : "its address is wrong"}`;
  }
}

/** A plain URL of a host, or undefined. */
function readUrl(text: string | undefined, protocol: string): string | undefined {
  if (text === undefined || !URL.canParse(text)) return undefined;
  const url = new URL(text);
  const plain = url.protocol === protocol && url.username === "" && url.password === "" && url.search === "";
  return plain ? text.replace(/\/$/, "") : undefined;
}
