import { type Fault, type FaultCode, faults } from "./fault.ts";

/** A `metav1.Status` as kubectl and client-go read it. */
export interface Status {
  kind: "Status";
  apiVersion: "v1";
  metadata: Record<string, never>;
  status: "Failure";
  message: string;
  reason: string;
  details?: { retryAfterSeconds: number };
  code: number;
}

/** A Fault as the Status that a Kubernetes API server would answer with. */
export function statusOf(fault: Fault, retryAfterSeconds?: number): Status {
  return failureStatus(fault.code, fault.message, { retryAfterSeconds });
}

/** A Status of that kind; `http` and `reason` where they differ from the table's. */
export function failureStatus(
  code: FaultCode,
  message: string,
  options: { http?: number; reason?: string; retryAfterSeconds?: number | undefined } = {},
): Status {
  const { http = faults[code].http, reason = faults[code].reason, retryAfterSeconds } = options;
  return {
    kind: "Status",
    apiVersion: "v1",
    metadata: {},
    status: "Failure",
    message,
    reason,
    ...(retryAfterSeconds === undefined ? {} : { details: { retryAfterSeconds } }),
    code: http,
  };
}
