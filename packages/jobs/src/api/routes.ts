import { once } from "node:events";
import { Fault } from "@kube-connector/core";
import { type Request, type Response, Router } from "express";
import type { Jobs } from "../jobs.ts";
import { isTerminal } from "../run.ts";
import { parsePosition, sendEvents } from "./events.ts";
import { bodies, queries, readInput } from "./inputs.ts";

/** The routes under /v1. `streams`: event streams at a time, at most. */
export function createRoutes(
  jobs: Jobs,
  { stopping, streams: most }: { stopping: AbortSignal; streams: number },
): Router {
  const routes = Router();
  let streams = 0;
  const idOf = (request: Request) => String(request.params.id);

  routes.post("/runs", async (request, response) => {
    const { dryRun } = readInput(queries.submit, request.query, "query");
    if (dryRun !== undefined) {
      response.json(await jobs.dryRun(request.body, dryRun));
      return;
    }
    const key = request.get("idempotency-key");
    if (key !== undefined && !/^[\x21-\x7e]{1,255}$/.test(key)) {
      throw new Fault("invalid_argument", "Idempotency-Key should be 1 to 255 visible characters");
    }
    const { run, created, warnings } = await jobs.submit(
      request.body,
      key === undefined ? {} : { idempotencyKey: key },
    );
    response
      .status(created ? 201 : 200)
      .location(`/v1/runs/${run.id}`)
      .json({ run, warnings });
  });

  routes.get("/runs", async (request, response) => {
    const { state, limit = 50, ...query } = readInput(queries.list, request.query, "query");
    const states = state === undefined ? [] : [state].flat();
    response.json(await jobs.list({ limit, ...present(query), ...(states.length === 0 ? {} : { states }) }));
  });

  routes.get("/runs/:id", async (request, response) => {
    const run = await jobs.get(idOf(request));
    const monitorUrl = await jobs.monitorUrl(run);
    response.json({ run, ...(monitorUrl === undefined ? {} : { monitorUrl }) });
  });

  routes.delete("/runs/:id", async (request, response) => {
    const run = await jobs.get(idOf(request));
    if (!isTerminal(run.state)) throw new Fault("conflict", `Run ${run.id} has not ended: cancel it first`);
    await jobs.remove([run.id]);
    response.status(204).end();
  });

  routes.post("/runs/:id/cancel", async (request, response) => {
    const asked = readInput(bodies.cancel, request.body, "body");
    response.status(202).json({ run: await jobs.cancel(idOf(request), present(asked)) });
  });

  for (const verb of ["suspend", "resume"] as const) {
    routes.post(`/runs/:id/${verb}`, async (request, response) => {
      readInput(bodies.none, request.body, "body");
      response.status(202).json({ run: await jobs.suspend(idOf(request), verb === "suspend") });
    });
  }

  routes.post("/runs/:id/retry", async (request, response) => {
    const asked = readInput(bodies.retry, request.body, "body");
    const run = await jobs.retry(idOf(request), present(asked));
    response.status(201).location(`/v1/runs/${run.id}`).json({ run });
  });

  routes.get("/runs/:id/wait", async (request, response) => {
    const gone = new AbortController();
    response.once("close", () => gone.abort());
    const run = await jobs.wait(idOf(request), AbortSignal.any([gone.signal, stopping, AbortSignal.timeout(50_000)]));
    if (!response.destroyed) response.json({ run });
  });

  routes.get("/runs/:id/logs", (request, response) => sendLog(jobs, request, response));

  routes.get("/runs/:id/events", async (request, response) => {
    const { logs = true, ...filter } = readInput(queries.events, request.query, "query");
    const run = await jobs.get(idOf(request));
    const said = request.get("last-event-id") ?? "0:0";
    const from = parsePosition(said);
    if (from === undefined)
      throw new Fault("invalid_argument", "Last-Event-ID should be an id that this server has sent");
    // After the end there is nothing more, and a reader should not ask again.
    if (run.log?.sha256 !== undefined && (await hasSeenEnd(jobs, run.id, from.event))) {
      response.status(204).end();
      return;
    }
    if (streams >= most)
      throw new Fault("unavailable", `${most} event streams are open, which is the most: end one, or ask again later`);
    streams += 1;
    try {
      await sendEvents(response, { jobs, run: run.id, from, filter, withLogs: logs, signal: stopping });
    } finally {
      streams -= 1;
    }
  });

  routes.get("/sources", async (request, response) => {
    response.json(await jobs.discover(present(readInput(queries.sources, request.query, "query"))));
  });

  routes.post("/clean", async (request, response) => {
    response.json(await jobs.clean(present(readInput(bodies.clean, request.body, "body"))));
  });

  routes.get("/connectors", async (_request, response) => {
    response.json({ connectors: await jobs.connectors() });
  });

  return routes;
}

