import { createPrivateKey } from "node:crypto";
import { Secret } from "@kube-connector/core";
import { CompactSign, exportJWK, generateKeyPair, type JWK } from "jose";

/** Signs service account tokens like a cluster, but whatever a test wants to have signed. */
export interface TokenSigner {
  /** The public half, as in the API server's key set. */
  jwk: JWK;
  sign(claims: Record<string, unknown>): Promise<Secret>;
}

/** A signer with a new key. */
export async function createTokenSigner(kid: string, alg = "ES256"): Promise<TokenSigner> {
  const { publicKey, privateKey } = await generateKeyPair(alg, { extractable: true });
  return signer(privateKey, { ...(await exportJWK(publicKey)), kid, alg, use: "sig" });
}

/** A signer with a cluster's own key (PEM, RSA); `kid` as the cluster's key set names it. */
export async function clusterTokenSigner(pem: string, kid: string): Promise<TokenSigner> {
  const key = createPrivateKey(pem);
  return signer(key, { ...(await exportJWK(key)), kid, alg: "RS256" });
}

function signer(key: Parameters<CompactSign["sign"]>[0], jwk: JWK): TokenSigner {
  const header = { alg: jwk.alg ?? "", kid: jwk.kid ?? "" };
  return {
    jwk,
    async sign(claims) {
      const payload = new TextEncoder().encode(JSON.stringify(claims));
      return new Secret(await new CompactSign(payload).setProtectedHeader(header).sign(key));
    },
  };
}

/** The claims that kube-apiserver writes (kubernetes/pkg/serviceaccount/claims.go), with what the test says instead. */
export function serviceAccountClaims(of: {
  audience: string;
  issuer?: string;
  namespace?: string;
  name?: string;
  /** null: bound to no pod. */
  pod?: { name: string; uid: string } | null;
  /** Seconds since 1970. */
  issued?: number;
  expires?: number;
}): Record<string, unknown> {
  const { namespace = "team-a", name = "default", pod = { name: "pod-1", uid: "uid-1" } } = of;
  const issued = of.issued ?? Math.floor(Date.now() / 1000);
  return {
    aud: [of.audience],
    iss: of.issuer ?? "https://kubernetes.default.svc.cluster.local",
    sub: `system:serviceaccount:${namespace}:${name}`,
    iat: issued,
    nbf: issued,
    exp: of.expires ?? issued + 3_600,
    "kubernetes.io": { namespace, serviceaccount: { name, uid: "uid-of-account" }, ...(pod === null ? {} : { pod }) },
  };
}

/** A copy of a token with other claims and its old signature. */
export function tamper(token: Secret, change: Record<string, unknown>): Secret {
  const [header = "", payload = "", signature = ""] = token.reveal().split(".");
  const claims = JSON.parse(Buffer.from(payload, "base64url").toString()) as Record<string, unknown>;
  const changed = Buffer.from(JSON.stringify({ ...claims, ...change })).toString("base64url");
  return new Secret([header, changed, signature].join("."));
}
