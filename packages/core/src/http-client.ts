import * as http from "node:http";
import * as https from "node:https";
import type { Duplex } from "node:stream";
import type { TLSSocket } from "node:tls";
import { urlToHttpOptions } from "node:url";
import type { Secret } from "./secret.ts";

// The connection pool of our own calls, over node:https. Not undici: that is 4 MB more in each process at rest, and it hears
// of an abort only once it has a connection.

/** Where a server is, and how it is known. */
export interface HttpPlace {
  /** https://host:port, or http; its path is not looked at. */
  url: string;
  /** PEM; absent: the system roots. */
  ca?: string;
  /** A client certificate, PEM. */
  certificate?: { certificate: string; key: Secret };
  insecureSkipVerify?: boolean;
  /** The name to verify instead of the host. */
  serverName?: string;
  /** Opens a verified connection by other means than TLS to the url's host; `ca` and the like are not looked at then. */
  dial?: (signal: AbortSignal) => Promise<TLSSocket>;
  /** Connections at a time; 64 unless told. */
  connections?: number;
  /** Milliseconds without a byte after which a request is given up; for ever unless told. */
  silence?: number;
}

export interface HttpRequest {
  method: string;
  /** With its query. */
  path: string;
  headers: Record<string, string>;
  body?: string | undefined;
  /** Ends it wherever it is by then: in the queue, on its way, in the middle of its answer. */
  signal?: AbortSignal | undefined;
}

export interface HttpClient {
  /** Answers when the head is there. Its body has to be read to the end, or destroyed. Rejects with Node's error, or the signal's reason. */
  send(request: HttpRequest): Promise<http.IncomingMessage>;
  /** Ends all that is open; what comes later is refused. */
  stop(): void;
}

/** Milliseconds that a connection stays which nobody uses. A server of Go's keeps it longer, so that none is closed as it is taken. */
const idle = 30_000;

export function openHttpClient(place: HttpPlace): HttpClient {
  const { protocol, hostname, port } = urlToHttpOptions(new URL(place.url));
  const { Agent, request: sendBy } = protocol === "http:" ? http : https;
  const closing = new AbortController();
  const agent = new Agent({
    keepAlive: true,
    keepAliveMsecs: idle,
    maxSockets: place.connections ?? 64,
    timeout: idle,
    ...(place.ca === undefined ? {} : { ca: place.ca }),
    ...(place.certificate === undefined
      ? {}
      : { cert: place.certificate.certificate, key: place.certificate.key.reveal() }),
    ...(place.serverName === undefined ? {} : { servername: place.serverName }),
    rejectUnauthorized: place.insecureSkipVerify !== true,
  });
  const { dial } = place;
  if (dial !== undefined) {
    agent.createConnection = (_options, done) => {
      dial(closing.signal).then(
        (socket) => {
          socket.on("error", () => undefined);
          done?.(null, socket);
        },
        // Its type wants a connection in any case.
        (error: Error) => done?.(error, undefined as unknown as Duplex),
      );
      return undefined;
    };
  }
  return {
    async send({ method, path, headers: given, body, signal: asked }) {
      const signal = AbortSignal.any([closing.signal, ...(asked === undefined ? [] : [asked])]);
      signal.throwIfAborted();
      // Node sends the body of a GET or a DELETE without its length, unless it is told one.
      const headers = body === undefined ? given : { ...given, "content-length": String(Buffer.byteLength(body)) };
      const { promise, resolve, reject } = Promise.withResolvers<http.IncomingMessage>();
      // The request itself would hear of it when it has a connection.
      const abort = () => reject(signal.reason as Error);
      signal.addEventListener("abort", abort);
      try {
        const request = sendBy({ agent, hostname, port, method, path, headers, signal });
        const { silence } = place;
        if (silence !== undefined) {
          request.setTimeout(silence, () =>
            request.destroy(Object.assign(new Error("nothing came any more"), { code: "ETIMEDOUT" })),
          );
        }
        request.once("response", resolve).on("error", reject).end(body);
        return await promise;
      } finally {
        // A signal of two keeps those who listen to it for as long as these live.
        signal.removeEventListener("abort", abort);
      }
    },
    stop() {
      closing.abort(Object.assign(new Error("the connections were closed"), { code: "EPIPE" }));
      agent.destroy();
    },
  };
}
