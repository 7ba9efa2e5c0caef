import {
  type Clock,
  Fault,
  type Log,
  parseAddress,
  type ResolvedConnector,
  Secret,
  silentLog,
  systemClock,
} from "@kube-connector/core";
import {
  type Audit,
  type Authenticator,
  type Authorizer,
  type Caller,
  noMetrics,
  type ProxyMetrics,
} from "@kube-connector/proxy";
import {
  type ConnectorChange,
  type ConnectorSource,
  type Http2By,
  type Limits,
  startProxy,
  type Timeouts,
} from "@kube-connector/proxy";
import { createTestCa, type TestCa } from "./certificates.ts";
import { openRaw, openSecure, type RawClient } from "./raw-client.ts";
import { type OnTargetConnection, type RawTarget, startRawTarget } from "./servers.ts";

// A proxy with one connector, a raw target behind it and clients in front of it, all on loopback.

export const testToken = "stored-token-0123456789";
export const callerToken = "request-token-of-the-caller";
export const tunnelToken = "tunnel-token";

/** A source of connectors that a test changes by hand. */
export class TestSource implements ConnectorSource {
  readonly synced = Promise.resolve();
  readonly done = new Promise<void>(() => undefined);
  readonly #connectors = new Map<string, ResolvedConnector>();
  readonly #listeners = new Set<(change: ConnectorChange) => void>();
  /** Whether the first reading of all connectors is over. */
  isRead = true;

