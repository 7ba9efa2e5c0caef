import { type ApiServer, type Clock, type Log, type Running, startPrivatePort, stopAll } from "@kube-connector/core";
import { createAccessReviewAuthorizer } from "./access-review.ts";
import { type Audit, createAudit, noAudit } from "./audit/audit.ts";
import { type AuditSink, startAuditSink } from "./audit/sink.ts";
import type { Config, SourceConfig } from "./config.ts";
import { startDirectorySource } from "./connectors/directory.ts";
import { startSecretsSource } from "./connectors/secrets.ts";
import type { ConnectorSource } from "./connectors/source.ts";
import { openStreamsText } from "./open-streams.ts";
import { createPrometheusMetrics } from "./prometheus-metrics.ts";
import { type RunningProxy, startProxy } from "./proxy.ts";
import { createReviewLimit } from "./review-limit.ts";
import { type ServiceAccountKeys, startServiceAccountKeys } from "./service-account-keys.ts";
import type { Timeouts } from "./timeouts.ts";
import { createTokenReviewAuthenticator } from "./token-review.ts";

export interface ProxyProcessOptions {
  config: Config;
  /** The hosting cluster. The process stops it at its end. */
  api: ApiServer;
  clock: Clock;
  log: Log;
  /** Tests only: a target may be on this machine. */
  allowLoopbackTargets?: boolean;
  /** Tests only: instead of the settings and defaults. */
  timeouts?: Partial<Timeouts>;
}

export interface RunningProcess extends Running {
  forwardPort: number;
  reversePort: number;
  privatePort: number;
}

/**
 * All parts of the proxy in a cluster, put together: keys and connectors from the API server, who and may by its reviews,
 * the two doors, the private port. `stop()` drains the doors first; readiness says no from its first moment.
 */
export async function startProxyProcess(options: ProxyProcessOptions): Promise<RunningProcess> {
  const { config, api, clock, log } = options;
  const started: Running[] = [{ done: new Promise(() => undefined), stop: () => api.stop() }];
  const begin = <T extends Running>(running: T): T => {
    started.push(running);
    return running;
  };
  try {
    const keys = begin(startServiceAccountKeys({ api, clock, log, issuer: config.issuer }));
    const connectors = begin(startSource(config.source, options));
    let sink: AuditSink | undefined;
    const metrics = createPrometheusMetrics(() => connectors.all(), {
      isAuditDown: () => sink?.whyDown() !== undefined,
    });
    if (config.audit !== "off") {
      const to = config.audit === "stdout" ? { descriptor: 1 } : config.audit;
      sink = begin(await startAuditSink({ to, clock, log, metrics }));
    }
    const audit: Audit = sink === undefined ? noAudit : createAudit(sink, clock);
    const limit = createReviewLimit(clock, config.reviewsPerSecond);
    const authorizer = createAccessReviewAuthorizer({ api, clock, limit, metrics });
    connectors.subscribe(({ before, after }) => {
      if (before === undefined) return;
      authorizer.forget(before);
      if (after === undefined) metrics.forget(`${before.namespace}/${before.name}`);
    });
    let proxy: RunningProxy | undefined;
    const port = begin(
      await startPrivatePort({
        listen: config.privateAddress,
        log,
        live: () => Promise.resolve(undefined),
        ready: () => Promise.resolve(whyNotReady(connectors, keys, proxy)),
        metrics: () => metrics.text(),
        metricsContentType: metrics.contentType,
        local: {
          "/debug/streams": () => ({
            type: "application/json",
            body: openStreamsText(proxy?.openStreams() ?? []),
          }),
        },
      }),
    );
    const running = await startProxy({
      forward: config.forwardAddress,
      reverse: config.reverseAddress,
      connectors,
      authenticator: createTokenReviewAuthenticator({ api, clock, keys, limit, metrics }),
      authorizer,
      metrics,
      audit,
      clock,
      log,
      timeouts: { drainWait: config.drainDelay, drainGrace: config.drainGrace, ...options.timeouts },
      http2: config.http2,
      limits: { connections: config.connections, connectionsPerAddress: config.connectionsPerAddress },
      ...(options.allowLoopbackTargets === undefined ? {} : { allowLoopbackTargets: options.allowLoopbackTargets }),
    });
    proxy = begin(running);
    log.info("The proxy is started", { address: `${config.forwardAddress.host}:${running.forwardPort}` });
    const stop = once(() => stopAll(started));
    return {
      forwardPort: running.forwardPort,
      reversePort: running.reversePort,
      privatePort: port.port,
      // When the doors have closed by themselves, the rest has no purpose.
      done: running.done.then(stop),
      stop,
    };
  } catch (error) {
    await stopAll(started).catch(() => undefined);
    throw error;
  }
}

function startSource(source: SourceConfig, options: ProxyProcessOptions): ConnectorSource {
  const { api, clock, log } = options;
  if ("directory" in source) return startDirectorySource({ directory: source.directory, clock, log });
  return startSecretsSource({ api, clock, log, ...source });
}

function whyNotReady(
  connectors: ConnectorSource,
  keys: ServiceAccountKeys,
  proxy: RunningProxy | undefined,
): string | undefined {
  if (!connectors.isSynced()) return "the connectors are not read yet";
  if (!keys.isLoaded()) return "the cluster's keys for tokens are not read yet";
  if (proxy === undefined) return "the doors are not open yet";
  if (proxy.isDraining()) return "draining";
  return undefined;
}

function once(act: () => Promise<void>): () => Promise<void> {
  let acting: Promise<void> | undefined;
  return () => (acting ??= act());
}
