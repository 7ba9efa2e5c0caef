import type { TLSSocket } from "node:tls";
import type { Clock } from "@kube-connector/core";

/** Milliseconds for which one look at a target's certificate counts. */
const counts = 60_000;

/**
 * The TLS session of the last handshake in which a target showed its certificate. A connection that resumes it proves by
 * the session's secret that it leads to the same target. It belongs to one pool, so to one connector, address, CA and
 * name, and to TLS 1.3, where a resumed connection still agrees on keys of its own.
 */
export class TargetSession {
  readonly #clock: Clock;
  #kept: { session: Buffer; until: number } | undefined;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** What a connection may begin with now; undefined when the target has to show its certificate. */
  get current(): Buffer | undefined {
    return this.#kept !== undefined && this.#clock.monotonic() < this.#kept.until ? this.#kept.session : undefined;
  }

  /** To be told of a connection that has just been verified, with what it began with, and when. */
  verified(socket: TLSSocket, offered: Buffer | undefined, began: number): void {
    if (offered !== undefined) {
      // A resumed one has seen no certificate, so the time is not counted anew. One that was not shows that it is forgotten there.
      if (!socket.isSessionReused()) this.forget();
    } else if (socket.getProtocol() === "TLSv1.3") {
      socket.once("session", (session) => {
        this.#kept = { session, until: began + counts };
      });
    }
  }

  /** The next connection sees the certificate. */
  forget(): void {
    this.#kept = undefined;
  }
}
