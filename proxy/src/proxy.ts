import { type AddressInfo, createServer, type Server, type Socket } from "node:net";
import type { TLSSocket } from "node:tls";
import { type Clock, Fault, type Log, type ResolvedConnector, type Running, sleep } from "@kube-connector/core";
import type { AheadConnection } from "./ahead.ts";
import { Refusal } from "./answers.ts";
import { type Audit, noAudit } from "./audit/audit.ts";
import type { Authenticator } from "./authenticate.ts";
import type { Authorizer } from "./authorize.ts";
import type { ConnectorChange, ConnectorSource } from "./connectors/source.ts";
import { createDoors, type Doors, type Http2Knowledge } from "./doors.ts";
import type { Collaborators } from "./gate.ts";
import { ClientConnection } from "./http1/relay.ts";
import { Http2Connection } from "./http2/relay.ts";
import { NodeHttp2Connection } from "./http2-node/connection.ts";
import { createCallerLimiter } from "./limits/callers.ts";
import type { Door, ProxyMetrics } from "./metrics.ts";
import { defaultLimits, defaultTimeouts, type Limits, type Timeouts } from "./timeouts.ts";
import { reducesAnswers } from "./policy.ts";
import { Tunnel } from "./tunnel.ts";
import { createTurnedAway, type TurnedAway } from "./turned-away.ts";
import type { OpenStream } from "./open-streams.ts";
import { createUpstreams, type Pool, type Upstreams } from "./upstream.ts";

export interface ProxyOptions {
  /** Where CONNECT is taken; port 0 takes a free one. Undefined: no forward door. */
  forward?: { host: string; port: number } | undefined;
  /** Where TLS is taken at once. Undefined: no reverse door. */
  reverse?: { host: string; port: number } | undefined;
  connectors: ConnectorSource;
  authenticator: Authenticator;
  authorizer: Authorizer;
  metrics: ProxyMetrics;
  clock: Clock;
  log: Log;
  timeouts?: Partial<Timeouts>;
  limits?: Partial<Limits>;
  /** Without one nothing is written of requests but log lines. */
  audit?: Audit | undefined;
  /** Standalone only: a target may be on this machine. */
  allowLoopbackTargets?: boolean;
  /** By what HTTP/2 is spoken with clients of targets that speak it; `own` unless told. */
  http2?: Http2By;
}

/** Our own frame relay, node:http2 as a second opinion of it, or nothing: HTTP/1.1 alone. */
export type Http2By = "own" | "node" | "off";

type Connection = ClientConnection | Http2Connection | NodeHttp2Connection;

export interface RunningProxy extends Running {
  /** 0 when that door is not there. */
  forwardPort: number;
  reversePort: number;
  /** True from the first moment of `stop()`: readiness should say no. */
  isDraining(): boolean;
  /** Client connections that are open. */
  openConnections(): number;
  /** What is open, for whoever looks into a stuck process. */
  openStreams(): OpenStream[];
}

/**
 * The front door: takes connections at both doors and passes each request on. `stop()` drains: it serves as before for
 * `drainWait`, then takes nothing new, lets requests end and gives streams `drainGrace`. Fault: unavailable when a port
 * cannot be had.
 */
export async function startProxy(options: ProxyOptions): Promise<RunningProxy> {
  const proxy = new ProxyProcess(options);
  await proxy.listen();
  return proxy;
}

