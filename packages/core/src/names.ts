/** The API group of Connector and ConnectorClass, and the words built on it. */
export const group = "connectors.cpaas.io";
export const version = "v1alpha1";
export const apiVersion = `${group}/${version}`;

/** Types of Secret. */
export const bearerTokenSecretType = `${group}/bearer-token`;
export const serviceAccountSecretType = "kubernetes.io/service-account-token";
export const resolvedSecretType = `${group}/resolved`;

/** Labels of everything that belongs to a Connector. */
export const labels = {
  connectorNamespace: `${group}/connector-namespace`,
  connectorName: `${group}/connector-name`,
  connectorUid: `${group}/connector-uid`,
  /** On a resolved Secret: the name of the Deployment that serves it. */
  proxy: `${group}/proxy`,
  managedBy: "app.kubernetes.io/managed-by",
} as const;

/** Audiences of the two tokens that the kubelet hands to the csi-driver. */
export const tunnelAudience = "kube-connector-tunnel";
export const requestAudience = "kube-connector";

/** Files in a volume. */
export const files = {
  kubeconfig: "kubeconfig",
  kubeconfigDirect: "kubeconfig-direct",
  token: "token",
  ca: "ca.crt",
} as const;

/** The name of the Service in the connector's namespace. */
export function serviceName(connector: string): string {
  return `c-${connector}`;
}

/** The user of a ServiceAccount token, as TokenReview names it. */
export function serviceAccountUser(namespace: string, name: string): string {
  return `system:serviceaccount:${namespace}:${name}`;
}

/** The user's namespace and name when it is a ServiceAccount, else undefined. */
export function parseServiceAccountUser(user: string): { namespace: string; name: string } | undefined {
  const match = /^system:serviceaccount:([a-z0-9-]+):([a-z0-9.-]+)$/.exec(user);
  return match?.[1] === undefined || match[2] === undefined ? undefined : { namespace: match[1], name: match[2] };
}

/** The groups that TokenReview gives a ServiceAccount of that namespace. */
export function serviceAccountGroups(namespace: string): string[] {
  return ["system:serviceaccounts", `system:serviceaccounts:${namespace}`, "system:authenticated"];
}
