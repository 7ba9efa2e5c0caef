import { Fault, parseServiceAccountUser } from "@kube-connector/core";

/** What a genuine service account token says of itself. */
export interface ServiceAccountToken {
  /** system:serviceaccount:<namespace>:<name> */
  user: string;
  namespace: string;
  /** The pod that it is bound to. */
  pod: { name: string; uid: string } | undefined;
  /** Seconds since 1970. */
  expiresAt: number;
  notBefore: number;
}

/** Where a token comes from and what it is for. */
export interface TokenPurpose {
  /** How a message calls it: "tunnel token". */
  word: string;
  issuer: string;
  /** The one audience that it has to have. */
  audience: string;
}

/**
 * The payload of a token whose signature is good → its claims. Fault unauthenticated when it is for somebody else or no
 * ServiceAccount's. The audience is exact: a token that is good for two things is good for neither here, because one of
 * the two crosses the network in clear. Claims: kubernetes/pkg/serviceaccount/claims.go.
 */
export function parseServiceAccountToken(payload: Uint8Array, purpose: TokenPurpose): ServiceAccountToken {
  const { word, issuer, audience } = purpose;
  const refused = (sentence: string) => new Fault("unauthenticated", `The ${word} ${sentence}`);
  const claims = asRecord(parseJson(payload));
  if (claims.iss !== issuer) throw refused("is from another issuer than this cluster");
  const audiences = Array.isArray(claims.aud) ? claims.aud : [claims.aud];
  if (audiences.length !== 1 || audiences[0] !== audience) {
    throw refused(`has the audience ${shown(audiences)}, not ${audience}`);
  }
  const user = textOf(claims.sub);
  const kubernetes = asRecord(claims["kubernetes.io"]);
  const account = parseServiceAccountUser(user);
  const named = asRecord(kubernetes.serviceaccount).name;
  if (account === undefined || kubernetes.namespace !== account.namespace || named !== account.name) {
    throw refused("is not a ServiceAccount's");
  }
  const { exp, nbf } = claims;
  if (typeof exp !== "number" || typeof nbf !== "number") throw refused("does not say how long it is good");
  const pod = asRecord(kubernetes.pod);
  const bound = textOf(pod.name) !== "" && textOf(pod.uid) !== "";
  return {
    user,
    namespace: account.namespace,
    pod: bound ? { name: textOf(pod.name), uid: textOf(pod.uid) } : undefined,
    expiresAt: exp,
    notBefore: nbf,
  };
}

/** As the API server's: go-jose's jwt.DefaultLeeway. Seconds. */
const leeway = 60;

/** Fault unauthenticated when a token is used too late or too early, with the API server's own leeway. */
export function checkTime(token: ServiceAccountToken, now: number): void {
  const seconds = now / 1000;
  if (seconds > token.expiresAt + leeway) {
    const ago = Math.floor(seconds - token.expiresAt);
    throw new Fault("unauthenticated", `The request token expired ${ago} seconds ago; read the token file again`);
  }
  if (seconds < token.notBefore - leeway) {
    throw new Fault("unauthenticated", "The request token is not valid yet; are the clocks right?");
  }
}

function parseJson(payload: Uint8Array): unknown {
  try {
    return JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(payload));
  } catch {
    return undefined;
  }
}

function asRecord(value: unknown): Record<string, unknown> {
  return typeof value === "object" && value !== null ? (value as Record<string, unknown>) : {};
}

function textOf(value: unknown): string {
  return typeof value === "string" ? value : "";
}

/** Audiences as one short text of visible ASCII: it goes into a reason phrase and a header. */
function shown(audiences: readonly unknown[]): string {
  const text = audiences.map((one) => textOf(one).replaceAll(/[^\x21-\x7e]/g, "?")).join(" ");
  return text === "" ? "(none)" : text.slice(0, 100);
}
