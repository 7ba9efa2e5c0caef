// The OpenAPI document says what the routes are: each of them, no other one, in the form of OpenAPI 3.1.
import { expect, test } from "vitest";
import type { Jobs } from "../jobs.ts";
import { openApiDocument } from "./openapi.ts";
import { createRoutes } from "./routes.ts";

interface Operation {
  summary: string;
  operationId: string;
  parameters: { name: string; in: string; required?: boolean; schema: object }[];
  requestBody?: { content: Record<string, { schema: object }> };
  responses: Record<string, { description: string; content?: Record<string, { schema: object }> }>;
}
// As a reader gets it.
const document = JSON.parse(JSON.stringify(openApiDocument())) as {
  openapi: string;
  info: { title: string; version: string };
  security: Record<string, string[]>[];
  paths: Record<string, Record<string, Operation>>;
  components: { schemas: Record<string, object>; securitySchemes: Record<string, object> };
};
const operations = Object.entries(document.paths).flatMap(([path, item]) =>
  Object.entries(item).map(([method, operation]) => ({ path, method, operation })),
);

test("every route is in the document, and none else", () => {
  // The routes are not called.
  const router = createRoutes({} as Jobs, { stopping: new AbortController().signal, streams: 1 });
  const routes = router.stack.flatMap(({ route }) =>
    (route?.stack ?? []).map(({ method }) => `${method} /v1${route?.path.replaceAll(/:(\w+)/g, "{$1}")}`),
  );
  expect(operations.map(({ path, method }) => `${method} ${path}`).toSorted()).toEqual(routes.toSorted());
});

test("the document has the form of OpenAPI 3.1", () => {
  expect(document.openapi).toMatch(/^3\.1\.\d+$/);
  expect(document.info).toEqual({ title: expect.any(String), version: expect.any(String) });
  expect(document.security).toEqual([{ bearer: [] }]);
  expect(document.components.securitySchemes.bearer).toEqual({ type: "http", scheme: "bearer" });
  const ids = operations.map(({ operation }) => operation.operationId);
  expect(new Set(ids).size).toBe(operations.length);
  for (const { path, operation } of operations) {
    expect(operation.operationId).toMatch(/^[a-z]\w+$/);
    expect(operation.summary).not.toBe("");
    const inPath = operation.parameters.filter((parameter) => parameter.in === "path");
    expect(inPath.map(({ name }) => `{${name}}`)).toEqual(path.match(/\{\w+\}/g) ?? []);
    for (const { name, in: place, required, schema } of operation.parameters) {
      expect(["path", "query", "header"]).toContain(place);
      expect([name, place === "path" && required !== true]).toEqual([name, false]);
      expect(typeof schema).toBe("object");
    }
    expect(Object.keys(operation.responses).length).toBeGreaterThan(1);
    for (const [status, { description, content }] of Object.entries(operation.responses)) {
      expect(status).toMatch(/^([2-5]\d\d|default)$/);
      expect(description).not.toBe("");
      for (const type of Object.keys(content ?? {})) expect(type).toMatch(/^\w+\/[\w.-]+$/);
    }
  }
});

test("every reference leads to something in the document", () => {
  const references: string[] = [];
  JSON.stringify(document, (key, value: unknown) => {
    if (key === "$ref") references.push(String(value));
    return value;
  });
  expect(references.length).toBeGreaterThan(20);
  for (const reference of new Set(references)) {
    expect(reference).toMatch(/^#\//);
    const found = reference
      .slice(2)
      .split("/")
      .reduce<unknown>((at, step) => (at as Record<string, unknown> | undefined)?.[step], document);
    expect([reference, typeof found]).toEqual([reference, "object"]);
  }
});

test("what a query may hold is what the check takes", () => {
  const list = document.paths["/v1/runs"]?.get?.parameters.map(({ name }) => name);
  expect(list).toEqual(["state", "connector", "namespace", "name", "endedBefore", "cursor", "limit"]);
  expect(Object.keys(document.components.schemas.RunDefinition ?? {})).not.toContain("$schema");
});
