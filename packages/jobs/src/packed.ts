/**
 * A value that may be kept as its JSON text while nobody uses it: for a run's record or a pod that is a fifth of the memory,
 * and most of them rest for minutes. What JSON does not know is lost, and the value is never changed in place.
 */
export class Packed<T extends object> {
  #value: T | undefined;
  #text: string | undefined;

  constructor(value: T) {
    this.#value = value;
  }

  get value(): T {
    this.#value ??= JSON.parse(this.#text ?? "") as T;
    return this.#value;
  }

  set value(value: T) {
    this.#value = value;
    this.#text = undefined;
  }

  /** Until it is asked for again. */
  pack(): void {
    if (this.#value === undefined) return;
    this.#text ??= JSON.stringify(this.#value);
    this.#value = undefined;
  }
}
