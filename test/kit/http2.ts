import { once } from "node:events";
import http2 from "node:http2";
import type { AddressInfo, Socket } from "node:net";
import { connect as connectTls, type TLSSocket } from "node:tls";
import { parseAddress } from "@kube-connector/core";
// oxlint-disable-next-line import/no-relative-packages -- it is no part of the proxy's index
import { HpackDecoder } from "../../proxy/src/http2/hpack-decoder.ts";
import { createTestCa, type TestCa } from "./certificates.ts";
import { openRaw } from "./raw-client.ts";
import { callerToken, connectText, startTestProxy, type TestProxyOptions } from "./test-proxy.ts";

// A proxy between HTTP/2 clients and a target that speaks HTTP/2, all on loopback; and a client that sends the frames it is
// told to.

/** What speaks HTTP/2 in the proxy. Tests of its behaviour run with each; where node:http2 does otherwise, they say why. */
export const http2Relays = ["own", "node"] as const;
export type Http2Relay = (typeof http2Relays)[number];

export type Handler = (stream: http2.ServerHttp2Stream, headers: http2.IncomingHttpHeaders) => void;

export interface Http2ProxyOptions extends Omit<TestProxyOptions, "onConnection" | "connector" | "targetPort"> {
  /** What the target does with a request; it echoes headers and body unless told. */
  onStream?: Handler;
  /** Settings of the target. */
  settings?: http2.Settings;
  /** A target that is no node:http2 server: gets sockets inside TLS. */
  onRawTarget?: (socket: TLSSocket) => void;
}

let ca: Promise<TestCa> | undefined;

/** Fills in what a test leaves out, and undoes it with `await using`. */
export async function startHttp2Proxy(options: Http2ProxyOptions = {}) {
  ca ??= createTestCa("h2 target CA");
  const targetCa = await ca;
  const leaf = await targetCa.leaf(["127.0.0.1"]);
  const target = await startTarget({ cert: leaf.certificate, key: leaf.key }, options);
  const started = await startTestProxy({
    http2: "own",
    ...options,
    connector: (connector) => {
      const address = `https://127.0.0.1:${target.port}${options.prefix ?? ""}`;
      const tls = { caBundle: targetCa.certificate, insecureSkipVerify: false };
      return { ...connector, address, target: parseAddress(address), tls };
    },
  });
  const { authority, proxy, connector, connectorCa } = started;
  const sockets: Socket[] = [];
  const sessions: http2.ClientHttp2Session[] = [];

  async function tls(door: "forward" | "reverse", protocols = ["h2", "http/1.1"]): Promise<TLSSocket> {
    let where: { socket: Socket } | { host: string; port: number };
    let servername: string | undefined;
    if (door === "forward") {
      const tunnel = await openRaw(proxy.forwardPort);
      sockets.push(tunnel.socket);
      tunnel.send(connectText(authority));
      await tunnel.until("\r\n\r\n");
      tunnel.socket.removeAllListeners("data");
      where = { socket: tunnel.socket };
    } else {
      where = { host: "127.0.0.1", port: proxy.reversePort };
      servername = connector.serviceNames[0] ?? "";
    }
    const socket = connectTls({
      ...where,
      ca: connectorCa.certificate,
      ...(servername === undefined ? {} : { servername }),
      ALPNProtocols: protocols,
      checkServerIdentity: () => undefined,
    });
    sockets.push(socket);
    socket.on("error", () => undefined);
    await once(socket, "secureConnect");
    return socket;
  }
  const hostOf = (door: "forward" | "reverse") => (door === "forward" ? authority : (connector.serviceNames[0] ?? ""));

  return {
    ...started,
    h2target: target,
    tls,
    hostOf,
    /** Headers of a request that is let through. */
    request: (path: string, more: http2.OutgoingHttpHeaders = {}, door: "forward" | "reverse" = "forward") => ({
      ":method": "GET",
      ":path": path,
      ":scheme": "https",
      ":authority": hostOf(door),
      authorization: `Bearer ${callerToken}`,
      ...more,
    }),
    async session(door: "forward" | "reverse" = "forward", settings: http2.Settings = {}) {
      const socket = await tls(door);
      if (socket.alpnProtocol !== "h2") throw new Error(`ALPN chose ${socket.alpnProtocol}`);
      const session = http2.connect(`https://${hostOf(door)}`, {
        createConnection: () => socket,
        settings,
        maxSessionMemory: 100,
      });
      session.on("error", () => undefined);
      sessions.push(session);
      return session;
    },
    async frames(door: "forward" | "reverse" = "forward", settings: Buffer = Buffer.alloc(0)) {
      const socket = await tls(door, ["h2"]);
      return createFrameClient(socket, hostOf(door), settings);
    },
    async [Symbol.asyncDispose]() {
      for (const session of sessions) session.destroy();
      // TLS before what it runs on: the other way round Node 24 crashes.
      for (const socket of sockets.toReversed()) socket.destroy();
      await started[Symbol.asyncDispose]();
      await target.stop();
    },
  };
}

