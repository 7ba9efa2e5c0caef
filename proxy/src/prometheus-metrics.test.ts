import { expect, test } from "vitest";
import { resolvedConnector } from "../../test/kit/resolved.ts";
import { createPrometheusMetrics } from "./prometheus-metrics.ts";

// What the data path counts is read out under the documented names; labels are few and from closed sets; a connector
// that is gone leaves no series behind.

const lines = async (metrics: { text(): Promise<string> }) =>
  (await metrics.text()).split("\n").filter((line) => line.startsWith("kube_connector_proxy_"));

test("each count appears under its name", async () => {
  const connector = await resolvedConnector({ name: "prod" });
  const metrics = createPrometheusMetrics(() => [connector]);
  metrics.requestEnded({ connector: "team-a/prod", door: "forward", verb: "GET", code: 200, seconds: 0.2 });
  metrics.requestEnded({ connector: "team-a/prod", door: "forward", verb: "GET", code: 200, seconds: 0.2 });
  metrics.latencyAdded(0.0002);
  metrics.tunnels(1);
  metrics.tunnels(1);
  metrics.tunnels(-1);
  metrics.streams("splice", 1);
  metrics.bytes("out", 1000);
  metrics.upstreamConnections("idle", 1);
  metrics.upstreamDialled("failed");
  metrics.decided("authorize", "deny");
  metrics.reviewed("token", 0.01);
  metrics.cacheRead("access", "hit");
  metrics.limited("rate");
  metrics.connections("forward", 1);
  metrics.connectionRefused("address");
  metrics.audited("written", 7);
  const text = await lines(metrics);
  for (const line of [
    'requests_total{connector="team-a/prod",door="forward",verb="GET",code="200"} 2',
    "request_duration_seconds_count 2",
    "added_latency_seconds_count 1",
    "tunnels_open 1",
    'streams_open{kind="splice"} 1',
    'bytes_total{direction="out"} 1000',
    'upstream_connections{state="idle"} 1',
    'upstream_dials_total{result="failed"} 1',
    'decisions_total{step="authorize",result="deny"} 1',
    'review_duration_seconds_count{kind="token"} 1',
    'cache_total{cache="access",result="hit"} 1',
    'limited_total{limit="rate"} 1',
    'connections_open{door="forward"} 1',
    'connections_refused_total{limit="address"} 1',
    'audit_events_total{result="written"} 7',
    'audit_events_total{result="lost"} 0',
    "audit_down 0",
  ]) {
    expect(text).toContain(`kube_connector_proxy_${line}`);
  }
  const expiry = text.find((line) => line.includes("leaf_expiry_timestamp_seconds{"));
  expect(Number(expiry?.split(" ").at(-1))).toBeGreaterThan(Date.now() / 1000);
});

test("made-up methods share one series", async () => {
  const metrics = createPrometheusMetrics(() => []);
  for (const verb of ["BREW", "WHEN"]) {
    metrics.requestEnded({ connector: "a/b", door: "reverse", verb, code: 400, seconds: 0 });
  }
  const found = (await lines(metrics)).filter((line) => line.includes("requests_total"));
  expect(found).toEqual([
    'kube_connector_proxy_requests_total{connector="a/b",door="reverse",verb="other",code="400"} 2',
  ]);
});

test("a connector that is gone has no series, and begins anew when it comes back", async () => {
  const prod = await resolvedConnector({ name: "prod" });
  let served = [prod];
  const metrics = createPrometheusMetrics(() => served);
  const count = () =>
    metrics.requestEnded({ connector: "team-a/prod", door: "forward", verb: "GET", code: 200, seconds: 0 });
  count();
  served = [];
  metrics.forget("team-a/prod");
  expect((await lines(metrics)).filter((line) => line.includes("team-a/prod"))).toEqual([]);
  count();
  expect((await lines(metrics)).filter((line) => line.includes("team-a/prod"))).toHaveLength(1);
});

test("a duration is in each bucket whose bound it does not pass, and reading twice counts nothing twice", async () => {
  const metrics = createPrometheusMetrics(() => []);
  for (const seconds of [0.0001, 0.00011, 2]) metrics.latencyAdded(seconds);
  metrics.bytes("in", 7);
  await metrics.text();
  const text = await lines(metrics);
  const shown = text.filter((line) => line.includes("added_latency_seconds")).map((line) => line.split("seconds_")[1]);
  expect(shown.slice(0, 3)).toEqual(['bucket{le="0.0001"} 1', 'bucket{le="0.00025"} 2', 'bucket{le="0.0005"} 2']);
  expect(shown.slice(-4)).toEqual(['bucket{le="1"} 2', 'bucket{le="+Inf"} 3', "sum 2.00021", "count 3"]);
  expect(text).toContain('kube_connector_proxy_bytes_total{direction="in"} 7');
});
