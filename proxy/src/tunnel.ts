import { randomUUID } from "node:crypto";
import type { Socket } from "node:net";
import { type ResolvedConnector, Secret } from "@kube-connector/core";
import { connectAnswerText, Refusal, reasonOf, refusalOf } from "./answers.ts";
import { levelBeside } from "./audit/audit.ts";
import type { AuditRecord } from "./audit/record.ts";
import type { ConnectorName } from "./authenticate.ts";
import { type Collaborators, passTunnelGate } from "./gate.ts";
import { parseConnectHead, type RequestHead } from "./http1/head.ts";
import { Inbox } from "./http1/inbox.ts";
import { type OpenStream, secondsSince } from "./open-streams.ts";
import { checkConnectTarget } from "./target.ts";

/** How long a tunnel is open until the audit log gets a line of its start. */
const longTunnel = 10_000;

/** Tries a client has on one connection: the first without credentials, as Go does, and two more. */
const tryLimit = 3;

type State =
  | { name: "reading"; until: number }
  | { name: "deciding" }
  /** TLS has the socket now. */
  | { name: "open"; connector: ResolvedConnector; announced: boolean }
  | { name: "closing"; until: number }
  | { name: "closed" };

/** One connection to the forward door: HTTP CONNECT in clear, then our TLS. */
export class Tunnel {
  readonly #socket: Socket;
  readonly #remote: string;
  readonly #with: Collaborators;
  readonly #open: (socket: Socket, connector: ResolvedConnector) => void;
  readonly #inbox = new Inbox();
  #state: State;
  #tries = 0;
  readonly #id = randomUUID();
  readonly #opened: number;
  /** host:port of the last CONNECT; "-" before it could be read. */
  #asked = "-";
  /** The refusal that is not in the audit log yet: the first of a client that has shown no credentials. */
  #untold: Refusal | undefined;

  constructor(
    socket: Socket,
    collaborators: Collaborators,
    open: (socket: Socket, connector: ResolvedConnector) => void,
    onClosed: (tunnel: Tunnel) => void,
  ) {
    this.#socket = socket;
    this.#remote = socket.remoteAddress ?? "";
    this.#with = collaborators;
    this.#open = open;
    this.#opened = this.#now();
    this.#state = { name: "reading", until: this.#deadline() };
    socket.on("data", this.#received);
    socket.on("end", this.#ended);
    socket.on("close", () => {
      this.#closed();
      onClosed(this);
    });
  }

  #now(): number {
    return this.#with.clock.monotonic();
  }

  #deadline(): number {
    return this.#now() + this.#with.timeouts.connectHead;
  }

