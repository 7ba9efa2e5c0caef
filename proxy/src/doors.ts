import type { Socket } from "node:net";
import tls from "node:tls";
import type { Log, ResolvedConnector } from "@kube-connector/core";

/** What comes out of a door: a connection inside our TLS, and the connector it is for. */
export type OnSecure = (socket: tls.TLSSocket, connector: { key: string; uid: string }) => void;

/** The TLS of both doors. Sockets are handed in; nothing here listens. */
export interface Doors {
  /** TLS for a tunnel to that connector: SNI, if sent, must name its target. */
  forward(socket: Socket, connector: ResolvedConnector): void;
  /** TLS at once: SNI names the connector; without SNI there must be only one. */
  reverse(socket: Socket): void;
  /** To be called after each change of connectors: new leaves serve new handshakes, open connections go on. */
  refresh(connectors: readonly ResolvedConnector[]): void;
}

export interface DoorsOptions {
  log: Log;
  /** Milliseconds for the whole handshake. */
  handshakeTimeout: number;
  onForward: OnSecure;
  onReverse: OnSecure;
  /** Undefined: HTTP/2 is not spoken at all. */
  http2?: Http2Knowledge | undefined;
}

/** HTTP/2 is offered to clients of those targets alone that take it. */
export interface Http2Knowledge {
  /** Whether the target does, as far as is known; never throws. */
  isSpoken(connector: ResolvedConnector): boolean;
  /** Finds out; undefined when it is known. Never rejects. */
  ask(connector: ResolvedConnector): Promise<void> | undefined;
}

interface Leaf {
  connector: ResolvedConnector;
  key: string;
  context: tls.SecureContext;
  /** One tls.Server per leaf, never listening, fed by hand: the sockets it makes sit right on the native handle. */
  server: tls.Server;
}

/** No client shows a certificate here; without saying so each door would hold all of Node's root certificates. */
const noRoots = { ca: [] };

/** What a client may choose of, where HTTP/2 is not spoken. */
const onlyHttp1 = ["http/1.1"];

export function createDoors(options: DoorsOptions): Doors {
  const { log, http2 } = options;
  let leaves = new Map<string, Leaf>();
  let byName = new Map<string, Leaf>();

  /** What both kinds of server have; the callback may never throw, since that would end the process. */
  const serverOptions = (
    mayServe: (name: string) => tls.SecureContext | undefined,
    connectorFor: (name: string) => ResolvedConnector | undefined,
  ): tls.TlsOptions => ({
    minVersion: "TLSv1.2",
    ...noRoots,
    ...(http2 === undefined
      ? { ALPNProtocols: onlyHttp1 }
      : { ALPNCallback: (asked) => chooseProtocol(asked, http2, connectorFor) }),
    handshakeTimeout: options.handshakeTimeout,
    SNICallback: (name, callback) => {
      try {
        const context = mayServe(name.toLowerCase());
        if (context === undefined) callback(new Error("the server name is not served here"));
        else callback(null, context);
      } catch (error) {
        callback(error instanceof Error ? error : new Error("the server name could not be looked up"));
      }
    },
  });

  const watch = (server: tls.Server, door: string) =>
    server.on("tlsClientError", (error, socket) => {
      log.debug("A TLS handshake with a client failed", { door, error });
      socket.destroy();
    });

  function createLeaf(connector: ResolvedConnector): Leaf {
    const key = `${connector.namespace}/${connector.name}`;
    const { certificate: cert, key: secret } = connector.leaf;
    const context = tls.createSecureContext({ cert, key: secret.reveal(), minVersion: "TLSv1.2", ...noRoots });
    const host = connector.target.host;
    const server = tls.createServer({
      ...serverOptions(
        (name) => (name === host ? context : undefined),
        () => leaves.get(connector.uid)?.connector,
      ),
      cert,
      key: secret.reveal(),
    });
    watch(server, "forward").on("secureConnection", (socket) => {
      socket.on("error", () => undefined);
      options.onForward(socket, { key, uid: connector.uid });
    });
    return { connector, key, context, server };
  }

  /** The only connector there is. */
  let only: Leaf | undefined;
  let reverseServer = createReverse(undefined);

  /** `only` serves clients that send no SNI. */
  function createReverse(only: Leaf | undefined): tls.Server {
    const server = tls.createServer({
      ...serverOptions(
        (name) => byName.get(name)?.context,
        (name) => (name === "" ? only : byName.get(name))?.connector,
      ),
      ...(only === undefined ? {} : { cert: only.connector.leaf.certificate, key: only.connector.leaf.key.reveal() }),
    });
    return watch(server, "reverse").on("secureConnection", (socket) => {
      socket.on("error", () => undefined);
      // Without SNI servername is false.
      const name: unknown = socket.servername;
      const leaf = typeof name === "string" && name !== "" ? byName.get(name.toLowerCase()) : only;
      if (leaf === undefined) socket.destroy();
      else options.onReverse(socket, { key: leaf.key, uid: leaf.connector.uid });
    });
  }

  /** The leaf for that version: kept while certificate, host and uid stay. Undefined when it cannot be used. */
  function leafFor(connector: ResolvedConnector): Leaf | undefined {
    const known = leaves.get(connector.uid);
    const same =
      known !== undefined &&
      known.connector.leaf.certificate === connector.leaf.certificate &&
      known.connector.leaf.key.equals(connector.leaf.key) &&
      known.connector.target.host === connector.target.host;
    if (same) return { ...known, connector };
    try {
      return createLeaf(connector);
    } catch (error) {
      const key = `${connector.namespace}/${connector.name}`;
      log.error("The leaf certificate of a connector cannot be used", { connector: key, error });
      return undefined;
    }
  }

  return {
    forward(socket, connector) {
      const leaf = leaves.get(connector.uid);
      const open = () => {
        if (leaf === undefined || socket.destroyed) socket.destroy();
        else leaf.server.emit("connection", socket);
      };
      const asked = leaf === undefined ? undefined : http2?.ask(connector);
      if (asked === undefined) open();
      else void asked.then(open);
    },
    reverse(socket) {
      // Of several connectors nobody knows yet which is meant; the first client of each gets HTTP/1.1.
      const asked = only === undefined ? undefined : http2?.ask(only.connector);
      if (asked === undefined) reverseServer.emit("connection", socket);
      else void asked.then(() => reverseServer.emit("connection", socket));
    },
    refresh(connectors) {
      const found = connectors.map(leafFor).filter((leaf) => leaf !== undefined);
      leaves = new Map(found.map((leaf) => [leaf.connector.uid, leaf]));
      byName = new Map(
        found.flatMap((leaf) => leaf.connector.serviceNames.map((name) => [name.toLowerCase(), leaf] as const)),
      );
      only = found.length === 1 ? found[0] : undefined;
      reverseServer = createReverse(only);
    },
  };
}

/** The protocol for a client of that connector. It may not throw: that would end the process. */
function chooseProtocol(
  asked: { servername: unknown; protocols: string[] },
  http2: Http2Knowledge,
  connectorFor: (name: string) => ResolvedConnector | undefined,
): string | undefined {
  const { protocols } = asked;
  try {
    const name = typeof asked.servername === "string" ? asked.servername.toLowerCase() : "";
    const connector = protocols.includes("h2") ? connectorFor(name) : undefined;
    if (connector !== undefined) {
      if (http2.isSpoken(connector)) return "h2";
      void http2.ask(connector);
    }
  } catch {
    // HTTP/1.1 always works.
  }
  return protocols.includes("http/1.1") ? "http/1.1" : undefined;
}
