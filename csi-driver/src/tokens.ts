import { Fault, requestAudience, Secret, tunnelAudience } from "@kube-connector/core";
import { kubeletAttributes, type Wanted } from "./volume.ts";

/** The two tokens of one publish. */
export interface Tokens {
  /** Goes into proxy-url. */
  tunnel: Secret;
  /** Goes into the file `token`. */
  request: Secret;
  /** When the first of them expires, milliseconds since 1970. */
  expiresAt: number;
}

/**
 * The tokens that the kubelet sent, checked against the pod that they are to be given to. The claims are decoded, not
 * verified: the proxy verifies, and whoever could forge a request to us would only get files with their own tokens.
 */
export function parseTokens(
  sent: { secrets: Readonly<Record<string, string>>; volumeContext: Readonly<Record<string, string>> },
  expected: { podUid: string; pod: Wanted["pod"] },
): Tokens {
  const text = sent.secrets[kubeletAttributes.tokens] ?? sent.volumeContext[kubeletAttributes.tokens];
  const byAudience =
    text === undefined ? {} : parseObject(text, "The kubelet's service account tokens are not readable");
  if (expected.podUid !== expected.pod.uid) {
    throw new Fault("permission_denied", "The volume's path belongs to another pod than the request's pod information");
  }
  const read = (audience: string) => readToken(byAudience, audience, expected.pod);
  const tunnel = read(tunnelAudience);
  const request = read(requestAudience);
  return {
    tunnel: tunnel.secret,
    request: request.secret,
    expiresAt: Math.min(tunnel.expiresAt, request.expiresAt),
  };
}

function readToken(byAudience: Record<string, unknown>, audience: string, pod: Wanted["pod"]) {
  const entry = byAudience[audience];
  if (entry === undefined) {
    throw new Fault(
      "unavailable",
      `The kubelet sent no token for the audience ${audience}; spec.tokenRequests of the CSIDriver object should list it`,
    );
  }
  const token = typeof entry === "object" && entry !== null && "token" in entry ? entry.token : undefined;
  const unreadable = `The kubelet's token for the audience ${audience} is not readable`;
  if (typeof token !== "string" || !/^[\w-]+\.[\w-]+\.[\w-]+$/.test(token)) throw new Fault("internal", unreadable);
  const parts = token.split(".");
  const claims = parseObject(Buffer.from(parts[1] ?? "", "base64url").toString("utf8"), unreadable);
  checkClaims(claims, audience, pod);
  const expiresAt = typeof claims.exp === "number" ? claims.exp * 1000 : Number.NaN;
  if (!Number.isFinite(expiresAt)) throw new Fault("internal", unreadable);
  return { secret: new Secret(token), expiresAt };
}

/** `kubernetes.io` of a bound token: {namespace, pod: {name, uid}, serviceaccount: {name, uid}}. */
interface Bound {
  namespace?: unknown;
  pod?: { name?: unknown; uid?: unknown };
  serviceaccount?: { name?: unknown };
}

function checkClaims(claims: Record<string, unknown>, audience: string, pod: Wanted["pod"]): void {
  const bound = (claims["kubernetes.io"] ?? {}) as Bound;
  const audiences = Array.isArray(claims.aud) ? claims.aud : [claims.aud];
  const differ = [
    ["audience", audiences.length === 1 && audiences[0] === audience],
    ["pod uid", bound.pod?.uid === pod.uid],
    ["pod name", bound.pod?.name === pod.name],
    ["namespace", bound.namespace === pod.namespace],
    ["ServiceAccount", bound.serviceaccount?.name === pod.serviceAccount],
  ].flatMap(([what, same]) => (same === true ? [] : [what]));
  if (differ.length === 0) return;
  throw new Fault(
    "permission_denied",
    `The token for the audience ${audience} is not this pod's: ${differ.join(", ")} differ; is podInfoOnMount set in the CSIDriver object?`,
  );
}

/** When a token says that it expires, milliseconds since 1970; undefined for what is no JWT. */
export function readExpiry(token: Secret): number | undefined {
  try {
    const claims = parseObject(Buffer.from(token.reveal().split(".")[1] ?? "", "base64url").toString("utf8"), "");
    return typeof claims.exp === "number" ? claims.exp * 1000 : undefined;
  } catch {
    return undefined;
  }
}

/** JSON → an object. No cause goes with the Fault: what a JSON parser says of a text quotes it. */
function parseObject(text: string, sentence: string): Record<string, unknown> {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    throw new Fault("internal", sentence);
  }
  if (typeof json !== "object" || json === null || Array.isArray(json)) throw new Fault("internal", sentence);
  return json as Record<string, unknown>;
}
