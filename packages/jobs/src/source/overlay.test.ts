import { expect, test } from "vitest";
import { exportedJob } from "../../../../test/kit/job-objects.ts";
import type { Overlay } from "../definition/definition.ts";
import { containerOf, type EnvVar } from "./manifest.ts";
import { applyOverlay } from "./overlay.ts";
import { stripSource } from "./strip.ts";

// An overlay changes one container and nothing else: variables in their places, since $(NAME) looks at what stands before.

const source = stripSource(exportedJob);

function overlaid(overlay: Overlay) {
  const changed = applyOverlay(source, overlay);
  const [first, second] = changed.spec.template.spec.containers;
  return { first, second };
}

const [host, region, password, node] = containerOf(source.spec.template, undefined).env as EnvVar[];

test.each<[string, Overlay["env"], unknown]>([
  ["plain text is replaced in place", { REGION: "us" }, [host, { name: "REGION", value: "us" }, password, node]],
  ["valueFrom goes with it", { PASSWORD: "x" }, [host, region, { name: "PASSWORD", value: "x" }, node]],
  [
    "a reference replaces a text",
    { REGION: { configMapKeyRef: { name: "c", key: "k" } } },
    [host, { name: "REGION", valueFrom: { configMapKeyRef: { name: "c", key: "k" } } }, password, node],
  ],
  ["a new name comes last", { NEW: "1" }, [host, region, password, node, { name: "NEW", value: "1" }]],
  [
    "each dollar of a text is doubled",
    { REGION: "$(HOME)$5$$" },
    [host, { name: "REGION", value: "$$(HOME)$$5$$$$" }, password, node],
  ],
  [
    "unless it is to be expanded",
    { REGION: { value: "$(HOME)", expand: true } },
    [host, { name: "REGION", value: "$(HOME)" }, password, node],
  ],
  [
    "expand false is text",
    { REGION: { value: "$5", expand: false } },
    [host, { name: "REGION", value: "$$5" }, password, node],
  ],
])("%s", (_name, env, expected) => {
  const { first, second } = overlaid({ env });
  expect(first?.env).toEqual(expected);
  expect(second).toEqual(source.spec.template.spec.containers[1]);
});

test("of duplicates the last is replaced, as it is the one that counts", () => {
  const { first, second } = overlaid({ container: "load", env: { DEPTH: "9", MODE: "x" } });
  expect(second?.env?.slice(0, 2)).toEqual([
    { name: "DEPTH", value: "1" },
    { name: "DEPTH", value: "9" },
  ]);
  expect(second?.env?.at(-1)).toEqual({ name: "MODE", value: "x" });
  expect(first).toEqual(source.spec.template.spec.containers[0]);
});

test("image, command, args and quantities replace what they name", () => {
  const { first } = overlaid({
    image: "i",
    command: ["c"],
    args: ["a"],
    resources: { limits: { memory: "2Gi", cpu: "1" } },
  });
  expect(first).toMatchObject({
    image: "i",
    command: ["c"],
    args: ["a"],
    resources: { requests: { cpu: "100m", memory: "512Mi" }, limits: { memory: "2Gi", cpu: "1" } },
  });
});

test("the source itself is not changed", () => {
  const before = structuredClone(source);
  overlaid({ env: { REGION: "us" }, image: "i" });
  expect(source).toEqual(before);
});
