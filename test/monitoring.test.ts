// What deploy/monitoring looks at is what the processes tell: each metric and label in the dashboard and in the alerts
// exists, and the proxy's README names each metric of the proxy. A panel that shows nothing is found here, not at night.
import { readFileSync } from "node:fs";
import { systemClock } from "@kube-connector/core";
import { expect, test } from "vitest";
import { parse, parseAllDocuments } from "yaml";
// oxlint-disable-next-line import/no-relative-packages -- metrics are no part of a room's index
import { createMetrics as controllerMetrics } from "../controller/src/metrics.ts";
// oxlint-disable-next-line import/no-relative-packages -- as above
import { createMetrics as csiMetrics } from "../csi-driver/src/metrics.ts";
// oxlint-disable-next-line import/no-relative-packages -- as above
import { createPrometheusMetrics } from "../proxy/src/prometheus-metrics.ts";
import { resolvedConnector } from "./kit/resolved.ts";

const read = (path: string) => readFileSync(new URL(`../${path}`, import.meta.url), "utf8");

/** The proxy's metrics with one series of each. */
async function proxyText(): Promise<string> {
  const connector = await resolvedConnector({ name: "prod" });
  const metrics = createPrometheusMetrics(() => [connector]);
  metrics.requestEnded({ connector: "team-a/prod", door: "forward", verb: "GET", code: 200, seconds: 1 });
  metrics.latencyAdded(1);
  metrics.tunnels(1);
  metrics.streams("watch", 1);
  metrics.bytes("in", 1);
  metrics.upstreamConnections("idle", 1);
  metrics.upstreamDialled("ok");
  metrics.decided("authorize", "allow");
  metrics.reviewed("token", 1);
  metrics.cacheRead("token", "hit");
  metrics.limited("rate");
  metrics.connections("forward", 1);
  metrics.connectionRefused("all");
  metrics.audited("written", 1);
  return await metrics.text();
}

async function controllerText(): Promise<string> {
  const condition = { type: "Ready", status: "True" as const, reason: "Ready", message: "", lastTransitionTime: "" };
  const spec = {
    connectorClassName: "k8s",
    address: "https://10.0.0.1",
    auth: { name: "bearerTokenAuth" as const, secretRef: { name: "s" } },
  };
  const status = { conditions: [condition], credential: { expiresAt: "2030-01-01T00:00:00Z" } };
  const connector = { metadata: { name: "prod", namespace: "team-a" }, spec, status };
  const metrics = controllerMetrics({
    depth: () => 0,
    leading: () => true,
    connectors: () => [["team-a/prod", connector]],
    lastRound: () => 1,
  });
  metrics.reconciled("ok", 1);
  metrics.probed("Ready", 1);
  return await metrics.text();
}

async function csiText(): Promise<string> {
  const metrics = csiMetrics({
    driverName: "connectors-csi",
    volumes: new Map(),
    connectors: { size: () => 0, silence: () => 0 },
    mounts: { list: () => [] },
    clock: systemClock,
  } as unknown as Parameters<typeof csiMetrics>[0]);
  metrics.observe({ method: "NodePublishVolume", milliseconds: 1 } as Parameters<typeof metrics.observe>[0]);
  return await metrics.text();
}

