import { getJson, kubectlOk } from "./kubectl.ts";

interface Named {
  metadata: { namespace?: string; name: string; annotations?: Record<string, string> };
}

/** All forms in which a token could stand somewhere: itself, its signature alone, base64. */
export function formsOf(token: string): string[] {
  const signature = token.split(".")[2];
  const base64 = Buffer.from(token).toString("base64");
  return [token, base64.slice(0, -4), ...(signature === undefined || signature.length < 40 ? [] : [signature])];
}

/** The places in the hosting cluster, Secrets apart, where one of the tokens can be read. */
export async function findLeaks(tokens: readonly string[]): Promise<string[]> {
  const forms = tokens.flatMap(formsOf);
  const leaks: string[] = [];
  const look = (place: string, text: string) => {
    if (forms.some((form) => text.includes(form))) leaks.push(place);
  };
  for (const [place, text] of await logs()) look(`log of ${place}`, text);
  const kinds =
    "connectors,connectorclasses,events,configmaps,pods,deployments,daemonsets,services,serviceaccounts,leases,roles";
  look("objects", await kubectlOk(["get", kinds, "-A", "-o", "yaml"], { timeout: 60_000 }));
  const { items } = await getJson<{ items: Named[] }>(["secrets", "-A"]);
  for (const { metadata } of items) {
    // The admin's own annotation is theirs; labels, names and annotations of what we made are not to hold a token.
    const { "kubectl.kubernetes.io/last-applied-configuration": _, ...annotations } = metadata.annotations ?? {};
    look(`metadata of Secret ${metadata.namespace}/${metadata.name}`, JSON.stringify({ ...metadata, annotations }));
  }
  return leaks;
}

/** What every container of ours has printed, the one before its last restart too. */
export async function logs(): Promise<[string, string][]> {
  const found: [string, string][] = [];
  for (const namespace of ["kube-connector", "kube-connector-proxy", "kube-connector-shared", "kube-connector-csi"]) {
    const names = (await kubectlOk(["-n", namespace, "get", "pods", "-o", "name"])).trim().split("\n").filter(Boolean);
    for (const name of names) {
      for (const previous of ["false", "true"]) {
        const text = await kubectlOk(["-n", namespace, "logs", name, `--previous=${previous}`]).catch(() => "");
        found.push([`${namespace}/${name.replace("pod/", "")}`, text]);
      }
    }
  }
  return found;
}

/** The stored tokens of all Connectors, and everything else that the admin's Secrets hold under `token`. */
export async function storedTokens(): Promise<string[]> {
  const selector = "--field-selector=type=connectors.cpaas.io/bearer-token";
  const { items } = await getJson<{ items: { data?: { token?: string } }[] }>(["secrets", "-A", selector]);
  return items
    .map(({ data }) => Buffer.from(data?.token ?? "", "base64").toString())
    .filter((token) => token.length > 20);
}
