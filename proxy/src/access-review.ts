import { createHash } from "node:crypto";
import { type ApiServer, type Clock, Fault, group, type ResolvedConnector } from "@kube-connector/core";
import type { Caller } from "./authenticate.ts";
import type { Authorizer } from "./authorize.ts";
import { keptKeys } from "./kept-keys.ts";
import type { ProxyMetrics } from "./metrics.ts";
import { createReviewCache, type Verdict } from "./review-cache.ts";
import type { ReviewLimit } from "./review-limit.ts";

export interface AccessReviewOptions {
  api: ApiServer;
  clock: Clock;
  limit: ReviewLimit;
  metrics: Pick<ProxyMetrics, "reviewed" | "cacheRead">;
}

export interface AccessReviewAuthorizer extends Authorizer {
  /** Drops what is known about a connector; called when it changed or is gone. */
  forget(connector: ResolvedConnector): void;
}

/** Milliseconds for one review. */
const patience = 5_000;

/**
 * Who may use a connector, by the cluster's RBAC. Callers of the connector's own namespace need no grant where the
 * connector says so (they could mount its Secret); all others need the verb `use` on it.
 */
export function createAccessReviewAuthorizer(options: AccessReviewOptions): AccessReviewAuthorizer {
  const { api, clock, limit, metrics } = options;
  const cache = createReviewCache<true>({ clock, onRead: (result) => metrics.cacheRead("access", result) });
  const places = keptKeys((caller, connector) => ({ key: keyOf(caller, connector), subject: subjectOf(connector) }));

  async function review(caller: Caller, connector: ResolvedConnector): Promise<Verdict<true>> {
    limit.take(caller.namespace ?? "");
    const started = clock.monotonic();
    try {
      const answer = await api.request<{ status?: { allowed?: unknown; denied?: unknown } }>(
        "POST",
        "/apis/authorization.k8s.io/v1/subjectaccessreviews",
        { body: reviewOf(caller, connector), timeout: patience },
      );
      const allowed = answer?.status?.allowed === true && answer.status.denied !== true;
      return allowed ? { answer: "yes", value: true } : { answer: "no", fault: missingGrant(caller, connector) };
    } catch (error) {
      throw new Fault("unavailable", "The API server cannot say who may use this connector; try again", error);
    } finally {
      metrics.reviewed("access", (clock.monotonic() - started) / 1000);
    }
  }

  return {
    may(caller, connector) {
      const isNeighbour = caller.namespace !== undefined && caller.namespace === connector.namespace;
      if (isNeighbour && connector.access.sameNamespace === "Allow") return undefined;
      const { key, subject } = places.of(caller, connector);
      const allowed = cache.read(key, () => review(caller, connector), subject);
      return allowed === true ? undefined : allowed.then(() => undefined);
    },
    forget: (connector) => cache.forget(subjectOf(connector)),
  };
}

function reviewOf(caller: Caller, connector: ResolvedConnector): unknown {
  return {
    apiVersion: "authorization.k8s.io/v1",
    kind: "SubjectAccessReview",
    spec: {
      resourceAttributes: {
        group,
        resource: "connectors",
        verb: "use",
        namespace: connector.namespace,
        name: connector.name,
      },
      user: caller.user,
      uid: caller.uid,
      groups: caller.groups,
      extra: caller.extra,
    },
  };
}

function missingGrant(caller: Caller, connector: ResolvedConnector): Fault {
  return new Fault(
    "permission_denied",
    `${caller.user} may not use the connector ${connector.namespace}/${connector.name}: ` +
      `grant it the verb use on connectors.${group}/${connector.name} in namespace ${connector.namespace}`,
  );
}

/** All that a verdict depends on, as a tuple: no two callers and no two connectors share a key. */
function keyOf(caller: Caller, connector: ResolvedConnector): string {
  const { user, uid, groups, extra } = caller;
  const { namespace, name } = connector;
  const sorted = Object.entries(extra).sort(([a], [b]) => (a < b ? -1 : 1));
  const tuple = [connector.uid, namespace, name, user, uid, groups, sorted];
  return createHash("sha256").update(JSON.stringify(tuple)).digest("base64");
}

function subjectOf(connector: ResolvedConnector): string {
  return JSON.stringify([connector.namespace, connector.name]);
}
