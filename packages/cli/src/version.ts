import manifest from "../package.json" with { type: "json" };

/** What `kube-connector version` prints: the product's version and the runtime's. */
export function describeVersion(runtime: string): string {
  return `kube-connector ${manifest.version} (Node ${runtime})`;
}
