import type { TLSSocket } from "node:tls";
import type { Clock } from "@kube-connector/core";

/** Milliseconds for which one look at a target's certificate counts. */
const counts = 60_000;

/** What a connection to a target may begin with. */
export interface KeptSession {
  session: Buffer;
  /** Whether it was agreed on by a classic key (`TargetContexts`). */
  isClassic: boolean;
}

/**
 * The TLS session of the last handshake in which a target showed its certificate. A connection that resumes it proves by
 * the session's secret that it leads to the same target. It belongs to one pool, so to one connector, address, CA and
 * name, and to TLS 1.3, where a resumed connection still agrees on keys of its own.
 */
export class TargetSession {
  readonly #clock: Clock;
  #kept: (KeptSession & { until: number }) | undefined;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** What a connection may begin with now; undefined when the target has to show its certificate. */
  get current(): KeptSession | undefined {
    return this.#kept !== undefined && this.#clock.monotonic() < this.#kept.until ? this.#kept : undefined;
  }

  /** To be told of a connection that has just been verified, with what it began with, and when. */
  verified(socket: TLSSocket, offered: KeptSession | undefined, began: number): void {
    if (offered !== undefined) {
      // A resumed one has seen no certificate, so the time is not counted anew. One that was not shows that it is forgotten there.
      if (!socket.isSessionReused()) this.forget();
    } else if (socket.getProtocol() === "TLSv1.3") {
      const key: { name?: string } | null = socket.getEphemeralKeyInfo();
      const isClassic = key?.name === "X25519";
      socket.once("session", (session) => {
        this.#kept = { session: withoutCertificate(session), isClassic, until: began + counts };
      });
    }
  }

  /** The next connection sees the certificate. */
  forget(): void {
    this.#kept = undefined;
  }
}

/**
 * A client's TLS session, as Node gives it out, without the certificate that was shown: each connection that resumes it would
 * read that anew and hold it, for nothing. One that is not as expected stays as it is.
 */
export function withoutCertificate(session: Buffer): Buffer {
  // OpenSSL's part is a DER sequence (`SSL_SESSION_ASN1` in its ssl/ssl_asn1.c); its element [3] is the certificate.
  const start = openSslPart(session);
  const whole = elementAt(session, start);
  if (session[start] !== 0x30 || whole?.end !== session.length) return session;
  for (let at = whole.content; at < whole.end; ) {
    const element = elementAt(session, at);
    if (element === undefined) break;
    if (session[at] === 0xa3) {
      const left = whole.end - whole.content - (element.end - at);
      const sequence = Buffer.from([0x30, 0x82, left >> 8, left & 0xff]);
      const parts = [session.subarray(0, start), sequence, session.subarray(whole.content, at)];
      return Buffer.concat([...parts, session.subarray(element.end)]);
    }
    at = element.end;
  }
  return session;
}

/** Node writes before it the name that it was verified for (`wrapSessionState` in its lib/internal/tls/wrap.js). */
function openSslPart(session: Buffer): number {
  const mark = Buffer.from("\0nodejs:tls:session:1\0");
  const name = mark.length + 2;
  const isMarked = session.length > name && session.subarray(0, mark.length).equals(mark);
  return isMarked ? name + session.readUInt16BE(mark.length) : 0;
}

/** Where the content of an element of DER is; undefined where none is whole. Of at most 64 KiB, more than a session has. */
function elementAt(der: Buffer, at: number): { content: number; end: number } | undefined {
  const first = der[at + 1] ?? 0xff;
  const bytes = first < 0x80 ? 0 : first - 0x80;
  const content = at + 2 + bytes;
  if (first === 0x80 || bytes > 2 || content > der.length) return undefined;
  const end = content + (bytes === 0 ? first : der.readUIntBE(at + 2, bytes));
  return end > der.length ? undefined : { content, end };
}
