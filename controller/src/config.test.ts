// The settings: flag, then environment, then default; all problems at once; and the README's table is this table.
import { readFileSync } from "node:fs";
import { optionsMarkdown } from "@kube-connector/core";
import { expect, test } from "vitest";
import { configOptions, readConfig } from "./config.ts";

test("the README's table is made from the settings", () => {
  const readme = readFileSync(new URL("../README.md", import.meta.url), "utf8");
  expect(readme).toContain(optionsMarkdown(configOptions));
});

test("an image is all that must be given", () => {
  expect(readConfig(["--proxy-image=proxy:1"], {})).toMatchObject({
    namespace: "kube-connector",
    proxyNamespace: "kube-connector-proxy",
    sharedNamespace: "kube-connector-shared",
    proxyImage: "proxy:1",
    clusterDomain: "cluster.local",
    privateAddress: { host: "0.0.0.0", port: 9090 },
    logLevel: "info",
    leaderElect: true,
  });
  expect(readConfig([], { KUBE_CONNECTOR_PROXY_IMAGE: "proxy:2", POD_NAME: "replica-1" })).toMatchObject({
    proxyImage: "proxy:2",
    identity: "replica-1",
  });
});

test("every problem is told at once", () => {
  const given = ["--namespace=Upper", "--namespaces=,", "--private-address=9090", "--leader-elect=yes", "--what=1"];
  let message = "";
  try {
    readConfig(given, {});
  } catch (error) {
    message = String(error);
  }
  for (const flag of ["--namespace:", "--namespaces:", "--private-address:", "--leader-elect:", "--what"]) {
    expect(message).toContain(flag);
  }
});

test("an image is asked for, and three different namespaces", () => {
  expect(() => readConfig([], {})).toThrow("--proxy-image should name the image");
  const same = ["--proxy-image=x", "--shared-namespace=kube-connector-proxy"];
  expect(() => readConfig(same, {})).toThrow("three different namespaces");
});