/** Metric → its labels; of a histogram without the endings. */
async function told(): Promise<Map<string, Set<string>>> {
  const text = [await proxyText(), await controllerText(), await csiText()].join("\n");
  const histograms = new Set([...text.matchAll(/^# TYPE (\S+) histogram$/gm)].map((match) => match[1] ?? ""));
  const found = new Map<string, Set<string>>();
  for (const [, whole = "", labels = ""] of text.matchAll(/^([a-z_]+)(?:\{([^}]*)\})? \S+$/gm)) {
    const base = whole.replace(/_(bucket|sum|count)$/, "");
    const name = histograms.has(base) ? base : whole;
    const known = found.get(name) ?? new Set<string>();
    for (const [, label = ""] of labels.matchAll(/([a-z_]+)="/g)) known.add(label);
    found.set(name, known);
  }
  return found;
}

/** Given to each series by whoever scrapes. */
const scraped = ["namespace", "pod"];
const pattern = /\b((?:kube_connector|process)_[a-z_]+)(?:\{([^}]*)\})?/g;

/** Metrics and labels of an expression that nobody tells. */
function unknown(expression: string, metrics: Map<string, Set<string>>): string[] {
  const used = [...expression.matchAll(pattern)].map(([, whole = "", matchers = ""]) => {
    const base = whole.replace(/_(bucket|sum|count)$/, "");
    return { name: metrics.has(whole) ? whole : base, matchers };
  });
  const labels = new Set([...scraped, ...used.flatMap(({ name }) => [...(metrics.get(name) ?? [])])]);
  const grouped = [...expression.matchAll(/\bby \(([^)]*)\)/g)].flatMap(([, list = ""]) => list.split(", "));
  return [
    ...(used.length === 0 ? ["no metric at all"] : []),
    ...used.filter(({ name }) => !metrics.has(name)).map(({ name }) => name),
    ...grouped.filter((label) => !labels.has(label)).map((label) => `by (${label})`),
    ...used.flatMap(({ name, matchers }) =>
      [...matchers.matchAll(/([a-z_]+)(?:=~|!~|!=|=)"/g)]
        .map((match) => match[1] ?? "")
        .filter((label) => !scraped.includes(label) && metrics.get(name)?.has(label) !== true)
        .map((label) => `${name}{${label}}`),
    ),
  ];
}

interface Panel {
  title: string;
  type: string;
  description?: string;
  targets?: { expr: string; legendFormat: string }[];
}

test("the dashboard asks only for what is told", async () => {
  const metrics = await told();
  const { panels } = JSON.parse(read("deploy/monitoring/dashboard.json")) as { panels: Panel[] };
  const shown = panels.filter(({ type }) => type !== "row");
  expect(shown.length).toBeGreaterThan(15);
  const wrong = shown.flatMap(({ title, targets = [] }) =>
    targets.flatMap(({ expr }) => unknown(expr, metrics).map((what) => `${title}: ${what}`)),
  );
  expect(wrong).toEqual([]);
  const legends = shown.flatMap(({ targets = [] }) =>
    targets.flatMap(({ expr, legendFormat }) =>
      [...legendFormat.matchAll(/\{\{(\w+)\}\}/g)]
        .map((match) => match[1] ?? "")
        .filter((label) => !new RegExp(`\\bby \\([^)]*\\b${label}\\b`).test(expr)),
    ),
  );
  expect(legends).toEqual([]);
});

test("the alerts ask only for what is told, name no label that their expression drops, and each says what to do", async () => {
  const metrics = await told();
  const rule = parse(read("deploy/monitoring/alerts.yaml")) as {
    spec: { groups: { rules: Record<string, unknown>[] }[] };
  };
  const rules = rule.spec.groups.flatMap((group) => group.rules) as {
    alert: string;
    expr: string;
    labels: { severity: string };
    annotations: { summary: string; description: string };
  }[];
  expect(rules.length).toBeGreaterThan(10);
  for (const { alert, expr, labels, annotations } of rules) {
    expect(unknown(expr, metrics), alert).toEqual([]);
    expect(["critical", "warning"]).toContain(labels.severity);
    expect(annotations.description.length, alert).toBeGreaterThan(40);
    for (const [, label = ""] of annotations.description.matchAll(/\$labels\.(\w+)/g)) {
      expect(expr, `${alert} keeps ${label}`).toMatch(new RegExp(`by \\([^)]*\\b${label}\\b`));
    }
  }
});

test("a metric or label that is not told is found", async () => {
  const metrics = await told();
  expect(unknown("sum(rate(kube_connector_proxy_made_up_total[5m]))", metrics)).toEqual([
    "kube_connector_proxy_made_up_total",
  ]);
  expect(unknown('sum by (path) (kube_connector_proxy_requests_total{user="x"})', metrics)).toEqual([
    "by (path)",
    "kube_connector_proxy_requests_total{user}",
  ]);
});

test("what is scraped is where the pods are: port, namespaces and labels of install.yaml and of the controller", () => {
  const monitors = parseAllDocuments(read("deploy/monitoring/pod-monitors.yaml")).map(
    (document) =>
      document.toJS() as {
        spec: {
          namespaceSelector?: { matchNames: string[] };
          selector: { matchLabels: Record<string, string> };
          podMetricsEndpoints: { port: string }[];
        };
      },
  );
  const installed = read("deploy/install.yaml") + read("controller/src/connector/children.ts");
  for (const { spec } of monitors) {
    expect(spec.podMetricsEndpoints.map(({ port }) => port)).toEqual(["private"]);
    for (const name of spec.namespaceSelector?.matchNames ?? []) expect(installed).toContain(name);
    for (const value of Object.values(spec.selector.matchLabels)) expect(installed).toContain(value);
  }
});

test("no metric of the proxy has a label with a path, pod, user or address, and its README names each metric", async () => {
  const metrics = await told();
  const readme = read("proxy/README.md");
  for (const [name, labels] of metrics) {
    if (!name.startsWith("kube_connector_proxy_")) continue;
    expect(readme).toContain(`\`${name.slice("kube_connector_proxy_".length)}\``);
    for (const label of ["path", "pod", "user", "namespace", "address", "ip", "remote"])
      expect(labels).not.toContain(label);
  }
});
