import { Fault } from "@kube-connector/core";
import type { NodePublishVolumeRequest } from "./gen/csi_pb.ts";

// What a request may say, as pure checks: each refusal is a sentence for the person who wrote the pod.

/** Where a volume is. */
export interface Place {
  volumeId: string;
  /** `<kubelet>/pods/<uid>/volumes/kubernetes.io~csi/<name>/mount` */
  path: string;
  /** The path below the kubelet's root, beginning with a slash. */
  below: string;
  podUid: string;
}

/** What a publish asks for, apart from its tokens. */
export interface Wanted {
  connector: { namespace: string; name: string };
  configurations: readonly Configuration[];
  pod: { uid: string; namespace: string; name: string; serviceAccount: string };
  /** The files' group, with mode 0440; undefined: root's, with mode 0644. */
  group: number | undefined;
  /** The mount option `context=...` when the kubelet gave one. */
  context: string | undefined;
}

export const configurations = ["kubeconfig", "kubeconfig-direct"] as const;
export type Configuration = (typeof configurations)[number];

/** The attributes that a pod's author writes. */
export const attributes = {
  name: "connector.name",
  namespace: "connector.namespace",
  configurations: "configuration.names",
} as const;

/** What the kubelet adds because the CSIDriver object says podInfoOnMount and tokenRequests. */
export const kubeletAttributes = {
  podName: "csi.storage.k8s.io/pod.name",
  podNamespace: "csi.storage.k8s.io/pod.namespace",
  podUid: "csi.storage.k8s.io/pod.uid",
  serviceAccount: "csi.storage.k8s.io/serviceAccount.name",
  ephemeral: "csi.storage.k8s.io/ephemeral",
  tokens: "csi.storage.k8s.io/serviceAccount.tokens",
} as const;

const wrong = (sentence: string) => new Fault("invalid_argument", sentence);
const quoted = (text: string) => JSON.stringify(text.slice(0, 200));

/** Volume id and path → place. Both come from the kubelet; anything else is refused before the file system is touched. */
export function parsePlace(volumeId: string, path: string, kubeletRoot: string): Place {
  if (volumeId === "") throw wrong("The request has no volume id");
  if (path === "") throw wrong("The request has no path");
  if (!/^csi-[0-9a-f]{64}$/.test(volumeId)) {
    throw wrong(`The volume id ${quoted(volumeId)} is not that of an inline volume: csi- and 64 hexadecimal digits`);
  }
  const below = path.startsWith(`${kubeletRoot}/`) ? path.slice(kubeletRoot.length) : "";
  const match = /^\/pods\/([A-Za-z0-9-]{1,64})\/volumes\/kubernetes\.io~csi\/([a-z0-9][a-z0-9-]{0,62})\/mount$/.exec(
    below,
  );
  if (match?.[1] === undefined) {
    const form = `${kubeletRoot}/pods/<uid>/volumes/kubernetes.io~csi/<name>/mount`;
    throw wrong(
      `The path ${quoted(path)} is not of the form ${form}; if the kubelet has another root, set --kubelet-root`,
    );
  }
  return { volumeId, path, below, podUid: match[1] };
}

/** The rest of a publish request → what is wanted. */
export function parseWanted(request: NodePublishVolumeRequest): Wanted {
  const { volumeContext: given, volumeCapability: capability } = request;
  if (capability === undefined) throw wrong("The request has no volume capability");
  if (capability.accessType.case === "block") {
    throw wrong("The volume holds files, so it cannot be a block device: use volumeMounts, not volumeDevices");
  }
  if (given[kubeletAttributes.ephemeral] !== "true") {
    throw wrong("The volume should be inline in the pod (spec.volumes[].csi); persistent volumes are not supported");
  }
  if (!request.readonly) throw wrong("The volume cannot be written; set readOnly: true in the pod's csi volume");
  const known: readonly string[] = Object.values(attributes);
  for (const key of Object.keys(given)) {
    if (key.startsWith("csi.storage.k8s.io/") || known.includes(key)) continue;
    throw wrong(`The volume attribute ${quoted(key)} is not known; known are ${known.join(", ")}`);
  }
  const pod = parsePod(given);
  const mount = capability.accessType.case === "mount" ? capability.accessType.value : undefined;
  return {
    pod,
    connector: parseConnectorName(given, pod.namespace),
    configurations: parseConfigurations(given[attributes.configurations]),
    group: parseGroup(mount?.volumeMountGroup ?? ""),
    context: parseMountFlags(mount?.mountFlags ?? []),
  };
}

function parsePod(given: Record<string, string>): Wanted["pod"] {
  const read = (key: string) => {
    const text = given[key];
    if (text !== undefined && /^[A-Za-z0-9][A-Za-z0-9.-]{0,252}$/.test(text)) return text;
    throw wrong(`The request has no usable ${key}; the CSIDriver object should say podInfoOnMount: true`);
  };
  return {
    uid: read(kubeletAttributes.podUid),
    namespace: read(kubeletAttributes.podNamespace),
    name: read(kubeletAttributes.podName),
    serviceAccount: read(kubeletAttributes.serviceAccount),
  };
}

function parseConnectorName(given: Record<string, string>, podNamespace: string): Wanted["connector"] {
  const name = given[attributes.name] ?? "";
  const namespace = given[attributes.namespace] || podNamespace;
  if (name === "") throw wrong(`The volume attribute ${attributes.name} is missing: the name of a Connector`);
  if (!/^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$/.test(name)) {
    throw wrong(`The volume attribute ${attributes.name} is ${quoted(name)}, which is no name of a Connector`);
  }
  if (!/^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/.test(namespace)) {
    throw wrong(
      `The volume attribute ${attributes.namespace} is ${quoted(namespace)}, which is no name of a namespace`,
    );
  }
  return { namespace, name };
}

function parseConfigurations(text: string | undefined): readonly Configuration[] {
  if (text === undefined || text === "") return ["kubeconfig"];
  const found = text.split(",").map((part) => {
    const name = part.trim();
    const one = configurations.find((configuration) => configuration === name);
    if (one !== undefined) return one;
    throw wrong(
      `The volume attribute ${attributes.configurations} names ${quoted(name)}; known are ${configurations.join(", ")}`,
    );
  });
  return configurations.filter((one) => found.includes(one));
}

function parseGroup(text: string): number | undefined {
  if (text === "") return undefined;
  const group = /^\d{1,10}$/.test(text) ? Number(text) : Number.NaN;
  if (group < 4_294_967_295) return group;
  throw wrong(`The pod's fsGroup ${quoted(text)} is no group id`);
}

function parseMountFlags(flags: readonly string[]): string | undefined {
  for (const flag of flags) {
    if (/^context=("[A-Za-z0-9_.:,-]+"|[A-Za-z0-9_.:-]+)$/.test(flag)) continue;
    throw wrong(`The mount option ${quoted(flag)} is not supported; only context= is`);
  }
  if (flags.length > 1) throw wrong("The mount option context= was given more than once");
  return flags[0];
}
