import {
  type DescribedConnector,
  parseResolved,
  type ResolvedConnector,
  resolvedToEntries,
  Secret,
} from "@kube-connector/core";
import { createTestCa, type TestCa } from "./certificates.ts";

/** What a test says about a resolved connector; the rest is filled in. */
export interface DescribedParts {
  /** team-a unless told. */
  namespace?: string;
  name: string;
  uid?: string;
  address?: string;
  tls?: Partial<DescribedConnector["tls"]>;
  sameNamespace?: "Allow" | "RequireGrant";
  /** The stored token; "stored-token" unless told. */
  token?: string;
  unavailable?: string;
  ca?: TestCa;
  /** Written into connector.json besides what belongs there. */
  more?: Record<string, unknown>;
  /** Written as connector.json, whatever it is. */
  json?: string;
}

/** The entries of a resolved connector's Secret, with a leaf of its own. */
export async function resolvedParts(parts: DescribedParts): Promise<Record<string, Secret>> {
  const { namespace = "team-a", name, address = "https://10.0.0.1:6443" } = parts;
  const ca = parts.ca ?? (await createTestCa());
  const service = `c-${name}.${namespace}.svc.cluster.local`;
  const leaf = await ca.leaf([new URL(address).hostname.replaceAll(/[[\]]/g, ""), service]);
  const entries = resolvedToEntries(
    {
      namespace,
      name,
      uid: parts.uid ?? `uid-of-${namespace}-${name}`,
      address,
      tls: { insecureSkipVerify: false, ...parts.tls },
      access: { sameNamespace: parts.sameNamespace ?? "Allow" },
      serviceNames: [service],
      ...(parts.unavailable === undefined ? {} : { unavailable: parts.unavailable }),
    },
    {
      token: parts.unavailable === undefined ? new Secret(parts.token ?? "stored-token") : undefined,
      leaf: { certificate: leaf.certificate, key: new Secret(leaf.key) },
    },
  );
  const json = JSON.parse(entries["connector.json"]?.reveal() ?? "{}") as Record<string, unknown>;
  return { ...entries, "connector.json": new Secret(parts.json ?? JSON.stringify({ ...json, ...parts.more })) };
}

/** The same as one object, as a source hands it out. */
export async function resolvedConnector(parts: DescribedParts): Promise<ResolvedConnector> {
  return parseResolved(await resolvedParts(parts));
}
