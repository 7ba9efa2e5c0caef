import { readFile } from "node:fs/promises";

/** The product's version, from its package. */
export async function readVersion(): Promise<string> {
  const text = await readFile(new URL("../package.json", import.meta.url), "utf8");
  return (JSON.parse(text) as { version: string }).version;
}

/** What `kube-connector version` prints. */
export async function describeVersion(runtime: string): Promise<string> {
  return `kube-connector ${await readVersion()} (Node ${runtime})`;
}
