import {
  type Connector,
  type ConnectorClass,
  labels,
  type LogLevel,
  resolvedSecretType,
  serviceName,
} from "@kube-connector/core";
import { type Child, classLabel } from "../kube/apply.ts";

// What a Connector and a class turn into. Pure.

export interface Places {
  namespace: string;
  proxyNamespace: string;
  sharedNamespace: string;
  proxyImage: string;
  proxyLogLevel: LogLevel;
  clusterDomain: string;
}

export type Placement = "Dedicated" | "Shared";

/** The Deployment, Service, ServiceAccount, Role and RoleBinding share one name. */
export interface ChildNames {
  proxy: string;
  resolved: string;
  authority: string;
  service: string;
}

/** `<ns>--<name>`, or `x-<uid>` where that could be read in two ways or is too long. */
export function baseOf(connector: Connector): string {
  const { namespace = "default", name, uid = "" } = connector.metadata;
  const base = `${namespace}--${name}`;
  return namespace.includes("--") || name.includes("--") || base.length > 61 ? `x-${uid}` : base;
}

/** `proxy-<class>`; by uid where the class's name cannot be part of a Service's name. */
export function sharedProxyName(connectorClass: ConnectorClass): string {
  const { name, uid = "" } = connectorClass.metadata;
  return /^[a-z0-9-]{1,57}$/.test(name) ? `proxy-${name}` : `proxy-${uid}`;
}

export function childNames(connector: Connector): ChildNames {
  const base = baseOf(connector);
  return {
    proxy: `p-${base}`,
    resolved: `r-${base}`,
    authority: `ca-${base}`,
    service: serviceName(connector.metadata.name),
  };
}

export function connectorLabels(connector: Connector): Record<string, string> {
  return {
    [labels.managedBy]: "kube-connector",
    [labels.connectorNamespace]: connector.metadata.namespace ?? "default",
    [labels.connectorName]: connector.metadata.name,
    [labels.connectorUid]: connector.metadata.uid ?? "",
  };
}

/** The namespace of the proxies of that placement. */
export function proxyNamespace(placement: Placement, places: Places): string {
  return placement === "Shared" ? places.sharedNamespace : places.proxyNamespace;
}

/** The ExternalName Service beside the Connector: the name that kubeconfigs hold. */
export function connectorService(
  connector: Connector,
  proxy: { namespace: string; name: string },
  places: Places,
): Child {
  const { namespace = "default", name, uid = "" } = connector.metadata;
  return {
    kind: "Service",
    namespace,
    name: serviceName(name),
    object: {
      metadata: {
        labels: connectorLabels(connector),
        ownerReferences: [
          { apiVersion: "connectors.cpaas.io/v1alpha1", kind: "Connector", name, uid, controller: true },
        ],
      },
      spec: {
        type: "ExternalName",
        externalName: `${proxy.name}.${proxy.namespace}.svc.${places.clusterDomain}`,
        ports: [
          { name: "http", port: 80, protocol: "TCP", targetPort: 80 },
          { name: "https", port: 443, protocol: "TCP", targetPort: 443 },
        ],
      },
    },
  };
}

/** The labels of a resolved Secret; the last one names the Deployment that serves it. */
export function resolvedLabels(connector: Connector, proxy: string): Record<string, string> {
  return { ...connectorLabels(connector), [labels.proxy]: proxy };
}

export const resolvedType = resolvedSecretType;

/** The five children of a Dedicated proxy. Its Role allows its one resolved Secret. */
export function dedicatedProxy(connector: Connector, connectorClass: ConnectorClass, places: Places): Child[] {
  const names = childNames(connector);
  return proxyChildren(connectorClass, {
    image: places.proxyImage,
    namespace: places.proxyNamespace,
    name: names.proxy,
    labels: connectorLabels(connector),
    args: ["--secrets-namespace", places.proxyNamespace, "--secret-name", names.resolved, ...logging(places)],
    rules: [
      { apiGroups: [""], resources: ["secrets"], resourceNames: [names.resolved], verbs: ["get", "list", "watch"] },
    ],
  });
}

