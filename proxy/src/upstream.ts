import { createHash } from "node:crypto";
import type { TLSSocket } from "node:tls";
import { alpnOf, type Clock, type ResolvedConnector, sleep } from "@kube-connector/core";
import { AheadConnection } from "./ahead.ts";
import { Refusal } from "./answers.ts";
import type { ConnectorChange } from "./connectors/source.ts";
import { type DialPlan, dial, planDial } from "./dial.ts";
import type { ProxyMetrics } from "./metrics.ts";
import { type OnBytes, ReadBuffer } from "./read-buffer.ts";
import { TargetSession } from "./target-session.ts";

/** Milliseconds that clients wait to be told whether a target takes HTTP/2, and that the answer counts. */
const askTime = 2_000;
const askAgain = { yes: Number.POSITIVE_INFINITY, no: 600_000, failed: 5_000 };

/** Connections to one target that wait for their clients' first requests. */
const mostAhead = 100;
const http2First = alpnOf("h2", "http/1.1");

/** Whoever has leased an upstream connection hears from it. */
export interface UpstreamUser {
  upstreamData: OnBytes;
  /** The target will send nothing more. */
  upstreamEnded(): void;
  /** The connection is gone. */
  upstreamClosed(): void;
  /** Its write buffer is empty again. */
  upstreamDrained(): void;
}

type State = { name: "leased"; user: UpstreamUser } | { name: "idle"; until: number } | { name: "closed" };

/** One verified connection to a target. It serves one user at a time. */
export class UpstreamConnection {
  readonly socket: TLSSocket;
  /** What came before anybody could be told: a target that speaks HTTP/2 speaks first. */
  readonly early: readonly Buffer[];
  readonly #pool: Pool;
  #state: State;

