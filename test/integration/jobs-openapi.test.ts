// The OpenAPI document says what the API does: each route is asked for each status that it names, and each answer has the
// form that it gives, without a field that it does not know.
import type { RunRecord } from "@kube-connector/jobs";
import { afterAll, beforeAll, expect, test } from "vitest";
import { z } from "zod";
import { type AskOptions, readEvents, type ServedJobs, serveJobs } from "../kit/jobs-api.ts";
import { definition } from "../kit/jobs-checks.ts";
import { connector, type JobsRoom, namespace, startJobsRoom } from "../kit/jobs-room.ts";

interface Operation {
  parameters: { name: string; in: string }[];
  requestBody?: object;
  responses: Record<string, { content?: Record<string, { schema: object }> }>;
}

let room: JobsRoom;
let served: ServedJobs;
let paths: Record<string, Record<string, Operation>>;
let components: Record<string, object>;
const asked = new Set<string>();

beforeAll(async () => {
  room = await startJobsRoom();
  served = await serveJobs(room, { streams: 2 });
  const document = await served.json<{ paths: typeof paths; components: { schemas: Record<string, object> } }>(
    200,
    "GET",
    "/openapi.json",
  );
  paths = document.paths;
  components = document.components.schemas;
});
afterAll(async () => {
  await served?.stop();
  await room?.stop();
});

/** References as JSON Schema has them alone; and what is not named is not allowed, unless the schema says so. */
function strict(schema: unknown): unknown {
  if (Array.isArray(schema)) return schema.map(strict);
  if (typeof schema !== "object" || schema === null) return schema;
  const copy = Object.fromEntries(Object.entries(schema).map(([key, value]) => [key, strict(value)]));
  if (typeof copy.$ref === "string") copy.$ref = copy.$ref.replace("#/components/schemas/", "#/$defs/");
  return copy.type === "object" && copy.additionalProperties === undefined
    ? { ...copy, additionalProperties: false }
    : copy;
}

function problemsOf(schema: object, value: unknown): unknown {
  const { RunDefinition: _, ...defs } = components;
  const check = z.fromJSONSchema({ ...(strict(schema) as object), $defs: strict(defs) } as never);
  return check.safeParse(value).error?.issues;
}

/** Asks, and holds the answer to the document. `path` as there; what is in braces is the run. */
async function ask(
  status: number,
  method: string,
  path: string,
  run = "",
  options: AskOptions & { query?: string } = {},
) {
  const { query = "", ...rest } = options;
  const url = path.replace("{id}", run) + query;
  const response = await served.ask(method, url, rest);
  const operation = paths[path]?.[method.toLowerCase()];
  const said = `${method} ${url}`;
  expect([said, response.status, operation !== undefined]).toEqual([said, status, true]);
  const named = operation?.responses[status] ?? operation?.responses.default;
  if (operation?.responses[status] !== undefined) asked.add(`${method} ${path} ${status}`);
  const text = await response.text();
  const type = response.headers.get("content-type")?.split(";")[0] ?? "";
  const content = named?.content ?? {};
  const hasBody = Object.keys(content).length > 0;
  expect([said, hasBody ? type in content : text]).toEqual([said, hasBody ? true : ""]);
  if (type !== "application/json") return { response, body: {} as { run: RunRecord } };
  const body = JSON.parse(text) as { run: RunRecord };
  expect([said, problemsOf(content[type]?.schema ?? {}, body)]).toEqual([said, undefined]);
  return { response, body };
}

const submit = async (body: object) => (await ask(201, "POST", "/v1/runs", "", { body })).body.run.id;
/** Asks until the run is at rest, as the document says. */
const wait = async (id: string) => (await ask(200, "GET", "/v1/runs/{id}/wait", id)).body.run;
const state = async (id: string) => (await ask(200, "GET", "/v1/runs/{id}", id)).body.run.state;

test("the check finds a field too many, one too few and one of another kind", () => {
  const schema = { $ref: "#/components/schemas/Connectors" };
  expect(problemsOf(schema, { connectors: [{ name: "a" }] })).toBeUndefined();
  for (const wrong of [{ connectors: [{ name: "a", more: 1 }] }, {}, { connectors: [{ name: 1 }] }])
    expect(problemsOf(schema, wrong)).toBeDefined();
});

