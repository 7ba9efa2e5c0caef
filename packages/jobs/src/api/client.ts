import type { IncomingMessage } from "node:http";
import type { Readable } from "node:stream";
import { json, text as textOf } from "node:stream/consumers";
import { Fault, type FaultCode, faults, openHttpClient, rereadSecret } from "@kube-connector/core";
import type { Jobs } from "../jobs.ts";
import type { RunEvent, RunRecord } from "../run.ts";
import { isRunId, noSuchRun } from "../run-id.ts";
import { isLoopbackHost } from "./access.ts";

/** What a server does for its callers: the module's own calls, but for its figures and its life. */
export type RemoteJobs = Omit<Jobs, "done" | "figures">;

type QueryValue = string | number | boolean | undefined | readonly string[];

const tokenAge = 1000;
/** Milliseconds until a broken stream is opened again. */
const reopenAfter = 1000;

function urlOf(url: string): URL {
  if (URL.canParse(url)) return new URL(url);
  throw new Fault("invalid_argument", `${url} should be the server's URL, such as https://jobs.example:8088`);
}

export interface ServerPlace {
  /** Without a path; https, or http on loopback. */
  url: string;
  tokenFile: string;
  /** PEM; else the system's. */
  ca?: string;
  /** Milliseconds without a byte after which an answer is given up; 60,000 unless told. Events have a comment every 15 s. */
  silence?: number;
}

/** Whether a server that is restarted, or a way to it that is broken, may be the reason. */
function isAway({ code }: Fault): boolean {
  return code === "unavailable" || code === "deadline_exceeded";
}

/** The calls of a `jobs serve` elsewhere. Following and waiting go on when it is away for a while; else a call fails then. */
export function connectJobs({ url, tokenFile, ca, silence = 60_000 }: ServerPlace): RemoteJobs {
  const { origin, protocol, hostname } = urlOf(url);
  if (protocol !== "https:" && !(protocol === "http:" && isLoopbackHost(hostname.replaceAll(/[[\]]/g, "")))) {
    throw new Fault("invalid_argument", `${origin} would see the token in the clear: the server's URL should be https`);
  }
  const token = rereadSecret(tokenFile, tokenAge);
  const stopping = new AbortController();
  const client = openHttpClient({ url: origin, silence, ...(ca === undefined ? {} : { ca }) });

  async function send(
    method: string,
    path: string,
    options: { query?: object; body?: unknown; headers?: Record<string, string>; signal?: AbortSignal } = {},
  ): Promise<IncomingMessage> {
    const search = new URLSearchParams();
    for (const [key, value] of Object.entries(options.query ?? {}) as [string, QueryValue][])
      for (const one of [value].flat()) if (one !== undefined) search.append(key, String(one));
    try {
      const response = await client.send({
        path: search.size === 0 ? path : `${path}?${search.toString()}`,
        method,
        headers: {
          authorization: `Bearer ${(await token()).reveal()}`,
          ...(options.body === undefined ? {} : { "content-type": "application/json" }),
          ...options.headers,
        },
        body: options.body === undefined ? undefined : JSON.stringify(options.body),
        signal: options.signal,
      });
      if ((response.statusCode ?? 500) < 300) return response;
      throw await refusal(response);
    } catch (error) {
      throw Fault.from(error, `Cannot reach the server at ${origin}`);
    }
  }

  const ask = async <T>(...args: Parameters<typeof send>): Promise<T> => {
    return (await json(await send(...args))) as T;
  };
  const runOf = async (...args: Parameters<typeof send>) => (await ask<{ run: RunRecord }>(...args)).run;
  const at = (id: string, rest = "") => {
    if (!isRunId(id)) throw noSuchRun(id);
    return `/v1/runs/${id}${rest}`;
  };

  async function* read(id: string, query: object): AsyncGenerator<Buffer> {
    for await (const piece of await send("GET", at(id, "/logs"), { query })) yield piece as Buffer;
  }

  /** Opened again where it stopped when it breaks, until the server says that there is no more. */
  async function* events(
    id: string,
    query: object,
    position: string,
    signal: AbortSignal,
  ): AsyncGenerator<ServerEvent> {
    let last = position;
    while (!signal.aborted && !stopping.signal.aborted) {
      try {
        const response = await send("GET", at(id, "/events"), {
          query,
          headers: { "last-event-id": last },
          signal,
        });
        if (response.statusCode === 204) {
          response.resume();
          return;
        }
        for await (const event of parseEvents(response)) {
          last = event.id;
          yield event;
          if (event.type === "end") return;
        }
      } catch (error) {
        if (signal.aborted) return;
        const fault = Fault.from(error);
        if (!isAway(fault) && fault.code !== "internal") throw fault;
      }
      await new Promise((resolve) => setTimeout(resolve, reopenAfter));
    }
  }

  return {
    async submit(definition, { idempotencyKey } = {}) {
      const response = await send("POST", "/v1/runs", {
        body: definition,
        headers: idempotencyKey === undefined ? {} : { "idempotency-key": idempotencyKey },
      });
      const { run, warnings } = (await json(response)) as { run: RunRecord; warnings: string[] };
      return { run, warnings, created: response.statusCode === 201 };
    },
    dryRun: (body, dryRun) => ask("POST", "/v1/runs", { query: { dryRun }, body }),
    get: async (id) => runOf("GET", at(id)),
    list: ({ states, ...query }) => ask("GET", "/v1/runs", { query: { ...query, state: states } }),
    async *follow(id, after, signal) {
      for await (const { data } of events(id, { logs: false }, `${after}:0`, signal)) yield data as RunEvent;
    },
    readLog: (id, { from, to: _to, ...query } = {}) => {
      if (from !== undefined) throw new Fault("internal", "a part of a log is read in the process only");
      return read(id, query);
    },
    async *searchLog(id, words, query) {
      const found = await ask<{ lines: { line: string; offset: number }[] }>("GET", at(id, "/logs"), {
        query: { ...query, search: words },
      });
      yield* found.lines;
    },
    async *followLog(id, { offset = 0, filter = {}, signal }) {
      for await (const { type, data, id: position } of events(id, { ...filter }, `0:${offset}`, signal)) {
        const next = Number(position.split(":")[1] ?? 0);
        if (type === "log") yield { lines: (data as { lines: string[] }).lines, next, ended: false };
        if (type === "end") yield { lines: [], next, ended: true };
      }
    },
    async wait(id, signal) {
      while (!signal.aborted && !stopping.signal.aborted) {
        try {
          const run = await runOf("GET", at(id, "/wait"), { signal });
          if (run.state === "Suspended" || (run.endedAt !== undefined && run.log !== undefined)) return run;
        } catch (error) {
          if (!signal.aborted) {
            if (!isAway(Fault.from(error))) throw error;
            await new Promise((resolve) => setTimeout(resolve, reopenAfter));
          }
        }
      }
      return runOf("GET", at(id));
    },
    cancel: async (id, body = {}) => runOf("POST", at(id, "/cancel"), { body }),
    suspend: async (id, suspended) => runOf("POST", at(id, suspended ? "/suspend" : "/resume"), { body: {} }),
    retry: async (id, body = {}) => runOf("POST", at(id, "/retry"), { body }),
    discover: (query) => ask("GET", "/v1/sources", { query }),
    clean: (body = {}) => ask("POST", "/v1/clean", { body }),
    async remove(ids) {
      const removed: string[] = [];
      for (const id of ids) {
        try {
          (await send("DELETE", at(id))).resume();
          removed.push(id);
        } catch (error) {
          // Has not ended, or is gone.
          const { code } = Fault.from(error);
          if (code !== "conflict" && code !== "not_found") throw error;
        }
      }
      return removed;
    },
    monitorUrl: async ({ id }) => (await ask<{ monitorUrl?: string }>("GET", at(id))).monitorUrl,
    connectors: async () =>
      (await ask<{ connectors: Awaited<ReturnType<Jobs["connectors"]>> }>("GET", "/v1/connectors")).connectors,
    async stop() {
      stopping.abort();
      client.stop();
    },
  };
}

