import { createHash } from "node:crypto";
import type { IncomingMessage } from "node:http";
import type { Duplex } from "node:stream";

// The server's side of RFC 6455, as much as exec needs: binary frames, fragments, ping, close.

export interface WebSocketConnection {
  protocol: string;
  /** The messages until the client closes; fails when it breaks the protocol. */
  messages: AsyncGenerator<Buffer>;
  /** Sends one binary message; ends when the socket has taken it, or is gone. */
  send(message: Buffer): Promise<void>;
  /** Sends a normal close and ends the connection. */
  close(): void;
}

const magic = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
const longestMessage = 16 * 1024 * 1024;

/** Answers 101 with the first protocol that both know; undefined (and nothing written) when it is no WebSocket of ours. */
export function acceptWebSocket(
  request: IncomingMessage,
  socket: Duplex,
  head: Buffer,
  protocols: readonly string[],
): WebSocketConnection | undefined {
  const offered = (request.headers["sec-websocket-protocol"] ?? "").split(",").map((name) => name.trim());
  const protocol = offered.find((name) => protocols.includes(name));
  const key = request.headers["sec-websocket-key"];
  if (request.headers.upgrade?.toLowerCase() !== "websocket" || key === undefined || protocol === undefined) {
    return undefined;
  }
  const accept = createHash("sha1").update(`${key}${magic}`).digest("base64");
  socket.write(
    `HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ${accept}\r\nSec-WebSocket-Protocol: ${protocol}\r\n\r\n`,
  );
  if (head.length > 0) socket.unshift(head);
  const send = (opcode: number, payload: Buffer) =>
    new Promise<void>((resolve) => {
      if (socket.destroyed || socket.writableEnded) resolve();
      else socket.write(Buffer.concat([frameHead(opcode, payload.length), payload]), () => resolve());
    });
  return {
    protocol,
    messages: readMessages(socket, (payload) => void send(10, payload)),
    send: (message) => send(2, message),
    close() {
      void send(8, Buffer.from([0x03, 0xe8])).then(() => socket.end());
    },
  };
}

function frameHead(opcode: number, length: number): Buffer {
  if (length < 126) return Buffer.from([0x80 | opcode, length]);
  const head = Buffer.alloc(length < 65_536 ? 4 : 10);
  head[0] = 0x80 | opcode;
  head[1] = length < 65_536 ? 126 : 127;
  if (length < 65_536) head.writeUInt16BE(length, 2);
  else head.writeBigUInt64BE(BigInt(length), 2);
  return head;
}

async function* readMessages(socket: Duplex, pong: (payload: Buffer) => void): AsyncGenerator<Buffer> {
  let rest: Buffer = Buffer.alloc(0);
  let parts: Buffer[] = [];
  for await (const chunk of socket as AsyncIterable<Buffer>) {
    rest = rest.length === 0 ? chunk : Buffer.concat([rest, chunk]);
    for (let frame = takeFrame(rest); frame !== undefined; frame = takeFrame(rest)) {
      rest = frame.rest;
      if (frame.opcode === 8) return;
      if (frame.opcode === 9) pong(frame.payload);
      if (frame.opcode > 2) continue;
      parts.push(frame.payload);
      if (!frame.final) continue;
      yield Buffer.concat(parts);
      parts = [];
    }
  }
}

interface Frame {
  final: boolean;
  opcode: number;
  payload: Buffer;
  rest: Buffer;
}

/** The first whole frame of the bytes, undefined while it is not whole. */
function takeFrame(bytes: Buffer): Frame | undefined {
  if (bytes.length < 2) return undefined;
  const [first = 0, second = 0] = bytes;
  const short = second & 0x7f;
  const lengthBytes = short === 126 ? 2 : short === 127 ? 8 : 0;
  const start = 2 + lengthBytes + 4;
  if (bytes.length < start) return undefined;
  if ((second & 0x80) === 0) throw new Error("a client's frame should be masked");
  const length =
    lengthBytes === 0 ? short : lengthBytes === 2 ? bytes.readUInt16BE(2) : Number(bytes.readBigUInt64BE(2));
  if (length > longestMessage) throw new Error("a message is longer than 16 MiB");
  if (bytes.length < start + length) return undefined;
  const mask = bytes.subarray(start - 4, start);
  const payload = Buffer.from(bytes.subarray(start, start + length));
  for (let index = 0; index < payload.length; index += 1)
    payload[index] = (payload[index] ?? 0) ^ (mask[index & 3] ?? 0);
  return { final: (first & 0x80) !== 0, opcode: first & 0x0f, payload, rest: bytes.subarray(start + length) };
}
