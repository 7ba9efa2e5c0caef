import { inspect } from "node:util";

/**
 * A text that cannot print itself: logging, templating, JSON and inspection show `***`. A token or private key is a
 * Secret from where it is read until it is written to where it belongs.
 */
export class Secret {
  readonly #value: string;

  constructor(value: string) {
    this.#value = value;
  }

  /** The text itself. Call it only in the expression that writes it to its one destination. */
  reveal(): string {
    return this.#value;
  }

  /** Whether both hold the same text. */
  equals(other: Secret | undefined): boolean {
    return other !== undefined && other.#value === this.#value;
  }

  toString(): string {
    return "***";
  }

  toJSON(): string {
    return "***";
  }

  [inspect.custom](): string {
    return "***";
  }
}
