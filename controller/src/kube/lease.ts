import {
  type ApiRequest,
  type ApiServer,
  type Clock,
  Fault,
  type Log,
  type Running,
  sleep,
} from "@kube-connector/core";

// Leader election by a coordination.k8s.io/v1 Lease, as client-go does it: whether a Lease has run out is counted from
// when we saw it change, on our monotonic clock; another machine's renewTime is never compared with our time.

export interface LeaseOptions {
  api: ApiServer;
  clock: Clock;
  log: Log;
  namespace: string;
  name: string;
  /** This replica; no two may share one. */
  identity: string;
  /** Milliseconds; 15,000, 10,000 and 2,000 unless told. */
  duration?: number;
  renewDeadline?: number;
  retry?: number;
}

export interface Leadership extends Running {
  /** Ends when we have become the leader. `done` rejects when we no longer are. */
  elected: Promise<void>;
  /** Whether our last renewal is young enough for a write. */
  mayWrite(): boolean;
}

interface Lease {
  metadata: { name: string; resourceVersion?: string };
  spec?: {
    holderIdentity?: string;
    leaseDurationSeconds?: number;
    acquireTime?: string;
    renewTime?: string;
    leaseTransitions?: number;
  };
}

export function startLeadership(options: LeaseOptions): Leadership {
  const { api, clock, log, identity } = options;
  const duration = options.duration ?? 15_000;
  const renewDeadline = options.renewDeadline ?? 10_000;
  const retry = options.retry ?? 2000;
  const folder = `/apis/coordination.k8s.io/v1/namespaces/${options.namespace}/leases`;
  const path = `${folder}/${options.name}`;
  const stopping = new AbortController();
  let seen: { resourceVersion: string; at: number } | undefined;
  let renewed: number | undefined;
  let leading = false;
  let announce: () => void = () => undefined;
  const elected = new Promise<void>((resolve) => {
    announce = resolve;
  });

  const microTime = () => new Date(clock.now()).toISOString().replace("Z", "000Z");

  /** One try to get or keep the Lease. "unsure": somebody wrote it at the same moment. */
  async function attempt(): Promise<"ours" | "theirs" | "unsure"> {
    const started = clock.monotonic();
    // A leader that gets no answer knows it when its time is over, not some seconds later.
    const left = leading ? renewDeadline - (started - (renewed ?? started)) : renewDeadline;
    const timeout = Math.max(200, Math.min(renewDeadline / 2, left));
    const lease = await api
      .request<Lease>("GET", path, { timeout, signal: stopping.signal })
      .catch((error: unknown) => {
        if (error instanceof Fault && error.answer?.status === 404) return undefined;
        throw error;
      });
    const spec = lease?.spec ?? {};
    const mine = spec.holderIdentity === identity;
    const resourceVersion = lease?.metadata.resourceVersion ?? "";
    if (lease !== undefined && !mine && (spec.holderIdentity ?? "") !== "") {
      if (seen?.resourceVersion !== resourceVersion) seen = { resourceVersion, at: clock.monotonic() };
      const life = Math.max(duration, (spec.leaseDurationSeconds ?? 0) * 1000);
      if (leading || clock.monotonic() - seen.at < life) return "theirs";
    }
    const body = {
      apiVersion: "coordination.k8s.io/v1",
      kind: "Lease",
      metadata: {
        name: options.name,
        namespace: options.namespace,
        ...(lease === undefined ? {} : { resourceVersion }),
      },
      spec: {
        holderIdentity: identity,
        leaseDurationSeconds: Math.ceil(duration / 1000),
        acquireTime: mine && spec.acquireTime !== undefined ? spec.acquireTime : microTime(),
        renewTime: microTime(),
        leaseTransitions: (spec.leaseTransitions ?? 0) + (mine || lease === undefined ? 0 : 1),
      },
    };
    try {
      if (lease === undefined) await api.request("POST", folder, { body, timeout, signal: stopping.signal });
      else await api.request("PUT", path, { body, timeout, signal: stopping.signal });
    } catch (error) {
      // Another was faster; or our own last write arrived although its answer did not.
      if (error instanceof Fault && error.answer?.status === 409) return "unsure";
      throw error;
    }
    renewed = started;
    return "ours";
  }

  async function release(): Promise<void> {
    const lease = await api.request<Lease>("GET", path, { timeout: 3000 });
    if (lease.spec?.holderIdentity !== identity) return;
    const body = {
      ...lease,
      spec: { ...lease.spec, holderIdentity: "", leaseDurationSeconds: 1, renewTime: microTime() },
    };
    await api.request("PUT", path, { body, timeout: 3000 });
    log.info("Gave the lease back");
  }

  async function run(): Promise<void> {
    while (!stopping.signal.aborted) {
      let whose: Awaited<ReturnType<typeof attempt>> = "unsure";
      try {
        whose = await attempt();
      } catch (error) {
        if (stopping.signal.aborted) break;
        log.warn("Cannot read or renew the lease", { error });
      }
      if (whose === "ours" && !leading) {
        leading = true;
        log.info("Became the leader", { identity });
        announce();
      }
      const late = whose !== "ours" && clock.monotonic() - (renewed ?? 0) >= renewDeadline;
      if (leading && (whose === "theirs" || late)) {
        leading = false;
        throw new Fault("unavailable", "The lease is another replica's, or could not be renewed in time");
      }
      await sleep(clock, leading ? retry : retry * (1 + Math.random() * 0.2), stopping.signal);
    }
    if (leading) {
      leading = false;
      await release().catch((error: unknown) =>
        log.warn("Cannot give the lease back; it runs out by itself", { error }),
      );
    }
  }

  const done = run();
  done.catch(() => undefined);
  return {
    done,
    elected,
    mayWrite: () => leading && renewed !== undefined && clock.monotonic() - renewed < renewDeadline,
    async stop() {
      stopping.abort();
      await done.catch(() => undefined);
    },
  };
}

/** The same API, which refuses to write once the leadership is in doubt; `abandon` ends the requests under way. */
export function guardWrites(api: ApiServer, mayWrite: () => boolean): ApiServer & { abandon(): void } {
  // A controller each, and not one signal for all: what hangs on a signal that lives as long as the process piles up.
  const underWay = new Set<AbortController>();
  return {
    ...api,
    async request<T>(method: string, path: string, options: ApiRequest = {}): Promise<T> {
      if (method !== "GET" && !mayWrite()) {
        throw new Fault("unavailable", `${method} ${path}: not sent, because this replica may no longer be the leader`);
      }
      if (options.signal !== undefined) return await api.request<T>(method, path, options);
      const end = new AbortController();
      underWay.add(end);
      try {
        return await api.request<T>(method, path, { ...options, signal: end.signal });
      } finally {
        underWay.delete(end);
      }
    },
    abandon() {
      for (const end of underWay) end.abort();
    },
  };
}
