// The settings: flag, then environment, then default; every problem at once; the README's table is this table.

import { readFile } from "node:fs/promises";
import { optionsMarkdown } from "@kube-connector/core";
import { expect, test } from "vitest";
import { options, readConfig } from "./config.ts";

test("the defaults are a kubelet's", () => {
  expect(readConfig([], { NODE_NAME: "node-1" })).toEqual({
    kubeletRoot: "/var/lib/kubelet",
    driverName: "connectors-csi",
    nodeId: "node-1",
    registration: "own",
    privateAddress: { host: "0.0.0.0", port: 9808 },
    logLevel: "info",
  });
});

test("a trailing slash of the kubelet's root does not matter", () => {
  expect(readConfig(["--kubelet-root=/data/kubelet/"], {}).kubeletRoot).toBe("/data/kubelet");
});

test("every problem is said at once", () => {
  const wrong = ["--kubelet-root=relative", "--driver-name=Not/One", "--registration=none", "--node-id=a b"];
  const sentences =
    /--kubelet-root: "relative" should be an absolute path[^]*--driver-name[^]*--node-id[^]*--registration/;
  expect(() => readConfig(wrong, {})).toThrow(sentences);
});

test("the README's table is that of config.ts", async () => {
  const readme = await readFile(new URL("../README.md", import.meta.url), "utf8");
  expect(readme).toContain(optionsMarkdown(options));
});
