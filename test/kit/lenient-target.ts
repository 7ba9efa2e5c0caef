import type { AddressInfo } from "node:net";
import { createServer, type TLSSocket } from "node:tls";
// oxlint-disable-next-line import/no-relative-packages -- Go's decoder agrees with it over a million blocks
import { HpackDecoder } from "../../proxy/src/http2/hpack-decoder.ts";
import type { KeyPair } from "./certificates.ts";
import { code32, frame, literal } from "./http2.ts";

// A target of both protocols that judges nothing: any bytes are a request to it. What reached it is kept as text, of HTTP/2
// too, so that a test says once for both what must not be there.

/** A request that the target took for whole; of HTTP/2 in the form of HTTP/1.1. */
export interface SeenRequest {
  protocol: "HTTP/1.1" | "HTTP/2";
  /** The number of its connection, from 0. */
  connection: number;
  head: string;
  body: string;
}

export interface Reply {
  status: number;
  /** `Name: value` */
  lines?: readonly string[];
  /** The request itself unless told. */
  body?: string;
}

export interface LenientTarget extends AsyncDisposable {
  port: number;
  requests: SeenRequest[];
  /** All that came but the framing of HTTP/2: "" means that not one byte of a request did. */
  seen(): string;
  /** Forgets what was seen. */
  clear(): void;
  /** Connections that are open now, and that were made. */
  open(): number;
  made(): number;
}

/** The values of a header in a head, whatever its case. */
export function valuesOf(head: string, name: string): string[] {
  const start = `${name.toLowerCase()}:`;
  const lines = head.split("\r\n").filter((line) => line.toLowerCase().startsWith(start));
  return lines.map((line) => line.slice(start.length).trim());
}