  constructor(socket: TLSSocket, pool: Pool, user: UpstreamUser, early: readonly Buffer[] = []) {
    this.socket = socket;
    this.early = early;
    this.#pool = pool;
    this.#state = { name: "leased", user };
    // What went wrong shows as "close", which always follows.
    socket.on("error", () => undefined);
    socket.on("end", () => {
      if (this.#state.name === "leased") this.#state.user.upstreamEnded();
      else this.destroy();
    });
    socket.on("drain", () => {
      if (this.#state.name === "leased") this.#state.user.upstreamDrained();
    });
    socket.on("close", () => this.#closed());
    pool.connectionOpened(this);
  }

  get idleUntil(): number {
    return this.#state.name === "idle" ? this.#state.until : Number.POSITIVE_INFINITY;
  }

  /** Whether both directions are open, as far as we have heard. */
  get isUsable(): boolean {
    return this.socket.writable && this.socket.readable;
  }

  received(bytes: Buffer): void {
    if (this.#state.name === "leased") this.#state.user.upstreamData(bytes);
    else this.destroy(); // bytes that nobody asked for: never the answer to the next request
  }

  lease(user: UpstreamUser): void {
    this.#setState({ name: "leased", user });
  }

  /** Only for a connection that is clean: answer complete, request fully sent, no byte left over, no close. */
  giveBack(): void {
    if (this.#state.name !== "leased" || !this.isUsable || !this.#pool.keeps(this)) {
      this.destroy();
      return;
    }
    if (this.socket.isPaused()) this.socket.resume();
    this.#setState({ name: "idle", until: this.#pool.idleUntil() });
  }

  destroy(): void {
    this.socket.destroy();
    this.#closed();
  }

  #closed(): void {
    const state = this.#state;
    if (state.name === "closed") return;
    this.#setState({ name: "closed" });
    this.#pool.connectionClosed(this);
    if (state.name === "leased") state.user.upstreamClosed();
  }

  #setState(next: State): void {
    this.#pool.counted(this.#state.name, next.name);
    this.#state = next;
  }
}

export interface UpstreamsOptions {
  clock: Clock;
  metrics: ProxyMetrics;
  timeouts: { dial: number; tls: number; idleUpstream: number };
  allowLoopbackTargets: boolean;
}

/**
 * The connections to one target as one connector describes it. A connector version with another address, CA or name has
 * another pool, so that no connection outlives what it was verified by.
 */
export class Pool {
  readonly #options: UpstreamsOptions;
  readonly #idle: UpstreamConnection[] = [];
  readonly #open = new Set<UpstreamConnection>();
  readonly #plan: DialPlan;
  readonly #reads = new ReadBuffer();
  readonly #session: TargetSession;
  #retired = false;
  /** Connections that were made ahead and are not in use. */
  #waiting = 0;
  /** Whether the target takes HTTP/2, as it last said, and until when that counts. */
  #http2 = { yes: false, until: Number.NEGATIVE_INFINITY };
  #asking: Promise<void> | undefined;

  constructor(plan: DialPlan, options: UpstreamsOptions) {
    this.#plan = plan;
    this.#options = options;
    this.#session = new TargetSession(options.clock);
  }

  /** The idle connection that was used last, if there is one. */
  takeIdle(user: UpstreamUser): UpstreamConnection | undefined {
    for (let found = this.#idle.pop(); found !== undefined; found = this.#idle.pop()) {
      if (found.isUsable) {
        found.lease(user);
        return found;
      }
      found.destroy();
    }
    return undefined;
  }

  /** Whether the target takes HTTP/2, as far as is known. */
  get speaksHttp2(): boolean {
    return this.#http2.yes;
  }

  /** Finds out whether the target takes HTTP/2; undefined when that is known. Never rejects, and ends within 2 s. */
  askHttp2(): Promise<void> | undefined {
    const { clock } = this.#options;
    if (this.#asking !== undefined) return this.#asking;
    if (clock.monotonic() < this.#http2.until) return undefined;
    this.#asking = Promise.race([this.#ask(), sleep(clock, askTime)]).finally(() => {
      this.#asking = undefined;
    });
    return this.#asking;
  }

  /** A connection that turns out to speak HTTP/1.1 waits for its first request, so that asking costs nothing. */
  async #ask(): Promise<void> {
    this.#learned(this.#http2.yes, askAgain.failed);
    try {
      const nobody = { upstreamData() {}, upstreamEnded() {}, upstreamClosed() {}, upstreamDrained() {} };
      const connection = await this.dial(nobody, new AbortController().signal, http2First);
      const yes = connection.socket.alpnProtocol === "h2";
      this.#learned(yes, yes ? askAgain.yes : askAgain.no);
      if (yes) connection.destroy();
      else connection.giveBack();
    } catch {
      // Whoever asks for something hears of it.
    }
  }

  #learned(yes: boolean, counts: number): void {
    this.#http2 = { yes, until: this.#options.clock.monotonic() + counts };
  }

  /** A new connection that speaks HTTP/2, whose user begins with what is `early`. Refusal: 502, 503, 504. */
  async dialHttp2(user: UpstreamUser, signal: AbortSignal): Promise<UpstreamConnection> {
    const connection = await this.dial(user, signal, http2First);
    if (connection.socket.alpnProtocol === "h2") return connection;
    this.#learned(false, askAgain.no);
    connection.destroy();
    throw new Refusal(503, `The target cluster at ${this.#plan.authority} does not speak HTTP/2 any more; try again`);
  }

  /** A connection for a client that is about to ask; undefined where one is idle, or too many wait already. */
  dialAhead(): AheadConnection | undefined {
    if (this.#retired || this.#idle.length > 0 || this.#waiting >= mostAhead) return undefined;
    this.#waiting += 1;
    return new AheadConnection(this, this.#options.clock, () => {
      this.#waiting -= 1;
    });
  }

