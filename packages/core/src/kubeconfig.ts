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
