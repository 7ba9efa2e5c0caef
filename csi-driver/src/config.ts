import { isAbsolute, normalize } from "node:path";
import { type LogLevel, logLevels, type Options, readOptions, value } from "@kube-connector/core";

/** The settings of the process. */
export interface Config {
  kubeletRoot: string;
  driverName: string;
  nodeId: string | undefined;
  registration: "own" | "sidecar";
  privateAddress: { host: string; port: number };
  kubeconfig: string | undefined;
  logLevel: LogLevel;
}

export const options: Options<Config> = {
  kubeletRoot: {
    meaning: "The kubelet's root folder on this node, the same path inside the container and outside.",
    default: "/var/lib/kubelet",
    parse: (text) => {
      const path = normalize(text).replace(/\/$/, "");
      // A unix socket's path has at most 107 bytes.
      if (isAbsolute(text) && path !== "" && Buffer.byteLength(path) <= 60) return path;
      throw new Error(`"${text}" should be an absolute path of at most 60 bytes`);
    },
  },
  driverName: {
    meaning: "The driver's name, the same as that of the CSIDriver object.",
    default: "connectors-csi",
    parse: (text) => {
      if (/^[a-z0-9]([a-z0-9.-]{0,28}[a-z0-9])?$/.test(text)) return text;
      throw new Error(`"${text}" should be at most 30 lower-case letters, digits, dots and dashes`);
    },
  },
  nodeId: {
    meaning: "The node's name, from the downward API (spec.nodeName). Required.",
    default: undefined,
    env: "NODE_NAME",
    parse: (text) => {
      if (/^[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?$/.test(text)) return text;
      throw new Error(`"${text.slice(0, 300)}" should be the name of a node`);
    },
  },
  registration: {
    meaning: "own: the driver registers itself with the kubelet. sidecar: node-driver-registrar does.",
    default: "own",
    parse: value.oneOf("own", "sidecar"),
  },
  privateAddress: {
    meaning: "Where /livez, /readyz and /metrics are served, host:port.",
    default: "0.0.0.0:9808",
    parse: value.listen,
  },
  kubeconfig: {
    meaning: "A kubeconfig for the hosting cluster; without it the pod's own ServiceAccount is used.",
    default: undefined,
    parse: value.text,
  },
  logLevel: {
    meaning: "The least level that is logged. debug also shows each request, with secrets masked.",
    default: "info",
    parse: value.oneOf(...logLevels),
  },
};

/** Flag, then environment, then default; all problems at once. */
export function readConfig(argv: readonly string[], env: Readonly<Record<string, string | undefined>>): Config {
  return readOptions(options, argv, env);
}