  /** A new connection. Refusal: 502, 504. */
  async dial(user: UpstreamUser, signal: AbortSignal, protocols?: DataView): Promise<UpstreamConnection> {
    const { clock, timeouts, metrics, allowLoopbackTargets } = this.#options;
    let connection: UpstreamConnection | undefined;
    const early: Buffer[] = [];
    const onBytes: OnBytes = (bytes) => {
      if (connection === undefined) early.push(Buffer.from(bytes));
      else connection.received(bytes);
    };
    try {
      const socket = await dial(this.#plan, {
        clock,
        dialTimeout: timeouts.dial,
        tlsTimeout: timeouts.tls,
        allowLoopback: allowLoopbackTargets,
        signal,
        onread: this.#reads.reader(onBytes),
        session: this.#session,
        ...(protocols === undefined ? {} : { protocols }),
      });
      if (early.length > 0 && socket.alpnProtocol !== "h2") {
        socket.destroy();
        throw new Refusal(502, `The target cluster at ${this.#plan.authority} answers before it is asked`);
      }
      metrics.upstreamDialled("ok");
      connection = new UpstreamConnection(socket, this, user, early);
      return connection;
    } catch (error) {
      if (!signal.aborted) metrics.upstreamDialled("failed");
      throw error;
    }
  }

  /** Whether an idle connection still has a place here; it then has. */
  keeps(connection: UpstreamConnection): boolean {
    if (this.#retired) return false;
    this.#idle.push(connection);
    return true;
  }

  idleUntil(): number {
    return this.#options.clock.monotonic() + this.#options.timeouts.idleUpstream;
  }

  connectionOpened(connection: UpstreamConnection): void {
    this.#open.add(connection);
    this.#options.metrics.upstreamConnections("active", 1);
  }

  connectionClosed(connection: UpstreamConnection): void {
    this.#open.delete(connection);
    const at = this.#idle.indexOf(connection);
    if (at >= 0) this.#idle.splice(at, 1);
  }

  counted(before: "leased" | "idle" | "closed", after: "leased" | "idle" | "closed"): void {
    if (before === after) return;
    const { metrics } = this.#options;
    if (before !== "closed") metrics.upstreamConnections(before === "idle" ? "idle" : "active", -1);
    if (after !== "closed") metrics.upstreamConnections(after === "idle" ? "idle" : "active", 1);
  }

  closeIdle(now: number): void {
    for (const connection of this.#idle.filter((one) => one.idleUntil <= now)) connection.destroy();
  }

  /** Idle connections end now, leased ones after their lease. */
  retire(): void {
    this.#retired = true;
    this.closeIdle(Number.POSITIVE_INFINITY);
  }

  destroy(): void {
    this.retire();
    for (const connection of this.#open) connection.destroy();
  }

  get isEmpty(): boolean {
    return this.#open.size === 0;
  }
}

/** The pools of all connectors. */
export interface Upstreams {
  /** The pool for exactly this version of a connector. Refusal (502) when its CA cannot be used. */
  poolFor(connector: ResolvedConnector): Pool;
  /** Drops the idle connections that the new version would not have made. */
  connectorChanged(change: ConnectorChange): void;
  /** Ends connections that were idle for too long; called about once a second. */
  tick(now: number): void;
  stop(): void;
}

export function createUpstreams(options: UpstreamsOptions): Upstreams {
  const pools = new Map<string, Pool>();
  const byVersion = new WeakMap<ResolvedConnector, Pool>();
  const retired = new Set<Pool>();
  let stopped = false;
  return {
    poolFor(connector) {
      const known = byVersion.get(connector);
      if (known !== undefined) return known;
      if (stopped) throw new Refusal(503, "The proxy is stopping; try again");
      const key = poolKey(connector);
      const pool = pools.get(key) ?? new Pool(planDial(connector), options);
      pools.set(key, pool);
      byVersion.set(connector, pool);
      return pool;
    },
    connectorChanged({ before, after }) {
      if (before === undefined) return;
      const key = poolKey(before);
      if (after !== undefined && poolKey(after) === key) return;
      const pool = pools.get(key);
      pools.delete(key);
      pool?.retire();
      if (pool !== undefined && !pool.isEmpty) retired.add(pool);
    },
    tick(now) {
      for (const pool of pools.values()) pool.closeIdle(now);
      for (const pool of retired) if (pool.isEmpty) retired.delete(pool);
    },
    stop() {
      stopped = true;
      for (const pool of [...pools.values(), ...retired]) pool.destroy();
      pools.clear();
      retired.clear();
    },
  };
}

/** Everything that decides where a connection goes and how it is verified; never the token. */
function poolKey(connector: ResolvedConnector): string {
  const { uid, target, tls } = connector;
  const ca = tls.caBundle === undefined ? "" : createHash("sha256").update(tls.caBundle).digest("base64");
  return JSON.stringify([uid, target.host, target.port, ca, tls.serverName ?? "", tls.insecureSkipVerify]);
}
