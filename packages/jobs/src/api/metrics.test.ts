// The README names each metric of the module with its labels, and the process tells exactly those.
import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { createJobsMetrics } from "./metrics.ts";

const readme = readFileSync(new URL("../../README.md", import.meta.url), "utf8");
const prefix = "kube_connector_jobs_";

test("what is told is what the README names, with those labels", async () => {
  const metrics = createJobsMetrics();
  metrics.of({
    figures: async () => ({
      runs: { Running: 3 },
      cleanupPending: 1,
      watches: { watch: 2, poll: 4 },
      follows: 5,
      owned: 3,
    }),
  });
  metrics.submitted("accepted", 0.002);
  metrics.asked("create", "jobs", 201);
  metrics.saw(0.7);
  metrics.relisted();
  metrics.gap("Rotated");
  const text = await metrics.text();
  const types = new Map(
    [...text.matchAll(/^# TYPE (kube_connector_\S+) (\S+)$/gm)].map(([, name, type]) => [name, type]),
  );
  const told = [...types].map(([name = "", type]) => {
    const series = type === "histogram" ? `${name}_count` : name;
    const [, labels = ""] = new RegExp(`^${series}(?:\\{([^}]*)\\})? \\S+$`, "m").exec(text) ?? [];
    const names = [...labels.matchAll(/(\w+)="/g)].map(([, label]) => label);
    return `${name.replace(prefix, "")}${names.length === 0 ? "" : `{${names.join(",")}}`}`;
  });
  const [, list = ""] = /begin with `kube_connector_jobs_`: ([^.]*)\./.exec(readme) ?? [];
  const named = list.replaceAll(/\{(\w+): [^}]*\}/g, "{$1}").match(/\w+(?:\{[^}]*\})?/g);
  expect(told.toSorted()).toEqual(named?.toSorted());
  expect(text).toContain(`${prefix}watches{mode="watch"} 2`);
  expect(text).toContain(`${prefix}watches{mode="poll"} 4`);
  expect(text).toContain(`${prefix}runs{state="Running"} 3`);
  // Prometheus' rules for names: base units, and a counter ends with _total.
  for (const [name = "", type] of types) expect([name, type === "counter"]).toEqual([name, name.endsWith("_total")]);
});
