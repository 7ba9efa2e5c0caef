import { createHash, createPrivateKey, X509Certificate } from "node:crypto";
import { Fault, parseResolved, type ResolvedConnector, type Secret } from "@kube-connector/core";

/** One version of a connector. Two with the same fingerprint are equal in every entry. */
export interface ConnectorVersion {
  connector: ResolvedConnector;
  fingerprint: string;
}

/**
 * Entries → a connector that can be served. A Fault when core's reader refuses them, when the leaf and its key do not
 * belong together, or when the CA bundle is no certificate: the doors and the dial would fail later and say less.
 */
export function parseUsable(entries: Readonly<Record<string, Secret | undefined>>): ConnectorVersion {
  const connector = parseResolved(entries);
  const unusable = (sentence: string) =>
    new Fault("invalid_argument", `The resolved connector cannot be used: ${sentence}`);
  try {
    const key = createPrivateKey(connector.leaf.key.reveal());
    if (!new X509Certificate(connector.leaf.certificate).checkPrivateKey(key)) throw unusable("tls.key is another key");
  } catch (error) {
    // OpenSSL's text may quote what it read, so it is not even kept as the cause.
    throw error instanceof Fault ? error : unusable("tls.crt and tls.key should be a certificate and its key, in PEM");
  }
  const { caBundle } = connector.tls;
  if (caBundle !== undefined && !isCertificates(caBundle)) {
    throw unusable("tls.caBundle should be certificates in PEM");
  }
  return { connector, fingerprint: fingerprintOf(entries) };
}

function isCertificates(pem: string): boolean {
  const found = pem.match(/-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g);
  try {
    return found?.every((one) => new X509Certificate(one).subject !== undefined) ?? false;
  } catch {
    return false;
  }
}

/** A digest over all entries, names and values; it tells versions apart and is no way back to a value. */
function fingerprintOf(entries: Readonly<Record<string, Secret | undefined>>): string {
  const names = Object.keys(entries).sort();
  const all = JSON.stringify(names.map((name) => [name, entries[name]?.reveal()]));
  return createHash("sha256").update(all).digest("base64");
}
