import { Fault, type FaultCode, failureStatus, faults } from "@kube-connector/core";

// What the proxy says in its own words: always a metav1.Status, and the same sentence in a Warning header, because
// kubectl with an empty discovery cache drops the body and prints only warnings.

/** The HTTP statuses that a Fault's code alone does not give, with the reason that goes into the Status. */
const statuses: Readonly<Record<number, { code: FaultCode; reason: string; phrase: string }>> = {
  400: { code: "invalid_argument", reason: "BadRequest", phrase: "Bad Request" },
  401: { code: "unauthenticated", reason: "Unauthorized", phrase: "Unauthorized" },
  403: { code: "permission_denied", reason: "Forbidden", phrase: "Forbidden" },
  404: { code: "not_found", reason: "NotFound", phrase: "Not Found" },
  405: { code: "invalid_argument", reason: "MethodNotAllowed", phrase: "Method Not Allowed" },
  406: { code: "invalid_argument", reason: "NotAcceptable", phrase: "Not Acceptable" },
  407: { code: "unauthenticated", reason: "Unauthorized", phrase: "Proxy Authentication Required" },
  408: { code: "deadline_exceeded", reason: "Timeout", phrase: "Request Timeout" },
  409: { code: "conflict", reason: "Conflict", phrase: "Conflict" },
  417: { code: "invalid_argument", reason: "ExpectationFailed", phrase: "Expectation Failed" },
  421: { code: "invalid_argument", reason: "MisdirectedRequest", phrase: "Misdirected Request" },
  429: { code: "unavailable", reason: "TooManyRequests", phrase: "Too Many Requests" },
  431: { code: "invalid_argument", reason: "RequestHeaderFieldsTooLarge", phrase: "Request Header Fields Too Large" },
  500: { code: "internal", reason: "InternalError", phrase: "Internal Server Error" },
  502: { code: "unavailable", reason: "BadGateway", phrase: "Bad Gateway" },
  503: { code: "unavailable", reason: "ServiceUnavailable", phrase: "Service Unavailable" },
  504: { code: "deadline_exceeded", reason: "Timeout", phrase: "Gateway Timeout" },
  505: { code: "invalid_argument", reason: "HTTPVersionNotSupported", phrase: "HTTP Version Not Supported" },
};

/** Seconds after which a client may ask again when something of ours does not answer; client-go waits and does. */
const retryAfterSeconds = 3;

/** Most characters of a sentence. */
const sentenceLimit = 1000;

/** A Fault that knows the HTTP status it is answered with. */
export class Refusal extends Fault {
  /** A key of the table above. */
  readonly http: number;
  /** Seconds after which to ask again, for the Retry-After header; undefined: none is sent. */
  readonly retryAfter: number | undefined;

  constructor(http: number, message: string, cause?: unknown, options: { retryAfter?: number } = {}) {
    // A sentence may quote what the client sent.
    super(
      statuses[http]?.code ?? "internal",
      message.length > sentenceLimit ? `${message.slice(0, sentenceLimit)}...` : message,
      cause,
    );
    this.http = statuses[http] === undefined ? 500 : http;
    this.retryAfter = options.retryAfter ?? (this.http === 503 ? retryAfterSeconds : undefined);
  }
}

/** Whatever a step threw, as what is answered. A text that we do not know becomes "internal error". */
export function refusalOf(thrown: unknown): Refusal {
  if (thrown instanceof Refusal) return thrown;
  const fault = Fault.from(thrown, "The proxy could not handle the request");
  return new Refusal(faults[fault.code].http, fault.message, fault.cause ?? fault);
}

/** The whole answer to a request, head and body, as one text (ASCII, save the body in UTF-8). */
export function answerText(refusal: Refusal, options: { method: string; close: boolean }): string {
  const { phrase } = statusOf(refusal);
  const body = statusBody(refusal);
  const lines = [
    `HTTP/1.1 ${refusal.http} ${phrase}`,
    "Content-Type: application/json",
    `Content-Length: ${Buffer.byteLength(body)}`,
    "Cache-Control: no-cache, private",
    warningLine(refusal.message),
    ...(refusal.http === 401 ? ['WWW-Authenticate: Bearer realm="kube-connector"'] : []),
    ...(refusal.http === 405 ? ["Allow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"] : []),
    ...(refusal.retryAfter === undefined ? [] : [`Retry-After: ${refusal.retryAfter}`]),
    ...(options.close ? ["Connection: close"] : []),
  ];
  return `${lines.join("\r\n")}\r\n\r\n${options.method === "HEAD" ? "" : body}`;
}

/**
 * The answer to a refused CONNECT. Go's clients show nothing of it but the reason phrase, so the sentence stands there:
 * one line of ASCII.
 */
export function connectAnswerText(refusal: Refusal, options: { close: boolean }): string {
  const body = statusBody(refusal);
  const lines = [
    `HTTP/1.1 ${refusal.http} ${oneAsciiLine(refusal.message)}`,
    "Content-Type: application/json",
    `Content-Length: ${Buffer.byteLength(body)}`,
    ...(refusal.http === 405 ? ["Allow: CONNECT"] : []),
    ...(refusal.http === 407 ? ['Proxy-Authenticate: Basic realm="kube-connector"'] : []),
    ...(refusal.retryAfter === undefined ? [] : [`Retry-After: ${refusal.retryAfter}`]),
    ...(options.close ? ["Connection: close"] : []),
  ];
  return `${lines.join("\r\n")}\r\n\r\n${body}`;
}

/** The `reason` of a refusal's Status. */
export function reasonOf(refusal: Refusal): string {
  return statusOf(refusal).reason;
}

function statusOf(refusal: Refusal): { reason: string; phrase: string } {
  return statuses[refusal.http] ?? { reason: "InternalError", phrase: "Internal Server Error" };
}

function statusBody(refusal: Refusal): string {
  const status = failureStatus(refusal.code, refusal.message, {
    http: refusal.http,
    reason: statusOf(refusal).reason,
    retryAfterSeconds: refusal.retryAfter,
  });
  return `${JSON.stringify(status)}\n`;
}

/** For a header or a reason phrase: line breaks become spaces, what is not visible ASCII a question mark. */
function oneAsciiLine(text: string): string {
  return text.replaceAll(/\s+/g, " ").replaceAll(/[^\x20-\x7e]/g, "?");
}

/** The header line that kubectl prints (RFC 9111, 5.5), without its line end. */
export function warningLine(sentence: string): string {
  return `Warning: 299 - "${quotedAscii(sentence)}"`;
}

/** As `oneAsciiLine`, for the inside of a quoted-string (RFC 9110, 5.6.4). */
function quotedAscii(text: string): string {
  return oneAsciiLine(text).replaceAll(/["\\]/g, String.raw`\$&`);
}
