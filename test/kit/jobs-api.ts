import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { Secret, silentLog } from "@kube-connector/core";
import { type JobsService, type JobsServiceOptions, openStore, startJobsService } from "@kube-connector/jobs";
import type { JobsRoom } from "./jobs-room.ts";

// The HTTP API of the jobs module as a server of its own, and what a caller says to it.

export const apiToken = "api-canary-51c07e";

export interface ServedJobs {
  service: JobsService;
  url: string;
  folder: string;
  tokenFile: string;
  /** With the token, unless other headers say otherwise; a body that is no text is sent as JSON. */
  ask(method: string, path: string, options?: AskOptions): Promise<Response>;
  /** The same, and its JSON, once the status is that. */
  json<T>(status: number, method: string, path: string, options?: AskOptions): Promise<T>;
  stop(): Promise<void>;
}

export interface AskOptions {
  body?: unknown;
  headers?: Record<string, string>;
  signal?: AbortSignal;
}

/** `folder` is of a server before, to go on with what it has; a new one unless told. */
export async function serveJobs(
  room: JobsRoom,
  { folder: given, ...more }: Partial<JobsServiceOptions> & { folder?: string } = {},
): Promise<ServedJobs> {
  const folder = given ?? (await room.folder());
  const tokenFile = join(folder, "token");
  await writeFile(tokenFile, `${apiToken}\n`);
  const store = await openStore(new Secret(join(folder, "jobs.db")), { log: silentLog });
  const service = await startJobsService({
    connectors: [room.config],
    store,
    logs: join(folder, "logs"),
    log: silentLog,
    listen: { host: "127.0.0.1", port: 0 },
    tokenFile,
    ...more,
  }).catch(async (error: unknown) => {
    await store.stop();
    throw error;
  });
  const { url } = service;
  const ask: ServedJobs["ask"] = (method, path, { body, headers, signal } = {}) =>
    fetch(url + path, {
      method,
      headers: {
        authorization: `Bearer ${apiToken}`,
        ...(body === undefined ? {} : { "content-type": "application/json" }),
        ...headers,
      },
      ...(body === undefined ? {} : { body: typeof body === "string" ? body : JSON.stringify(body) }),
      ...(signal === undefined ? {} : { signal }),
    });
  return {
    service,
    url,
    folder,
    tokenFile,
    ask,
    async json<T>(status: number, ...asked: Parameters<typeof ask>) {
      const response = await ask(...asked);
      const text = await response.text();
      if (response.status !== status) throw new Error(`${asked[0]} ${asked[1]}: ${response.status} ${text}`);
      return JSON.parse(text) as T;
    },
    async stop() {
      await service.stop();
      await store.stop();
    },
  };
}

export interface ServerEvent {
  type: string;
  id: string;
  data: { number?: number; message?: string; lines?: string[]; data?: { state?: string } };
}

/**
 * Reads a run's events until the server ends the stream, or so many bytes have come, wherever that is in an event. What is
 * not whole is dropped, as a browser does.
 */
export async function readEvents(
  served: ServedJobs,
  run: string,
  { after = "", bytes = Infinity, query = "" }: { after?: string; bytes?: number; query?: string } = {},
): Promise<{ status: number; events: ServerEvent[]; text: string }> {
  const cut = new AbortController();
  const response = await served.ask("GET", `/v1/runs/${run}/events${query}`, {
    headers: after === "" ? {} : { "last-event-id": after },
    signal: cut.signal,
  });
  const pieces: Buffer[] = [];
  let size = 0;
  for await (const piece of response.body ?? []) {
    const wanted = Buffer.from(piece).subarray(0, bytes - size);
    pieces.push(wanted);
    size += wanted.length;
    if (size >= bytes) break;
  }
  cut.abort();
  const text = Buffer.concat(pieces).toString();
  const events = text
    .split("\n\n")
    .slice(0, -1)
    .filter((block) => block.startsWith("event: "))
    .map((block) => {
      const [, type = "", id = "", data = ""] = /^event: (.*)\nid: (.*)\ndata: (.*)$/s.exec(block) ?? [];
      return { type, id, data: JSON.parse(data) as ServerEvent["data"] };
    });
  return { status: response.status, events, text };
}
