import type { Secret } from "@kube-connector/core";

/** Which connector a tunnel is asked for; whether there is one of that name is not known yet. */
export interface ConnectorName {
  namespace: string;
  name: string;
}

/** Who sent a request, as TokenReview names it. */
export interface Caller {
  user: string;
  uid: string;
  groups: readonly string[];
  extra: Readonly<Record<string, readonly string[]>>;
  /** The namespace of a ServiceAccount, from its user name alone; undefined for any other user. */
  namespace: string | undefined;
  /** The pod that the token is bound to; undefined in standalone. */
  pod: { name: string; uid: string } | undefined;
}

/** Says who a token belongs to. */
export interface Authenticator {
  /** Whether a tunnel token opens a tunnel to the connector of that name. Fault: unauthenticated (407), unavailable (503). */
  tunnel(token: Secret, connector: ConnectorName): Promise<void>;
  /**
   * Whose request token it is: at once when that is remembered, else by a promise. It never throws; the promise's Fault:
   * unauthenticated (401), unavailable (503).
   */
  request(token: Secret): Caller | Promise<Caller>;
  /**
   * The same for the token of a stream that is open. One that has only expired since is still good: as at an API server a
   * stream may outlive its token. Fault: as above.
   */
  streaming(token: Secret): Promise<void>;
}
