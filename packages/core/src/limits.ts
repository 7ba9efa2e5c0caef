import * as z from "zod";

// How much one caller may ask of one connector. The class has defaults, a Connector may say otherwise, field by field.

/** What a proxy keeps to, for each pod (or user) and connector. */
export interface CallerLimits {
  /** Requests that may begin each second, on average. */
  requestsPerSecond: number;
  /** Requests that may begin at once, after a pause. */
  burst: number;
  /** Requests and streams (watches, logs, exec) in progress at once. */
  streams: number;
}

/** Where neither class nor Connector says. */
export const defaultCallerLimits: CallerLimits = { requestsPerSecond: 1000, burst: 2000, streams: 500 };

const most = { requestsPerSecond: 100_000, burst: 1_000_000, streams: 100_000 };

const limit = (name: keyof CallerLimits, text: string) =>
  z.int().min(1).max(most[name]).optional().meta({ description: text });

/** `spec.limits` of a Connector and of a ConnectorClass. */
export const limitsSchema = z.strictObject({
  requestsPerSecond: limit("requestsPerSecond", "Requests a second, on average; 1000 unless it is said anywhere."),
  burst: limit("burst", "Requests at once after a pause; twice requestsPerSecond unless it is said."),
  streams: limit("streams", "Requests, watches, logs and exec in progress at once; 500 unless it is said anywhere."),
});
export type LimitsSpec = z.infer<typeof limitsSchema>;

/** As a resolved connector carries them: whole. */
export const callerLimitsSchema = z.strictObject({
  requestsPerSecond: z.int().min(1).max(most.requestsPerSecond),
  burst: z.int().min(1).max(most.burst),
  streams: z.int().min(1).max(most.streams),
});

/** What holds for a Connector of that class. A rate without a burst beside it has a burst of twice the rate. */
export function mergeLimits(ofClass: LimitsSpec | undefined, ofConnector: LimitsSpec | undefined): CallerLimits {
  const base = withBurst(defaultCallerLimits, ofClass);
  return withBurst(base, ofConnector);
}

function withBurst(base: CallerLimits, said: LimitsSpec | undefined): CallerLimits {
  const { requestsPerSecond, streams } = { ...base, ...said };
  const burst = said?.burst ?? (said?.requestsPerSecond === undefined ? base.burst : requestsPerSecond * 2);
  return { requestsPerSecond, burst, streams };
}
