import { readFileSync } from "node:fs";
import { createServer as createHttpServer, type Server } from "node:http";
import { createServer as createHttpsServer } from "node:https";
import type { AddressInfo } from "node:net";
import { Fault, type FaultCode, faults, type Log, type Running } from "@kube-connector/core";
import express, { type NextFunction, type Request, type Response } from "express";
import type { Jobs } from "../jobs.ts";
import { createTokenCheck, isLoopbackHost } from "./access.ts";
import type { JobsMetrics } from "./metrics.ts";
import { openApiDocument } from "./openapi.ts";
import { pageRoutes } from "./page.ts";
import { createRoutes } from "./routes.ts";

export interface JobsApiOptions {
  jobs: Jobs;
  listen: { host: string; port: number };
  /** The file with the bearer token; read again as it changes. */
  tokenFile: string;
  /** Certificate and key, files of PEM; needed on anything but loopback. */
  tls?: { certificate: string; key: string };
  /** Event streams at a time; 1000 unless told. */
  streams?: number;
  metrics: JobsMetrics;
  log: Log;
}

/** Bytes of a request's body. */
const largestBody = 1_048_576;
/** Connections at a time; half of them for those that ask and go. */
const mostConnections = 2000;
const mostStreams = 1000;

/**
 * The HTTP API and the page. Throws an `invalid_argument` Fault where the token would be seen by others: on an address that
 * is not loopback, without TLS.
 */
export async function startJobsApi(options: JobsApiOptions): Promise<Running & { port: number; url: string }> {
  const { jobs, listen, log, tls, metrics, streams = mostStreams } = options;
  if (tls === undefined && !isLoopbackHost(listen.host)) {
    throw new Fault(
      "invalid_argument",
      `${listen.host} can be reached by others, who would see the token: give a certificate and its key, or listen on 127.0.0.1`,
    );
  }
  const check = createTokenCheck(options.tokenFile);
  // Fails now, and not with the first request, when there is no such file.
  await check("Bearer -").catch((error: unknown) => {
    if (Fault.from(error).code !== "unauthenticated") throw error;
  });
  const stopping = new AbortController();
  const app = express();
  app.disable("x-powered-by");
  app.disable("etag");
  app.set("query parser", "simple");
  app.use((_request, response, next) => {
    response.set({
      "cache-control": "no-store",
      "content-security-policy":
        "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
      "referrer-policy": "no-referrer",
      "x-content-type-options": "nosniff",
    });
    next();
  });
  app.get("/livez", (_request, response) => void response.type("text").send("ok\n"));
  app.get("/readyz", async (_request, response) => {
    await jobs.list({ limit: 1 });
    response.type("text").send("ok\n");
  });
  pageRoutes(app);
  app.use(async (request: Request, _response: Response, next: NextFunction) => {
    await check(request.headers.authorization);
    next();
  });
  app.get("/openapi.json", (_request, response) => void response.json(openApiDocument()));
  app.get("/metrics", async (_request, response) => {
    response.set("content-type", metrics.contentType).send(await metrics.text());
  });
  app.use(express.json({ limit: largestBody, strict: false }));
  app.use((request: Request, _response: Response, next: NextFunction) => {
    const { "content-length": length = "0", "transfer-encoding": coding } = request.headers;
    if (request.body === undefined && (length !== "0" || coding !== undefined))
      throw new Fault("invalid_argument", "Send the body as Content-Type: application/json");
    next();
  });
  app.use("/v1", createRoutes(jobs, { stopping: stopping.signal, streams }));
  app.use((request: Request) => {
    throw new Fault("not_found", `There is no ${request.method} ${request.path}; /openapi.json lists what there is`);
  });
  app.use((error: unknown, request: Request, response: Response, _next: NextFunction) => {
    answerError(error, request, response, log);
  });

  const server: Server =
    tls === undefined
      ? createHttpServer(app)
      : createHttpsServer({ cert: read(tls.certificate), key: read(tls.key), minVersion: "TLSv1.2" }, app);
  server.headersTimeout = 10_000;
  server.requestTimeout = 60_000;
  server.maxConnections = mostConnections;
  const done = new Promise<void>((resolve) => server.once("close", resolve));
  await new Promise<void>((resolve, reject) => {
    server.once("error", (error) => reject(Fault.from(error, `Cannot listen on ${listen.host}:${listen.port}`)));
    server.listen(listen.port, listen.host, resolve);
  });
  server.on("error", (error) => log.error("The HTTP API failed", { error }));
  const { port } = server.address() as AddressInfo;
  const host = listen.host.includes(":") ? `[${listen.host}]` : listen.host;
  return {
    port,
    url: `${tls === undefined ? "http" : "https"}://${host}:${port}`,
    done,
    async stop() {
      stopping.abort();
      server.close();
      server.closeIdleConnections();
      const cut = setTimeout(() => server.closeAllConnections(), 2000);
      await done;
      clearTimeout(cut);
    },
  };
}

function read(file: string): Buffer {
  try {
    return readFileSync(file);
  } catch (error) {
    throw Fault.from(error, `Cannot read ${file}`);
  }
}

/** express' own errors: a body or a path that cannot be read, or a body that is too long. */
function faultOf(error: unknown): Fault {
  if (error instanceof Fault) return error;
  const { status, type, message = "" } = (error ?? {}) as { status?: number; type?: string; message?: string };
  if (type === "entity.too.large") return new Fault("invalid_argument", `A body may have ${largestBody} bytes`);
  if (type === "entity.parse.failed") return new Fault("invalid_argument", "The body is no JSON");
  if (status === 400 || status === 415)
    return new Fault("invalid_argument", `The request cannot be read: ${message.slice(0, 200)}`);
  return Fault.from(error, "The request failed");
}

function answerError(error: unknown, request: Request, response: Response, log: Log): void {
  const fault = faultOf(error);
  if (fault.code === "internal") log.error("A request failed", { method: request.method, path: request.path, error });
  if (response.headersSent) {
    response.destroy();
    return;
  }
  const retry: FaultCode[] = ["unavailable", "deadline_exceeded"];
  if (retry.includes(fault.code)) response.set("retry-after", String(fault.answer?.retryAfterSeconds ?? 3));
  if (fault.code === "unauthenticated") response.set("www-authenticate", "Bearer");
  const isTooLarge = (error as { type?: string } | undefined)?.type === "entity.too.large";
  response
    .status(isTooLarge ? 413 : faults[fault.code].http)
    .json({ error: { code: fault.code, message: fault.message } });
}