/** The five children of a class's Shared proxy. Its Role allows the Secrets of the shared namespace. */
export function sharedProxy(connectorClass: ConnectorClass, places: Places): Child[] {
  const name = sharedProxyName(connectorClass);
  return proxyChildren(connectorClass, {
    image: places.proxyImage,
    namespace: places.sharedNamespace,
    name,
    labels: { [labels.managedBy]: "kube-connector", [classLabel]: classLabelValue(connectorClass.metadata.name) },
    args: ["--secrets-namespace", places.sharedNamespace, "--secrets-selector", `${labels.proxy}=${name}`].concat(
      logging(places),
    ),
    rules: [{ apiGroups: [""], resources: ["secrets"], verbs: ["get", "list", "watch"] }],
  });
}

const logging = (places: Places) => ["--log-level", places.proxyLogLevel];

/** A class's name as a label's value, which is shorter than a name may be. */
export function classLabelValue(name: string): string {
  return name.slice(0, 63).replace(/[^a-z0-9]+$/, "");
}

interface ProxyParts {
  image: string;
  namespace: string;
  name: string;
  labels: Record<string, string>;
  args: string[];
  rules: unknown[];
}

function proxyChildren(connectorClass: ConnectorClass, parts: ProxyParts): Child[] {
  const { namespace, name } = parts;
  const selector = { "app.kubernetes.io/name": "kube-connector-proxy", [labels.proxy]: name };
  const child = (kind: Child["kind"], body: Record<string, unknown>): Child => ({
    kind,
    namespace,
    name,
    object: { metadata: { labels: { ...parts.labels, ...selector } }, ...body },
  });
  return [
    child("ServiceAccount", { automountServiceAccountToken: false }),
    child("Role", { rules: parts.rules }),
    child("RoleBinding", {
      roleRef: { apiGroup: "rbac.authorization.k8s.io", kind: "Role", name },
      subjects: [{ kind: "ServiceAccount", namespace, name }],
    }),
    child("Service", {
      spec: {
        type: "ClusterIP",
        selector,
        ports: [
          { name: "http", port: 80, protocol: "TCP", targetPort: 8080 },
          { name: "https", port: 443, protocol: "TCP", targetPort: 8443 },
        ],
      },
    }),
    child("Deployment", { spec: deploymentSpec(connectorClass, parts, selector) }),
  ];
}

function deploymentSpec(connectorClass: ConnectorClass, parts: ProxyParts, selector: Record<string, string>): unknown {
  const probe = (path: string, periodSeconds: number, failureThreshold: number) => ({
    httpGet: { path, port: "private" },
    periodSeconds,
    timeoutSeconds: 3,
    failureThreshold,
  });
  return {
    replicas: connectorClass.spec.proxy?.replicas ?? 1,
    revisionHistoryLimit: 2,
    selector: { matchLabels: selector },
    strategy: { type: "RollingUpdate", rollingUpdate: { maxUnavailable: 0, maxSurge: 1 } },
    template: {
      metadata: { labels: { ...parts.labels, ...selector } },
      spec: {
        serviceAccountName: parts.name,
        automountServiceAccountToken: true,
        enableServiceLinks: false,
        terminationGracePeriodSeconds: 60,
        securityContext: {
          runAsNonRoot: true,
          runAsUser: 65_532,
          runAsGroup: 65_532,
          seccompProfile: { type: "RuntimeDefault" },
        },
        containers: [
          {
            name: "proxy",
            image: parts.image,
            imagePullPolicy: "IfNotPresent",
            args: parts.args,
            ports: [
              { name: "forward", containerPort: 8080, protocol: "TCP" },
              { name: "reverse", containerPort: 8443, protocol: "TCP" },
              { name: "private", containerPort: 9090, protocol: "TCP" },
            ],
            readinessProbe: probe("/readyz", 2, 2),
            livenessProbe: probe("/livez", 10, 6),
            resources: connectorClass.spec.proxy?.resources ?? {
              requests: { cpu: "10m", memory: "64Mi" },
              limits: { memory: "256Mi" },
            },
            securityContext: {
              allowPrivilegeEscalation: false,
              readOnlyRootFilesystem: true,
              capabilities: { drop: ["ALL"] },
            },
          },
        ],
      },
    },
  };
}
