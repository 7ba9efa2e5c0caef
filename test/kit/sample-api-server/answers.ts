import type { IncomingMessage, ServerResponse } from "node:http";
import { parse as parseYaml } from "yaml";
import { badRequest, Refusal } from "./refusal.ts";
import { isProtobuf, parseProtobuf } from "./protobuf.ts";

// How the sample API server answers: JSON, and a metav1.Status for each refusal.

/** The Status of a refusal. */
export function refusalStatus(refusal: Refusal): Record<string, unknown> {
  return {
    kind: "Status",
    apiVersion: "v1",
    metadata: {},
    status: "Failure",
    message: refusal.message,
    reason: refusal.reason,
    code: refusal.status,
  };
}

export function answerJson(response: ServerResponse, status: number, body: unknown): void {
  const text = `${JSON.stringify(body)}\n`;
  response.writeHead(status, { "content-type": "application/json", "content-length": Buffer.byteLength(text) });
  response.end(text);
}

export function answerError(response: ServerResponse, error: unknown): void {
  const refusal = error instanceof Refusal ? error : new Refusal(500, "InternalError", String(error));
  if (response.headersSent) response.destroy();
  else answerJson(response, refusal.status, refusalStatus(refusal));
}

/** The whole body, at most 3 MiB as with a real API server. */
async function readBody(request: IncomingMessage): Promise<Buffer> {
  const parts: Buffer[] = [];
  let length = 0;
  for await (const part of request as AsyncIterable<Buffer>) {
    length += part.length;
    if (length > 3 * 1024 * 1024) throw new Refusal(413, "RequestEntityTooLarge", "the object is larger than 3 MiB");
    parts.push(part);
  }
  return Buffer.concat(parts);
}

/** The object that a request sends, as JSON, YAML or protobuf; an empty body is an empty object. Throws 400 or 415. */
export async function readObject(request: IncomingMessage): Promise<unknown> {
  const body = await readBody(request);
  if (isProtobuf(body)) return parseProtobuf(body);
  try {
    const text = body.toString("utf8");
    return text.trim() === "" ? {} : parseYaml(text);
  } catch {
    throw badRequest("the body is neither JSON nor YAML");
  }
}
