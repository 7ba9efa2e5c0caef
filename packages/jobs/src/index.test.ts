// Importing the package is cheap: what only a server or one kind of history needs is imported by those.
import { readFileSync } from "node:fs";
import { expect, test } from "vitest";

/** Names of packages that are imported with that file, at once. */
function packagesOf(file: URL, seen = new Set<string>()): Set<string> {
  const found = new Set<string>();
  if (seen.has(file.href)) return found;
  seen.add(file.href);
  const statements = readFileSync(file, "utf8").matchAll(/^(?:import|export) (?!type\b)[^;]*?from "([^"]+)";$/gm);
  for (const [, name = ""] of statements) {
    if (name.startsWith(".")) for (const inner of packagesOf(new URL(name, file), seen)) found.add(inner);
    else if (!name.startsWith("node:")) found.add(name);
  }
  return found;
}

test("neither express nor pg nor the metrics client is imported with the package", () => {
  const packages = [...packagesOf(new URL("./index.ts", import.meta.url))].toSorted();
  expect(packages).toEqual(["@kube-connector/core", "zod"]);
  const server = [...packagesOf(new URL("./api/server.ts", import.meta.url))];
  expect(server).toContain("express");
});
