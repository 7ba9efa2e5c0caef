import { connect as connectTcp, type Socket } from "node:net";
import { connect as connectTls, type TLSSocket } from "node:tls";

/** A client that sends exactly the bytes it is told to, and keeps each that comes. */
export interface RawClient {
  socket: Socket;
  send(text: string): void;
  received(): string;
  /** Ends when that text has come, looked for from `from` on; rejects when the connection ends before. */
  until(text: string, from?: number): Promise<string>;
  /** Ends when the other side has closed, with everything it sent. */
  closed(): Promise<string>;
  /** Sends a request and ends with its whole answer, framed by Content-Length or by chunks. */
  ask(text: string): Promise<RawAnswer>;
}

export interface RawAnswer {
  status: number;
  head: string;
  body: string;
}

/** Wraps a socket. */
export function createRawClient(socket: Socket): RawClient {
  let text = "";
  let ended = false;
  const waiting = new Set<() => void>();
  const changed = () => {
    for (const check of waiting) check();
  };
  socket.on("error", () => undefined);
  socket.on("data", (bytes: Buffer) => {
    text += bytes.toString("latin1");
    changed();
  });
  const end = () => {
    ended = true;
    changed();
  };
  socket.once("end", end).once("close", end);
  const when = <T>(find: () => T | undefined, what: string) =>
    new Promise<T>((resolve, reject) => {
      const check = () => {
        const found = find();
        if (found === undefined && !ended) return;
        waiting.delete(check);
        if (found !== undefined) resolve(found);
        else reject(new Error(`closed before ${what}; received ${JSON.stringify(text.slice(-500))}`));
      };
      waiting.add(check);
      check();
    });
  let asked = 0;
  return {
    socket,
    send: (bytes) => socket.write(bytes, "latin1"),
    received: () => text,
    until: (wanted, from = 0) =>
      when(() => {
        const at = text.indexOf(wanted, from);
        return at < 0 ? undefined : text.slice(0, at + wanted.length);
      }, JSON.stringify(wanted)),
    closed: () => when(() => (ended ? text : undefined), "the end"),
    async ask(request) {
      socket.write(request, "latin1");
      const answer = await when(() => parseAnswer(text, asked, request.startsWith("HEAD ")), "an answer");
      asked = answer.end;
      return answer;
    },
  };
}

function parseAnswer(text: string, from: number, headOnly: boolean): (RawAnswer & { end: number }) | undefined {
  const headEnd = text.indexOf("\r\n\r\n", from);
  if (headEnd < 0) return undefined;
  const head = text.slice(from, headEnd + 2);
  const status = Number(/^HTTP\/1\.1 (\d{3})/.exec(head)?.[1]);
  const start = headEnd + 4;
  const bodiless = headOnly || status < 200 || status === 204 || status === 304;
  const length = bodiless ? 0 : Number(/\r\ncontent-length: (\d+)/i.exec(head)?.[1] ?? Number.NaN);
  if (!Number.isNaN(length)) {
    return text.length < start + length
      ? undefined
      : { status, head, body: text.slice(start, start + length), end: start + length };
  }
  const last = text.indexOf("0\r\n\r\n", start);
  return last < 0 ? undefined : { status, head, body: text.slice(start, last + 5), end: last + 5 };
}

/** Opens a plain TCP connection on loopback. */
export async function openRaw(port: number): Promise<RawClient> {
  const socket = connectTcp({ host: "127.0.0.1", port, allowHalfOpen: true });
  await once(socket, "connect");
  return createRawClient(socket);
}

/** Starts TLS on a connection, or a new one to `port`. */
export async function openSecure(
  where: { port: number } | { socket: Socket },
  options: { ca: string; servername?: string; verifiedName?: string; protocols?: string[] },
): Promise<RawClient & { socket: TLSSocket }> {
  const { ca, servername } = options;
  const socket = connectTls({
    ...("port" in where ? { host: "127.0.0.1", port: where.port } : where),
    ca,
    ...(servername === undefined ? {} : { servername }),
    ALPNProtocols: options.protocols ?? ["http/1.1"],
    // The tests that look at names give their own.
    checkServerIdentity: () => undefined,
  });
  await once(socket, "secureConnect");
  return { ...createRawClient(socket), socket };
}

function once(socket: Socket, event: string): Promise<void> {
  return new Promise((resolve, reject) => {
    socket.once("error", reject);
    socket.once("close", () => reject(new Error(`closed before ${event}`)));
    socket.once(event, () => resolve());
  });
}