/** Starts one on loopback; it echoes each request with 200 unless `respond` says otherwise. */
export async function startLenientTarget(
  identity: KeyPair,
  options: { respond?: (request: SeenRequest) => Reply; protocols?: string[] } = {},
): Promise<LenientTarget> {
  const requests: SeenRequest[] = [];
  const texts: string[] = [];
  const sockets = new Set<{ destroy(): void }>();
  let made = 0;
  const respond = options.respond ?? (() => ({ status: 200 }));
  const take = (request: SeenRequest): Required<Reply> => {
    requests.push(request);
    return { lines: [], body: request.head + request.body, ...respond(request) };
  };
  const server = createServer({
    cert: identity.certificate,
    key: identity.key,
    ALPNProtocols: options.protocols ?? ["h2", "http/1.1"],
  });
  server.on("connection", (socket) => {
    sockets.add(socket);
    socket.on("error", () => undefined).once("close", () => sockets.delete(socket));
  });
  server.on("tlsClientError", () => undefined);
  server.on("secureConnection", (socket) => {
    socket.on("error", () => undefined);
    const connection = made++;
    if (socket.alpnProtocol === "h2") serveFrames(socket, connection, { take, heard: (text) => texts.push(text) });
    else serveText(socket, connection, { take, heard: (text) => texts.push(text) });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    port: (server.address() as AddressInfo).port,
    requests,
    seen: () => texts.join(""),
    clear() {
      texts.length = 0;
      requests.length = 0;
    },
    open: () => sockets.size,
    made: () => made,
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

interface Listener {
  take: (request: SeenRequest) => Required<Reply>;
  heard: (text: string) => void;
}

function serveText(socket: TLSSocket, connection: number, { take, heard }: Listener): void {
  let rest = "";
  socket.on("data", (bytes: Buffer) => {
    const text = bytes.toString("latin1");
    heard(text);
    rest += text;
    for (;;) {
      const end = /\r?\n\r?\n/.exec(rest);
      if (end === null) return;
      const headEnd = end.index + end[0].length;
      const head = rest.slice(0, headEnd);
      const size = bodySize(head, rest.slice(headEnd));
      if (size === undefined) return;
      const body = rest.slice(headEnd, headEnd + size);
      rest = rest.slice(headEnd + size);
      const { status, lines, body: answer } = take({ protocol: "HTTP/1.1", connection, head, body });
      const length = status === 204 || status === 304 ? [] : [`Content-Length: ${answer.length}`];
      const text = [`HTTP/1.1 ${status} Answer`, ...lines, ...length].join("\r\n");
      socket.write(`${text}\r\n\r\n${length.length === 0 ? "" : answer}`, "latin1");
    }
  });
}

/** Characters of the body at the start of `text`; undefined while it is not whole. */
function bodySize(head: string, text: string): number | undefined {
  if (/chunked/i.test(valuesOf(head, "transfer-encoding").join())) {
    const last = /(^|\r\n)0\r\n([^\r\n]+\r\n)*\r\n/.exec(text);
    return last === null ? undefined : last.index + last[0].length;
  }
  const length = Number.parseInt(valuesOf(head, "content-length")[0] ?? "0", 10);
  return text.length < length ? undefined : length;
}

/** Frames without any rule: windows are always open, ids and orders are as they come. */
function serveFrames(socket: TLSSocket, connection: number, { take, heard }: Listener): void {
  const decoder = new HpackDecoder(1 << 20);
  const open = new Map<number, { head: string; body: string }>();
  let rest = Buffer.alloc(0);
  let isPreface = true;
  let block: Buffer[] = [];
  socket.write(frame(4, 0, 0));

  function fields(id: number, isLast: boolean): void {
    const decoded = decoder.decode(Buffer.concat(block)).fields;
    block = [];
    const pseudo = (name: string) => decoded.find((field) => field.name === `:${name}`)?.value ?? "";
    const others = decoded
      .filter(({ name }) => !name.startsWith(":"))
      .map(({ name, value }) => `${name}: ${value}\r\n`);
    const known = open.get(id);
    const first = `${pseudo("method")} ${pseudo("path")} HTTP/2\r\nHost: ${pseudo("authority")}\r\n`;
    const text = `${known === undefined ? first : ""}${others.join("")}\r\n`;
    heard(text);
    open.set(id, known === undefined ? { head: text, body: "" } : { ...known, body: known.body + text });
    if (isLast) answer(id);
  }

  function answer(id: number): void {
    const { head, body } = open.get(id) ?? { head: "", body: "" };
    open.delete(id);
    const reply = take({ protocol: "HTTP/2", connection, head, body });
    const headers = reply.lines.map((line) => {
      const [name = ""] = line.split(":");
      return literal(name.toLowerCase(), line.slice(name.length + 1).trim());
    });
    const fieldBlock = Buffer.concat([literal(":status", String(reply.status)), ...headers]);
    socket.write(frame(1, 4, id, fieldBlock));
    const bytes = Buffer.from(reply.status === 204 || reply.status === 304 ? "" : reply.body, "latin1");
    for (let at = 0; at < bytes.length; at += 16_384) socket.write(frame(0, 0, id, bytes.subarray(at, at + 16_384)));
    socket.write(frame(0, 1, id));
  }

  function taken(type: number, flags: number, id: number, payload: Buffer): void {
    const isPadded = (flags & 8) !== 0 && type <= 1;
    const padding = isPadded ? (payload[0] ?? 0) : 0;
    const from = (isPadded ? 1 : 0) + (type === 1 && (flags & 0x20) !== 0 ? 5 : 0);
    const content = payload.subarray(from, payload.length - padding);
    if (type === 0) {
      const text = content.toString("latin1");
      heard(text);
      const request = open.get(id);
      if (request !== undefined) request.body += text;
      if (payload.length > 0) {
        socket.write(Buffer.concat([frame(8, 0, 0, code32(payload.length)), frame(8, 0, id, code32(payload.length))]));
      }
      if ((flags & 1) !== 0) answer(id);
    }
    if (type === 1 || type === 9) {
      block.push(content);
      ending = type === 1 ? (flags & 1) !== 0 : ending;
      if ((flags & 4) !== 0) fields(id, ending);
    }
    if (type === 4 && (flags & 1) === 0) socket.write(frame(4, 1, 0));
    if (type === 6 && (flags & 1) === 0) socket.write(frame(6, 1, 0, payload));
  }
  let ending = false;

  socket.on("data", (bytes: Buffer) => {
    rest = Buffer.concat([rest, bytes]);
    if (isPreface) {
      if (rest.length < 24) return;
      rest = rest.subarray(24);
      isPreface = false;
    }
    while (rest.length >= 9) {
      const length = rest.readUIntBE(0, 3);
      if (rest.length < 9 + length) return;
      const [type = 0, flags = 0] = rest.subarray(3, 5);
      taken(type, flags, rest.readUInt32BE(5) & 0x7fff_ffff, rest.subarray(9, 9 + length));
      rest = rest.subarray(9 + length);
    }
  });
}
