// oxlint-disable-next-line import/no-unassigned-import -- @peculiar/x509 needs it before its own import
import "reflect-metadata";
import { webcrypto as crypto } from "node:crypto";
import { isIP } from "node:net";
import * as x509 from "@peculiar/x509";

// Certificates for tests: a P-256 CA and leaves signed by it, made in a few milliseconds.

const algorithm = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" } as const;

/** A certificate with its key, both PEM. */
export interface KeyPair {
  certificate: string;
  key: string;
}

export interface TestCa {
  /** PEM. */
  certificate: string;
  /** PEM (PKCS 8). */
  key: string;
  /** A leaf for these host names and IP addresses, for servers and clients. */
  leaf(hosts: readonly string[], options?: LeafOptions): Promise<KeyPair>;
}

export interface LeafOptions {
  /** The subject's common name; the first host if not given. */
  commonName?: string;
  /** The subject's organisations: groups, to a Kubernetes API server. */
  organizations?: readonly string[];
  /** Milliseconds since 1970. */
  notBefore?: number;
  notAfter?: number;
}

const day = 86_400_000;

/** A CA of its own, valid from an hour ago for 30 days. */
export async function createTestCa(name = "test CA"): Promise<TestCa> {
  const keys = await crypto.subtle.generateKey(algorithm, true, ["sign", "verify"]);
  const ca = await x509.X509CertificateGenerator.createSelfSigned({
    serialNumber: serial(),
    name: [{ CN: [name] }],
    notBefore: new Date(Date.now() - 3_600_000),
    notAfter: new Date(Date.now() + 30 * day),
    signingAlgorithm: algorithm,
    keys,
    extensions: [
      new x509.BasicConstraintsExtension(true, undefined, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign, true),
      await x509.SubjectKeyIdentifierExtension.create(keys.publicKey),
    ],
  });
  return {
    certificate: ca.toString("pem"),
    key: await keyToPem(keys.privateKey),
    leaf: (hosts, options = {}) => createLeaf(ca, keys, hosts, options),
  };
}

async function createLeaf(
  ca: x509.X509Certificate,
  caKeys: crypto.CryptoKeyPair,
  hosts: readonly string[],
  options: LeafOptions,
): Promise<KeyPair> {
  const keys = await crypto.subtle.generateKey(algorithm, true, ["sign", "verify"]);
  const leaf = await x509.X509CertificateGenerator.create({
    serialNumber: serial(),
    subject: [
      ...(options.organizations ?? []).map((organization) => ({ O: [organization] })),
      { CN: [options.commonName ?? hosts[0] ?? "test"] },
    ],
    issuer: ca.subject,
    notBefore: new Date(options.notBefore ?? Date.now() - 3_600_000),
    notAfter: new Date(options.notAfter ?? Date.now() + 7 * day),
    signingAlgorithm: algorithm,
    publicKey: keys.publicKey,
    signingKey: caKeys.privateKey,
    extensions: [
      new x509.BasicConstraintsExtension(false, undefined, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
      new x509.ExtendedKeyUsageExtension([x509.ExtendedKeyUsage.serverAuth, x509.ExtendedKeyUsage.clientAuth]),
      new x509.SubjectAlternativeNameExtension(
        hosts.map((host) => ({ type: isIP(host) === 0 ? ("dns" as const) : ("ip" as const), value: host })),
      ),
      await x509.AuthorityKeyIdentifierExtension.create(caKeys.publicKey),
    ],
  });
  return { certificate: leaf.toString("pem"), key: await keyToPem(keys.privateKey) };
}

async function keyToPem(key: crypto.CryptoKey): Promise<string> {
  return x509.PemConverter.encode(await crypto.subtle.exportKey("pkcs8", key), "PRIVATE KEY");
}

/** A positive serial number of 16 bytes, in hex. */
function serial(): string {
  return `01${Buffer.from(crypto.getRandomValues(new Uint8Array(15))).toString("hex")}`;
}
