import { randomUUID } from "node:crypto";
import type { Minted, Resolution } from "@kube-connector/controller";
import { loadCertificates, resolveConnector, serviceNames } from "@kube-connector/controller";
import type { Clock, DescribedConnector, ResolvedConnector } from "@kube-connector/core";
import type { Input } from "./input.ts";

// What the controller does in a cluster, for the objects of a directory: class, Secret and spec → what the proxy serves.

export interface Resolved {
  connector: ResolvedConnector;
  /** PEM of the connector's CA. */
  ca: string;
  /** The Secret that holds its token, for sentences. */
  secretName: string;
}

export interface Resolutions {
  /** By `namespace/name`; those whose address cannot be used are not there. */
  connectors: Map<string, Resolved>;
  /** Sentences about what cannot be used, or can be used only in part. */
  problems: string[];
}

export interface Resolver {
  /** A connector that has not changed is the same object as the last time. */
  resolve(input: Input): Promise<Resolutions>;
}

interface Known {
  uid: string;
  host: string;
  authority: Minted;
  leaf: Minted;
  /** Milliseconds (clock.now) when the leaf was made. */
  mintedAt: number;
  resolved: Resolved | undefined;
}

const clusterDomain = "cluster.local";
/** A leaf lives for 30 days and is renewed after two thirds of that. */
const leafAge = 20 * 86_400_000;

/** The DNS names of a connector's reverse door; the last one is where it listens in standalone. */
const doorNames = (namespace: string, name: string) => [...serviceNames(namespace, name, clusterDomain), "localhost"];

export function createResolver(clock: Clock): Resolver {
  let known = new Map<string, Known>();

  async function certified(key: string, described: DescribedConnector, host: string): Promise<Known> {
    const before = known.get(key);
    const uid = described.uid === "" ? (before?.uid ?? randomUUID()) : described.uid;
    const isSame = before !== undefined && before.uid === uid && before.host === host;
    const now = clock.now();
    if (isSame && now - before.mintedAt < leafAge) return before;
    const { mintAuthority, mintLeaf } = await loadCertificates();
    const names = { uid, host, serviceNames: doorNames(described.namespace, described.name) };
    const authority = isSame ? before.authority : await mintAuthority(names, now);
    return { uid, host, authority, leaf: await mintLeaf(authority, names, now), mintedAt: now, resolved: undefined };
  }

  return {
    async resolve(input) {
      const answer: Resolutions = { connectors: new Map(), problems: [] };
      const next = new Map<string, Known>();
      for (const [key, { connector, where }] of input.connectors) {
        const { secretRef } = connector.spec.auth;
        const resolution = resolveConnector(
          {
            connector,
            class: input.classes.get(connector.spec.connectorClassName),
            secret: input.secrets.get(`${connector.metadata.namespace}/${secretRef.name}`),
          },
          { clusterDomain },
        );
        const about = `${where}: Connector ${connector.metadata.name}`;
        answer.problems.push(...problemsOf(resolution).map((sentence) => `${about}: ${sentence}`));
        if (resolution.described === undefined || resolution.target === undefined) continue;
        const entry = await certified(key, resolution.described, resolution.target.host);
        const fresh: ResolvedConnector = {
          ...resolution.described,
          uid: entry.uid,
          serviceNames: doorNames(resolution.described.namespace, resolution.described.name),
          target: resolution.target,
          token: resolution.token,
          leaf: entry.leaf,
        };
        const resolved = { connector: fresh, ca: entry.authority.certificate, secretName: secretRef.name };
        const kept = entry.resolved !== undefined && isEqual(entry.resolved.connector, fresh);
        next.set(key, { ...entry, resolved: kept ? entry.resolved : resolved });
        answer.connectors.set(key, (kept ? entry.resolved : undefined) ?? resolved);
      }
      known = next;
      return answer;
    },
  };
}

function problemsOf({ addressProblem, classReady, secretReady }: Resolution): string[] {
  const verdicts = [classReady, secretReady].filter((verdict) => verdict.status === "False");
  return [...(addressProblem === undefined ? [] : [addressProblem]), ...verdicts.map((verdict) => verdict.message)];
}

function isEqual(a: ResolvedConnector, b: ResolvedConnector): boolean {
  const sameToken = a.token === b.token || a.token?.equals(b.token) === true;
  return sameToken && a.leaf === b.leaf && JSON.stringify(a) === JSON.stringify(b);
}
