import { Fault } from "@kube-connector/core";
import { expect, test } from "vitest";
import { createRandom } from "../../../../test/kit/random.ts";
import { definitionShape } from "../definition/definition.ts";
import { parseDefinition } from "../definition/parse.ts";
import { renderJob } from "./render.ts";

// Whatever comes in, what comes out is a Job with our marks, or one Fault that says what to change: never another error.

const random = createRandom(20_260_301);
const fields = Object.keys(definitionShape);
const inner = [
  "name",
  "claim",
  "mountPath",
  "value",
  "expand",
  "secretKeyRef",
  "metadata",
  "labels",
  "spec",
  "template",
];
const keys = [
  ...fields,
  ...inner,
  "containers",
  "requests",
  "cpu",
  "rules",
  "collect",
  "a/b",
  "__proto__",
  "constructor",
];
const texts = ["a", "", "a,b", "x".repeat(70), "[[a]]", "1Gi", "c", "Never", "\0"];
const leaves: readonly unknown[] = [...texts, null, 0, 1, -1, 1.5, Number.NaN, true, undefined];

function anything(depth: number): unknown {
  if (depth === 0 || random.chance(0.5)) return random.pick(leaves);
  const items = Array.from({ length: random.number(5) }, () => anything(depth - 1));
  return random.chance(0.3) ? items : Object.fromEntries(items.map((item) => [random.pick(keys), item]));
}

/** What that gives, or the code of its Fault. */
function tried(definition: unknown): string {
  try {
    const context = { connectors: new Map([["c", {}]]), profiles: new Set<string>() };
    const parsed = parseDefinition(definition, context);
    const { manifest } = renderJob({ definition: parsed.definition, runId: "r", attempt: 1, engine: "e" });
    return manifest.metadata.labels?.["connectors.cpaas.io/run-id"] ?? "no mark";
  } catch (error) {
    if (error instanceof Fault) return error.code;
    throw new Error(`Not a Fault, for ${JSON.stringify(definition)}`, { cause: error });
  }
}

test("2,000 random definitions", () => {
  const results = new Map<string, number>();
  for (let count = 0; count < 2000; count++) {
    const definition: Record<string, unknown> = {
      connector: "c",
      [random.pick(["image", "job", "source"])]: anything(4),
    };
    for (let more = random.number(3); more > 0; more--) definition[random.pick(fields)] = anything(4);
    if (random.chance(0.5)) Object.assign(definition, { image: "i", job: undefined, source: undefined });
    const result = tried(random.chance(0.02) ? anything(3) : definition);
    results.set(result, (results.get(result) ?? 0) + 1);
  }
  expect([...results.keys()].sort((a, b) => a.localeCompare(b))).toEqual(["invalid_argument", "r"]);
  expect(results.get("r")).toBeGreaterThan(200);
});
