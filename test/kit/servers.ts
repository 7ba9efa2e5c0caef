import type { AddressInfo } from "node:net";
import { createServer, type Server, type TLSSocket } from "node:tls";
import type { KeyPair } from "./certificates.ts";

/** What a test does with one connection that the target has accepted. */
export type OnTargetConnection = (connection: TargetConnection) => void;

/** One connection to a raw target: bytes, and nothing that reads HTTP for us. */
export interface TargetConnection {
  socket: TLSSocket;
  /** 0 for the first connection, and so on. */
  index: number;
  /** All bytes so far, as Latin-1. */
  received(): string;
  /** Ends when that text has come (looked for from `from` on), with everything up to its end. */
  until(text: string, from?: number): Promise<string>;
  /** Writes Latin-1. */
  send(text: string): void;
}

export interface RawTarget extends AsyncDisposable {
  port: number;
  connections: TargetConnection[];
  /** The connection with that index, once it is there. */
  connection(index?: number): Promise<TargetConnection>;
  /** Sockets that are open now. */
  open(): number;
  /** What every connection received, joined: for "the mark is nowhere". */
  everything(): string;
}

/**
 * A TLS server that judges nothing: it keeps each byte that comes, and answers what the test says. Assertions are on what
 * reached it. Without `onConnection` it answers each request that ends in an empty line by echoing its head.
 */
export async function startRawTarget(
  identity: KeyPair,
  onConnection: OnTargetConnection = echoHeads,
  options: { port?: number } = {},
): Promise<RawTarget> {
  const connections: TargetConnection[] = [];
  const server = createServer({ cert: identity.certificate, key: identity.key, ALPNProtocols: ["http/1.1"] });
  const sockets = new Set<{ destroy(): void }>();
  server.on("connection", (socket) => {
    sockets.add(socket);
    socket.on("error", () => undefined).once("close", () => sockets.delete(socket));
  });
  server.on("tlsClientError", () => undefined);
  server.on("secureConnection", (socket) => {
    const connection = createTargetConnection(socket, connections.length);
    connections.push(connection);
    onConnection(connection);
  });
  const port = await listen(server, options.port ?? 0);
  return {
    port,
    connections,
    async connection(index = 0) {
      for (;;) {
        const found = connections[index];
        if (found !== undefined) return found;
        await new Promise((resolve) => server.once("secureConnection", resolve));
      }
    },
    open: () => sockets.size,
    everything: () => connections.map((connection) => connection.received()).join(""),
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

function createTargetConnection(socket: TLSSocket, index: number): TargetConnection {
  let text = "";
  const waiting = new Set<() => void>();
  socket.on("error", () => undefined);
  socket.on("data", (bytes: Buffer) => {
    text += bytes.toString("latin1");
    for (const check of waiting) check();
  });
  return {
    socket,
    index,
    received: () => text,
    until: (wanted, from = 0) =>
      new Promise((resolve) => {
        const check = () => {
          const at = text.indexOf(wanted, from);
          if (at < 0) return;
          waiting.delete(check);
          resolve(text.slice(0, at + wanted.length));
        };
        waiting.add(check);
        check();
      }),
    send: (answer) => socket.write(answer, "latin1"),
  };
}

/** Answers each head with 200 and the head as the body. */
export function echoHeads(connection: TargetConnection): void {
  let answered = 0;
  connection.socket.on("data", () => {
    for (;;) {
      const text = connection.received();
      const end = text.indexOf("\r\n\r\n", answered);
      if (end < 0) return;
      connection.send(answerWith(text.slice(answered, end + 4)));
      answered = end + 4;
    }
  });
}

/** A 200 with that text as its body. */
export function answerWith(body: string, status = "200 OK", headers = ""): string {
  return `HTTP/1.1 ${status}\r\n${headers}Content-Length: ${Buffer.byteLength(body, "latin1")}\r\n\r\n${body}`;
}

async function listen(server: Server, port: number): Promise<number> {
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(port, "127.0.0.1", resolve);
  });
  return (server.address() as AddressInfo).port;
}
