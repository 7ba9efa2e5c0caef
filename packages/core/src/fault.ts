/** What kind of thing went wrong. One word for HTTP, gRPC, the reconcile loop and the command line alike. */
export type FaultCode = keyof typeof faults;

/**
 * The one table of errors: the HTTP status and Kubernetes reason that a client sees, the gRPC code that the kubelet
 * sees, whether reconcile tries again by itself, and the exit status of a command.
 * gRPC codes: https://grpc.io/docs/guides/status-codes/. Reasons: k8s.io/apimachinery/pkg/apis/meta/v1 StatusReason.
 */
export const faults = {
  invalid_argument: { http: 400, reason: "BadRequest", grpc: 3, retry: false, exit: 2 },
  unauthenticated: { http: 401, reason: "Unauthorized", grpc: 16, retry: false, exit: 3 },
  permission_denied: { http: 403, reason: "Forbidden", grpc: 7, retry: false, exit: 4 },
  not_found: { http: 404, reason: "NotFound", grpc: 5, retry: false, exit: 5 },
  conflict: { http: 409, reason: "Conflict", grpc: 10, retry: true, exit: 6 },
  unavailable: { http: 503, reason: "ServiceUnavailable", grpc: 14, retry: true, exit: 7 },
  deadline_exceeded: { http: 504, reason: "Timeout", grpc: 4, retry: true, exit: 8 },
  internal: { http: 500, reason: "InternalError", grpc: 13, retry: true, exit: 1 },
} as const;

/** What a Kubernetes API server said, when a Fault comes from its answer. */
export interface ApiAnswer {
  status: number;
  /** The `reason` of its Status, for example "AlreadyExists" or "Expired"; empty when the body was no Status. */
  reason: string;
  /** `details.causes[].field`, for telling a conflict on metadata.uid from an invalid object. */
  fields: string[];
  retryAfterSeconds?: number;
}

/**
 * The one error class. `message` is for the caller: what we were doing, then what is wrong and what to change; it never
 * holds a token. `cause` is for the log only.
 */
export class Fault extends Error {
  readonly code: FaultCode;
  /** Set when a Kubernetes API server answered with an error. */
  readonly answer: ApiAnswer | undefined;

  constructor(code: FaultCode, message: string, cause?: unknown, answer?: ApiAnswer) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = "Fault";
    this.code = code;
    this.answer = answer;
  }

  /** A Fault from whatever was thrown. What it does not know becomes `internal`, its text kept in `cause` only. */
  static from(thrown: unknown, doing = "Something went wrong"): Fault {
    if (thrown instanceof Fault) return thrown;
    const errno = describeErrno(thrown);
    if (errno !== undefined) return new Fault(errno.code, `${doing}: ${errno.text}`, thrown);
    return new Fault("internal", `${doing}: internal error, see the log`, thrown);
  }
}

/** Every problem of an input at once, as one `invalid_argument`; undefined when there is none. */
export function problems(doing: string, sentences: readonly string[]): Fault | undefined {
  if (sentences.length === 0) return undefined;
  const text = sentences.length === 1 ? `${doing}: ${sentences[0]}` : `${doing}:\n  - ${sentences.join("\n  - ")}`;
  return new Fault("invalid_argument", text);
}

// The one place that knows Node's errno strings.
const errnos: Record<string, { code: FaultCode; text: string }> = {
  ENOTFOUND: { code: "unavailable", text: "no such host" },
  EAI_AGAIN: { code: "unavailable", text: "the name could not be looked up (no answer from DNS)" },
  ECONNREFUSED: { code: "unavailable", text: "connection refused" },
  ECONNRESET: { code: "unavailable", text: "connection reset" },
  EPIPE: { code: "unavailable", text: "connection closed" },
  EHOSTUNREACH: { code: "unavailable", text: "host unreachable" },
  ENETUNREACH: { code: "unavailable", text: "network unreachable" },
  ETIMEDOUT: { code: "deadline_exceeded", text: "timed out" },
  ABORT_ERR: { code: "deadline_exceeded", text: "ended before an answer came" },
  EADDRINUSE: { code: "unavailable", text: "the address is in use by another process" },
  EADDRNOTAVAIL: { code: "invalid_argument", text: "this machine does not have that address" },
  EACCES: { code: "permission_denied", text: "permission denied" },
  EPERM: { code: "permission_denied", text: "operation not permitted" },
  ENOENT: { code: "not_found", text: "no such file or directory" },
  ENOTDIR: { code: "invalid_argument", text: "not a directory" },
  EISDIR: { code: "invalid_argument", text: "it is a directory" },
  ENOSPC: { code: "unavailable", text: "no space left" },
  EROFS: { code: "permission_denied", text: "read-only file system" },
};

/** What a Node error code means, in words; undefined for what is not in the table. */
export function describeErrno(thrown: unknown): { code: FaultCode; text: string; errno: string } | undefined {
  const errno = errnoOf(thrown);
  const known = errno === undefined ? undefined : errnos[errno];
  return errno === undefined || known === undefined ? undefined : { ...known, errno };
}

/** The `code` string of a Node error, looked for in its causes too. */
export function errnoOf(thrown: unknown): string | undefined {
  for (let error = thrown; error instanceof Error; error = error.cause) {
    if ("code" in error && typeof error.code === "string" && !(error instanceof Fault)) return error.code;
    if (error instanceof AggregateError && error.errors.length > 0) return errnoOf(error.errors[0]);
  }
  return undefined;
}
