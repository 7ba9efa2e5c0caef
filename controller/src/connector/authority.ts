import { createPrivateKey, X509Certificate } from "node:crypto";
import { type KubeObject, Secret } from "@kube-connector/core";
import { authorityFits, type CertificateNames, leafFits, leafLife, renewalTime } from "../certificates.ts";

// The life of a connector's CA: minted; after two thirds of its life a second one joins the bundle; when 30 days are
// left the second one signs; the first leaves the bundle when it has expired. Clients read the bundle once, at their
// start, so the time between the second step and the third is what a process has to be restarted in.

/** The entries of the Secret `ca-<base>`. */
export const authorityEntries = {
  certificate: "ca.crt",
  key: "ca.key",
  nextCertificate: "next.crt",
  nextKey: "next.key",
  previousCertificate: "previous.crt",
} as const;

/** What the cache keeps of a CA Secret: certificates in DER, no key. */
export interface AuthorityState {
  signing: Buffer | undefined;
  next: Buffer | undefined;
  previous: Buffer | undefined;
}

/** What the cache keeps of the leaf in a resolved Secret: DER. undefined: none, or its key is not the one it needs. */
export type LeafState = Buffer | undefined;

type Step =
  /** A first CA, or one for another target: the others leave the bundle. */
  | { step: "mint"; because: "absent" | "names" | "expired" }
  | { step: "mintNext" }
  | { step: "promote" }
  | { step: "dropPrevious" }
  | { step: "none" };

const parsed = (raw: Buffer | undefined) => (raw === undefined ? undefined : new X509Certificate(raw));

/** The next thing to do with a CA. `now` in milliseconds since 1970. */
export function planAuthority(state: AuthorityState | undefined, names: CertificateNames, now: number): Step {
  const signing = parsed(state?.signing);
  const next = parsed(state?.next);
  const previous = parsed(state?.previous);
  if (signing === undefined) return { step: "mint", because: "absent" };
  if (!authorityFits(signing, names)) return { step: "mint", because: "names" };
  const end = signing.validToDate.getTime();
  const nextFits = next !== undefined && authorityFits(next, names) && next.validToDate.getTime() > now;
  if (nextFits && end - now <= leafLife) return { step: "promote" };
  if (end <= now) return { step: "mint", because: "expired" };
  if (!nextFits && renewalTime(signing) <= now) return { step: "mintNext" };
  if (previous !== undefined && previous.validToDate.getTime() <= now) return { step: "dropPrevious" };
  return { step: "none" };
}

/** When planAuthority or leafIsGood may answer otherwise. Milliseconds since 1970. */
export function nextLook(state: AuthorityState, leaf: LeafState): number {
  const signing = parsed(state.signing);
  const times = [
    signing === undefined
      ? Number.POSITIVE_INFINITY
      : state.next === undefined
        ? renewalTime(signing)
        : signing.validToDate.getTime() - leafLife,
    parsed(state.previous)?.validToDate.getTime() ?? Number.POSITIVE_INFINITY,
    leaf === undefined ? Number.POSITIVE_INFINITY : renewalTime(new X509Certificate(leaf)),
  ];
  return Math.min(...times);
}

/** Whether a leaf can stay: for these names, by this CA, and younger than two thirds of its life. */
export function leafIsGood(leaf: LeafState, state: AuthorityState, names: CertificateNames, now: number): boolean {
  const signing = parsed(state.signing);
  const certificate = parsed(leaf);
  if (signing === undefined || certificate === undefined) return false;
  if (!leafFits(certificate, names)) return false;
  if (!certificate.checkIssued(signing) || !certificate.verify(signing.publicKey)) return false;
  // A leaf cut short by its CA's end cannot be had longer; then the end alone counts.
  const end = certificate.validToDate.getTime();
  return end > now && (renewalTime(certificate) > now || end === signing.validToDate.getTime());
}

/** The CA certificates that clients should trust, PEM: the signing one first. */
export function bundleOf(state: AuthorityState): string {
  return [state.signing, state.next, state.previous]
    .flatMap((raw) => (raw === undefined ? [] : [`${new X509Certificate(raw).toString().trim()}\n`]))
    .join("");
}

/** The entries of a Secret as it is read from the API server. */
export function secretEntries(object: KubeObject): Record<string, Secret> {
  const data = (object.data ?? {}) as Record<string, string>;
  return Object.fromEntries(
    Object.entries(data).map(([name, value]) => [name, new Secret(Buffer.from(value, "base64").toString("utf8"))]),
  );
}

/** A certificate whose key is there and is its own: in DER; else undefined. */
export function certificateWithKey(certificate: Secret | undefined, key: Secret | undefined): Buffer | undefined {
  if (certificate === undefined || key === undefined) return undefined;
  try {
    const read = new X509Certificate(certificate.reveal());
    return read.checkPrivateKey(createPrivateKey(key.reveal())) ? read.raw : undefined;
  } catch {
    return undefined;
  }
}

/** A CA Secret → what is kept of it. */
export function readAuthority(object: KubeObject): AuthorityState {
  const entries = secretEntries(object);
  let previous: Buffer | undefined;
  try {
    const text = entries[authorityEntries.previousCertificate]?.reveal();
    previous = text === undefined ? undefined : new X509Certificate(text).raw;
  } catch {
    previous = undefined;
  }
  return {
    signing: certificateWithKey(entries[authorityEntries.certificate], entries[authorityEntries.key]),
    next: certificateWithKey(entries[authorityEntries.nextCertificate], entries[authorityEntries.nextKey]),
    previous,
  };
}
