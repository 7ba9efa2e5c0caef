import type { TLSSocket } from "node:tls";
import type { SpareBuffer } from "./spare-buffers.ts";
import type { RequestHead, ResponseHead } from "./http1/head.ts";

// When a connection stops to be HTTP: only after the target has answered 101 for the protocol that was asked for.

/**
 * The protocol a request may upgrade to, as the client wrote it: WebSocket by GET, or SPDY/3.1. Undefined for any other
 * (h2c first of all): such a request loses its Upgrade header and goes on as a plain one.
 */
export function wantedUpgrade(head: RequestHead): string | undefined {
  if (!head.connection.has("upgrade")) return undefined;
  const lines = head.headers.filter(({ lower }) => lower === "upgrade");
  const protocol = lines.length === 1 ? lines[0]?.value : undefined;
  if (protocol === undefined) return undefined;
  const lower = protocol.toLowerCase();
  return (lower === "websocket" && head.method === "GET") || lower === "spdy/3.1" ? protocol : undefined;
}

/** Whether a 101 switches to the protocol that was asked for, and to nothing else. */
export function isSwitchTo(head: ResponseHead, protocol: string): boolean {
  const lines = head.headers.filter(({ lower }) => lower === "upgrade");
  return (
    head.connection.has("upgrade") && lines.length === 1 && lines[0]?.value.toLowerCase() === protocol.toLowerCase()
  );
}

/** Bytes each way since the 101. */
export interface SpliceCounts {
  in: number;
  out: number;
}

/**
 * Carries bytes both ways between two sockets, unread. Each end of a direction passes on alone, so that a client that
 * has said everything still hears the rest. A slow reader pauses the other side's source.
 */
export class Splice {
  readonly counts: SpliceCounts = { in: 0, out: 0 };
  readonly #client: TLSSocket;
  readonly #target: TLSSocket;

  constructor(client: TLSSocket, target: TLSSocket) {
    this.#client = client;
    this.#target = target;
  }

  fromClient({ bytes, release }: SpareBuffer): void {
    this.counts.in += bytes.length;
    if (this.#target.writable && !this.#target.write(bytes, release)) this.#client.pause();
  }

  fromTarget({ bytes, release }: SpareBuffer): void {
    this.counts.out += bytes.length;
    if (this.#client.writable && !this.#client.write(bytes, release)) this.#target.pause();
  }

  clientDrained(): void {
    this.#target.resume();
  }

  targetDrained(): void {
    this.#client.resume();
  }

  clientEnded(): void {
    this.#target.end();
  }

  targetEnded(): void {
    this.#client.end();
  }
}
