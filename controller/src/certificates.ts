// oxlint-disable-next-line import/no-unassigned-import -- @peculiar/x509 needs it before its own import
import "reflect-metadata";
import { type X509Certificate as NodeCertificate, randomBytes, webcrypto } from "node:crypto";
import { isIPv4, isIPv6 } from "node:net";
import { Secret } from "@kube-connector/core";
import * as x509 from "@peculiar/x509";

// The connector's CA and its leaf. P-256 and SHA-256; the profile passes `openssl verify -x509_strict` and Go's
// crypto/x509. Importing this module costs about 100 ms, so a command line imports it on demand.

export const authorityLife = 365 * 86_400_000;
export const leafLife = 30 * 86_400_000;
/** Clocks differ; a certificate is valid from an hour before it was made. */
const backdating = 3_600_000;

/** What a connector's certificates are about. */
export interface CertificateNames {
  uid: string;
  /** The target's host: a DNS name, or an IP without brackets. */
  host: string;
  serviceNames: readonly string[];
}

export interface Minted {
  /** PEM. */
  certificate: string;
  /** PKCS#8 PEM. */
  key: Secret;
}

const algorithm = { name: "ECDSA", namedCurve: "P-256", hash: "SHA-256" } as const;

/** A new CA that can only vouch for the target's host and the service names. `now` in milliseconds since 1970. */
export async function mintAuthority(names: CertificateNames, now: number): Promise<Minted> {
  const keys = await newKeys();
  const certificate = await x509.X509CertificateGenerator.createSelfSigned({
    serialNumber: serial(),
    name: subject(names.uid, "connector CA"),
    notBefore: new Date(now - backdating),
    notAfter: new Date(now + authorityLife),
    signingAlgorithm: algorithm,
    keys,
    extensions: [
      new x509.BasicConstraintsExtension(true, 0, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign, true),
      new x509.Extension("2.5.29.30", true, nameConstraints(names)),
      await x509.SubjectKeyIdentifierExtension.create(keys.publicKey),
    ],
  });
  return { certificate: pemOf(certificate), key: await exportKey(keys.privateKey) };
}