interface ServerEvent {
  type: string;
  id: string;
  data: unknown;
}

async function* parseEvents(body: Readable): AsyncGenerator<ServerEvent> {
  let rest = "";
  body.setEncoding("utf8");
  for await (const piece of body) {
    const blocks = (rest + String(piece)).split("\n\n");
    rest = blocks.pop() ?? "";
    for (const block of blocks) {
      const fields = new Map(block.split("\n").map((line) => line.split(/: (.*)/s, 2) as [string, string]));
      const data = fields.get("data");
      if (data !== undefined)
        yield { type: fields.get("event") ?? "", id: fields.get("id") ?? "", data: JSON.parse(data) };
    }
  }
}

async function refusal(response: IncomingMessage): Promise<Fault> {
  const { statusCode = 500, headers } = response;
  const text = await textOf(response).catch(() => "");
  const codes = Object.keys(faults) as FaultCode[];
  let said: { error?: { code?: unknown; message?: unknown } } = {};
  try {
    said = JSON.parse(text) as typeof said;
  } catch {
    // Something between us and the server has answered.
  }
  const code = codes.find((one) => one === said.error?.code) ?? codes.find((one) => faults[one].http === statusCode);
  const message =
    typeof said.error?.message === "string" ? said.error.message : `The server answered with ${statusCode}`;
  const retryAfter = Number(headers["retry-after"]);
  return new Fault(code ?? "unavailable", message, undefined, {
    status: statusCode,
    reason: "",
    fields: [],
    ...(Number.isFinite(retryAfter) && retryAfter > 0 ? { retryAfterSeconds: retryAfter } : {}),
  });
}
