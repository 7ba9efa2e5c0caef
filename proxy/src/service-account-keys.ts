import { type ApiServer, backoff, type Clock, Fault, type Log, type Running, type Secret } from "@kube-connector/core";
import { compactVerify, createLocalJWKSet, errors, type JSONWebKeySet } from "jose";
import { parseServiceAccountToken, type ServiceAccountToken } from "./service-account-token.ts";

export interface ServiceAccountKeysOptions {
  api: ApiServer;
  clock: Clock;
  log: Log;
  /** The issuer of service account tokens; absent: as the API server's discovery document says. */
  issuer?: string | undefined;
}

/** The cluster's keys for service account tokens, kept fresh. */
export interface ServiceAccountKeys extends Running {
  /** Ends when isLoaded. */
  loaded: Promise<void>;
  isLoaded(): boolean;
  /**
   * The claims of a token with a good signature, issuer and audience; its times are not judged. `word` is how a message
   * calls the token. Fault: unauthenticated, or unavailable while the keys cannot be had.
   */
  verify(token: Secret, wanted: { word: string; audience: string }): Promise<ServiceAccountToken>;
}

/** What kube-apiserver signs with: kubernetes/pkg/serviceaccount/jwt.go signerFromRSAPrivateKey, -ECDSAPrivateKey. */
const algorithms = ["RS256", "ES256", "ES384", "ES512"];
const refreshEvery = 300_000;
/** A token with an unknown key may cause a refresh this often. */
const refreshAtMost = 3_000;

interface Keys {
  issuer: string;
  set: ReturnType<typeof createLocalJWKSet>;
}

/**
 * Loads the keys and loads them again every 5 minutes, and when a token names a key that is not known. A key is good
 * until the API server no longer lists it; while the API server is away all known keys stay.
 */
export function startServiceAccountKeys(options: ServiceAccountKeysOptions): ServiceAccountKeys {
  const { api, clock, log } = options;
  const stopping = new AbortController();
  let keys: Keys | undefined;
  let last = { at: Number.NEGATIVE_INFINITY, failed: false };
  let refreshing: Promise<Keys> | undefined;
  let failures = 0;
  let cancel: () => void = () => undefined;
  let announce: () => void = () => undefined;
  const loaded = new Promise<void>((resolve) => {
    announce = resolve;
  });

  function refresh(): Promise<Keys> {
    cancel();
    last = { at: clock.monotonic(), failed: false };
    refreshing ??= readKeys(api, options.issuer, stopping.signal)
      .then(
        (read) => {
          if (keys === undefined) log.info("The keys of the cluster's service account tokens are known");
          keys = read;
          failures = 0;
          announce();
          return read;
        },
        (error: unknown) => {
          last.failed = true;
          failures += 1;
          if (!stopping.signal.aborted) log.warn("The cluster's keys cannot be read", { error, attempt: failures });
          throw error;
        },
      )
      .finally(() => {
        refreshing = undefined;
        if (stopping.signal.aborted) return;
        cancel = clock.after(failures === 0 ? refreshEvery : backoff(failures - 1, 1_000, 30_000), refreshQuietly);
      });
    return refreshing;
  }
  const refreshQuietly = () => void refresh().catch(() => undefined);

  const away = (cause?: unknown) =>
    new Fault("unavailable", "The cluster's keys for tokens cannot be read; try again in a moment", cause);

  /** The keys after a refresh that an unknown key caused; undefined when it is too early for one. */
  async function newer(): Promise<Keys | undefined> {
    if (refreshing === undefined && clock.monotonic() - last.at < refreshAtMost) {
      if (last.failed) throw away();
      return undefined;
    }
    return await (refreshing ?? refresh()).catch((error: unknown) => {
      throw away(error);
    });
  }

  async function verify(token: Secret, wanted: { word: string; audience: string }): Promise<ServiceAccountToken> {
    if (keys === undefined) throw away();
    let used: Keys | undefined = keys;
    let payload = await verifySignature(token, used, wanted.word);
    if (payload === "unknown key") {
      used = await newer();
      payload = used === undefined ? payload : await verifySignature(token, used, wanted.word);
    }
    if (used === undefined || payload === "unknown key") {
      throw new Fault("unauthenticated", `The ${wanted.word} is signed with a key that this cluster does not know`);
    }
    return parseServiceAccountToken(payload, { ...wanted, issuer: used.issuer });
  }

  refreshQuietly();
  let end: () => void = () => undefined;
  const done = new Promise<void>((resolve) => {
    end = resolve;
  });
  return {
    loaded,
    isLoaded: () => keys !== undefined,
    verify,
    done,
    async stop() {
      stopping.abort();
      cancel();
      await refreshing?.catch(() => undefined);
      end();
    },
  };
}

async function verifySignature(token: Secret, keys: Keys, word: string): Promise<Uint8Array | "unknown key"> {
  try {
    return (await compactVerify(token.reveal(), keys.set, { algorithms })).payload;
  } catch (error) {
    if (error instanceof errors.JWKSNoMatchingKey) return "unknown key";
    // jose's errors may carry parts of the token, so none is kept as the cause.
    const forged = error instanceof errors.JWSSignatureVerificationFailed;
    const sentence = forged ? "is not signed by this cluster" : "is not a service account token";
    throw new Fault("unauthenticated", `The ${word} ${sentence}`);
  }
}

async function readKeys(api: ApiServer, issuer: string | undefined, signal: AbortSignal): Promise<Keys> {
  const discovery = async () =>
    (await api.request<{ issuer?: unknown }>("GET", "/.well-known/openid-configuration", { signal, timeout: 5_000 }))
      .issuer;
  const [found, jwks] = await Promise.all([
    issuer ?? discovery(),
    api.request<JSONWebKeySet>("GET", "/openid/v1/jwks", {
      // The one answer that the API server gives there; asked for application/json it says 406.
      accept: "application/jwk-set+json",
      signal,
      timeout: 5_000,
    }),
  ]);
  if (typeof found !== "string" || found === "") {
    throw new Fault("unavailable", "The API server's discovery document names no issuer; give --issuer");
  }
  if (!Array.isArray(jwks?.keys) || jwks.keys.length === 0) {
    throw new Fault("unavailable", "The API server lists no keys for service account tokens");
  }
  return { issuer: found, set: createLocalJWKSet(jwks) };
}
