import type { Secret } from "@kube-connector/core";

// The two files that a person writes for standalone.

/** A Connector to a server that a test started, with that server's CA. */
export function connectorYaml(
  name: string,
  target: { url: string; ca: string },
  options: { namespace?: string } = {},
): string {
  return `apiVersion: connectors.cpaas.io/v1alpha1
kind: Connector
metadata:
  name: ${name}
${options.namespace === undefined ? "" : `  namespace: ${options.namespace}\n`}spec:
  connectorClassName: k8s
  address: ${target.url}
  tls:
    caBundle: ${Buffer.from(target.ca).toString("base64")}
  auth:
    name: bearerTokenAuth
    secretRef: {name: ${name}-token}
`;
}

/** The Secret that it names. */
export function secretYaml(name: string, token: Secret, options: { namespace?: string } = {}): string {
  return `apiVersion: v1
kind: Secret
metadata:
  name: ${name}-token
${options.namespace === undefined ? "" : `  namespace: ${options.namespace}\n`}type: connectors.cpaas.io/bearer-token
stringData:
  token: ${token.reveal()}
`;
}
