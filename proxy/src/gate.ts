import { type Clock, Fault, type Log, type ResolvedConnector, Secret } from "@kube-connector/core";
import { Refusal } from "./answers.ts";
import type { Authenticator, Caller } from "./authenticate.ts";
import type { Authorizer } from "./authorize.ts";
import type { ConnectorSource } from "./connectors/source.ts";
import { bearerToken } from "./headers.ts";
import type { RequestHead } from "./http1/head.ts";
import type { ProxyMetrics } from "./metrics.ts";
import type { Limits, Timeouts } from "./timeouts.ts";
import type { Upstreams } from "./upstream.ts";

/** What every connection of a proxy works with. */
export interface Collaborators {
  connectors: ConnectorSource;
  authenticator: Authenticator;
  authorizer: Authorizer;
  upstreams: Upstreams;
  metrics: ProxyMetrics;
  clock: Clock;
  log: Log;
  timeouts: Timeouts;
  limits: Limits;
  isDraining(): boolean;
}

type Asked = Pick<Collaborators, "authenticator" | "authorizer" | "metrics">;

/** The request token of a request. Refusal: 401 when there is not exactly one. */
export function requestToken(head: RequestHead): Secret {
  const token = bearerToken(head.headers);
  if (token !== undefined) return new Secret(token);
  const count = head.headers.filter(({ lower }) => lower === "authorization").length;
  const what = count === 0 ? "has no Authorization header" : "should have one Authorization header, Bearer and a token";
  throw new Refusal(401, `The request ${what}; use the kubeconfig of the mounted volume as it is`);
}

/** Who sends it, and may they: in this order, for each request. Faults: unauthenticated, permission_denied, unavailable. */
export async function passGate(token: Secret, connector: ResolvedConnector, asked: Asked): Promise<Caller> {
  const caller = await decided("authenticate", asked.metrics, asked.authenticator.request(token));
  await decided("authorize", asked.metrics, asked.authorizer.may(caller, connector));
  return caller;
}

/** Counts what a step decided. */
export async function decided<T>(
  step: "tunnel" | "authenticate" | "authorize",
  metrics: ProxyMetrics,
  decision: Promise<T>,
): Promise<T> {
  try {
    const result = await decision;
    metrics.decided(step, "allow");
    return result;
  } catch (error) {
    const denied = error instanceof Fault && (error.code === "unauthenticated" || error.code === "permission_denied");
    metrics.decided(step, denied ? "deny" : "error");
    throw error;
  }
}
