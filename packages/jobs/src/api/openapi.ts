import * as z from "zod";
import { definitionJsonSchema } from "../definition/definition.ts";
import { bodies, queries } from "./inputs.ts";
import { ref, schemas, text } from "./schemas.ts";

// The OpenAPI document, made from the schemas that check requests, so that it cannot say anything else.

interface Route {
  method: "get" | "post" | "delete";
  path: string;
  /** What generated clients call it. */
  id: string;
  summary: string;
  query?: z.ZodType;
  body?: z.ZodType | "definition";
  headers?: Record<string, string>;
  answers: Record<number, string>;
  /** Statuses of refusals beside those that the rest of the route says. */
  refusals?: readonly Refusal[];
}

/** Why a request is refused; the body says it in a sentence. */
const refusals = {
  400: "Wrong input: every mistake, a sentence each.",
  401: "No token, or not this server's.",
  404: "There is no such run, log or connector.",
  409: "Not in the state that the run is in, or the key was used for another request.",
  413: "The body is too long.",
} as const;
type Refusal = keyof typeof refusals;

const routes: readonly Route[] = [
  {
    method: "post",
    path: "/v1/runs",
    id: "submitRun",
    summary: "Submit a run; with dryRun show what would be sent.",
    query: queries.submit,
    body: "definition",
    headers: { "Idempotency-Key": "The same key and body give the same run; another body is refused with 409." },
    answers: { 201: "Submission", 200: "SubmissionOrDryRun" },
    refusals: [404, 409],
  },
  {
    method: "get",
    path: "/v1/runs",
    id: "listRuns",
    summary: "Runs, newest first.",
    query: queries.list,
    answers: { 200: "RunPage" },
  },
  { method: "get", path: "/v1/runs/{id}", id: "getRun", summary: "A run.", answers: { 200: "RunAnswer" } },
  {
    method: "delete",
    path: "/v1/runs/{id}",
    id: "removeRun",
    summary: "Forget an ended run, with its log.",
    answers: { 204: "" },
    refusals: [409],
  },
  {
    method: "post",
    path: "/v1/runs/{id}/cancel",
    id: "cancelRun",
    summary: "Cancel.",
    body: bodies.cancel,
    answers: { 202: "RunAnswer" },
    refusals: [409],
  },
  {
    method: "post",
    path: "/v1/runs/{id}/suspend",
    id: "suspendRun",
    summary: "Stop its pods.",
    body: bodies.none,
    answers: { 202: "RunAnswer" },
    refusals: [409],
  },
  {
    method: "post",
    path: "/v1/runs/{id}/resume",
    id: "resumeRun",
    summary: "Go on.",
    body: bodies.none,
    answers: { 202: "RunAnswer" },
    refusals: [409],
  },
  {
    method: "post",
    path: "/v1/runs/{id}/retry",
    id: "retryRun",
    summary: "The same again, as a new run.",
    body: bodies.retry,
    answers: { 201: "RunAnswer" },
    refusals: [409],
  },
  {
    method: "get",
    path: "/v1/runs/{id}/wait",
    id: "waitForRun",
    summary: "Answers when it is complete, failed, deleted or suspended, after 50 s at the latest.",
    answers: { 200: "RunAnswer" },
  },
  {
    method: "get",
    path: "/v1/runs/{id}/logs",
    id: "readLog",
    summary: "The log as text, or with search the lines that were found.",
    query: queries.logs,
    headers: { Range: "bytes=FROM-TO, of the view." },
    answers: { 200: "log", 206: "text", 416: "" },
  },
  {
    method: "get",
    path: "/v1/runs/{id}/events",
    id: "followRun",
    summary: "Server-sent events: what happens, and the lines of the log.",
    query: queries.events,
    headers: { "Last-Event-ID": "Goes on after that event, exactly." },
    answers: { 200: "events", 204: "" },
  },
  {
    method: "get",
    path: "/v1/sources",
    id: "listSources",
    summary: "What can be cloned.",
    query: queries.sources,
    answers: { 200: "SourcePage" },
    refusals: [404],
  },
  {
    method: "post",
    path: "/v1/clean",
    id: "clean",
    summary: "Delete what ended runs have left.",
    body: bodies.clean,
    answers: { 200: "SweepReport" },
  },
  {
    method: "get",
    path: "/v1/connectors",
    id: "listConnectors",
    summary: "Names of the connectors.",
    answers: { 200: "Connectors" },
  },
];

function parameters({ path, query, headers = {} }: Route): unknown[] {
  const found: unknown[] = [];
  if (path.includes("{id}")) found.push({ name: "id", in: "path", required: true, schema: text });
  if (query !== undefined) {
    const { properties = {}, required = [] } = z.toJSONSchema(query, { io: "input" }) as {
      properties?: Record<string, object>;
      required?: string[];
    };
    for (const [name, schema] of Object.entries(properties))
      found.push({ name, in: "query", required: required.includes(name), schema });
  }
  for (const [name, description] of Object.entries(headers))
    found.push({ name, in: "header", description, schema: text });
  return found;
}

function answer(name: string): unknown {
  if (name === "") return { description: "No body." };
  if (name === "log") {
    return {
      description: "The log; with search the lines found.",
      content: { "text/plain": { schema: text }, "application/json": { schema: ref("FoundLines") } },
    };
  }
  if (name === "text") return { description: "The log.", content: { "text/plain": { schema: text } } };
  if (name === "events") {
    const description = "Server-sent events: the data of each is a RunEvent, or LogLines where its type is log.";
    return { description, content: { "text/event-stream": { schema: text } } };
  }
  return { description: name, content: { "application/json": { schema: ref(name) } } };
}

function refusalsOf({ path, query, body, headers, refusals: more = [] }: Route): Refusal[] {
  return [
    ...((query ?? body ?? headers) === undefined ? [] : ([400] as const)),
    401,
    ...(path.includes("{id}") ? ([404] as const) : []),
    ...(body === undefined ? [] : ([413] as const)),
    ...more,
  ];
}

function refusal(description: string): unknown {
  return { description, content: { "application/json": { schema: ref("Error") } } };
}

/** A schema without its own dialect, which is the document's. */
function bare({ $schema: _dialect, ...schema }: Record<string, unknown>): Record<string, unknown> {
  return schema;
}

/** https://spec.openapis.org/oas/v3.1.0 */
export function openApiDocument(): Record<string, unknown> {
  const paths: Record<string, Record<string, unknown>> = {};
  for (const route of routes) {
    const { method, path, id, summary, body, answers } = route;
    paths[path] = {
      ...paths[path],
      [method]: {
        operationId: id,
        summary,
        parameters: parameters(route),
        ...(body === undefined
          ? {}
          : {
              requestBody: {
                required: body === "definition",
                content: {
                  "application/json": {
                    schema: body === "definition" ? ref("RunDefinition") : bare(z.toJSONSchema(body, { io: "input" })),
                  },
                },
              },
            }),
        responses: {
          ...Object.fromEntries(Object.entries(answers).map(([status, name]) => [status, answer(name)])),
          ...Object.fromEntries(refusalsOf(route).map((status) => [status, refusal(refusals[status])])),
          default: refusal("What is wrong; 503 and 504 say in Retry-After when to ask again."),
        },
      },
    };
  }
  return {
    openapi: "3.1.0",
    info: { title: "kube-connector jobs", version: "v1" },
    security: [{ bearer: [] }],
    paths,
    components: {
      securitySchemes: { bearer: { type: "http", scheme: "bearer" } },
      schemas: { ...schemas, RunDefinition: bare(definitionJsonSchema()) },
    },
  };
}
