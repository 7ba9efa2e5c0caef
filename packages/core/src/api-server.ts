import { readFile } from "node:fs/promises";
import type { Readable } from "node:stream";
import type { TLSSocket } from "node:tls";
import { Agent, type Dispatcher } from "undici";
import { Fault, type FaultCode } from "./fault.ts";
import { Secret } from "./secret.ts";

// The way to a Kubernetes API server that every room shares: one connection pool, JSON in and out, errors as Faults.
// Not client-node's transport: that opens a TLS connection per request (4.3 to 5.2 ms against 1.1 on a shared one) and
// costs 83 MB to import.

export interface ApiRequest {
  query?: Record<string, string | number | boolean | undefined>;
  body?: unknown;
  /** application/json unless told. */
  contentType?: string;
  accept?: string;
  /** Milliseconds for the whole request; 10,000 unless told. */
  timeout?: number;
  signal?: AbortSignal;
}

export interface ApiServer {
  /** Sends one request and answers with the parsed body. A Fault with `answer` when the API server refuses. */
  request<T>(method: string, path: string, options?: ApiRequest): Promise<T>;
  /**
   * Opens a GET whose body never has to end (a watch, a log). The caller destroys it. An answer without content (204) is a
   * Fault too, whose `answer` says so.
   */
  open(path: string, options?: Omit<ApiRequest, "body">): Promise<Readable>;
  /** Closes all connections. */
  stop(): Promise<void>;
}

/** Where an API server is and who we are there. */
export interface ApiAccess {
  /** https://host:port, with an optional path prefix. */
  url: string;
  /** PEM; absent: the system roots. */
  ca?: string;
  /** A client certificate, PEM. */
  certificate?: { certificate: string; key: Secret };
  /** Asked before each request; absent: no Authorization header. */
  token?: () => Promise<Secret | undefined>;
  insecureSkipVerify?: boolean;
  /** The name to verify instead of the host. */
  serverName?: string;
  /** Opens a verified connection by other means than TLS to the url's host; `ca` and the like are not looked at then. */
  dial?: (signal: AbortSignal) => Promise<TLSSocket>;
  /** Connections at a time; 64 unless told. */
  connections?: number;
}

const codes: Record<number, FaultCode> = {
  400: "invalid_argument",
  401: "unauthenticated",
  403: "permission_denied",
  404: "not_found",
  405: "invalid_argument",
  409: "conflict",
  410: "conflict",
  415: "invalid_argument",
  422: "invalid_argument",
  429: "unavailable",
  504: "deadline_exceeded",
};

export function openApiServer(access: ApiAccess): ApiServer {
  const base = access.url.replace(/\/$/, "");
  const closing = new AbortController();
  const { dial } = access;
  const agent = new Agent({
    connections: access.connections ?? 64,
    pipelining: 1,
    // undici 8.12's HTTP/2 client emits an error that nobody can catch for each open watch when the API server goes away.
    allowH2: false,
    // Streams have no total time; each request has its own by AbortSignal.
    headersTimeout: 0,
    bodyTimeout: 0,
    keepAliveTimeout: 30_000,
    connect:
      dial === undefined
        ? {
            timeout: 10_000,
            keepAlive: true,
            keepAliveInitialDelay: 30_000,
            ...(access.ca === undefined ? {} : { ca: access.ca }),
            ...(access.certificate === undefined
              ? {}
              : { cert: access.certificate.certificate, key: access.certificate.key.reveal() }),
            ...(access.serverName === undefined ? {} : { servername: access.serverName }),
            rejectUnauthorized: access.insecureSkipVerify !== true,
          }
        : (_options, callback) => {
            dial(closing.signal).then(
              (socket) => {
                socket.on("error", () => undefined);
                callback(null, socket);
              },
              (error: Error) => callback(error, null),
            );
          },
  });
  const { origin, pathname } = new URL(base);
  const prefix = pathname === "/" ? "" : pathname;

  async function send(method: string, path: string, options: ApiRequest): Promise<Dispatcher.ResponseData> {
    const token = await access.token?.();
    const query = new URLSearchParams();
    for (const [key, value] of Object.entries(options.query ?? {}))
      if (value !== undefined) query.set(key, String(value));
    const search = query.size === 0 ? "" : `?${query.toString()}`;
    const response = await agent.request({
      origin,
      path: `${prefix}${path}${search}`,
      method,
      signal: options.signal ?? null,
      headers: {
        accept: options.accept ?? "application/json",
        "user-agent": "kube-connector",
        ...(token === undefined ? {} : { authorization: `Bearer ${token.reveal()}` }),
        ...(options.body === undefined ? {} : { "content-type": options.contentType ?? "application/json" }),
      },
      body: options.body === undefined ? null : JSON.stringify(options.body),
    });
    if (response.statusCode >= 300) throw await refusal(response, `${method} ${path}`);
    return response;
  }

  return {
    async request<T>(method: string, path: string, options: ApiRequest = {}): Promise<T> {
      const limit = AbortSignal.timeout(Math.ceil(options.timeout ?? 10_000));
      const signal = AbortSignal.any([limit, ...(options.signal ? [options.signal] : [])]);
      try {
        const response = await unlessAborted(send(method, path, { ...options, signal }), signal);
        const text = await response.body.text();
        return (text === "" ? undefined : parseJson(text, `${method} ${path}`)) as T;
      } catch (error) {
        throw asFault(error, `${method} ${path}`);
      }
    },
    async open(path, options = {}) {
      // Only the way to the answer's head has a limit; the body may take for ever.
      const head = new AbortController();
      const timer = setTimeout(() => head.abort(new Error("no answer in time")), options.timeout ?? 10_000);
      try {
        const signal = AbortSignal.any([head.signal, ...(options.signal ? [options.signal] : [])]);
        const response = await unlessAborted(send("GET", path, { ...options, signal }), signal);
        response.body.on("error", () => undefined);
        if (response.statusCode === 204) {
          response.body.destroy();
          throw new Fault("unavailable", `GET ${path}: an answer without content`, undefined, noContent);
        }
        return response.body;
      } catch (error) {
        throw asFault(error, `GET ${path}`);
      } finally {
        clearTimeout(timer);
      }
    },
    stop() {
      closing.abort();
      return agent.destroy();
    },
  };
}

