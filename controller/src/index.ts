import type * as certificates from "./certificates.ts";
import type * as controller from "./controller.ts";

export type { CertificateNames, Minted } from "./certificates.ts";
export { type Config, configOptions, readConfig } from "./config.ts";
export { type ProbeInput, type ProbeOutcome, probeTarget } from "./connector/probe.ts";
export {
  acceptedSecretTypes,
  type Resolution,
  type ResolveInput,
  resolveConnector,
  type StoredSecret,
  serviceNames,
  type Verdict,
} from "./connector/resolve.ts";
export type { Controller, ControllerOptions } from "./controller.ts";

/** The minting of certificates, loaded when it is asked for: the X.509 library takes 100 ms to import. */
export async function loadCertificates(): Promise<typeof certificates> {
  return await import("./certificates.ts");
}

/** The controller itself, loaded when it is asked for, for the same reason. */
export async function loadController(): Promise<typeof controller> {
  return await import("./controller.ts");
}
