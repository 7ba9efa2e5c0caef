import { expect, test } from "vitest";
import { Refusal } from "../answers.ts";
import { createReducedBody } from "./body.ts";
import { objectLimit } from "./pieces.ts";

// Whatever a target sends, what comes out is metadata: built anew from known fields, in pieces of any size, and never more
// than one object is held. Anything else is a Refusal before a byte of it has left.

const meta = "meta.k8s.io/v1";
const mark = "canary-value";

function object(name: string, more: Record<string, unknown> = {}, metadata: Record<string, unknown> = {}) {
  return {
    kind: "PartialObjectMetadata",
    apiVersion: meta,
    metadata: {
      name,
      labels: { app: "x" },
      annotations: {
        note: 'kept "{[]}" \\',
        "kubectl.kubernetes.io/last-applied-configuration": `{"data":"${mark}"}`,
        "kapp.k14s.io/original": mark,
        "objectset.rio.cattle.io/applied": mark,
      },
      managedFields: [{ manager: "kubectl", fieldsV1: { "f:data": { [`f:${mark}`]: {} } } }],
      ...metadata,
    },
    ...more,
  };
}

const list = (items: unknown, more: Record<string, unknown> = {}) =>
  JSON.stringify({
    kind: "PartialObjectMetadataList",
    apiVersion: meta,
    metadata: { resourceVersion: "7", continue: "c", extra: mark },
    ...more,
    items,
  });

/** All that comes out when the text comes in pieces of that many bytes. */
function reduced(
  verb: string,
  text: string,
  size = 1e9,
  status = 200,
  form: "metadata" | "table" = "metadata",
): string {
  const body = createReducedBody(verb, status, form);
  const bytes = Buffer.from(text);
  let out = "";
  for (let at = 0; at < bytes.length; at += size) out += body.take(bytes.subarray(at, at + size));
  return out + body.end();
}

const kept = { name: "a", labels: { app: "x" }, annotations: { note: 'kept "{[]}" \\' } };

test.each([1, 2, 7, 64, 1e9])("in pieces of %d bytes a list, an object and a watch keep only metadata", (size) => {
  expect(JSON.parse(reduced("list", list([object("a"), object("ä")]), size))).toEqual({
    kind: "PartialObjectMetadataList",
    apiVersion: meta,
    metadata: { resourceVersion: "7", continue: "c" },
    items: [
      { kind: "PartialObjectMetadata", apiVersion: meta, metadata: kept },
      { kind: "PartialObjectMetadata", apiVersion: meta, metadata: { ...kept, name: "ä" } },
    ],
  });
  expect(JSON.parse(reduced("get", JSON.stringify(object("a")), size))).toMatchObject({ metadata: kept });
  const events = `${JSON.stringify({ type: "ADDED", object: object("a") })}\n{"type":"DELETED","object":${JSON.stringify(object("b"))}}\n`;
  const lines = reduced("watch", events, size).trim().split("\n");
  expect(lines.map((line) => JSON.parse(line) as unknown)).toMatchObject([
    { type: "ADDED", object: { metadata: kept } },
    { type: "DELETED", object: { metadata: { name: "b" } } },
  ]);
});

test("as a table there are a name and a time for each object", () => {
  const table = (verb: string, text: string) => JSON.parse(reduced(verb, text, 7, 200, "table")) as unknown;
  const made = object("a", {}, { creationTimestamp: "2026-01-01T00:00:00Z" });
  const row = { cells: ["a", "2026-01-01T00:00:00Z"], object: { kind: "PartialObjectMetadata", metadata: kept } };
  const whole = { kind: "Table", apiVersion: meta, columnDefinitions: [{ name: "Name" }, { name: "Created At" }] };
  expect(table("list", list([made, object("b")]))).toMatchObject({ ...whole, rows: [row, { cells: ["b", ""] }] });
  expect(table("list", list([]))).toMatchObject({ ...whole, metadata: { resourceVersion: "7" }, rows: [] });
  expect(table("get", JSON.stringify(made))).toMatchObject({ ...whole, rows: [row] });
  const event = JSON.stringify({ type: "ADDED", object: made });
  expect(table("watch", `${event}\n`)).toMatchObject({ type: "ADDED", object: { ...whole, rows: [row] } });
});

test.each([
  ["an empty list", list([])],
  ["a list without items", list(null)],
  ["a list with white space", JSON.stringify(JSON.parse(list([object("a")])), undefined, 2)],
])("%s passes as JSON", (_, text) => {
  const answer = JSON.parse(reduced("list", text, 5)) as { items: unknown[] };
  expect(Array.isArray(answer.items)).toBe(true);
});