  get(key: string): ResolvedConnector | undefined {
    return this.#connectors.get(key);
  }
  all(): readonly ResolvedConnector[] {
    return [...this.#connectors.values()];
  }
  isSynced(): boolean {
    return this.isRead;
  }
  subscribe(listener: (change: ConnectorChange) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }
  async stop(): Promise<void> {}

  /** Adds or replaces a connector. */
  put(after: ResolvedConnector): void {
    const key = `${after.namespace}/${after.name}`;
    const before = this.#connectors.get(key);
    this.#connectors.set(key, after);
    for (const listener of this.#listeners) listener({ before, after });
  }
  remove(key: string): void {
    const before = this.#connectors.get(key);
    this.#connectors.delete(key);
    for (const listener of this.#listeners) listener({ before, after: undefined });
  }
}

/** Knows one request token and one tunnel token; `allow` can be taken back. */
export class TestAccess implements Authenticator, Authorizer {
  fault: Fault | undefined;
  pod: Caller["pod"];
  readonly asked: string[] = [];

  async tunnel(token: Secret): Promise<void> {
    if (token.reveal() !== tunnelToken) throw new Fault("unauthenticated", "The tunnel token is not valid");
  }
  /** Like a cache: the first answer to a token takes a moment, the next ones are there at once. */
  request(token: Secret): Caller | Promise<Caller> {
    const caller = this.#request(token);
    const text = token.reveal();
    const isKnown = this.asked.includes(text);
    this.asked.push(text);
    if (caller instanceof Fault) return Promise.reject(caller);
    return isKnown ? caller : Promise.resolve(caller);
  }
  #request(token: Secret): Caller | Fault {
    if (this.fault?.code === "unauthenticated" || this.fault?.code === "unavailable") return this.fault;
    if (!token.reveal().startsWith(callerToken)) return new Fault("unauthenticated", "The request token is not valid");
    return {
      user: "system:serviceaccount:team-a:ci",
      uid: "u",
      groups: [],
      extra: {},
      namespace: "team-a",
      pod: this.pod,
    };
  }
  async streaming(token: Secret): Promise<void> {
    await this.request(token);
  }
  may(): Promise<void> | undefined {
    return this.fault === undefined ? undefined : Promise.reject(this.fault);
  }
}

export interface TestProxyOptions {
  onConnection?: OnTargetConnection;
  prefix?: string;
  timeouts?: Partial<Timeouts>;
  limits?: Partial<Limits>;
  clock?: Clock;
  log?: Log;
  metrics?: ProxyMetrics;
  audit?: Audit;
  /** Changes the connector before it is served. */
  connector?: (connector: ResolvedConnector) => ResolvedConnector;
  targetPort?: number;
  allowLoopbackTargets?: boolean;
  http2?: Http2By;
}

/** Fills in what a test leaves out, and undoes it with `await using`. */
export async function startTestProxy(options: TestProxyOptions = {}) {
  const targetCa = await sharedCa("target CA");
  const connectorCa = await sharedCa("connector CA");
  const target = await startRawTarget(await targetCa.leaf(["127.0.0.1", "target.example"]), options.onConnection);
  const source = new TestSource();
  const access = new TestAccess();
  const first = await createConnector(targetCa, connectorCa, target.port, options.prefix ?? "");
  const connector = options.connector?.(first) ?? first;
  source.put(connector);
  const proxy = await startProxy({
    forward: { host: "127.0.0.1", port: 0 },
    reverse: { host: "127.0.0.1", port: 0 },
    connectors: source,
    authenticator: access,
    authorizer: access,
    metrics: options.metrics ?? noMetrics,
    audit: options.audit,
    clock: options.clock ?? systemClock,
    log: options.log ?? silentLog,
    timeouts: { drainWait: 0, drainGrace: 100, linger: 200, tick: 20, ...options.timeouts },
    limits: options.limits ?? {},
    allowLoopbackTargets: options.allowLoopbackTargets ?? true,
    http2: options.http2 ?? "off",
  });
  const ca = connectorCa.certificate;
  const clients: RawClient[] = [];
  const keep = <C extends RawClient>(client: C): C => {
    clients.push(client);
    return client;
  };
  return {
    proxy,
    target,
    source,
    access,
    connector,
    connectorCa,
    targetCa,
    authority: connector.target.authority,
    /** A tunnel through the forward door, with TLS inside. */
    forward: async (servername?: string) => {
      const tunnel = keep(await openRaw(proxy.forwardPort));
      tunnel.send(connectText(connector.target.authority));
      await tunnel.until("\r\n\r\n");
      tunnel.socket.removeAllListeners("data");
      return keep(
        await openSecure({ socket: tunnel.socket }, { ca, ...(servername === undefined ? {} : { servername }) }),
      );
    },
    /** TLS at the reverse door. */
    direct: async (servername = connector.serviceNames[0] ?? "") =>
      keep(await openSecure({ port: proxy.reversePort }, { ca, servername })),
    raw: async () => keep(await openRaw(proxy.forwardPort)),
    async [Symbol.asyncDispose]() {
      for (const client of clients) client.socket.destroy();
      await proxy.stop();
      await target[Symbol.asyncDispose]();
    },
  };
}

export type TestProxy = Awaited<ReturnType<typeof startTestProxy>> & { target: RawTarget };

export function basic(user: string, password: string): string {
  return `Basic ${Buffer.from(`${user}:${password}`).toString("base64")}`;
}

export function connectText(authority: string, authorization = basic("team-a/prod", tunnelToken)): string {
  return `CONNECT ${authority} HTTP/1.1\r\nHost: ${authority}\r\nProxy-Authorization: ${authorization}\r\n\r\n`;
}

/** A request with our caller's token; `more` are header lines, each with its CRLF. */
export function requestText(method: string, path: string, host: string, more = "", body = ""): string {
  return `${method} ${path} HTTP/1.1\r\nHost: ${host}\r\nAuthorization: Bearer ${callerToken}\r\n${more}\r\n${body}`;
}

async function createConnector(
  targetCa: TestCa,
  connectorCa: TestCa,
  port: number,
  prefix: string,
): Promise<ResolvedConnector> {
  const address = `https://127.0.0.1:${port}${prefix}`;
  const serviceNames = ["c-prod.team-a.svc.cluster.local", "c-prod.team-a.svc"];
  const leaf = await connectorCa.leaf(["127.0.0.1", ...serviceNames]);
  return {
    namespace: "team-a",
    name: "prod",
    uid: "uid-1",
    address,
    tls: { caBundle: targetCa.certificate, insecureSkipVerify: false },
    access: { sameNamespace: "Allow" },
    serviceNames,
    target: parseAddress(address),
    token: new Secret(testToken),
    leaf: { certificate: leaf.certificate, key: new Secret(leaf.key) },
  };
}

const cas = new Map<string, Promise<TestCa>>();

/** One CA of that name for all tests of a file. */
function sharedCa(name: string): Promise<TestCa> {
  const ca = cas.get(name) ?? createTestCa(name);
  cas.set(name, ca);
  return ca;
}
