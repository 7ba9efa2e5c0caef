import { Http2Error } from "./errors.ts";
import { Field, type Indexing, staticTable } from "./field.ts";
import { DynamicTable, tableLimit } from "./hpack-table.ts";
import { decodeHuffman } from "./huffman.ts";

/** A decoded block. */
export interface FieldList {
  fields: Field[];
  /** Whether it holds more than the limit; `fields` is not whole then. */
  tooLarge: boolean;
}

/** The last field of one name. */
interface Kept {
  field: Field;
  /** What of it was written out, as it came: the first `length` bytes. */
  coded: Buffer;
  length: number;
}

/** Bytes of coded fields that are kept, of one connection and direction. */
const keptLimit = 4096;

/** Largest Huffman-coded string that can be in a block, decoded. */
const scratch = Buffer.allocUnsafeSlow(1 << 17);

/** 1: may be in a field's name, 2: may be in its value. */
const allowed = createAllowed();

function createAllowed(): Uint8Array {
  const table = new Uint8Array(256);
  for (let byte = 0x20; byte < 256; byte++) if (byte !== 0x7f) table[byte] = 2;
  table[0x09] = 2;
  for (const character of "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz") table[character.charCodeAt(0)] = 3;
  return table;
}

/**
 * Decodes header blocks (RFC 7541) of one connection and direction. Every block must pass through it, in order, also those
 * nobody wants. What HPACK cannot make sense of ends the connection; a field that HTTP does not allow is only marked.
 */
export class HpackDecoder {
  readonly #table = new DynamicTable();
  /** Bytes of a list, as RFC 7541 (4.1) counts them. */
  readonly #listLimit: number;
  #bytes: Buffer = scratch;
  #at = 0;
  #end = 0;
  /** Of the last string read. */
  #malformed = false;
  /**
   * By the index of its name in the static table, or behind those by the length of its name: the last field that was written
   * out. Many come again so: a token that may go into no table, and all that nginx answers, which never refers to the table.
   */
  #last: (Kept | undefined)[] = [];
  #lastBytes = 0;

  constructor(listLimit: number) {
    this.#listLimit = listLimit;
  }