class ProxyProcess implements RunningProxy {
  forwardPort = 0;
  reversePort = 0;
  readonly done: Promise<void>;
  readonly #options: ProxyOptions;
  readonly #http2: Http2By;
  readonly #with: Collaborators;
  readonly #doors: Doors;
  readonly #servers: Server[] = [];
  readonly #sockets = new Set<Socket>();
  readonly #perAddress = new Map<string, number>();
  readonly #turnedAway: TurnedAway;
  readonly #tunnels = new Set<Tunnel>();
  /** By the address and port of the client: what comes out of TLS is another object than what went in. */
  readonly #ahead = new Map<string, AheadConnection>();
  readonly #connections = new Set<Connection>();
  readonly #unsubscribe: () => void;
  /**
   * leaving: readiness says no, all else is as before. draining: each answer is the last one of its connection, so that
   * clients go elsewhere while we still listen. closed: nothing new is taken.
   */
  #life: "serving" | "leaving" | "draining" | "closed" | "stopped" = "serving";
  #stopping: Promise<void> | undefined;
  #cancelTick: () => void = () => undefined;
  /** Called when the last connection has closed. */
  #onEmpty: () => void = () => undefined;
  #resolveDone: () => void = () => undefined;

  constructor(options: ProxyOptions) {
    this.#options = options;
    this.#http2 = options.http2 ?? "own";
    const { connectors, authenticator, authorizer, metrics, clock, log } = options;
    const timeouts = { ...defaultTimeouts, ...options.timeouts };
    const limits = { ...defaultLimits, ...options.limits };
    const upstreams = createUpstreams({
      clock,
      metrics,
      timeouts,
      allowLoopbackTargets: options.allowLoopbackTargets ?? false,
    });
    this.#turnedAway = createTurnedAway({ clock, patience: timeouts.linger });
    const isDraining = () => this.#life !== "serving" && this.#life !== "leaving";
    this.#with = {
      connectors,
      authenticator,
      authorizer,
      upstreams,
      metrics,
      clock,
      log,
      timeouts,
      limits,
      limiter: createCallerLimiter({ clock, metrics }),
      audit: options.audit ?? noAudit,
      isDraining,
    };
    this.#doors = createDoors({
      log,
      handshakeTimeout: timeouts.tls,
      onForward: (socket, connector) => this.#serve(socket, "forward", connector),
      onReverse: (socket, connector) => this.#serve(socket, "reverse", connector),
      http2: this.#http2 === "off" ? undefined : http2Of(upstreams),
    });
    this.done = new Promise((resolve) => {
      this.#resolveDone = resolve;
    });
    this.#unsubscribe = connectors.subscribe((change) => this.#connectorChanged(change));
    this.#doors.refresh(connectors.all());
    this.#tick();
  }

  async listen(): Promise<void> {
    try {
      const { forward, reverse } = this.#options;
      if (forward !== undefined)
        this.forwardPort = await this.#listen("forward", forward, (socket) => this.#tunnel(socket));
      if (reverse !== undefined)
        this.reversePort = await this.#listen("reverse", reverse, (socket) => this.#doors.reverse(socket));
    } catch (error) {
      await this.#end();
      throw error;
    }
  }

  isDraining(): boolean {
    return this.#life !== "serving";
  }

  openConnections(): number {
    return this.#sockets.size;
  }

  openStreams(): OpenStream[] {
    const now = this.#with.clock.monotonic();
    const tunnels = [...this.#tunnels].flatMap((tunnel) => tunnel.openStream(now) ?? []);
    return [...tunnels, ...[...this.#connections].flatMap((connection) => connection.openStream(now))];
  }

  async #listen(door: Door, at: { host: string; port: number }, accept: (socket: Socket) => void): Promise<number> {
    const server = createServer({ allowHalfOpen: true, noDelay: true, keepAlive: true, keepAliveInitialDelay: 30_000 });
    this.#servers.push(server);
    await new Promise<void>((resolve, reject) => {
      server.once("error", (error) => reject(Fault.from(error, `Cannot listen on ${at.host}:${at.port}`)));
      server.listen({ ...at, backlog: 4096 }, resolve);
    });
    server.on("error", (error) => this.#with.log.error("A door failed", { error }));
    server.on("connection", (socket) => {
      // Whatever happens to it, "close" follows.
      socket.on("error", () => undefined);
      const refusal = this.#admit(socket, door);
      if (refusal === undefined) accept(socket);
      else if (door === "forward") this.#turnedAway.tell(socket, refusal);
      else socket.destroy();
    });
    return (server.address() as AddressInfo).port;
  }

  /** Counts a new connection, in all and for its address; why not, when there are too many. */
  #admit(socket: Socket, door: Door): Refusal | undefined {
    const address = socket.remoteAddress;
    const { limits, metrics } = this.#with;
    if (address === undefined) return new Refusal(503, "The connection is gone");
    const count = this.#perAddress.get(address) ?? 0;
    const isFull = this.#sockets.size >= limits.connections;
    if (isFull || count >= limits.connectionsPerAddress) {
      metrics.connectionRefused(isFull ? "all" : "address");
      this.#with.log.debug("A connection was refused because there are too many", { remote: address, count });
      return isFull
        ? new Refusal(503, `The proxy has ${limits.connections} connections open and takes no more; try again`)
        : new Refusal(429, `Too many connections: ${address} has ${count} open, and more are not taken`, undefined, {
            retryAfter: 1,
          });
    }
    this.#sockets.add(socket);
    metrics.connections(door, 1);
    this.#perAddress.set(address, count + 1);
    socket.once("close", () => {
      this.#sockets.delete(socket);
      metrics.connections(door, -1);
      if (this.#sockets.size === 0) this.#onEmpty();
      const left = (this.#perAddress.get(address) ?? 1) - 1;
      if (left > 0) this.#perAddress.set(address, left);
      else this.#perAddress.delete(address);
    });
    return undefined;
  }

  #tunnel(socket: Socket): void {
    const open = (opened: Socket, connector: ResolvedConnector) => {
      this.#dialAhead(opened, connector);
      this.#doors.forward(opened, connector);
    };
    this.#tunnels.add(new Tunnel(socket, this.#with, open, (tunnel) => this.#tunnels.delete(tunnel)));
  }

  /** Begins the target's handshake beside the client's. On the reverse door a request comes with the end of the handshake. */
  #dialAhead(socket: Socket, connector: ResolvedConnector): void {
    const pool = poolOf(this.#with.upstreams, connector);
    // Where HTTP/2 is spoken, or that is not known yet, the client may need another kind of connection.
    if (this.#http2 !== "off" && (pool?.askHttp2() !== undefined || pool?.speaksHttp2 === true)) return;
    const ahead = pool?.dialAhead();
    if (ahead === undefined) return;
    const peer = peerOf(socket);
    this.#ahead.set(peer, ahead);
    socket.once("close", () => {
      if (this.#ahead.get(peer) === ahead) this.#ahead.delete(peer);
      ahead.close();
    });
  }

  #serve(socket: TLSSocket, door: Door, connector: { key: string; uid: string }): void {
    const ahead = door === "forward" ? this.#ahead.get(peerOf(socket)) : undefined;
    const admitted = { door, ...connector, remote: socket.remoteAddress ?? "", ahead };
    const kind =
      socket.alpnProtocol !== "h2" ? ClientConnection : this.#http2 === "node" ? NodeHttp2Connection : Http2Connection;
    const connection = new kind(socket, admitted, this.#with, (one: Connection) => this.#connections.delete(one));
    // A connector that went away during the handshake.
    if (connection.currentConnector() === undefined) connection.cut();
    else this.#connections.add(connection);
    if (this.#life === "closed") connection.hurry();
  }

  #connectorChanged(change: ConnectorChange): void {
    this.#with.upstreams.connectorChanged(change);
    this.#doors.refresh(this.#with.connectors.all());
    const { before, after } = change;
    if (before === undefined) return;
    for (const connection of this.#connections) {
      if (connection.admitted.uid !== before.uid) continue;
      if (before.uid !== after?.uid) connection.cut("ConnectorGone");
      else if (!(connection instanceof ClientConnection)) connection.connectorChanged();
    }
  }

  #tick(): void {
    const now = this.#with.clock.monotonic();
    for (const tunnel of this.#tunnels) tunnel.tick(now);
    for (const connection of this.#connections) connection.tick(now);
    this.#with.upstreams.tick(now);
    this.#cancelTick = this.#with.clock.after(this.#with.timeouts.tick, () => this.#tick());
  }

  stop(): Promise<void> {
    this.#stopping ??= this.#drain();
    return this.#stopping;
  }

  async #drain(): Promise<void> {
    const { clock, timeouts, log } = this.#with;
    log.info("Draining: readiness says no, requests are still served", { count: this.#connections.size });
    this.#life = "leaving";
    await sleep(clock, timeouts.drainWait / 2);
    this.#life = "draining";
    await sleep(clock, timeouts.drainWait / 2);
    this.#life = "closed";
    for (const server of this.#servers) server.close();
    for (const tunnel of this.#tunnels) tunnel.hurry();
    // What has come is read first: a connection with a request on it is not idle.
    await new Promise((resolve) => setImmediate(resolve));
    for (const connection of this.#connections) connection.endIfIdle();
    await this.#empty(timeouts.drainGrace);
    if (this.#connections.size > 0) log.info("Ending what is still open", { count: this.#connections.size });
    await this.#endStreams();
    await this.#empty(timeouts.linger);
    await this.#end();
  }

  /** Ends each answer where its client can see that it ended well; where there is no such place in time, it is cut. */
  async #endStreams(): Promise<void> {
    const { clock, timeouts } = this.#with;
    const deadline = clock.monotonic() + timeouts.linger;
    let left = [...this.#connections];
    for (;;) {
      left = left.filter((connection) => !connection.endStream());
      if (left.length === 0 || clock.monotonic() >= deadline) break;
      // A chunk's rest is on its way.
      await sleepAwake(10);
    }
    for (const connection of left) connection.cut("Draining");
  }

  /**
   * Ends when no connection is open, or after that many milliseconds. It waits for the event and not for a timer alone:
   * the clock's timers keep no process alive, so the process would be gone before the drain has ended.
   */
  #empty(milliseconds: number): Promise<void> {
    return new Promise((resolve) => {
      const cancel = this.#with.clock.after(milliseconds, () => this.#onEmpty());
      this.#onEmpty = () => {
        cancel();
        this.#onEmpty = () => undefined;
        resolve();
      };
      if (this.#sockets.size === 0) this.#onEmpty();
    });
  }

  async #end(): Promise<void> {
    this.#life = "stopped";
    this.#cancelTick();
    this.#unsubscribe();
    for (const server of this.#servers) server.close();
    for (const connection of this.#connections) connection.cut("Draining");
    for (const socket of this.#sockets) socket.destroy();
    this.#turnedAway.stop();
    this.#with.upstreams.stop();
    // Each tells of its end when it closes: before whoever listens is stopped.
    await this.#empty(this.#with.timeouts.linger);
    this.#resolveDone();
  }
}

/** What the pools of targets know about HTTP/2. */
function http2Of(upstreams: Upstreams): Http2Knowledge {
  return {
    // Answers are reduced by the HTTP/1.1 relay alone.
    isSpoken: (connector) => !reducesAnswers(connector.policy) && poolOf(upstreams, connector)?.speaksHttp2 === true,
    ask: (connector) => poolOf(upstreams, connector)?.askHttp2(),
  };
}

/** A connector whose pool cannot be made is told so by its first request. */
function poolOf(upstreams: Upstreams, connector: ResolvedConnector): Pool | undefined {
  try {
    return upstreams.poolFor(connector);
  } catch {
    return undefined;
  }
}

function peerOf(socket: Socket): string {
  return `${socket.remoteAddress} ${socket.remotePort}`;
}

/** The clock's timers keep no process alive, so that it would be gone before the drain has ended. */
function sleepAwake(milliseconds: number): Promise<void> {
  return new Promise((resolve) => {
    setTimeout(resolve, milliseconds);
  });
}
