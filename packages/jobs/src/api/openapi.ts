import * as z from "zod";
import { definitionJsonSchema } from "../definition/definition.ts";
import { diagnosisCategories, runStates } from "../run.ts";
import { bodies, queries } from "./inputs.ts";

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
}

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
  },
  {
    method: "post",
    path: "/v1/runs/{id}/cancel",
    id: "cancelRun",
    summary: "Cancel.",
    body: bodies.cancel,
    answers: { 202: "RunAnswer" },
  },
  {
    method: "post",
    path: "/v1/runs/{id}/suspend",
    id: "suspendRun",
    summary: "Stop its pods.",
    body: bodies.none,
    answers: { 202: "RunAnswer" },
  },
  {
    method: "post",
    path: "/v1/runs/{id}/resume",
    id: "resumeRun",
    summary: "Go on.",
    body: bodies.none,
    answers: { 202: "RunAnswer" },
  },
  {
    method: "post",
    path: "/v1/runs/{id}/retry",
    id: "retryRun",
    summary: "The same again, as a new run.",
    body: bodies.retry,
    answers: { 201: "RunAnswer" },
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

const object = (properties: Record<string, unknown>, required = Object.keys(properties)) => ({
  type: "object",
  properties,
  required,
});
const ref = (name: string) => ({ $ref: `#/components/schemas/${name}` });
const text = { type: "string" };
const number = { type: "integer" };
const list = (items: unknown) => ({ type: "array", items });

const schemas: Record<string, unknown> = {
  Error: object({ error: object({ code: text, message: text }) }),
  Diagnosis: object(
    { category: { enum: diagnosisCategories }, message: text, hint: text, pod: text, container: text },
    ["category", "message", "hint"],
  ),
  Run: {
    ...object(
      {
        id: text,
        connector: text,
        namespace: text,
        name: text,
        state: { enum: runStates },
        status: { enum: ["Starting", "Running", "Success", "Failed", "Cancelled", "Unknown"] },
        reason: text,
        message: text,
        since: text,
        stale: { type: "boolean" },
        diagnosis: ref("Diagnosis"),
        progress: object({
          active: number,
          ready: number,
          succeeded: number,
          failed: number,
          completions: { type: ["integer", "null"] },
        }),
        createdAt: text,
        startedAt: text,
        endedAt: text,
        attempts: list({ type: "object" }),
        definition: { type: "object" },
        cleanup: object({ state: { enum: ["Pending", "Done", "Kept"] }, until: text, problem: text }, ["state"]),
        outputs: { type: "object", additionalProperties: text },
        log: object({ lines: number, bytes: number, gaps: number, sha256: text }, ["lines", "bytes", "gaps"]),
        retryOf: text,
        version: number,
      },
      ["id", "connector", "namespace", "name", "state", "status", "reason", "createdAt", "cleanup"],
    ),
  },
  RunAnswer: object({ run: ref("Run"), monitorUrl: text }, ["run"]),
  RunPage: object({ runs: list(ref("Run")), next: text }, ["runs"]),
  Submission: object({ run: ref("Run"), warnings: list(text) }),
  DryRun: object(
    {
      manifest: { type: "object" },
      differences: list({ type: "object" }),
      warnings: list(text),
      source: { type: "object" },
    },
    ["manifest", "differences", "warnings"],
  ),
  SubmissionOrDryRun: { oneOf: [ref("Submission"), ref("DryRun")] },
  FoundLines: object({ lines: list(object({ line: text, offset: number })) }),
  SourcePage: object({ items: list({ type: "object" }), next: text }, ["items"]),
  SweepReport: object({ deleted: list(text), orphans: list(text), problems: list(text) }),
  Connectors: object({ connectors: list(object({ name: text, defaultNamespace: text }, ["name"])) }),
};

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
  if (name === "events")
    return { description: "Server-sent events.", content: { "text/event-stream": { schema: text } } };
  return { description: name, content: { "application/json": { schema: ref(name) } } };
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
          default: { description: "What is wrong.", content: { "application/json": { schema: ref("Error") } } },
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
