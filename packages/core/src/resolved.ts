import * as z from "zod";
import { parseAddress, type TargetAddress } from "./address.ts";
import { schemaProblems } from "./connector.ts";
import { Fault, problems } from "./fault.ts";
import { policySchema } from "./policy.ts";
import { callerLimitsSchema } from "./limits.ts";
import { Secret } from "./secret.ts";

// The one thing that a proxy is given for each connector: class, Secret and spec, already judged. It travels as the
// four entries of a Secret, which look the same when the Secret is mounted as a folder.

const describedSchema = z.strictObject({
  namespace: z.string().min(1),
  name: z.string().min(1),
  /** The Connector's uid: a name used again is another connector. */
  uid: z.string().min(1),
  address: z.string().min(1),
  tls: z.strictObject({
    /** PEM; absent: the system roots. */
    caBundle: z.string().min(1).optional(),
    /** Verified, and sent as SNI, instead of the address's host. */
    serverName: z.string().min(1).optional(),
    insecureSkipVerify: z.boolean(),
  }),
  access: z.strictObject({ sameNamespace: z.enum(["Allow", "RequireGrant"]) }),
  /** What callers may ask of the target; absent: everything. */
  policy: policySchema.optional(),
  /** How much one caller may ask; absent: the defaults of core's limits.ts. */
  limits: callerLimitsSchema.optional(),
  /** DNS names of the reverse door, the first one being `c-<name>.<namespace>.svc.<cluster domain>`. */
  serviceNames: z.array(z.string().min(1)).min(1),
  /** Set when there is no usable token: a sentence for the caller. Requests are then answered with 503. */
  unavailable: z.string().min(1).optional(),
});

/** The part of a resolved connector that is no secret. */
export type DescribedConnector = z.infer<typeof describedSchema>;

export interface ResolvedConnector extends DescribedConnector {
  target: TargetAddress;
  /** The stored token. Exactly one of `token` and `unavailable` is there. */
  token: Secret | undefined;
  /** What the doors show. PEM. */
  leaf: { certificate: string; key: Secret };
}

/** The entries of the Secret. */
export const resolvedEntries = {
  connector: "connector.json",
  token: "token",
  certificate: "tls.crt",
  key: "tls.key",
} as const;

/** A resolved connector → the entries of its Secret. Their values hold secrets: write them nowhere else. */
export function resolvedToEntries(
  described: DescribedConnector,
  secrets: { token: Secret | undefined; leaf: { certificate: string; key: Secret } },
): Record<string, Secret> {
  const entries: Record<string, Secret> = {
    [resolvedEntries.connector]: new Secret(JSON.stringify(describedSchema.parse(described))),
    [resolvedEntries.certificate]: new Secret(secrets.leaf.certificate),
    [resolvedEntries.key]: secrets.leaf.key,
  };
  if (secrets.token !== undefined) entries[resolvedEntries.token] = secrets.token;
  return entries;
}

/**
 * The entries of a Secret → a resolved connector. A Fault when anything is missing, malformed or not known to this
 * version: a proxy that does not understand a rule must not serve without it.
 */
export function parseResolved(entries: Readonly<Record<string, Secret | undefined>>): ResolvedConnector {
  const text = entries[resolvedEntries.connector];
  const certificate = entries[resolvedEntries.certificate]?.reveal();
  const key = entries[resolvedEntries.key];
  const token = entries[resolvedEntries.token];
  const doing = "The resolved connector cannot be used";
  if (text === undefined || certificate === undefined || key === undefined) {
    const missing = Object.values(resolvedEntries).filter((name) => name !== "token" && entries[name] === undefined);
    throw new Fault("invalid_argument", `${doing}: ${missing.join(", ")} missing`);
  }
  let json: unknown;
  try {
    json = JSON.parse(text.reveal());
  } catch {
    throw new Fault("invalid_argument", `${doing}: ${resolvedEntries.connector} is not JSON`);
  }
  const parsed = describedSchema.safeParse(json);
  if (!parsed.success) throw problems(doing, schemaProblems(parsed.error)) ?? new Fault("invalid_argument", doing);
  if ((token === undefined) === (parsed.data.unavailable === undefined)) {
    throw new Fault("invalid_argument", `${doing}: exactly one of token and unavailable should be there`);
  }
  if (token !== undefined && !isTokenText(token.reveal())) {
    throw new Fault("invalid_argument", `${doing}: the token has characters that no header may carry`);
  }
  return { ...parsed.data, target: parseAddress(parsed.data.address), token, leaf: { certificate, key } };
}

/** Whether a text can be a bearer token (RFC 6750 b68token, with the other visible ASCII that servers take). */
export function isTokenText(text: string): boolean {
  return /^[\x21-\x7e]{1,65536}$/.test(text);
}