/**
 * The same, which ends as soon as the signal says so. undici 8 hears an abort only once it has a connection, so while an
 * API server takes no connections a request would last as long as the dial may, whatever its own limit is.
 */
function unlessAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const abort = () => reject(signal.reason instanceof Error ? signal.reason : new Error("aborted"));
    signal.addEventListener("abort", abort, { once: true });
    if (signal.aborted) abort();
    work.then(resolve, reject).finally(() => signal.removeEventListener("abort", abort));
  });
}

const noContent = { status: 204, reason: "", fields: [] };

function parseJson(text: string, doing: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw new Fault("unavailable", `${doing}: the API server's answer is not JSON`);
  }
}

function asFault(error: unknown, doing: string): Fault {
  if (error instanceof Fault) return error;
  if (error instanceof Error && (error.name === "TimeoutError" || error.name === "AbortError")) {
    return new Fault("deadline_exceeded", `${doing}: no answer from the API server in time`, error);
  }
  const fault = Fault.from(error, `${doing}: cannot reach the API server`);
  return fault.code === "internal" ? new Fault("unavailable", `${doing}: cannot reach the API server`, error) : fault;
}

async function refusal(response: Dispatcher.ResponseData, doing: string): Promise<Fault> {
  const text = await response.body.text().catch(() => "");
  let status: { message?: unknown; reason?: unknown; details?: { causes?: { field?: unknown }[] } } = {};
  try {
    status = JSON.parse(text.slice(0, 65_536)) as typeof status;
  } catch {
    // A proxy in between may answer with anything; the status code says enough.
  }
  const said = typeof status?.message === "string" ? status.message : `status ${response.statusCode}`;
  // An API server says nothing but "Unauthorized"; our proxy adds whose token that was.
  const message = (response.statusCode === 401 ? warningOf(response.headers.warning) : undefined) ?? said;
  const retryAfter = Number(response.headers["retry-after"]);
  return new Fault(codes[response.statusCode] ?? "unavailable", `${doing}: ${message}`, undefined, {
    status: response.statusCode,
    reason: typeof status?.reason === "string" ? status.reason : "",
    fields: (status?.details?.causes ?? []).flatMap((cause) => (typeof cause.field === "string" ? [cause.field] : [])),
    ...(Number.isFinite(retryAfter) && retryAfter >= 0 ? { retryAfterSeconds: retryAfter } : {}),
  });
}

/** The text of the last warning. https://www.rfc-editor.org/rfc/rfc7234#section-5.5 */
function warningOf(header: string | string[] | undefined): string | undefined {
  const texts = [header ?? []].flat().flatMap((line) => [...line.matchAll(/299 \S+ "((?:[^"\\]|\\.)*)"/g)]);
  return texts.at(-1)?.[1]?.replaceAll(/\\(.)/g, "$1");
}

const serviceAccountFolder = "/var/run/secrets/kubernetes.io/serviceaccount";

/** A file's text as a Secret, read again when the last reading is older than `maxAge` milliseconds. */
export function rereadSecret(file: string, maxAge: number): () => Promise<Secret> {
  let last: { secret: Secret; at: number } | undefined;
  return async () => {
    if (last === undefined || performance.now() - last.at > maxAge) {
      try {
        last = { secret: new Secret((await readFile(file, "utf8")).trim()), at: performance.now() };
      } catch (error) {
        if (last === undefined) throw Fault.from(error, `Cannot read ${file}`);
      }
    }
    return last.secret;
  };
}

/** Access from inside a pod: the ServiceAccount's folder and the two environment variables that the kubelet sets. */
export async function inClusterAccess(
  env: Readonly<Record<string, string | undefined>>,
  folder: string = serviceAccountFolder,
): Promise<ApiAccess> {
  const host = env.KUBERNETES_SERVICE_HOST;
  const port = env.KUBERNETES_SERVICE_PORT;
  if (!host || !port) {
    throw new Fault(
      "invalid_argument",
      "Cannot find the API server: KUBERNETES_SERVICE_HOST is not set, so this is no pod; give --kubeconfig",
    );
  }
  const ca = await readFile(`${folder}/ca.crt`, "utf8").catch((error: unknown) => {
    throw Fault.from(error, `Cannot read ${folder}/ca.crt`);
  });
  const url = `https://${host.includes(":") ? `[${host}]` : host}:${port}`;
  return { url, ca, token: rereadSecret(`${folder}/token`, 30_000) };
}
