import type { Header } from "../http1/head.ts";
import { staticFields } from "./hpack-tables.ts";

/** How a field was written, and so how it is written on: into the table, not into it, or never into any. */
export type Indexing = "index" | "plain" | "never";

/**
 * A header field of a decoded block. One that came into the decoder's table is the same object wherever the table is
 * referred to, so what was found out about it once need not be found out again.
 */
export class Field implements Header {
  readonly name: string;
  readonly lower: string;
  readonly value: string;
  readonly indexing: Indexing;
  /** Whether it has characters that a field may not have (RFC 9113, 8.2.1). */
  readonly malformed: boolean;
  /** Index in the static table of the whole field, and of its name; 0: none. */
  readonly exact: number;
  readonly nameIndex: number;
  /** Its number in the table of the one encoder that writes it on; -1 before. */
  place = -1;

  constructor(
    name: string,
    value: string,
    how: { indexing: Indexing; malformed?: boolean; exact?: number; nameIndex?: number | undefined },
  ) {
    this.name = name;
    this.lower = name;
    this.value = value;
    this.indexing = how.indexing;
    this.malformed = how.malformed ?? false;
    this.exact = how.exact ?? 0;
    this.nameIndex = how.nameIndex ?? nameIndexes.get(name) ?? 0;
  }

  /** What it counts in a table or a list (RFC 7541, 4.1). */
  get size(): number {
    return this.name.length + this.value.length + 32;
  }
}

const nameIndexes = new Map<string, number>();
for (const [at, [name]] of staticFields.entries()) if (!nameIndexes.has(name)) nameIndexes.set(name, at + 1);

/** The static table; [0] is index 1. */
export const staticTable: readonly Field[] = staticFields.map(
  ([name, value], at) =>
    new Field(name, value, { indexing: "index", exact: at + 1, nameIndex: nameIndexes.get(name) ?? 0 }),
);

export function isPseudo(field: Field): boolean {
  return field.name.charCodeAt(0) === 0x3a;
}

/** A field of ours that is the same on many streams. */
export function indexedField(name: string, value: string): Field {
  return new Field(name, value, { indexing: "index" });
}

/** A field of ours that differs from stream to stream. */
export function plainField(name: string, value: string): Field {
  return new Field(name, value, { indexing: "plain" });
}

/** A field that no table may hold: a credential. */
export function secretField(name: string, value: string): Field {
  return new Field(name, value, { indexing: "never" });
}
