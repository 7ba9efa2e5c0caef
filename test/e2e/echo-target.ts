import { createHash, randomBytes } from "node:crypto";
import type { AddressInfo } from "node:net";
import { createServer, type Server, type TLSSocket } from "node:tls";
import { createTestCa } from "../kit/certificates.ts";

/** A request as it reached the target, in Latin-1, framed as leniently as any server would. */
export interface Reached {
  /** Request line and header lines, each ended by CRLF. */
  head: string;
  body: string;
}

/**
 * A target that judges nothing. It keeps all bytes that come, and answers each request with its own bytes. In the query,
 * `answer=403` is another status; the paths below `/flow/` are for long answers:
 * - `/flow/bytes/N`: N bytes as fast as they are taken, always the same
 * - `/flow/watch`: a chunk each 100 ms, for ever
 */
export interface EchoTarget extends AsyncDisposable {
  /** The URL as a Connector has it, and its CA. */
  address: string;
  ca: string;
  /** host:port. */
  authority: string;
  /** All requests that arrived whole, those of the controller's probes too. */
  requests(): Reached[];
  /** All bytes of all connections; those of unfinished requests too. */
  everything(): string;
  /** Sockets that are open now. */
  open(): number;
  /** Bytes of `/flow/bytes/N` that have been handed to sockets. */
  written(): number;
  /** SHA-256 of the first N bytes of `/flow/bytes/`, hex. */
  checksum(bytes: number): string;
}

const block = randomBytes(1 << 20);

/** Starts it on the address of the hosting cluster's node, which is this test's machine too: pods reach it there. */
export async function startEchoTarget(host = "172.30.0.2"): Promise<EchoTarget> {
  const ca = await createTestCa("echo target");
  const leaf = await ca.leaf([host]);
  const server = createServer({ cert: leaf.certificate, key: leaf.key, ALPNProtocols: ["http/1.1"] });
  const sockets = new Set<{ destroy(): void }>();
  const connections: Connection[] = [];
  const flow = { written: 0 };
  server.on("connection", (socket) => {
    sockets.add(socket);
    socket.on("error", () => undefined).once("close", () => sockets.delete(socket));
    socket.setNoDelay(true);
  });
  server.on("tlsClientError", () => undefined);
  server.on("secureConnection", (socket) => connections.push(new Connection(socket, flow)));
  const port = await listen(server, host);
  const authority = `${host}:${port}`;
  return {
    address: `https://${authority}`,
    ca: ca.certificate,
    authority,
    requests: () => connections.flatMap(({ requests }) => requests),
    everything: () => connections.map((connection) => connection.text).join(""),
    open: () => sockets.size,
    written: () => flow.written,
    checksum(bytes) {
      const hash = createHash("sha256");
      for (let at = 0; at < bytes; at += block.length)
        hash.update(block.subarray(0, Math.min(block.length, bytes - at)));
      return hash.digest("hex");
    },
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

class Connection {
  text = "";
  readonly requests: Reached[] = [];
  readonly #socket: TLSSocket;
  readonly #flow: { written: number };
  /** Where the next request begins. */
  #at = 0;

  constructor(socket: TLSSocket, flow: { written: number }) {
    this.#socket = socket;
    this.#flow = flow;
    socket.on("error", () => undefined);
    socket.on("data", (bytes: Buffer) => {
      this.text += bytes.toString("latin1");
      while (this.#take());
    });
  }

  /** Answers the next request if it is there whole. */
  #take(): boolean {
    const headEnd = this.text.indexOf("\r\n\r\n", this.#at);
    if (headEnd < 0) return false;
    const head = this.text.slice(this.#at, headEnd + 2);
    const start = headEnd + 4;
    let end = start + Number(/\r\ncontent-length: *(\d+)/i.exec(head)?.[1] ?? 0);
    if (/\r\ntransfer-encoding:/i.test(head)) {
      const last = this.text.indexOf("0\r\n\r\n", start);
      if (last < 0) return false;
      end = last + 5;
    }
    if (this.text.length < end) return false;
    const request = { head, body: this.text.slice(start, end) };
    this.#at = end;
    this.requests.push(request);
    this.#answer(request);
    return true;
  }

  #answer({ head, body }: Reached): void {
    const [, path = ""] = head.split(" ");
    const count = /^\/flow\/bytes\/(\d+)/.exec(path)?.[1];
    if (count !== undefined) this.#sendBytes(Number(count));
    else if (path.startsWith("/flow/watch")) this.#sendEvents();
    else {
      const status = /[?&]answer=(\d{3})/.exec(path)?.[1] ?? "200";
      const echo = Buffer.from(`${head}\r\n${body}`, "latin1");
      const start = `HTTP/1.1 ${status} Answer\r\nContent-Length: ${echo.length}\r\n\r\n`;
      this.#socket.write(Buffer.concat([Buffer.from(start), echo]));
    }
  }

  #sendBytes(count: number): void {
    const socket = this.#socket;
    let sent = 0;
    const more = () => {
      while (sent < count && !socket.destroyed) {
        const part = block.subarray(sent % block.length, Math.min((sent % block.length) + 65_536, block.length));
        const fits = part.length > count - sent ? part.subarray(0, count - sent) : part;
        sent += fits.length;
        this.#flow.written += fits.length;
        if (!socket.write(fits)) return;
      }
      socket.off("drain", more);
    };
    socket.write(`HTTP/1.1 200 OK\r\nContent-Length: ${count}\r\n\r\n`);
    socket.on("drain", more);
    more();
  }

  #sendEvents(): void {
    this.#socket.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nevent\n\r\n");
    const timer = setInterval(() => this.#socket.write("6\r\nevent\n\r\n"), 100);
    this.#socket.once("close", () => clearInterval(timer));
  }
}

async function listen(server: Server, host: string): Promise<number> {
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(0, host, resolve);
  });
  return (server.address() as AddressInfo).port;
}
