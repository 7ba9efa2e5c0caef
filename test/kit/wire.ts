import { once } from "node:events";
import http from "node:http";
import http2 from "node:http2";
import { connect as connectTcp, type Socket } from "node:net";
import type { Readable, Writable } from "node:stream";
import { connect as connectTls, type TLSSocket } from "node:tls";
import { basic, connectText } from "./test-proxy.ts";

// One client connection through a door of the proxy, and requests on it, the same for HTTP/1.1 and HTTP/2. The clients
// are Node's own.

export type DoorName = "forward" | "reverse";

/** A connector, as a client's volume tells of it. */
export interface Served {
  /** namespace/name */
  connector: string;
  /** host:port of the target. */
  authority: string;
  prefix: string;
  /** Its name at the reverse door. */
  service: string;
  /** The connector's CA, PEM. */
  ca: string;
}

/** Both tokens of a pod. */
export interface Credentials {
  tunnel: string;
  request: string;
}

export interface Way<S extends Served = Served> {
  place: S;
  caller: Credentials;
  door: DoorName;
  ports: { forward: number; reverse: number };
  /** The client's own address on loopback. */
  from?: string;
}

export interface Asked {
  method: string;
  /** Below the prefix of the connector. */
  path: string;
  headers: Record<string, string>;
}

export interface Call {
  /** The request's body; to be ended in any case. */
  body: Writable;
  answer: Promise<{ status: number; headers: Record<string, unknown>; body: Readable }>;
  /** Takes it back, as a client does that has gone. */
  cancel(): void;
}

export interface Wire {
  protocol: "h1" | "h2";
  /** Whether it takes another request. */
  isOpen(): boolean;
  ask(asked: Asked): Call;
  /** A request to upgrade, over HTTP/1.1: the connection itself after a 101. */
  upgrade(asked: Asked): Promise<{ headers: http.IncomingHttpHeaders; socket: Socket; early: Buffer }>;
  /** In order, or by leaving. */
  end(how: "close" | "destroy"): void;
}

/** Milliseconds in which a connection must be there. */
const patience = 15_000;

/** A tunnel, after CONNECT was let through. */
export async function openTunnel(way: Way): Promise<Socket> {
  const socket = connectTcp({
    host: "127.0.0.1",
    port: way.ports.forward,
    noDelay: true,
    ...(way.from === undefined ? {} : { localAddress: way.from }),
  });
  socket.on("error", () => undefined);
  const { authority, connector } = way.place;
  socket.write(connectText(authority, basic(connector, way.caller.tunnel)));
  const [head] = (await once(socket, "data", { signal: AbortSignal.timeout(patience) })) as [Buffer];
  if (head.toString("latin1") !== "HTTP/1.1 200 OK\r\n\r\n") {
    socket.destroy();
    throw new Error(`CONNECT got ${head.toString("latin1").split("\r\n", 1)[0]}`);
  }
  return socket;
}

/** A connection inside TLS, verified by this connector's CA and by no other. */
export async function openSecure(way: Way, protocols: readonly string[]): Promise<TLSSocket> {
  const { place, ports, door } = way;
  const where =
    door === "forward"
      ? { socket: await openTunnel(way), host: "127.0.0.1" }
      : { host: "127.0.0.1", port: ports.reverse, servername: place.service };
  const socket = connectTls({ ...where, ca: place.ca, ALPNProtocols: [...protocols], minVersion: "TLSv1.2" });
  socket.on("error", () => undefined).setNoDelay(true);
  try {
    await once(socket, "secureConnect", { signal: AbortSignal.timeout(patience) });
  } catch (error) {
    socket.destroy();
    throw new Error(`TLS: ${String(error)}`, { cause: error });
  }
  return socket;
}

/** Over HTTP/2 where that is wanted and offered. */
export async function openWire(way: Way, wanted: "h1" | "h2"): Promise<Wire> {
  const socket = await openSecure(way, wanted === "h2" ? ["h2", "http/1.1"] : ["http/1.1"]);
  return socket.alpnProtocol === "h2" ? http2Wire(way, socket) : http1Wire(way, socket);
}

/** Headers and path of a request by that way. */
function addressed(way: Way, asked: Asked) {
  const { place, caller, door } = way;
  return {
    host: door === "forward" ? place.authority : place.service,
    // The forward door's clients know the prefix, at the other door it is added.
    path: (door === "forward" ? place.prefix : "") + asked.path,
    headers: { authorization: `Bearer ${caller.request}`, ...asked.headers },
  };
}

function http1Wire(way: Way, socket: TLSSocket): Wire {
  const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
  let taken = false;
  // For this one connection; whoever wants another opens another wire.
  agent.createConnection = () => {
    if (taken) throw new Error("the connection is over");
    taken = true;
    return socket;
  };
  const request = (asked: Asked) => {
    const { host, path, headers } = addressed(way, asked);
    return http.request({ agent, method: asked.method, path, setHost: false, headers: { host, ...headers } });
  };
  return {
    protocol: "h1",
    isOpen: () => !socket.destroyed && socket.writable && socket.readable,
    ask(asked) {
      const body = request(asked);
      const answer = new Promise<Awaited<Call["answer"]>>((resolve, reject) => {
        body.once("response", (response) => {
          if (response.headers.connection === "close") socket.once("end", () => socket.destroy());
          resolve({ status: response.statusCode ?? 0, headers: response.headers, body: response });
        });
        body.once("close", () => reject(new Error("closed without an answer")));
        body.on("error", reject);
      });
      answer.catch(() => undefined);
      return { body, answer, cancel: () => void body.destroy() };
    },
    upgrade: (asked) =>
      new Promise((resolve, reject) => {
        const asking = request({
          ...asked,
          headers: { ...asked.headers, connection: "Upgrade", upgrade: "websocket" },
        });
        asking.once("upgrade", ({ headers }, upgraded, early) => resolve({ headers, socket: upgraded, early }));
        asking.once("response", (response) => {
          response.resume();
          reject(new Error(`an upgrade got ${response.statusCode}`));
        });
        asking.on("error", reject);
        asking.end();
      }),
    end: (how) => void (how === "close" ? socket.end(() => socket.destroy()) : socket.destroy()),
  };
}

function http2Wire(way: Way, socket: TLSSocket): Wire {
  const session = http2.connect(`https://${way.place.authority}`, { createConnection: () => socket });
  session.on("error", () => undefined);
  let saidGoodbye = false;
  session.on("goaway", () => (saidGoodbye = true));
  return {
    protocol: "h2",
    isOpen: () => !session.closed && !session.destroyed && !saidGoodbye,
    ask(asked) {
      const { host, path, headers } = addressed(way, asked);
      const stream = session.request({ ":method": asked.method, ":path": path, ":authority": host, ...headers });
      const answer = new Promise<Awaited<Call["answer"]>>((resolve, reject) => {
        stream.once("response", (given) => resolve({ status: given[":status"] ?? 0, headers: given, body: stream }));
        stream.once("close", () => reject(new Error(`reset with ${stream.rstCode} without an answer`)));
        stream.on("error", reject);
        // Else Node throws a short answer away that has come whole before it is read.
        stream.pause();
      });
      answer.catch(() => undefined);
      return { body: stream, answer, cancel: () => stream.close(http2.constants.NGHTTP2_CANCEL) };
    },
    upgrade: () => Promise.reject(new Error("upgrades are HTTP/1.1")),
    end(how) {
      if (how === "destroy") session.destroy();
      else session.close(() => socket.destroy());
    },
  };
}
