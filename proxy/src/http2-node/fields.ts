import http2 from "node:http2";
import { Field } from "../http2/field.ts";

// node:http2's flat lists of names and values ↔ fields, so that the same rules make and judge them as in the own relay.

const goodName = /^:?[!#$%&'*+\-.^_`|~0-9a-z]+$/;
const badValue = /[^\t\x20-\x7e\x80-\xff]|^[\t ]|[\t ]$/;

/** What came, line by line. What a sender wants in no table is kept out of tables on the other side too. */
export function fieldsOf(raw: readonly string[], headers: http2.IncomingHttpHeaders): Field[] {
  const sensitive = (headers as { [name: symbol]: string[] | undefined })[http2.sensitiveHeaders] ?? [];
  const fields: Field[] = [];
  for (let at = 0; at + 1 < raw.length; at += 2) {
    const name = raw[at] as string;
    const value = raw[at + 1] as string;
    // nghttp2 leaves such lines out; this is in case that it ever does not.
    const malformed = !goodName.test(name) || badValue.test(value);
    fields.push(new Field(name, value, { indexing: sensitive.includes(name) ? "never" : "plain", malformed }));
  }
  return fields;
}

/** What a header list counts (RFC 9113, 6.5.2). */
export function sizeOf(fields: readonly Field[]): number {
  return fields.reduce((sum, { size }) => sum + size, 0);
}

/** For request() and respond(). Credentials are marked, so that nghttp2 writes them as literals that no table holds. */
export function linesOf(fields: readonly Field[]): string[] {
  return Object.assign(
    fields.flatMap(({ name, value }) => [name, value]),
    { [http2.sensitiveHeaders]: secretNames(fields) },
  );
}

/** For those calls that take no list. */
export function headersOf(fields: readonly Field[]): http2.OutgoingHttpHeaders {
  const headers: Record<string, string[]> = {};
  for (const { name, value } of fields) (headers[name] ??= []).push(value);
  return { ...headers, [http2.sensitiveHeaders]: secretNames(fields) };
}

function secretNames(fields: readonly Field[]): string[] {
  return fields.filter(({ indexing }) => indexing === "never").map(({ name }) => name);
}