  readonly #received = (bytes: Buffer): void => {
    if (this.#state.name === "reading" || this.#state.name === "deciding") this.#inbox.add(bytes);
    if (this.#state.name === "reading") this.#read();
    else if (this.#inbox.length > this.#with.limits.connectHead) this.#socket.pause();
  };

  readonly #ended = (): void => {
    this.#socket.destroy();
  };

  #read(): void {
    try {
      const taken = this.#inbox.takeHead();
      if (taken === "bareLf") throw new Refusal(400, "The CONNECT request is malformed: a line ends without CR");
      const size = taken === "incomplete" ? this.#inbox.length : taken.size;
      if (size > this.#with.limits.connectHead) {
        throw new Refusal(431, `The head of the CONNECT request is larger than ${this.#with.limits.connectHead} bytes`);
      }
      if (taken === "incomplete") return;
      const head = parseConnectHead(taken.text);
      this.#asked = head.method === "CONNECT" ? head.target : "-";
      this.#state = { name: "deciding" };
      this.#decide(head).then(
        (connector) => this.#accept(connector),
        (error: unknown) => this.#refuse(connectRefusalOf(error), head),
      );
    } catch (error) {
      this.#refuse(refusalOf(error), undefined);
    }
  }

  async #decide(head: RequestHead): Promise<ResolvedConnector> {
    if (head.method !== "CONNECT") {
      const how = "use the kubeconfig of the mounted volume as it is";
      throw new Refusal(405, `This port is a forward proxy and takes only CONNECT; ${how}`);
    }
    const { name, token } = credentials(head);
    // First the token: a stranger does not learn which connectors there are.
    await passTunnelGate(token, name, this.#with);
    const key = `${name.namespace}/${name.name}`;
    if (!this.#with.connectors.isSynced())
      throw new Refusal(503, "The proxy has not read its connectors yet; try again");
    const connector = this.#with.connectors.get(key);
    if (connector === undefined) throw new Refusal(404, `The proxy serves no connector ${key}; check that it exists`);
    checkConnectTarget(head.target, connector);
    return connector;
  }

  #accept(connector: ResolvedConnector): void {
    if (this.#state.name !== "deciding") return;
    this.#state = { name: "open", connector, announced: false };
    this.#with.metrics.tunnels(1);
    this.#socket.off("data", this.#received);
    this.#socket.off("end", this.#ended);
    // Exactly this: gorilla/websocket wants 200 and takes what follows the empty line for TLS.
    this.#socket.write("HTTP/1.1 200 OK\r\n\r\n");
    this.#socket.pause();
    // What came with the head is the client's TLS.
    const early = this.#inbox.takeAll();
    if (early.length > 0) this.#socket.unshift(early);
    this.#open(this.#socket, connector);
  }

  #refuse(refusal: Refusal, head: RequestHead | undefined): void {
    if (this.#state.name === "closed") return;
    this.#tries += 1;
    const again = refusal.http === 407 && this.#tries < tryLimit && !this.#with.isDraining();
    const fields = { door: "forward", remote: this.#remote, status: refusal.http, reason: refusal.message };
    const error = refusal.http >= 500 ? { error: refusal } : {};
    // Without credentials is how clients begin; it is not worth a line.
    const first = refusal.http === 407 && head !== undefined && proxyAuthorization(head) === undefined;
    this.#with.log[first ? "debug" : "info"]("Tunnel refused", { ...fields, ...error });
    this.#untold = first ? refusal : undefined;
    if (!first) this.#tell("ResponseComplete", refusal);
    this.#socket.write(connectAnswerText(refusal, { close: !again }));
    if (again) {
      this.#state = { name: "reading", until: this.#deadline() };
      this.#socket.resume();
      if (this.#inbox.length > 0) this.#read();
      return;
    }
    this.#inbox.clear();
    this.#state = { name: "closing", until: this.#now() + this.#with.timeouts.linger };
    this.#socket.end();
    this.#socket.resume();
  }

  /** Called about once a second. */
  tick(now: number): void {
    const state = this.#state;
    if (state.name === "closing" && now >= state.until) this.#socket.destroy();
    if (state.name === "open" && !state.announced && now - this.#opened >= longTunnel) {
      state.announced = true;
      this.#tell("ResponseStarted");
    }
    if (state.name === "reading" && now >= state.until) {
      this.#tries = tryLimit;
      this.#refuse(new Refusal(408, "The CONNECT request did not come in time"), undefined);
    }
  }

  /** The proxy is about to end: a client that has connected may still come in, if it is quick. */
  hurry(): void {
    const { linger } = this.#with.timeouts;
    if (this.#state.name === "reading") this.#state.until = Math.min(this.#state.until, this.#now() + linger);
  }

  #closed(): void {
    if (this.#state.name === "closed") return;
    if (this.#state.name === "open") {
      const { namespace, name } = this.#state.connector;
      this.#with.metrics.tunnels(-1);
      this.#with.log[levelBeside(this.#with.audit)]("Tunnel closed", {
        door: "forward",
        connector: `${namespace}/${name}`,
        remote: this.#remote,
        seconds: secondsSince(this.#opened, this.#now()),
      });
      this.#tell("ResponseComplete");
    } else if (this.#untold !== undefined) this.#tell("ResponseComplete", this.#untold);
    this.#state = { name: "closed" };
  }

  /** A line for the audit log. Nobody is named: the tunnel token is no identity, each request inside shows its own. */
  #tell(stage: AuditRecord["stage"], refusal?: Refusal): void {
    this.#untold = undefined;
    this.#with.audit.record({
      id: this.#id,
      stage,
      decision: refusal === undefined ? "allow" : refusal.http < 500 ? "deny" : "error",
      door: "forward",
      remote: this.#remote,
      connector: this.#state.name === "open" ? this.#state.connector : undefined,
      caller: undefined,
      method: "CONNECT",
      path: this.#asked,
      info: undefined,
      code: refusal?.http ?? 200,
      reason: refusal === undefined ? undefined : reasonOf(refusal),
      message: refusal?.message,
      bytesIn: this.#socket.bytesRead,
      bytesOut: this.#socket.bytesWritten,
      milliseconds: this.#now() - this.#opened,
    });
  }

  /** Undefined for an open one: what is inside shows itself. */
  openStream(now: number): OpenStream | undefined {
    if (this.#state.name === "open" || this.#state.name === "closed") return undefined;
    const isDeciding = this.#state.name === "deciding";
    return {
      door: "forward",
      protocol: "connect",
      remote: this.#remote,
      seconds: secondsSince(this.#opened, now),
      state: this.#state.name === "closing" ? "closing" : "before the tunnel",
      waitsFor: isDeciding ? "review" : "client",
    };
  }
}

function proxyAuthorization(head: RequestHead): string | undefined {
  const lines = head.headers.filter(({ lower }) => lower === "proxy-authorization");
  return lines.length === 1 ? lines[0]?.value : undefined;
}

/** As `refusalOf`; but to a proxy one authenticates with 407, and 401 is for what is inside the tunnel. */
function connectRefusalOf(thrown: unknown): Refusal {
  const refusal = refusalOf(thrown);
  return refusal.http === 401 ? new Refusal(407, refusal.message, refusal.cause) : refusal;
}

/** The connector and the tunnel token of a CONNECT. Refusal: 407. */
function credentials(head: RequestHead): { name: ConnectorName; token: Secret } {
  const given = /^basic +([A-Za-z0-9+/]+={0,2})$/i.exec(proxyAuthorization(head) ?? "")?.[1];
  const decoded = given === undefined ? "" : Buffer.from(given, "base64").toString("latin1");
  const colon = decoded.indexOf(":");
  const [, namespace, name] =
    /^([a-z0-9-]{1,63})\/([a-z0-9.-]{1,253})$/.exec(decoded.slice(0, Math.max(colon, 0))) ?? [];
  const token = decoded.slice(colon + 1);
  if (namespace === undefined || name === undefined || !/^[\x21-\x7e]+$/.test(token)) {
    throw new Refusal(407, "The proxy-url should hold namespace%2Fname of a connector and the tunnel token");
  }
  return { name: { namespace, name }, token: new Secret(token) };
}
