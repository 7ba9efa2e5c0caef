import { hash } from "node:crypto";
import {
  type ApiServer,
  type Clock,
  Fault,
  parseServiceAccountUser,
  requestAudience,
  type Secret,
  tunnelAudience,
} from "@kube-connector/core";
import type { Authenticator, Caller } from "./authenticate.ts";
import type { ProxyMetrics } from "./metrics.ts";
import { createReviewCache, type Verdict } from "./review-cache.ts";
import type { ReviewLimit } from "./review-limit.ts";
import type { ServiceAccountKeys } from "./service-account-keys.ts";
import { checkTime, type ServiceAccountToken } from "./service-account-token.ts";

export interface TokenReviewOptions {
  api: ApiServer;
  clock: Clock;
  keys: Pick<ServiceAccountKeys, "verify">;
  limit: ReviewLimit;
  metrics: Pick<ProxyMetrics, "reviewed" | "cacheRead">;
}

/** The part of an authentication.k8s.io/v1 TokenReview's status that is read. */
interface TokenReviewStatus {
  authenticated?: unknown;
  audiences?: unknown;
  user?: { username?: unknown; uid?: unknown; groups?: unknown; extra?: Record<string, unknown> };
}

/** Milliseconds for one review. */
const patience = 5_000;

/**
 * Who a token belongs to in a Kubernetes cluster. A tunnel token is verified here, by the cluster's keys. A request token
 * is verified here first, so that only a genuine one costs a TokenReview, and then by the API server, which knows whether
 * the pod still lives.
 */
export function createTokenReviewAuthenticator(options: TokenReviewOptions): Authenticator {
  const { api, clock, keys, limit, metrics } = options;
  const keysOfTokens = new WeakMap<Secret, string>();
  const cache = createReviewCache<Caller>({ clock, onRead: (result) => metrics.cacheRead("token", result) });
  const tunnels = createReviewCache<ServiceAccountToken>({
    clock,
    onRead: (result) => metrics.cacheRead("tunnel", result),
  });

  async function review(token: Secret): Promise<Verdict<Caller>> {
    const claims = await keys.verify(token, { word: "request token", audience: requestAudience });
    checkTime(claims, clock.now());
    if (claims.pod === undefined) {
      throw new Fault("unauthenticated", "The request token is bound to no pod; use the one of a connector's volume");
    }
    limit.take(claims.namespace);
    const started = clock.monotonic();
    try {
      const answer = await api.request<{ status?: TokenReviewStatus }>(
        "POST",
        "/apis/authentication.k8s.io/v1/tokenreviews",
        {
          body: {
            apiVersion: "authentication.k8s.io/v1",
            kind: "TokenReview",
            spec: { token: token.reveal(), audiences: [requestAudience] },
          },
          timeout: patience,
        },
      );
      return judge(answer?.status ?? {});
    } catch (error) {
      // Whatever it was (the API server's own 401 and 403 to us too): it says nothing about the caller.
      throw new Fault("unavailable", "The API server cannot say whose request token this is; try again", error);
    } finally {
      metrics.reviewed("token", (clock.monotonic() - started) / 1000);
    }
  }

  function request(token: Secret): Caller | Promise<Caller> {
    return cache.read(keyOf(token), () => review(token));
  }

  /** A connection shows the same token object with each request, so its hash is made once. */
  function keyOf(token: Secret): string {
    const known = keysOfTokens.get(token);
    if (known !== undefined) return known;
    const key = keyFor(token, requestAudience);
    keysOfTokens.set(token, key);
    return key;
  }

  return {
    async tunnel(token) {
      const verify = () => keys.verify(token, { word: "tunnel token", audience: tunnelAudience });
      await tunnels.read(keyFor(token, tunnelAudience), async () => ({ answer: "yes", value: await verify() }));
    },
    request,
    async streaming(token) {
      const { expiresAt } = await keys.verify(token, { word: "request token", audience: requestAudience });
      if (clock.now() / 1000 < expiresAt) await request(token);
    },
  };
}

/** What is remembered of a token is found by its hash, never by itself. */
function keyFor(token: Secret, audience: string): string {
  return JSON.stringify([hash("sha256", token.reveal(), "base64"), audience]);
}

/** The API server's answer → whose token it is, or that it is nobody's any more. */
function judge(status: TokenReviewStatus): Verdict<Caller> {
  const no = (sentence: string): Verdict<Caller> => ({ answer: "no", fault: new Fault("unauthenticated", sentence) });
  const audiences = textsOf(status.audiences);
  if (status.authenticated !== true || !audiences.includes(requestAudience)) {
    return no("The request token is no longer accepted: its pod or ServiceAccount is gone, or it has expired");
  }
  const { username, uid, groups, extra = {} } = status.user ?? {};
  const account = typeof username === "string" ? parseServiceAccountUser(username) : undefined;
  if (typeof username !== "string" || account === undefined) return no("The request token is not a ServiceAccount's");
  const [podName] = textsOf(extra["authentication.kubernetes.io/pod-name"]);
  const [podUid] = textsOf(extra["authentication.kubernetes.io/pod-uid"]);
  if (!podName || !podUid) return no("The request token is bound to no pod; use the one of a connector's volume");
  return {
    answer: "yes",
    value: {
      user: username,
      uid: typeof uid === "string" ? uid : "",
      groups: textsOf(groups),
      extra: Object.fromEntries(Object.entries(extra).map(([key, values]) => [key, textsOf(values)])),
      namespace: account.namespace,
      pod: { name: podName, uid: podUid },
    },
  };
}

function textsOf(value: unknown): string[] {
  return Array.isArray(value) ? value.filter((one) => typeof one === "string") : [];
}
