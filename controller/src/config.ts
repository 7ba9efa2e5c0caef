import { type LogLevel, logLevels, type Options, problems, readOptions, value } from "@kube-connector/core";

export interface Config {
  namespace: string;
  proxyNamespace: string;
  sharedNamespace: string;
  proxyImage: string;
  clusterDomain: string;
  /** undefined: all namespaces. */
  namespaces?: string[];
  kubeconfig?: string;
  identity?: string;
  privateAddress: { host: string; port: number };
  logLevel: LogLevel;
  proxyLogLevel: LogLevel;
  leaderElect: boolean;
}

const dnsLabel = (text: string): string => {
  if (!/^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/.test(text)) throw new Error(`"${text}" should be a namespace's name`);
  return text;
};

/** The settings of the controller: the README's table is made from this. */
export const configOptions: Options<Config> = {
  namespace: {
    meaning: "Our own namespace: the Lease, and the Secrets with the connectors' CAs.",
    default: "kube-connector",
    parse: dnsLabel,
  },
  proxyNamespace: {
    meaning: "Where Dedicated proxies run, with their resolved Secrets.",
    default: "kube-connector-proxy",
    parse: dnsLabel,
  },
  sharedNamespace: {
    meaning:
      "Where Shared proxies run. Another than the one above, because a Shared proxy may read every Secret there.",
    default: "kube-connector-shared",
    parse: dnsLabel,
  },
  proxyImage: {
    meaning: "The image of the proxies. Required.",
    default: undefined,
    parse: (text) => {
      if (!/^[^\s]{1,512}$/.test(text)) throw new Error(`"${text}" should be an image reference`);
      return text;
    },
  },
  clusterDomain: {
    meaning: "The cluster's DNS domain, part of the addresses in a Connector's status.",
    default: "cluster.local",
    parse: (text) => {
      if (!/^[a-z0-9]([a-z0-9.-]{0,200}[a-z0-9])?$/.test(text)) throw new Error(`"${text}" should be a DNS domain`);
      return text;
    },
  },
  namespaces: {
    meaning:
      "Serve only Connectors of these namespaces, comma-separated: then a Role in each is enough to read Secrets.",
    default: undefined,
    parse: (text) => {
      const names = value.list(text).map(dnsLabel);
      if (names.length === 0) throw new Error("it should name at least one namespace");
      return [...new Set(names)];
    },
  },
  kubeconfig: {
    meaning: "A kubeconfig file, to run outside of the cluster. Without it: the pod's ServiceAccount.",
    default: undefined,
    parse: value.text,
  },
  identity: {
    meaning: "This replica's name in the Lease. Without it: a random one.",
    default: undefined,
    env: "POD_NAME",
    parse: value.text,
  },
  privateAddress: {
    meaning: "Where /livez, /readyz and /metrics listen.",
    default: "0.0.0.0:9090",
    parse: value.listen,
  },
  logLevel: { meaning: `One of ${logLevels.join(", ")}.`, default: "info", parse: value.oneOf(...logLevels) },
  proxyLogLevel: {
    meaning: "The same for the proxies. A change rolls them.",
    default: "info",
    parse: value.oneOf(...logLevels),
  },
  leaderElect: {
    meaning: "Whether replicas elect one of them. false only when there is never a second.",
    default: "true",
    parse: value.flag,
  },
};

/** Flags, then environment, then defaults; every problem at once as a Fault. */
export function readConfig(argv: readonly string[], env: Readonly<Record<string, string | undefined>>): Config {
  const config = readOptions(configOptions, argv, env);
  const wrong: string[] = [];
  if (config.proxyImage === undefined) wrong.push("--proxy-image should name the image of the proxies");
  const { namespace, proxyNamespace, sharedNamespace } = config;
  if (new Set([namespace, proxyNamespace, sharedNamespace]).size < 3) {
    wrong.push("--namespace, --proxy-namespace and --shared-namespace should be three different namespaces");
  }
  const fault = problems("The settings cannot be used", wrong);
  if (fault !== undefined) throw fault;
  return config;
}