/** Of a run that is complete, so that this waits for nothing. */
async function hasSeenEnd(jobs: Jobs, run: string, after: number): Promise<boolean> {
  const next = await jobs.follow(run, after, new AbortController().signal).next();
  return next.done === true;
}

/** Bytes of one answer to a Range; who wants more asks again. */
const mostOfRange = 4_194_304;

async function sendLog(jobs: Jobs, request: Request, response: Response): Promise<void> {
  const id = String(request.params.id);
  const { search, limit = 1000, ...query } = readInput(queries.logs, request.query, "query");
  await jobs.get(id);
  if (search !== undefined) {
    const { view: _view, ...filter } = query;
    await sendAll(response.type("json"), foundLines(jobs.searchLog(id, search, { ...filter, limit })));
    return;
  }
  response.set({ "content-type": "text/plain; charset=utf-8", "accept-ranges": "bytes" });
  const range = rangeOf(request.get("range"));
  if (range === undefined) {
    await sendAll(response, jobs.readLog(id, present(query)));
    return;
  }
  // How long the whole is, a log that grows cannot say; but this part of it can.
  const { from } = range;
  const pieces: Buffer[] = [];
  for await (const piece of jobs.readLog(id, { ...present(query), from, to: Math.min(range.to, from + mostOfRange) }))
    pieces.push(piece);
  const part = Buffer.concat(pieces);
  if (part.length === 0) response.status(416).end();
  else
    response
      .status(206)
      .set("content-range", `bytes ${from}-${from + part.length - 1}/*`)
      .end(part);
}

/** As fast as it is read. The first piece decides between an answer and an error. */
async function sendAll(response: Response, pieces: AsyncGenerator<Buffer | string>): Promise<void> {
  const gone = new AbortController();
  response.once("close", () => gone.abort());
  for await (const piece of pieces) {
    if (gone.signal.aborted) break;
    if (!response.write(piece)) await once(response, "drain", { signal: gone.signal }).catch(() => undefined);
  }
  response.end();
}

async function* foundLines(found: ReturnType<Jobs["searchLog"]>): AsyncGenerator<string> {
  let before = '{"lines":[';
  for await (const one of found) {
    yield before + JSON.stringify(one);
    before = ",";
  }
  yield `${before === "," ? "" : before}]}`;
}

/** `bytes=10-` and `bytes=10-19`; others are not understood, and then the whole is sent. `to` is the first that is not wanted. */
function rangeOf(text: string | undefined): { from: number; to: number } | undefined {
  const match = /^bytes=(\d{1,15})-(\d{1,15})?$/.exec(text ?? "");
  if (match === null) return undefined;
  const range = { from: Number(match[1]), to: match[2] === undefined ? Infinity : Number(match[2]) + 1 };
  return range.to > range.from ? range : undefined;
}

/** Without the keys that have no value. */
function present<T extends object>(object: T): { [K in keyof T]: Exclude<T[K], undefined> } {
  return Object.fromEntries(Object.entries(object).filter(([, value]) => value !== undefined)) as {
    [K in keyof T]: Exclude<T[K], undefined>;
  };
}
