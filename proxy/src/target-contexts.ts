import tls, { type SecureContext } from "node:tls";

/**
 * OpenSSL's own list of groups (`TLS_DEFAULT_GROUP_LIST` in its include/openssl/ssl.h), but for one star: stars are the groups
 * that a key is made of before the target is heard.
 */
const postQuantumWhenAsked =
  "?X25519MLKEM768 / ?*X25519:?secp256r1 / ?X448:?secp384r1:?secp521r1 / ?ffdhe2048:?ffdhe3072";
const minVersion = "TLSv1.2";

/**
 * How handshakes with a target begin: the CA that it is verified by, and keys to agree on a secret. OpenSSL makes two keys, a
 * post-quantum and a classic one, and the first of them costs a twentieth of a handshake, and 7 KB for as long as the
 * connection lives. So whoever resumes a session that was agreed on by the classic one sends that alone. The target still
 * hears that the other can be had, and may ask for it (HelloRetryRequest, RFC 8446 section 4.1.4).
 */
export class TargetContexts {
  readonly #ca: string | string[];
  readonly bothKeys: SecureContext;
  #classicKey: SecureContext | undefined;

  /** Throws when the CA is none. */
  constructor(ca: string | string[]) {
    this.#ca = ca;
    this.bothKeys = tls.createSecureContext({ ca, minVersion });
  }

  /** Made when it is first needed. */
  get classicKey(): SecureContext {
    this.#classicKey ??= tls.createSecureContext({ ca: this.#ca, minVersion, ecdhCurve: postQuantumWhenAsked });
    return this.#classicKey;
  }
}

let ofSystem: TargetContexts | undefined;

/** Those for the machine's roots, or Node's own where the machine has none (an image without ca-certificates). */
export function systemContexts(): TargetContexts {
  if (ofSystem === undefined) {
    const system = tls.getCACertificates("system");
    // A megabyte, so that all targets share them.
    ofSystem = new TargetContexts(system.length > 0 ? system : tls.getCACertificates("bundled"));
  }
  return ofSystem;
}
