import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { Fault } from "./fault.ts";
import type { Log } from "./log.ts";
import type { Running } from "./run.ts";

export interface PrivatePortOptions {
  listen: { host: string; port: number };
  log: Log;
  /** undefined when alive, else a sentence for /livez. */
  live: () => Promise<string | undefined>;
  /** undefined when ready to take work, else a sentence for /readyz. */
  ready: () => Promise<string | undefined>;
  /** The metrics in Prometheus' text form. */
  metrics: () => Promise<string>;
  metricsContentType: string;
  /** Further paths, for people who look into the process. Answered on loopback only, as `kubectl port-forward` comes. */
  local?: Readonly<Record<string, () => { type: string; body: string }>>;
}

/** /livez, /readyz and /metrics on a port of their own, for the kubelet and Prometheus. Nothing secret is behind it. */
export async function startPrivatePort(options: PrivatePortOptions): Promise<Running & { port: number }> {
  const answers: Record<string, () => Promise<{ status: number; type: string; body: string }>> = {
    "/livez": () => health(options.live),
    "/readyz": () => health(options.ready),
    "/metrics": async () => ({ status: 200, type: options.metricsContentType, body: await options.metrics() }),
  };
  for (const [path, answer] of Object.entries(options.local ?? {})) {
    answers[path] = () => Promise.resolve({ status: 200, ...answer() });
  }
  const notFound = () =>
    Promise.resolve({ status: 404, type: "text/plain", body: `${Object.keys(answers).join(" ")}\n` });
  const notHere = () =>
    Promise.resolve({ status: 403, type: "text/plain", body: "only on loopback; use kubectl port-forward\n" });
  const server = createServer((request, response) => {
    const path = (request.url ?? "").split("?")[0] ?? "";
    const isOpen = options.local?.[path] === undefined || isLoopback(request.socket.remoteAddress);
    const answer = Object.hasOwn(answers, path) ? answers[path] : undefined;
    const found = isOpen ? (answer ?? notFound) : notHere;
    found()
      .catch((error: unknown) => {
        options.log.error("The private port failed", { error });
        return { status: 500, type: "text/plain", body: "internal error, see the log\n" };
      })
      .then(({ status, type, body }) => response.writeHead(status, { "content-type": type }).end(body))
      .catch((error: unknown) => options.log.debug("The private port lost its client", { error }));
  });
  server.headersTimeout = 10_000;
  server.requestTimeout = 10_000;
  const done = new Promise<void>((resolve) => server.once("close", resolve));
  await new Promise<void>((resolve, reject) => {
    server.once("error", (error) =>
      reject(Fault.from(error, `Cannot listen on ${options.listen.host}:${options.listen.port}`)),
    );
    server.listen(options.listen.port, options.listen.host, resolve);
  });
  server.on("error", (error) => options.log.error("The private port failed", { error }));
  return {
    port: (server.address() as AddressInfo).port,
    done,
    async stop() {
      server.close();
      server.closeAllConnections();
      await done;
    },
  };
}

function isLoopback(address: string | undefined): boolean {
  return address !== undefined && /^(::1|(::ffff:)?127\.[0-9.]+)$/.test(address);
}

async function health(ask: () => Promise<string | undefined>): Promise<{ status: number; type: string; body: string }> {
  const sentence = await ask();
  return { status: sentence === undefined ? 200 : 503, type: "text/plain", body: `${sentence ?? "ok"}\n` };
}
