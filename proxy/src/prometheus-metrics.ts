import { X509Certificate } from "node:crypto";
import type { ResolvedConnector } from "@kube-connector/core";
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from "@prometheus-io/client";
import { type Gathered, GatheredCounts, PlainHistogram } from "./gathered-metrics.ts";
import type { Door, ProxyMetrics } from "./metrics.ts";

/** Metrics that Prometheus can read. */
export interface PrometheusMetrics extends ProxyMetrics {
  /** All of them in Prometheus' text form. */
  text(): Promise<string>;
  contentType: string;
  /** Drops the series of a connector that is gone. */
  forget(connector: string): void;
}

const prefix = "kube_connector_proxy_";
const fast = [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 1];
const slow = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60, 600];
const methods = new Set(["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "CONNECT"]);

/**
 * Counts for Prometheus. `connectors` are those whose leaf's end is shown. No label has a path, pod, user, namespace of
 * the target or address: a caller could make as many series as he likes, and reading them out stalls the event loop.
 */
export function createPrometheusMetrics(
  connectors: () => readonly ResolvedConnector[],
  of: { isAuditDown: () => boolean } = { isAuditDown: () => false },
): PrometheusMetrics {
  const registry = new Registry();
  collectDefaultMetrics({ register: registry });
  const registers = [registry];
  const counter = <L extends string>(name: string, help: string, labelNames: readonly L[] = []) =>
    new Counter<L>({ name: prefix + name, help, labelNames, registers });
  const gauge = <L extends string>(name: string, help: string, labelNames: readonly L[] = []) =>
    new Gauge<L>({ name: prefix + name, help, labelNames, registers });
  const histogram = <L extends string>(name: string, help: string, buckets: number[], labelNames: readonly L[] = []) =>
    new Histogram<L>({ name: prefix + name, help, buckets, labelNames, registers });

  const requests = counter("requests_total", "Requests answered.", ["connector", "door", "verb", "code"]);
  const ofRequests = (name: string, help: string, buckets: number[]) => {
    const made = new PlainHistogram(prefix + name, help, buckets);
    made.register(registry);
    return made;
  };
  const duration = ofRequests("request_duration_seconds", "From a request's head to the end of its answer.", slow);
  const latency = ofRequests("added_latency_seconds", "From a request's head until it was written upstream.", fast);
  const tunnels = gauge("tunnels_open", "Tunnels open on the forward door.");
  const streams = gauge("streams_open", "Streams open.", ["kind"]);
  const bytes = counter("bytes_total", "Bytes of clients: in from them, out to them.", ["direction"]);
  const upstreams = gauge("upstream_connections", "Connections to targets.", ["state"]);
  const dials = counter("upstream_dials_total", "Connections to targets that were tried.", ["result"]);
  const decisions = counter("decisions_total", "Decisions about callers.", ["step", "result"]);
  const reviews = histogram("review_duration_seconds", "Reviews by the API server.", slow, ["kind"]);
  const cache = counter("cache_total", "Readings of the caches of reviews and of tunnel tokens.", ["cache", "result"]);
  const limited = counter("limited_total", "Requests refused because their caller is over a limit.", ["limit"]);
  const connections = gauge("connections_open", "Connections of clients.", ["door"]);
  const refused = counter("connections_refused_total", "Connections not taken, being too many.", ["limit"]);
  const audited = counter("audit_events_total", "Audit events, by what became of them.", ["result"]);
  // From the first moment, so that an increase from nothing shows.
  for (const limit of ["rate", "streams"] as const) limited.inc({ limit }, 0);
  for (const limit of ["all", "address"] as const) refused.inc({ limit }, 0);
  for (const result of ["written", "lost"] as const) audited.inc({ result }, 0);
  const down = new Gauge({
    name: `${prefix}audit_down`,
    help: "1 while the audit log cannot be written, so that requests are refused.",
    registers,
    collect: () => {
      down.set(of.isAuditDown() ? 1 : 0);
    },
  });
  const expiries = new WeakMap<ResolvedConnector, number>();
  const expiry = new Gauge({
    name: `${prefix}leaf_expiry_timestamp_seconds`,
    help: "When the certificate that a connector's doors show expires, in seconds since 1970.",
    labelNames: ["connector"],
    registers,
    collect: () => {
      expiry.reset();
      for (const connector of connectors()) {
        const known = expiries.get(connector) ?? expiryOf(connector);
        expiries.set(connector, known);
        expiry.set({ connector: `${connector.namespace}/${connector.name}` }, known);
      }
    },
  });

  const gathered = new GatheredCounts();
  type Series = { connector: string; door: Door; verb: string; code: number; total: Gathered };
  const byConnector = new Map<string, Map<string, Series>>();
  let last: Series | undefined;

  function seriesOf(connector: string, door: Door, method: string, code: number): Series {
    const verb = methods.has(method) ? method : "other";
    // Most requests are like the one before.
    if (last?.code === code && last.verb === verb && last.door === door && last.connector === connector) return last;
    const all = byConnector.get(connector) ?? new Map<string, Series>();
    byConnector.set(connector, all);
    const key = `${door} ${verb} ${code}`;
    const known = all.get(key);
    const labels = { connector, door, verb, code: String(code) };
    const series = known ?? { connector, door, verb, code, total: gathered.of(requests.labels(labels)) };
    all.set(key, series);
    last = series;
    return series;
  }

  const bytesOf = {
    in: gathered.of(bytes.labels({ direction: "in" })),
    out: gathered.of(bytes.labels({ direction: "out" })),
  };
  const upstreamsOf = {
    active: gathered.of(upstreams.labels({ state: "active" })),
    idle: gathered.of(upstreams.labels({ state: "idle" })),
  };
  const keptDecisions = keep((step: string) =>
    keep((result: string) => gathered.of(decisions.labels({ step, result }))),
  );
  const keptReadings = keep((name: string) =>
    keep((result: string) => gathered.of(cache.labels({ cache: name, result }))),
  );

  return {
    requestEnded({ connector, door, verb, code, seconds }) {
      seriesOf(connector, door, verb, code).total.count += 1;
      duration.observe(seconds);
    },
    latencyAdded: (seconds) => latency.observe(seconds),
    tunnels: (change) => tunnels.inc(change),
    streams: (kind, change) => streams.inc({ kind }, change),
    bytes(direction, count) {
      bytesOf[direction].count += count;
    },
    upstreamConnections(state, change) {
      upstreamsOf[state].count += change;
    },
    upstreamDialled: (result) => dials.inc({ result }),
    decided(step, result) {
      keptDecisions(step)(result).count += 1;
    },
    reviewed: (kind, seconds) => reviews.observe({ kind }, seconds),
    cacheRead(name, result) {
      keptReadings(name)(result).count += 1;
    },
    limited: (limit) => limited.inc({ limit }),
    connections: (door, change) => connections.inc({ door }, change),
    connectionRefused: (limit) => refused.inc({ limit }),
    audited: (result, count) => audited.inc({ result }, count),
    text() {
      gathered.add();
      return registry.metrics();
    },
    contentType: registry.contentType,
    forget(connector) {
      for (const { door, verb, code, total } of byConnector.get(connector)?.values() ?? []) {
        gathered.drop(total);
        requests.remove({ connector, door, verb, code: String(code) });
      }
      if (last?.connector === connector) last = undefined;
      byConnector.delete(connector);
    },
  };
}

function expiryOf(connector: ResolvedConnector): number {
  return new X509Certificate(connector.leaf.certificate).validToDate.getTime() / 1000;
}

/** The same function, which remembers each answer. Only for arguments of which there are few. */
function keep<T>(make: (argument: string) => T): (argument: string) => T {
  const made = new Map<string, T>();
  return (argument) => {
    const known = made.get(argument);
    if (known !== undefined) return known;
    const answer = make(argument);
    made.set(argument, answer);
    return answer;
  };
}
