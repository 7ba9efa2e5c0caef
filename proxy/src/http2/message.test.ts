import { expect, test } from "vitest";
import { createRandom } from "../../../test/kit/random.ts";
import { resolvedConnector } from "../../../test/kit/resolved.ts";
import { Field, plainField } from "./field.ts";
import { RequestReader, UpstreamFields } from "./message.ts";

// What was found out about a header list is used again for the next one that is like it. Whatever came before on a
// connection, each list must be read as if it were the first.

const random = createRandom(2);
const target = { path: "/p", judged: "/p", query: "?q" };
const connector = await resolvedConnector({ name: "prod", token: "stored" });
const authority = plainField(":authority", "t");

/** What one reader makes of a list: a head and what goes to the target, or an error's words. */
function reading(reader: RequestReader, upstream: UpstreamFields, fields: readonly Field[], ended: boolean): unknown {
  try {
    const { head, length } = reader.read(fields, { id: 1, ended });
    const sent = upstream
      .of({ head, target, connector }, authority)
      .map(({ name, value, indexing }) => [name, value, indexing]);
    const headers = head.headers.map(({ name, value }) => [name, value]);
    return { ...head, headers, length, sent };
  } catch (error) {
    return String(error);
  }
}

const usual: readonly (readonly [string, string])[] = [
  [":method", "GET"],
  [":scheme", "https"],
  [":authority", "t"],
  [":path", "/"],
  ["authorization", "Bearer one"],
  ["accept", "*/*"],
];
const odd: readonly (readonly [string, string])[] = [
  ...usual,
  [":method", "PUT"],
  [":method", "BREW"],
  [":path", ""],
  [":path", "/other"],
  [":authority", "u"],
  [":status", "200"],
  ["host", "t"],
  ["host", "u"],
  ["te", "trailers"],
  ["te", "gzip"],
  ["content-length", "3"],
  ["content-length", "x"],
  ["expect", "100-continue"],
  ["connection", "close"],
  ["cookie", "a"],
  ["authorization", "Bearer two"],
  ["impersonate-user", "root"],
  ["sec-websocket-protocol", "a, base64url.bearer.authorization.k8s.io.x"],
  ["x-a", "b"],
];

function randomField(of: readonly (readonly [string, string])[]): Field {
  const [name, value] = random.pick(of);
  const indexing = random.chance(0.8) ? "index" : random.pick(["plain", "never"] as const);
  return new Field(name, value, { indexing, malformed: random.chance(0.03) });
}

/** A change or two of a list: one of its fields is another, is new, is gone, or has another place. */
function changed(fields: readonly Field[]): Field[] {
  const list = [...fields];
  const at = random.number(list.length + 1);
  const change = random.number(4);
  if (change === 0) list.splice(at, 1, randomField(odd));
  else if (change === 1) list.splice(at, 0, randomField(odd));
  else if (change === 2) list.splice(at, 1);
  else list.splice(at, 0, ...list.splice(random.number(list.length), 1));
  return random.chance(0.3) ? changed(list) : list;
}

test("a list is read as if it were the first, whatever came before", () => {
  const [reader, upstream] = [new RequestReader(), new UpstreamFields()];
  let list: Field[] = usual.map(([name, value]) => plainField(name, value));
  const good = list;
  let read = 0;
  for (let round = 0; round < 20_000; round++) {
    if (random.chance(0.2)) list = good;
    else if (random.chance(0.6)) list = changed(list);
    // The same fields as other objects.
    if (random.chance(0.3)) list = list.map(({ name, value, ...how }) => new Field(name, value, how));
    const ended = random.chance(0.7);
    const fresh = reading(new RequestReader(), new UpstreamFields(), list, ended);
    expect(reading(reader, upstream, list, ended)).toEqual(fresh);
    if (typeof fresh === "object") read += 1;
  }
  expect(read).toBeGreaterThan(2000);
});

test("of equal lists the headers are the same, whatever path they ask for", () => {
  const reader = new RequestReader();
  const at = (path: string) => usual.map(([name, value]) => plainField(name, name === ":path" ? path : value));
  const read = (path: string) => reader.read(at(path), { id: 1, ended: true }).head;
  expect(read("/a").headers).toBe(read("/b").headers);
  expect(read("/c")).toMatchObject({ target: "/c", method: "GET", body: "none" });
});

test("a header that is dropped changes what goes on when it comes and when it goes", () => {
  const [reader, upstream] = [new RequestReader(), new UpstreamFields()];
  const names = (...more: Field[]) => {
    const list = [...usual.map(([name, value]) => plainField(name, value)), ...more];
    const { head } = reader.read(list, { id: 1, ended: true });
    return upstream.of({ head, target, connector }, authority).map(({ name }) => name);
  };
  const plain = names();
  expect(plain).toEqual([":method", ":scheme", ":authority", ":path", "authorization", "accept"]);
  expect(names(plainField("cookie", "a"))).toEqual(plain);
  expect(names(plainField("x-a", "b"))).toEqual([...plain, "x-a"]);
  expect(() => names(plainField("impersonate-user", "root"))).toThrow("impersonate-user");
  expect(names()).toEqual(plain);
});
