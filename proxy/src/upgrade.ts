import type { TLSSocket } from "node:tls";
import type { RequestHead, ResponseHead } from "./http1/head.ts";
import type { ProxyMetrics } from "./metrics.ts";
import { spareBuffers } from "./spare-buffers.ts";
import type { UpstreamConnection, UpstreamUser } from "./upstream.ts";

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
 * Carries bytes both ways between a client and the target, unread. Each end of a direction passes on alone, so that a client
 * that has said everything still hears the rest. A slow reader pauses the other side's source.
 */
export class Splice implements UpstreamUser {
  readonly counts: SpliceCounts = { in: 0, out: 0 };
  readonly #client: TLSSocket;
  readonly #upstream: UpstreamConnection;
  readonly #metrics: Pick<ProxyMetrics, "bytes">;
  readonly #onClosed: () => void;

  /** `onClosed`: the connection to the target is gone. */
  constructor(
    client: TLSSocket,
    upstream: UpstreamConnection,
    options: { metrics: Pick<ProxyMetrics, "bytes">; onClosed: () => void },
  ) {
    this.#client = client;
    this.#upstream = upstream;
    this.#metrics = options.metrics;
    this.#onClosed = options.onClosed;
  }

  /** From now on; `early` is what the target has said since its 101. */
  begin(early: Buffer): void {
    this.#upstream.lease(this);
    this.#client.resume();
    this.target.resume();
    if (early.length > 0) this.upstreamData(early);
  }

  get target(): TLSSocket {
    return this.#upstream.socket;
  }

  end(): void {
    this.#upstream.destroy();
  }

  clientData(bytes: Buffer): void {
    this.counts.in += bytes.length;
    this.#metrics.bytes("in", bytes.length);
    const own = spareBuffers.copy(bytes);
    if (this.target.writable && !this.target.write(own.bytes, own.release)) this.#client.pause();
  }

  clientDrained(): void {
    this.target.resume();
  }

  clientEnded(): void {
    this.target.end();
  }

  upstreamData(bytes: Buffer): void {
    this.counts.out += bytes.length;
    this.#metrics.bytes("out", bytes.length);
    const own = spareBuffers.copy(bytes);
    if (this.#client.writable && !this.#client.write(own.bytes, own.release)) this.target.pause();
  }

  upstreamDrained(): void {
    this.#client.resume();
  }

  upstreamEnded(): void {
    this.#client.end();
  }

  upstreamClosed(): void {
    this.#onClosed();
  }
}
