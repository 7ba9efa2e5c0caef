import { type Field, staticTable } from "./field.ts";
import { DynamicTable, tableLimit } from "./hpack-table.ts";

/** An encoded block: the first of the bytes, good until the next is made. */
export interface EncodedBlock {
  readonly bytes: Buffer;
  length: number;
}

/** Room for the largest block; blocks are copied out before the next is made. */
const output = Buffer.allocUnsafeSlow(1 << 18);

/** Up to so many characters are written faster one by one. */
const shortText = 64;

/**
 * Encodes header blocks of one connection and direction. A field goes into the table where it came out of one or was meant
 * to go into one, so that what a client indexes is indexed on the other side too. Strings are not Huffman-coded: on the way
 * to a target that saves more time than the bytes cost.
 */
export class HpackEncoder {
  readonly #table = new DynamicTable();
  readonly #block: EncodedBlock = { bytes: output, length: 0 };
  #at = 0;
  /** The smallest capacity since the last block, to be told at the beginning of the next; -1: nothing to tell. */
  #told = -1;

  /** What the other side's SETTINGS_HEADER_TABLE_SIZE says. */
  limitTable(bytes: number): void {
    const capacity = Math.min(bytes, tableLimit);
    if (capacity === this.#table.capacity) return;
    this.#told = this.#told < 0 ? capacity : Math.min(this.#told, capacity);
    this.#table.resize(capacity);
  }

  encode(fields: readonly Field[]): EncodedBlock {
    this.#at = 0;
    if (this.#told >= 0) {
      if (this.#told !== this.#table.capacity) this.#integer(0x20, 0x1f, this.#told);
      this.#integer(0x20, 0x1f, this.#table.capacity);
      this.#told = -1;
    }
    for (const field of fields) this.#field(field);
    this.#block.length = this.#at;
    return this.#block;
  }

  #field(field: Field): void {
    if (field.exact > 0) {
      output[this.#at++] = 0x80 | field.exact;
      return;
    }
    const index = field.place < 0 ? -1 : this.#table.indexOf(field.place);
    if (index >= 0) {
      this.#integer(0x80, 0x7f, staticTable.length + 1 + index);
      return;
    }
    const { indexing, nameIndex } = field;
    if (indexing === "index" && field.size <= this.#table.capacity) {
      this.#integer(0x40, 0x3f, nameIndex);
      field.place = this.#table.add(field);
    } else this.#integer(indexing === "never" ? 0x10 : 0, 0x0f, nameIndex);
    if (nameIndex === 0) this.#string(field.name);
    this.#string(field.value);
  }

  #integer(pattern: number, mask: number, value: number): void {
    if (value < mask) {
      output[this.#at++] = pattern | value;
      return;
    }
    output[this.#at++] = pattern | mask;
    let rest = value - mask;
    for (; rest >= 0x80; rest >>>= 7) output[this.#at++] = (rest & 0x7f) | 0x80;
    output[this.#at++] = rest;
  }

  #string(text: string): void {
    const { length } = text;
    this.#integer(0, 0x7f, length);
    if (length > shortText) {
      this.#at += output.write(text, this.#at, "latin1");
      return;
    }
    for (let at = 0; at < length; at++) output[this.#at++] = text.charCodeAt(at);
  }
}
