import type { ResolvedConnector, Secret } from "@kube-connector/core";

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
  /** Whether a tunnel token opens a tunnel. Fault: unauthenticated (407), unavailable (503). */
  tunnel(token: Secret, connector: ResolvedConnector): Promise<void>;
  /** Whose request token it is. Fault: unauthenticated (401), unavailable (503). */
  request(token: Secret): Promise<Caller>;
}
