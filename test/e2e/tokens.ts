import { createPrivateKey, sign } from "node:crypto";
import { readFileSync } from "node:fs";

/** The claims of a JWT, not verified. */
export function claimsOf(token: string): Record<string, unknown> & { iat: number; exp: number; aud: string[] } {
  return JSON.parse(Buffer.from(token.split(".")[1] ?? "", "base64url").toString()) as ReturnType<typeof claimsOf>;
}

/** The header of a JWT. */
export function headerOf(token: string): Record<string, unknown> {
  return JSON.parse(Buffer.from(token.split(".")[0] ?? "", "base64url").toString()) as Record<string, unknown>;
}

/** A token like that one with other claims, signed with the hosting cluster's own service account key. */
export function remint(token: string, claims: Record<string, unknown>, key = process.env.CLUSTER_SA_KEY ?? ""): string {
  const encode = (part: object) => Buffer.from(JSON.stringify(part)).toString("base64url");
  const head = `${encode(headerOf(token))}.${encode({ ...claimsOf(token), ...claims })}`;
  const signature = sign("sha256", Buffer.from(head), createPrivateKey(readFileSync(key)));
  return `${head}.${signature.toString("base64url")}`;
}

/** The same that was issued some seconds ago and expires in some (negative: has expired). */
export function remintFor(token: string, seconds: number, issuedAgo = 10): string {
  const now = Math.floor(Date.now() / 1000);
  return remint(token, { iat: now - issuedAgo, nbf: now - issuedAgo, exp: now + seconds });
}