test.each<[string, string, string]>([
  ["another kind of list", "list", JSON.stringify({ kind: "SecretList", apiVersion: "v1", items: [] })],
  ["a table", "list", JSON.stringify({ kind: "Table", apiVersion: meta, metadata: {}, rows: [[mark]] })],
  ["a list with more than items", "list", list([], { data: mark })],
  ["a list with another array before its items", "list", list([], { rows: [mark] })],
  ["a list of whole objects", "list", list([{ kind: "Secret", apiVersion: "v1", metadata: {}, data: { a: mark } }])],
  ["a list of metadata with content", "list", list([object("a", { data: { a: mark } })])],
  ["a list of texts", "list", list([mark])],
  ["a list of lists", "list", list([[mark]])],
  [
    "items that come before the kind",
    "list",
    `{"items":[${JSON.stringify(object("a"))}],"kind":"PartialObjectMetadataList"}`,
  ],
  ["something after the items", "list", `${list([]).slice(0, -1)},"data":"${mark}"}`],
  ["something after the list", "list", `${list([])}${mark}`],
  ["half a list", "list", list([object("a")]).slice(0, -20)],
  ["an object where a list was asked for", "list", JSON.stringify(object("a"))],
  ["a text", "list", `"${mark}"`],
  ["nothing", "list", ""],
  ["a whole object", "get", JSON.stringify({ kind: "Secret", apiVersion: "v1", metadata: {}, data: { a: mark } })],
  ["metadata with content", "get", JSON.stringify(object("a", { data: { a: mark } }))],
  ["two objects", "get", `${JSON.stringify(object("a"))}${JSON.stringify(object("b"))}`],
  ["half an object", "get", JSON.stringify(object("a")).slice(0, -3)],
  ["no JSON", "get", mark],
  ["nothing", "get", ""],
  ["an event with a whole object", "watch", `{"type":"ADDED","object":{"kind":"Secret","data":{"a":"${mark}"}}}\n`],
  ["an event of an unknown type", "watch", `{"type":"${mark}","object":${JSON.stringify(object("a"))}}\n`],
  ["an error that is no Status", "watch", `{"type":"ERROR","object":{"kind":"Secret","data":"${mark}"}}\n`],
  ["half an event", "watch", `{"type":"ADDED","object":{"kind":"Sec`],
])("%s in answer to %s %s is refused, and the value stays inside", (_, verb, text) => {
  for (const size of [1, 1e9]) {
    let out = "";
    const run = () => {
      const body = createReducedBody(verb, 200);
      const bytes = Buffer.from(text);
      for (let at = 0; at < bytes.length; at += size) out += body.take(bytes.subarray(at, at + size));
      out += body.end();
    };
    expect(run).toThrow(Refusal);
    expect(out).not.toContain(mark);
  }
});

test("an error passes as a Status of known fields; what is no Status only by its number", () => {
  const status = { kind: "Status", apiVersion: "v1", status: "Failure", message: "secrets x not found", code: 404 };
  expect(JSON.parse(reduced("get", JSON.stringify({ ...status, data: mark }), 3, 404))).toEqual({
    ...status,
    metadata: {},
  });
  for (const text of [mark, `{"kind":"Secret","data":"${mark}"}`, "", mark.repeat(100_000)]) {
    const told = reduced("list", text, 65_536, 429);
    expect(JSON.parse(told)).toMatchObject({ kind: "Status", code: 429, message: "The target answered with 429" });
    expect(told).not.toContain(mark);
  }
});

test.each([201, 204, 206, 301, 302])("status %d is no answer that can be reduced", (status) => {
  expect(() => createReducedBody("get", status)).toThrow(Refusal);
});

test.each(["list", "get", "watch"])("one object of a %s that is larger than the limit is refused, not held", (verb) => {
  const body = createReducedBody(verb, 200);
  const open = verb === "list" ? `${list([]).slice(0, -2)}{"kind":"` : '{"kind":"';
  body.take(Buffer.from(open));
  const megabyte = Buffer.alloc(1024 * 1024, "a");
  expect(() => {
    for (let sent = 0; sent <= objectLimit; sent += megabyte.length) body.take(megabyte);
  }).toThrow("larger than");
});

test("only a watch may end between two events", () => {
  const watch = createReducedBody("watch", 200);
  expect(watch.mayEnd()).toBe(true);
  watch.take(Buffer.from('{"type"'));
  expect(watch.mayEnd()).toBe(false);
  expect([createReducedBody("list", 200).mayEnd(), createReducedBody("get", 200).mayEnd()]).toEqual([false, false]);
});
