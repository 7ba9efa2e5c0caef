import { Refusal } from "../answers.ts";
import type { ResponseHead } from "../http1/head.ts";
import type { MetadataForm } from "./ask.ts";
import { createReducedBody, type ReducedBody } from "./body.ts";
import { Unchunker } from "./unchunk.ts";

/** What the relay holds for a request whose answer is reduced. */
export interface Reduction {
  verb: string;
  method: string;
  form: MetadataForm;
}

/**
 * One answer over HTTP/1.1 that is reduced to metadata: takes its body as it is framed upstream (the relay's framer has
 * judged that) and gives it out anew, in chunks. The head waits until the first content has been judged, so that a target
 * that sends something else can still be answered with a 502; only a watch's head goes out before.
 */
export class MetadataAnswer {
  readonly #body: ReducedBody | undefined;
  readonly #unchunker: Unchunker | undefined;
  readonly #early: boolean;
  /** The head for the client; its text goes out with the first bytes. */
  readonly head: ResponseHead;
  #started = false;

  /** Refusal (502) when no such answer may pass. */
  constructor(head: ResponseHead, { verb, method, form }: Reduction) {
    this.#early = verb === "watch";
    this.head = head;
    if (head.body === "none" && (method === "HEAD" || head.status === 304 || head.status >= 400)) return;
    const isJson = /^application\/json *(;|$)/i.test(valueOf(head, "content-type") ?? "");
    const isPlain = (valueOf(head, "content-encoding") ?? "identity").toLowerCase() === "identity";
    if (head.body === "eof" || !isPlain || (head.status < 400 && !isJson)) {
      throw new Refusal(
        502,
        "Of this resource the connector's policy shows only metadata, and the target sent no plain JSON",
      );
    }
    this.#body = createReducedBody(verb, head.status, form);
    this.#unchunker = head.body === "chunked" ? new Unchunker() : undefined;
    const headers = head.headers.filter(({ lower }) => !rewritten.has(lower));
    headers.push({ name: "Content-Type", lower: "content-type", value: "application/json" });
    headers.push({ name: "Transfer-Encoding", lower: "transfer-encoding", value: "chunked" });
    this.head = { ...head, headers };
  }

  /** Whether its head has gone out. */
  get started(): boolean {
    return this.#started;
  }

  /** Whether it could end here, and its reader would take it for complete. */
  get mayEnd(): boolean {
    return this.#started && this.#body?.mayEnd() === true;
  }

  /**
   * Bytes of the body as they came → what goes to the client now, `headText` first, once. `isLast`: the body ends with
   * them. Refusal (502) when they are no metadata.
   */
  take(headText: string, bytes: Buffer, isLast: boolean): Buffer {
    const text = this.#body === undefined ? "" : this.#reduced(this.#body, bytes, isLast);
    if (text === "" && !isLast && !this.#early && !this.#started) return Buffer.alloc(0);
    const parts = [Buffer.from(this.#started ? "" : headText, "latin1")];
    this.#started = true;
    if (text !== "") {
      const content = Buffer.from(text, "utf8");
      parts.push(Buffer.from(`${content.length.toString(16)}\r\n`), content, Buffer.from("\r\n"));
    }
    if (isLast && this.#body !== undefined) parts.push(Buffer.from("0\r\n\r\n"));
    return Buffer.concat(parts);
  }

  #reduced(body: ReducedBody, bytes: Buffer, isLast: boolean): string {
    const contents = this.#unchunker === undefined ? [bytes] : this.#unchunker.take(bytes);
    const text = contents.map((content) => body.take(content)).join("");
    return isLast ? text + body.end() : text;
  }
}

const rewritten = new Set([
  "content-type",
  "content-length",
  "content-encoding",
  "transfer-encoding",
  "trailer",
  "etag",
]);

function valueOf(head: ResponseHead, name: string): string | undefined {
  return head.headers.find(({ lower }) => lower === name)?.value;
}
