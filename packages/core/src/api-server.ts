import { readFile } from "node:fs/promises";
import type { IncomingMessage } from "node:http";
import type { Readable } from "node:stream";
import { text as textOf } from "node:stream/consumers";
import { Fault, type FaultCode } from "./fault.ts";
import { type HttpPlace, openHttpClient } from "./http-client.ts";
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

/** Where an API server is and who we are there. The url may have a path, which goes before each request's. */
export interface ApiAccess extends Omit<HttpPlace, "silence"> {
  /** Asked before each request; absent: no Authorization header. */
  token?: () => Promise<Secret | undefined>;
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
  const client = openHttpClient(access);
  const prefix = new URL(access.url).pathname.replace(/\/$/, "");

  async function send(method: string, path: string, options: ApiRequest): Promise<IncomingMessage> {
    const token = await access.token?.();
    const query = new URLSearchParams();
    for (const [key, value] of Object.entries(options.query ?? {}))
      if (value !== undefined) query.set(key, String(value));
    const search = query.size === 0 ? "" : `?${query.toString()}`;
    const response = await client.send({
      method,
      path: `${prefix}${path}${search}`,
      headers: {
        accept: options.accept ?? "application/json",
        "user-agent": "kube-connector",
        ...(token === undefined ? {} : { authorization: `Bearer ${token.reveal()}` }),
        ...(options.body === undefined ? {} : { "content-type": options.contentType ?? "application/json" }),
      },
      body: options.body === undefined ? undefined : JSON.stringify(options.body),
      signal: options.signal,
    });
    if ((response.statusCode ?? 500) >= 300) throw await refusal(response, `${method} ${path}`);
    return response;
  }

  return {
    async request<T>(method: string, path: string, options: ApiRequest = {}): Promise<T> {
      const limit = AbortSignal.timeout(Math.ceil(options.timeout ?? 10_000));
      const signal = AbortSignal.any([limit, ...(options.signal ? [options.signal] : [])]);
      try {
        const text = await textOf(await send(method, path, { ...options, signal }));
        return (text === "" ? undefined : parseJson(text, `${method} ${path}`)) as T;
      } catch (error) {
        throw asFault(signal.aborted ? signal.reason : error, `${method} ${path}`);
      }
    },
    async open(path, options = {}) {
      // Only the way to the answer's head has a limit; the body may take for ever.
      const head = new AbortController();
      const late = () => head.abort(new DOMException("no answer in time", "TimeoutError"));
      const timer = setTimeout(late, options.timeout ?? 10_000);
      const signal = AbortSignal.any([head.signal, ...(options.signal ? [options.signal] : [])]);
      try {
        const body = await send("GET", path, { ...options, signal });
        body.on("error", () => undefined);
        if (body.statusCode === 204) {
          body.resume();
          throw new Fault("unavailable", `GET ${path}: an answer without content`, undefined, noContent);
        }
        return body;
      } catch (error) {
        throw asFault(signal.aborted ? signal.reason : error, `GET ${path}`);
      } finally {
        clearTimeout(timer);
      }
    },
    async stop() {
      client.stop();
    },
  };
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

async function refusal(response: IncomingMessage, doing: string): Promise<Fault> {
  const code = response.statusCode ?? 500;
  const text = await textOf(response).catch(() => "");
  let status: { message?: unknown; reason?: unknown; details?: { causes?: { field?: unknown }[] } } = {};
  try {
    status = JSON.parse(text.slice(0, 65_536)) as typeof status;
  } catch {
    // A proxy in between may answer with anything; the status code says enough.
  }
  const said = typeof status?.message === "string" ? status.message : `status ${code}`;
  // An API server says nothing but "Unauthorized"; our proxy adds whose token that was.
  const message = (code === 401 ? warningOf(response.headers.warning) : undefined) ?? said;
  const retryAfter = Number(response.headers["retry-after"]);
  return new Fault(codes[code] ?? "unavailable", `${doing}: ${message}`, undefined, {
    status: code,
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