test("a run's life: each answer of each route is as the document says", async () => {
  const headers = { "idempotency-key": "document" };
  const body = definition({ lines: 30, message: '{"rows":"42"}' }, { runKey: "once", secretEnv: { WORD: "canary" } });
  const indexed = { completions: 2, parallelism: 2, completionMode: "Indexed", backoffLimitPerIndex: 0 };
  const failing = await submit(definition({ exit: [0, 3] }, indexed));
  const verbs = await submit(definition({ lines: 1, stay: -1 }));
  const { id } = (await ask(201, "POST", "/v1/runs", "", { body, headers })).body.run;
  await ask(200, "POST", "/v1/runs", "", { body, headers });
  await ask(409, "POST", "/v1/runs", "", { body: definition({}), headers });
  expect(await wait(id)).toMatchObject({ state: "Succeeded", outputs: { rows: "42" } });
  await ask(200, "GET", "/v1/runs/{id}/logs", id);
  await ask(200, "GET", "/v1/runs/{id}/logs", id, { query: "?search=line+1" });
  await ask(206, "GET", "/v1/runs/{id}/logs", id, { headers: { range: "bytes=0-99" } });
  await ask(416, "GET", "/v1/runs/{id}/logs", id, { headers: { range: "bytes=999999-" } });

  expect(await wait(failing)).toMatchObject({ state: "Failed", diagnosis: { category: "FailedIndexes" } });
  const again = (await ask(201, "POST", "/v1/runs/{id}/retry", failing, { body: { failedIndexes: true } })).body.run;
  expect(again).toMatchObject({ retryOf: failing, indexes: [1] });

  await expect.poll(() => state(verbs), { timeout: 20_000 }).toBe("Running");
  await ask(409, "POST", "/v1/runs/{id}/retry", verbs, { body: {} });
  await ask(409, "DELETE", "/v1/runs/{id}", verbs);
  await ask(202, "POST", "/v1/runs/{id}/suspend", verbs, { body: {} });
  expect((await wait(verbs)).state).toBe("Suspended");
  await ask(202, "POST", "/v1/runs/{id}/resume", verbs, { body: {} });
  await ask(202, "POST", "/v1/runs/{id}/cancel", verbs, { body: {} });
  await expect.poll(() => state(verbs), { timeout: 20_000 }).toBe("Cancelled");
  for (const verb of ["cancel", "suspend", "resume"])
    await ask(409, "POST", `/v1/runs/{id}/${verb}`, verbs, { body: {} });
  await wait(again.id);
  await ask(200, "GET", "/v1/runs", "", { query: "?limit=2&state=Failed&state=Cancelled" });
  await ask(204, "DELETE", "/v1/runs/{id}", id);
});

test("events are as the document says, and so many at a time", async () => {
  const id = await submit(
    definition({ lines: 5, every: 10, exit: 1 }, { retry: { maxAttempts: 2, initialDelay: 1, on: ["Any"] } }),
  );
  const { events } = await readEvents(served, id);
  expect(new Set(events.map(({ type }) => type))).toEqual(new Set(["state", "attempt", "diagnosis", "log", "end"]));
  for (const { type, data } of events)
    expect(
      problemsOf({ $ref: `#/components/schemas/${type === "log" ? "LogLines" : "RunEvent"}` }, data),
    ).toBeUndefined();
  await ask(200, "GET", "/v1/runs/{id}/events", id);
  await ask(204, "GET", "/v1/runs/{id}/events", id, { headers: { "last-event-id": events.at(-1)?.id ?? "" } });

  const idle = await submit(definition({ stay: -1 }));
  const open = [new AbortController(), new AbortController()];
  for (const { signal } of open) await served.ask("GET", `/v1/runs/${idle}/events`, { signal });
  const { response, body } = await ask(503, "GET", "/v1/runs/{id}/events", idle);
  expect([response.headers.get("retry-after"), body]).toEqual([
    "3",
    { error: { code: "unavailable", message: expect.stringContaining("2 event streams are open") } },
  ]);
  // Who asks and goes is answered meanwhile, and one that ends makes room for the next.
  expect(await state(idle)).not.toBe("");
  open[0]?.abort();
  await expect
    .poll(async () => {
      const one = new AbortController();
      const { status } = await served.ask("GET", `/v1/runs/${idle}/events`, { signal: one.signal });
      one.abort();
      return status;
    })
    .toBe(200);
  open[1]?.abort();
  await ask(202, "POST", "/v1/runs/{id}/cancel", idle, { body: { propagation: "Foreground", force: true } });
  await wait(idle);
});