async function startTarget(identity: { cert: string; key: string }, options: Http2ProxyOptions) {
  const server = http2.createSecureServer({
    ...identity,
    allowHTTP1: true,
    maxSessionMemory: 100,
    ...(options.settings === undefined ? {} : { settings: options.settings }),
  });
  const seen: http2.IncomingHttpHeaders[] = [];
  const sessions = new Set<http2.ServerHttp2Session>();
  const sockets = new Set<Socket>();
  let connections = 0;
  server.on("secureConnection", () => (connections += 1));
  server.on("connection", (socket: Socket) => {
    sockets.add(socket);
    socket.once("close", () => sockets.delete(socket));
    socket.on("error", () => undefined);
  });
  if (options.onRawTarget !== undefined) {
    const take = options.onRawTarget;
    const [listener] = server.listeners("secureConnection");
    server.removeListener("secureConnection", listener as () => void);
    server.on("secureConnection", (socket: TLSSocket) => take(socket));
  }
  server.on("sessionError", () => undefined);
  server.on("session", (session) => {
    sessions.add(session);
    session.on("error", () => undefined).once("close", () => sessions.delete(session));
  });
  server.on("stream", (stream, headers) => {
    seen.push(headers);
    stream.on("error", () => undefined);
    (options.onStream ?? echo)(stream, headers);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    port: (server.address() as AddressInfo).port,
    /** Headers of all requests. */
    seen,
    sessions,
    connections: () => connections,
    /** From now on it chooses nothing else of what is offered by ALPN. */
    speakOnlyHttp1: () => void Object.assign(server, { ALPNProtocols: Buffer.from("\x08http/1.1") }),
    /** Cuts every connection without a word. */
    cut() {
      for (const socket of sockets) socket.destroy();
    },
    async stop() {
      for (const session of sessions) session.destroy();
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

/** Answers with the request's headers as JSON in the header `echo`, and its body. */
export const echo: Handler = (stream, headers) => {
  stream.respond({ ":status": 200, echo: JSON.stringify(headers) });
  stream.pipe(stream);
};

export interface Answer {
  status: number;
  headers: http2.IncomingHttpHeaders;
  body: string;
  trailers: http2.IncomingHttpHeaders | undefined;
}

/** Sends a request and ends with its whole answer; rejects when the stream breaks off. */
export function ask(
  session: http2.ClientHttp2Session,
  headers: http2.OutgoingHttpHeaders,
  body?: string | Buffer,
): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const stream = session.request(headers, { endStream: body === undefined });
    let head: http2.IncomingHttpHeaders = {};
    let trailers: http2.IncomingHttpHeaders | undefined;
    const chunks: Buffer[] = [];
    stream.on("response", (given) => (head = given));
    stream.on("trailers", (given) => (trailers = given));
    stream.on("data", (chunk: Buffer) => chunks.push(chunk));
    stream.on("error", reject);
    stream.on("close", () => {
      const status = Number(head[":status"] ?? 0);
      if (stream.rstCode !== 0 && stream.rstCode !== undefined) reject(new Error(`reset ${stream.rstCode}`));
      else resolve({ status, headers: head, body: Buffer.concat(chunks).toString(), trailers });
    });
    if (body !== undefined) stream.end(body);
  });
}

export interface SeenFrame {
  type: number;
  flags: number;
  id: number;
  payload: Buffer;
}

export function frame(type: number, flags: number, id: number, payload: Buffer = Buffer.alloc(0)): Buffer {
  const head = Buffer.alloc(9);
  head.writeUIntBE(payload.length, 0, 3);
  head[3] = type;
  head[4] = flags;
  head.writeUInt32BE(id, 5);
  return Buffer.concat([head, payload]);
}

/** A header field as a literal that goes into no table. */
export function literal(name: string, value: string): Buffer {
  return Buffer.concat([Buffer.from([0]), text(name), text(value)]);
}

function text(value: string): Buffer {
  const bytes = Buffer.from(value, "latin1");
  const length = [];
  let rest = bytes.length;
  if (rest < 127) length.push(rest);
  else {
    length.push(127);
    for (rest -= 127; rest >= 128; rest >>>= 7) length.push((rest & 127) | 128);
    length.push(rest);
  }
  return Buffer.concat([Buffer.from(length), bytes]);
}

export const code32 = (value: number): Buffer => {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
};

/** A client of frames: sends what it is told to, keeps what comes. */
export function createFrameClient(socket: TLSSocket, host: string, settings: Buffer) {
  const seen: SeenFrame[] = [];
  const decoder = new HpackDecoder(1_000_000);
  const statuses = new Map<number, number>();
  let rest = Buffer.alloc(0);
  let closed = false;
  const waiting = new Set<() => void>();
  const changed = () => {
    for (const check of waiting) check();
  };
  socket.on("data", (bytes: Buffer) => {
    rest = Buffer.concat([rest, bytes]);
    while (rest.length >= 9) {
      const length = rest.readUIntBE(0, 3);
      if (rest.length < 9 + length) break;
      const [type, flags] = [rest[3] ?? 0, rest[4] ?? 0];
      const one = { type, flags, id: rest.readUInt32BE(5), payload: rest.subarray(9, 9 + length) };
      seen.push(one);
      if (type === 1) readStatus(one);
      rest = rest.subarray(9 + length);
    }
    changed();
  });
  // Every block is decoded, in order: a peer may code what it likes as it likes.
  const readStatus = ({ id, payload }: SeenFrame) => {
    const status = decoder.decode(payload).fields.find(({ name }) => name === ":status")?.value;
    if (status !== undefined) statuses.set(id, Number(status));
  };
  socket.on("error", () => undefined);
  socket.once("close", () => {
    closed = true;
    changed();
  });
  socket.once("end", () => {
    closed = true;
    changed();
  });
  const when = <T>(find: () => T | undefined): Promise<T | undefined> =>
    new Promise((resolve) => {
      const check = () => {
        const found = find();
        if (found === undefined && !closed) return;
        waiting.delete(check);
        resolve(found);
      };
      waiting.add(check);
      check();
    });
  socket.write(Buffer.concat([Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), frame(4, 0, 0, settings)]));
  const head = (path: string, method: Buffer = Buffer.from([0x82]), extra: Buffer = Buffer.alloc(0)) =>
    Buffer.concat([
      method,
      Buffer.from([0x87]),
      literal(":path", path),
      literal(":authority", host),
      literal("authorization", `Bearer ${callerToken}`),
      extra,
    ]);
  return {
    socket,
    seen,
    get closed() {
      return closed;
    },
    send: (...frames: Buffer[]) => void socket.write(Buffer.concat(frames)),
    /** A block for a GET that is let through, with `extra` at its end. */
    get: (path = "/", extra: Buffer = Buffer.alloc(0)) => head(path, Buffer.from([0x82]), extra),
    post: (path = "/", extra: Buffer = Buffer.alloc(0)) => head(path, Buffer.from([0x83]), extra),
    /** The first such frame that has come or comes; undefined when the connection ends without. */
    until: (holds: (seen: SeenFrame) => boolean) => when(() => seen.find(holds)),
    /** The status of that stream's last head; undefined before. */
    status: (id: number) => statuses.get(id),
    /** Ends when all that was sent has been read. */
    async pinged() {
      socket.write(frame(6, 0, 0, Buffer.from("pingpong")));
      await when(() => seen.find(({ type, flags }) => type === 6 && flags === 1));
    },
    /** How the connection or the stream ended: "goaway CODE", "reset CODE", "closed". */
    async outcome(id = 0): Promise<string> {
      const found = await when(() =>
        seen.find(({ type, id: at }) => type === 7 || (type === 3 && (id === 0 || at === id))),
      );
      if (found === undefined) return "closed";
      return found.type === 7 ? `goaway ${found.payload.readUInt32BE(4)}` : `reset ${found.payload.readUInt32BE(0)}`;
    },
    ended: () => when(() => (closed ? true : undefined)),
  };
}
