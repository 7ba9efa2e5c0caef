import { Refusal } from "../answers.ts";
import { Inbox } from "../http1/inbox.ts";

// Cuts JSON that comes in any pieces into values that are complete, so that no more than one object is held at a time.

/** Most bytes of one object with its metadata; etcd takes 1.5 MiB of it unless told. */
export const objectLimit = 4 * 1024 * 1024;

/** Lines of a watch, each one JSON value. Refusal when one is too long. */
export class Lines {
  readonly #inbox = new Inbox();

  /** The lines that are complete now, without empty ones. */
  take(bytes: Buffer): string[] {
    const lines: string[] = [];
    let start = 0;
    for (let end = bytes.indexOf(0x0a); end >= 0; end = bytes.indexOf(0x0a, start)) {
      this.#add(bytes.subarray(start, end));
      const line = this.#inbox.takeAll().toString("utf8").trim();
      if (line !== "") lines.push(line);
      start = end + 1;
    }
    // A copy, as whoever hands bytes in may use their buffer again.
    this.#add(Buffer.from(bytes.subarray(start)));
    return lines;
  }

  #add(bytes: Buffer): void {
    if (bytes.length > 0) this.#inbox.add(bytes);
    if (this.#inbox.length > objectLimit) throw tooLarge();
  }

  /** Whether nothing waits for its end. */
  get isBetween(): boolean {
    return this.#inbox.length === 0;
  }
}

/** What a list consists of: its surrounding as text with `[]` for the items, then each item, then the end. */
export type ListPiece = { is: "head"; text: string } | { is: "item"; text: string } | { is: "end" };

type Step = "head" | "between" | "item" | "tail" | "over";

/**
 * A list `{"kind":..., "items":[{...},...]}` whose items stand last, as Kubernetes writes them. Strings and depth are all it
 * follows; whether a piece is JSON is its reader's to see. Refusal when it cannot be cut so, or a piece is too large.
 */
export class ListPieces {
  readonly #inbox = new Inbox();
  #step: Step = "head";
  #depth = 0;
  #inString = false;
  #escaped = false;

  take(bytes: Buffer): ListPiece[] {
    const pieces: ListPiece[] = [];
    // Where the piece that is open began in these bytes.
    let start = 0;
    for (let at = 0; at < bytes.length; at++) {
      const byte = bytes[at] ?? 0;
      if (this.#inString) {
        this.#followString(byte);
        continue;
      }
      if (byte === 0x20 || (byte >= 0x09 && byte <= 0x0d)) continue;
      switch (this.#step) {
        case "head":
          if (this.#follow(byte) === "opened" && byte === 0x5b && this.#depth === 2) {
            pieces.push({ is: "head", text: `${this.#cut(bytes, start, at + 1)}]}` });
            this.#step = "between";
          } else if (this.#depth === 0) {
            // No array at all: "items" may be null.
            pieces.push({ is: "head", text: this.#cut(bytes, start, at + 1) }, { is: "end" });
            this.#step = "over";
          }
          break;
        case "between":
          if (byte === 0x2c) break;
          start = at;
          if (this.#follow(byte) === "opened" && byte === 0x7b) this.#step = "item";
          else if (byte === 0x5d) this.#step = "tail";
          else throw notCut();
          break;
        case "item":
          if (this.#follow(byte) === "closed" && this.#depth === 2) {
            pieces.push({ is: "item", text: this.#cut(bytes, start, at + 1) });
            this.#step = "between";
          }
          break;
        case "tail":
          if (byte !== 0x7d) throw notCut();
          pieces.push({ is: "end" });
          this.#step = "over";
          break;
        case "over":
          throw notCut();
        default:
      }
    }
    // A copy, as whoever hands bytes in may use their buffer again.
    if (this.#step === "head" || this.#step === "item") this.#keep(Buffer.from(bytes.subarray(start)));
    return pieces;
  }

  get isOver(): boolean {
    return this.#step === "over";
  }

  #followString(byte: number): void {
    if (this.#escaped) this.#escaped = false;
    else if (byte === 0x5c) this.#escaped = true;
    else if (byte === 0x22) this.#inString = false;
  }

  #follow(byte: number): "opened" | "closed" | "inside" {
    if (byte === 0x22) this.#inString = true;
    else if (byte === 0x7b || byte === 0x5b) {
      this.#depth += 1;
      return "opened";
    } else if (byte === 0x7d || byte === 0x5d) {
      this.#depth -= 1;
      return "closed";
    }
    return "inside";
  }

  #keep(bytes: Buffer): void {
    if (bytes.length > 0) this.#inbox.add(bytes);
    if (this.#inbox.length > objectLimit) throw tooLarge();
  }

  #cut(bytes: Buffer, start: number, end: number): string {
    this.#keep(bytes.subarray(start, end));
    return this.#inbox.takeAll().toString("utf8");
  }
}

export function tooLarge(): Refusal {
  return new Refusal(502, `The metadata of one object is larger than ${objectLimit} bytes, so it cannot be reduced`);
}

function notCut(): Refusal {
  return new Refusal(502, "Of this resource the connector's policy shows only metadata, and the target sent no list");
}