test("sources, clones and the rest are as the document says", async () => {
  const container = {
    name: "main",
    image: "images.example/tidy:1",
    command: ["tidy"],
    env: [
      { name: "REGION", value: "$(ZONE)" },
      { name: "URL", valueFrom: { secretKeyRef: { name: "db", key: "url" } } },
    ],
    envFrom: [{ prefix: "P_", configMapRef: { name: "more" } }],
  };
  const template = { spec: { restartPolicy: "Never", containers: [container] } };
  for (const name of ["tidy-a", "tidy-b"])
    await room.plane.admin.request("POST", `/apis/batch/v1/namespaces/${namespace}/cronjobs`, {
      body: {
        metadata: { name },
        spec: { schedule: "0 3 * * *", timeZone: "Etc/UTC", jobTemplate: { spec: { template } } },
      },
    });
  const where = `?connector=${encodeURIComponent(connector)}&namespace=${namespace}`;
  const first = (await ask(200, "GET", "/v1/sources", "", { query: `${where}&kind=CronJob&limit=1` }))
    .body as unknown as {
    items: { name: string }[];
    next: string;
  };
  const query = `${where}&kind=CronJob&limit=1&cursor=${encodeURIComponent(first.next)}`;
  const second = (await ask(200, "GET", "/v1/sources", "", { query })).body as unknown as typeof first;
  expect([first.items, second.items].flat().map(({ name }) => name)).toEqual(["tidy-a", "tidy-b"]);
  expect(second.next).toBeUndefined();
  await ask(404, "GET", "/v1/sources", "", { query: `?connector=no/such&namespace=x&kind=Job` });

  const clone = { connector, source: { kind: "CronJob", name: "tidy-a" }, overlay: { env: { REGION: "eu" } } };
  await ask(200, "POST", "/v1/runs", "", { body: clone, query: "?dryRun=server" });
  const lost = { connector, source: { name: "never-seen" } };
  await ask(404, "POST", "/v1/runs", "", { body: lost, query: "?dryRun=client" });
  expect((await wait(await submit(clone))).source?.used).toBe("Live");
  await ask(200, "POST", "/v1/clean", "", { body: { orphans: true } });
  await ask(200, "GET", "/v1/connectors");
});

test("each route refuses as the document says; with this every status of it was seen", async () => {
  const none = "01k9zzzzzzzzzzzzzzzzzzzzzz";
  const large = { colour: "x".repeat(1_048_576) };
  for (const [path, item] of Object.entries(paths))
    for (const [name, { responses, requestBody, parameters }] of Object.entries(item)) {
      const method = name.toUpperCase();
      const body = requestBody === undefined ? {} : { body: {} };
      const headers = { authorization: "Bearer other" };
      await ask(401, method, path, none, { ...body, headers });
      if (path.includes("{id}")) await ask(404, method, path, none, body);
      if (responses[413] !== undefined) await ask(413, method, path, none, { body: large });
      if (requestBody !== undefined) await ask(400, method, path, none, { body: { colour: "red" } });
      else if (parameters.some((one) => one.in === "query"))
        await ask(400, method, path, none, { query: "?colour=red" });
    }
  const named = Object.entries(paths).flatMap(([path, item]) =>
    Object.entries(item).flatMap(([method, { responses }]) =>
      Object.keys(responses).map((status) => `${method.toUpperCase()} ${path} ${status}`),
    ),
  );
  expect([...asked].toSorted()).toEqual(named.filter((one) => !one.endsWith(" default")).toSorted());
});
