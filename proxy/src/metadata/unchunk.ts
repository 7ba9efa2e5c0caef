/** The content of a chunked body, without its framing. For bytes that a BodyFramer has found to be one: it judges nothing. */
export class Unchunker {
  #step: "size" | "data" | "dataEnd" | "trailer" = "size";
  #size = "";
  #left = 0;

  take(bytes: Buffer): Buffer[] {
    const contents: Buffer[] = [];
    let at = 0;
    while (at < bytes.length && this.#step !== "trailer") {
      if (this.#step === "data") {
        const end = Math.min(at + this.#left, bytes.length);
        contents.push(bytes.subarray(at, end));
        this.#left -= end - at;
        at = end;
        if (this.#left === 0) this.#step = "dataEnd";
        continue;
      }
      const byte = bytes[at] ?? 0;
      at += 1;
      if (byte !== 0x0a) {
        if (this.#step === "size" && byte !== 0x0d) this.#size += String.fromCharCode(byte);
      } else if (this.#step === "dataEnd") this.#step = "size";
      else {
        this.#left = Number.parseInt(this.#size, 16);
        this.#size = "";
        this.#step = this.#left === 0 ? "trailer" : "data";
      }
    }
    return contents;
  }
}