/** A leaf for the doors, signed by that CA. It never outlives the CA. */
export async function mintLeaf(authority: Minted, names: CertificateNames, now: number): Promise<Minted> {
  const keys = await newKeys();
  const issuer = new x509.X509Certificate(authority.certificate);
  const signingKey = await webcrypto.subtle.importKey(
    "pkcs8",
    x509.PemConverter.decodeFirst(authority.key.reveal()),
    algorithm,
    false,
    ["sign"],
  );
  const certificate = await x509.X509CertificateGenerator.create({
    serialNumber: serial(),
    subject: subject(names.uid, "connector"),
    issuer: issuer.subjectName,
    notBefore: new Date(now - backdating),
    notAfter: new Date(Math.min(now + leafLife, issuer.notAfter.getTime())),
    signingAlgorithm: algorithm,
    publicKey: keys.publicKey,
    signingKey: signingKey,
    extensions: [
      new x509.BasicConstraintsExtension(false, undefined, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
      new x509.ExtendedKeyUsageExtension([x509.ExtendedKeyUsage.serverAuth]),
      new x509.Extension("2.5.29.17", false, alternativeNames(names)),
      await x509.SubjectKeyIdentifierExtension.create(keys.publicKey),
      await x509.AuthorityKeyIdentifierExtension.create(issuer.publicKey),
    ],
  });
  return { certificate: pemOf(certificate), key: await exportKey(keys.privateKey) };
}

/** Whether a CA was made for exactly these names: its name constraints are, byte for byte, the ones we would write. */
export function authorityFits(certificate: NodeCertificate, names: CertificateNames): boolean {
  return certificate.ca && certificate.raw.includes(nameConstraints(names));
}

/** Whether a leaf is for exactly these names, in our order. */
export function leafFits(certificate: NodeCertificate, names: CertificateNames): boolean {
  return certificate.raw.includes(alternativeNames(names));
}

/** When to renew: after two thirds of the life. Milliseconds since 1970. */
export function renewalTime(certificate: NodeCertificate): number {
  const from = certificate.validFromDate.getTime() + backdating;
  return from + ((certificate.validToDate.getTime() - from) * 2) / 3;
}

/** The value of the extension 2.5.29.17 in DER: the target's host first, then the service names. */
function alternativeNames(names: CertificateNames): Buffer {
  const target = isAddress(names.host)
    ? der(0x87, addressBytes(names.host))
    : der(0x82, Buffer.from(names.host, "ascii"));
  return der(0x30, Buffer.concat([target, ...names.serviceNames.map((name) => der(0x82, Buffer.from(name, "ascii")))]));
}

/** The value of the extension 2.5.29.30 in DER (RFC 5280 §4.2.1.10). */
export function nameConstraints(names: CertificateNames): Buffer {
  const subtree = (base: Buffer) => der(0x30, base);
  const dns = (name: string) => subtree(der(0x82, Buffer.from(name, "ascii")));
  const ip = (address: Buffer, mask: number) =>
    subtree(der(0x87, Buffer.concat([address, Buffer.alloc(address.length, mask)])));
  const permitted = names.serviceNames.map(dns);
  if (isAddress(names.host)) permitted.unshift(ip(addressBytes(names.host), 0xff));
  else permitted.unshift(dns(names.host));
  // With no constraint on IP addresses at all, any of them would pass.
  const excluded = isAddress(names.host) ? [] : [ip(Buffer.alloc(4), 0), ip(Buffer.alloc(16), 0)];
  return der(
    0x30,
    Buffer.concat([
      der(0xa0, Buffer.concat(permitted)),
      ...(excluded.length === 0 ? [] : [der(0xa1, Buffer.concat(excluded))]),
    ]),
  );
}

function der(tag: number, content: Buffer): Buffer {
  const { length } = content;
  const head =
    length < 128 ? [tag, length] : length < 256 ? [tag, 0x81, length] : [tag, 0x82, length >> 8, length & 0xff];
  return Buffer.concat([Buffer.from(head), content]);
}

function isAddress(host: string): boolean {
  return isIPv4(host) || isIPv6(host);
}

/** An IP address as its 4 or 16 bytes. */
export function addressBytes(address: string): Buffer {
  if (isIPv4(address)) return Buffer.from(address.split(".").map(Number));
  // URL writes every IPv6 address in its one canonical form, with at most one "::" and no dotted quad.
  const canonical = new URL(`http://[${address}]/`).hostname.slice(1, -1);
  const [left = "", right] = canonical.split("::");
  const words = (text: string) => (text === "" ? [] : text.split(":").map((word) => Number.parseInt(word, 16)));
  const tail = right === undefined ? [] : words(right);
  const head = words(left);
  const all = [...head, ...Array.from({ length: 8 - head.length - tail.length }, () => 0), ...tail];
  return Buffer.from(all.flatMap((word) => [word >> 8, word & 0xff]));
}

/** CN must not look like a host: some clients fall back to it. */
function subject(uid: string, what: string): string {
  return `CN=${what} ${/^[A-Za-z0-9-]{1,36}$/.test(uid) ? uid : "standalone"}`;
}

/** 16 random bytes, positive, without a leading zero byte. */
function serial(): string {
  const bytes = randomBytes(16);
  bytes[0] = ((bytes[0] ?? 0) & 0x7f) | 0x40;
  return bytes.toString("hex");
}

async function newKeys(): Promise<webcrypto.CryptoKeyPair> {
  return await webcrypto.subtle.generateKey(algorithm, true, ["sign", "verify"]);
}

async function exportKey(key: webcrypto.CryptoKey): Promise<Secret> {
  const pkcs8 = await webcrypto.subtle.exportKey("pkcs8", key);
  return new Secret(`${x509.PemConverter.encode(pkcs8, "PRIVATE KEY")}\n`);
}

function pemOf(certificate: x509.X509Certificate): string {
  return `${certificate.toString("pem")}\n`;
}
