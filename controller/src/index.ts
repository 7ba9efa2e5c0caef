import type * as certificates from "./certificates.ts";

export type { CertificateNames, Minted } from "./certificates.ts";
export {
  acceptedSecretTypes,
  type Resolution,
  type ResolveInput,
  resolveConnector,
  type StoredSecret,
  serviceNames,
  type Verdict,
} from "./connector/resolve.ts";

/** The minting of certificates, loaded when it is asked for: the X.509 library takes 100 ms to import. */
export async function loadCertificates(): Promise<typeof certificates> {
  return await import("./certificates.ts");
}