  /** Http2Error: COMPRESSION_ERROR; ENHANCE_YOUR_CALM when it unpacks to more than twice the limit. */
  decode(block: Buffer, from = 0, to = block.length): FieldList {
    this.#bytes = block;
    this.#at = from;
    this.#end = to;
    const fields: Field[] = [];
    let size = 0;
    let updates = 0;
    while (this.#at < this.#end) {
      const byte = block[this.#at] as number;
      if ((byte & 0xe0) === 0x20) {
        updates += 1;
        if (size > 0 || updates > 2) throw wrong("a table size update is not where it may be");
        this.#resize();
        continue;
      }
      const field = (byte & 0x80) === 0 ? this.#literal(byte) : this.#indexed(this.#integer(0x7f));
      size += field.size;
      if (size <= this.#listLimit) fields.push(field);
      else if (size > 2 * this.#listLimit) throw new Http2Error("ENHANCE_YOUR_CALM", "a header list is far too large");
    }
    this.#bytes = scratch;
    return { fields, tooLarge: size > this.#listLimit };
  }

  #resize(): void {
    const capacity = this.#integer(0x1f);
    if (capacity > tableLimit) throw wrong("a table size is above the limit");
    this.#table.resize(capacity);
  }

  #indexed(index: number): Field {
    if (index === 0) throw wrong("index 0");
    const field = index <= staticTable.length ? staticTable[index - 1] : this.#table.at(index - staticTable.length - 1);
    if (field === undefined) throw wrong("an index is beyond the table");
    return field;
  }

  #literal(byte: number): Field {
    const indexing: Indexing = (byte & 0x40) !== 0 ? "index" : (byte & 0x10) === 0 ? "plain" : "never";
    const index = this.#integer(indexing === "index" ? 0x3f : 0x0f);
    const field = index > staticTable.length ? this.#written(indexing, index) : this.#perhapsKept(indexing, index);
    if (indexing === "index") this.#table.add(field);
    return field;
  }

  /** How a field is written out depends on no dynamic table, so the same bytes are the same field. */
  #perhapsKept(indexing: Indexing, index: number): Field {
    const from = this.#at;
    const place = index > 0 ? index : staticTable.length + 1 + ((this.#bytes[from] ?? 0) & 0x3f);
    const kept = this.#last[place];
    if (kept !== undefined && kept.field.indexing === indexing && this.#isNext(kept)) {
      this.#at += kept.length;
      return kept.field;
    }
    const field = this.#written(indexing, index);
    this.#keep(place, field, from);
    return field;
  }

  /** `index` of its name; 0 when that is written out too. */
  #written(indexing: Indexing, index: number): Field {
    const named = index === 0 ? undefined : this.#indexed(index);
    const name = named?.name ?? this.#string(1);
    const badName = named === undefined ? this.#malformed || name === "" : named.malformed;
    const value = this.#string(2);
    return new Field(name, value, { indexing, malformed: badName || this.#malformed, nameIndex: named?.nameIndex });
  }

  #keep(place: number, field: Field, from: number): void {
    const length = this.#at - from;
    let kept = this.#last[place];
    if (kept === undefined || kept.coded.length < length) {
      if (length > keptLimit) return;
      this.#lastBytes += length - (kept?.coded.length ?? 0);
      if (this.#lastBytes > keptLimit) {
        this.#last = [];
        this.#lastBytes = length;
      }
      kept = { field, coded: Buffer.allocUnsafe(length), length };
      this.#last[place] = kept;
    }
    kept.field = field;
    kept.length = length;
    this.#bytes.copy(kept.coded, 0, from, this.#at);
  }

  #isNext({ coded, length }: Kept): boolean {
    const bytes = this.#bytes;
    const from = this.#at;
    if (from + length > this.#end) return false;
    if (length > 64) return coded.compare(bytes, from, from + length, 0, length) === 0;
    for (let at = 0; at < length; at++) if (coded[at] !== bytes[from + at]) return false;
    return true;
  }

  /** With the prefix that `mask` leaves; more than 28 bits after it nobody needs. */
  #integer(mask: number): number {
    let number = (this.#bytes[this.#at++] as number) & mask;
    if (number !== mask) return number;
    for (let shift = 0; ; shift += 7) {
      if (this.#at >= this.#end || shift > 21) throw wrong("an integer is cut off or too large");
      const byte = this.#bytes[this.#at++] as number;
      number += (byte & 0x7f) << shift;
      if (byte < 0x80) return number;
    }
  }

  /** `kind` as in `allowed`; sets #malformed. */
  #string(kind: 1 | 2): string {
    if (this.#at >= this.#end) throw wrong("a string is missing");
    const huffman = (this.#bytes[this.#at] as number) >= 0x80;
    const length = this.#integer(0x7f);
    const from = this.#at;
    const to = from + length;
    if (to > this.#end) throw wrong("a string is cut off");
    this.#at = to;
    if (!huffman) return this.#text(this.#bytes, from, to, kind);
    const count = decodeHuffman(this.#bytes, from, to, scratch);
    if (count < 0) throw wrong("a string's Huffman code is wrong");
    return this.#text(scratch, 0, count, kind);
  }

  #text(bytes: Buffer, from: number, to: number, kind: 1 | 2): string {
    // A colon begins the name of a pseudo-header.
    let at = kind === 1 && from < to && bytes[from] === 0x3a ? from + 1 : from;
    while (at < to && ((allowed[bytes[at] as number] as number) & kind) !== 0) at += 1;
    this.#malformed = at < to || (kind === 2 && from < to && (isBlank(bytes[from]) || isBlank(bytes[to - 1])));
    return bytes.toString("latin1", from, to);
  }
}

function isBlank(byte: number | undefined): boolean {
  return byte === 0x20 || byte === 0x09;
}

function wrong(what: string): Http2Error {
  return new Http2Error("COMPRESSION_ERROR", what);
}
