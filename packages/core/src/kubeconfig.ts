import { Fault } from "./fault.ts";
import { Secret } from "./secret.ts";

/** What a generated kubeconfig says. */
export interface KubeconfigParts {
  /** The target's address, or the reverse door's. */
  server: string;
  /** The forward door with its user and password; absent for the reverse door. */
  proxyUrl?: Secret;
  /** Verified in the server's certificate, and sent as SNI, instead of the server's host. */
  tlsServerName?: string;
  /** PEM of the connector's CA. */
  ca: string;
  /** The request token of now. */
  token: Secret;
  /** Where client-go reads the token again, relative to the kubeconfig. */
  tokenFile?: string;
  /** The context's namespace; absent: the client's default. */
  namespace?: string;
}

/** `http://team-a%2Fprod:<tunnel token>@host`: user and password as RFC 3986 userinfo. */
export function tunnelUrl(httpAddress: string, connector: { namespace: string; name: string }, token: Secret): Secret {
  const url = new URL(httpAddress);
  const user = encodeURIComponent(`${connector.namespace}/${connector.name}`);
  return new Secret(`${url.protocol}//${user}:${encodeURIComponent(token.reveal())}@${url.host}`);
}

/**
 * The text of a kubeconfig with one cluster, user and context, all named k8s.
 * Both tokenFile and token are there: client-go prefers tokenFile and reads it again as it changes, while fabric8 (Java)
 * and client-node (JavaScript) ignore tokenFile and would go on as anonymous.
 */
export function renderKubeconfig(parts: KubeconfigParts): Secret {
  const text = (value: string) => JSON.stringify(value);
  const lines = [
    "apiVersion: v1",
    "kind: Config",
    "current-context: k8s",
    "clusters:",
    "- name: k8s",
    "  cluster:",
    `    server: ${text(parts.server)}`,
    ...(parts.proxyUrl === undefined ? [] : [`    proxy-url: ${text(parts.proxyUrl.reveal())}`]),
    ...(parts.tlsServerName === undefined ? [] : [`    tls-server-name: ${text(parts.tlsServerName)}`]),
    `    certificate-authority-data: ${Buffer.from(parts.ca).toString("base64")}`,
    "contexts:",
    "- name: k8s",
    "  context:",
    "    cluster: k8s",
    "    user: k8s",
    ...(parts.namespace === undefined ? [] : [`    namespace: ${text(parts.namespace)}`]),
    "users:",
    "- name: k8s",
    "  user:",
    ...(parts.tokenFile === undefined ? [] : [`    tokenFile: ${text(parts.tokenFile)}`]),
    `    token: ${text(parts.token.reveal())}`,
    "",
  ];
  return new Secret(lines.join("\n"));
}

/** Keys of a generated kubeconfig, each written once, with what holds it. */
const lineOf = /^ *(server|proxy-url|tls-server-name|certificate-authority-data|namespace|tokenFile|token): (.+)$/;

/**
 * A generated kubeconfig read back. Throws an `invalid_argument` Fault for any other: a kubeconfig with a credential for a
 * cluster is not what a connector's users should hand on. `file` is for the sentence.
 */
export function parseKubeconfig(text: string, file: string): KubeconfigParts {
  const values = new Map<string, string>();
  const foreign = (why: string) =>
    new Fault(
      "invalid_argument",
      `${file} is no kubeconfig that kube-connector made (${why}); take the file "kubeconfig" of a connector's volume, or the one that kube-connector standalone wrote`,
    );
  for (const line of text.split("\n")) {
    const match = lineOf.exec(line);
    if (match?.[1] === undefined || match[2] === undefined) continue;
    if (values.has(match[1])) throw foreign(`it has more than one ${match[1]}`);
    try {
      values.set(match[1], match[1] === "certificate-authority-data" ? match[2] : (JSON.parse(match[2]) as string));
    } catch {
      throw foreign(`its ${match[1]} is not in quotes`);
    }
  }
  const take = (key: string): string => {
    const value = values.get(key);
    if (value === undefined) throw foreign(`it has no ${key}`);
    return value;
  };
  const proxyUrl = values.get("proxy-url");
  const tlsServerName = values.get("tls-server-name");
  const tokenFile = values.get("tokenFile");
  const namespace = values.get("namespace");
  return {
    server: take("server"),
    ca: Buffer.from(take("certificate-authority-data"), "base64").toString("utf8"),
    token: new Secret(take("token")),
    ...(proxyUrl === undefined ? {} : { proxyUrl: new Secret(proxyUrl) }),
    ...(tlsServerName === undefined ? {} : { tlsServerName }),
    ...(tokenFile === undefined ? {} : { tokenFile }),
    ...(namespace === undefined ? {} : { namespace }),
  };
}
