import { readFileSync } from "node:fs";
import { optionsMarkdown } from "@kube-connector/core";
import { expect, test } from "vitest";
import { options, readConfig } from "./config.ts";

// Settings come from flags, then the environment, then defaults. There is exactly one source of connectors, and a
// process that would verify no certificate does not start. The README's table is the table in config.ts.

const directory = ["--connectors-dir", "/connectors"];

test("the defaults are those of a pod", () => {
  expect(readConfig(directory, {})).toEqual({
    source: { directory: "/connectors" },
    forwardAddress: { host: "0.0.0.0", port: 8080 },
    reverseAddress: { host: "0.0.0.0", port: 8443 },
    privateAddress: { host: "0.0.0.0", port: 9090 },
    reviewsPerSecond: 500,
    connections: 20_000,
    connectionsPerAddress: 2_000,
    audit: "stdout",
    drainDelay: 10_000,
    drainGrace: 30_000,
    http2: "own",
    logLevel: "info",
  });
});

test("one Secret by name, or many by a label", () => {
  const namespace = ["--secrets-namespace", "kube-connector-proxy"];
  expect(readConfig([...namespace, "--secret-name", "one"], {}).source).toEqual({
    namespace: "kube-connector-proxy",
    select: { name: "one" },
  });
  expect(readConfig([...namespace, "--secrets-selector", "a=b"], {}).source).toEqual({
    namespace: "kube-connector-proxy",
    select: { labelSelector: "a=b" },
  });
});

test("a flag goes before the environment", () => {
  const env = { KUBE_CONNECTOR_CONNECTORS_DIR: "/env", KUBE_CONNECTOR_REVIEWS_PER_SECOND: "7" };
  expect(readConfig([], env)).toMatchObject({ source: { directory: "/env" }, reviewsPerSecond: 7 });
  expect(readConfig(directory, env)).toMatchObject({ source: { directory: "/connectors" } });
});

test.each([
  [[], "give --connectors-dir, or --secrets-namespace"],
  [["--secret-name", "one"], "give --connectors-dir, or --secrets-namespace"],
  [["--secrets-namespace", "n"], "exactly one of --secret-name and --secrets-selector"],
  [["--secrets-namespace", "n", "--secret-name", "s", "--secrets-selector", "a=b"], "exactly one of"],
  [[...directory, "--secret-name", "one"], "--connectors-dir goes with none of"],
  [["--secrets-namespace", "n", "--secret-name", "a,metadata.name!=b"], "should be the name of a Secret"],
  [[...directory, "--reviews-per-second", "0"], "should be a whole number from 1"],
  [[...directory, "--audit", "on"], "should be stdout, off, or the path of a file"],
  [[...directory, "--port", "1"], "unknown flag --port"],
])("%j is refused with a sentence", (argv, sentence) => {
  expect(() => readConfig(argv, {})).toThrow(sentence);
});

test("a process in which no certificate would be verified does not start", () => {
  expect(() => readConfig(directory, { NODE_TLS_REJECT_UNAUTHORIZED: "0" })).toThrow("no target would be verified");
});

test("the README shows all settings", () => {
  const readme = readFileSync(new URL("../README.md", import.meta.url), "utf8");
  expect(readme).toContain(optionsMarkdown(options));
});
