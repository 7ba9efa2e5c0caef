import {
  apiVersion,
  bearerTokenSecretType,
  type Connector,
  type ConnectorClass,
  connectorClassSchema,
  connectorSchema,
  group,
  schemaProblems,
  Secret,
} from "@kube-connector/core";
import type { FoundObject } from "./documents.ts";

/** What a directory says, checked object by object. */
export interface Input {
  /** By `namespace/name`. */
  connectors: Map<string, { connector: Connector; where: string }>;
  /** By name; the class k8s is always there. */
  classes: Map<string, ConnectorClass>;
  /** By `namespace/name`. */
  secrets: Map<string, { type: string; data: Record<string, Secret> }>;
  /** Sentences, each beginning with file and line; empty when all can be used. */
  problems: string[];
  /** Objects of other kinds, as `Job/deploy (job.yaml:1)`. */
  ignored: string[];
}

/** The class that the product is installed with. */
const builtInClass: ConnectorClass = {
  metadata: { name: "k8s" },
  spec: { type: "Kubernetes", auth: [{ name: "bearerTokenAuth", secretType: bearerTokenSecretType }] },
};

export function parseInput(objects: readonly FoundObject[]): Input {
  const input: Input = {
    connectors: new Map(),
    classes: new Map([["k8s", builtInClass]]),
    secrets: new Map(),
    problems: [],
    ignored: [],
  };
  const seen = new Map<string, string>();
  for (const { where, value } of objects) {
    const add = parsers[kindOf(value)];
    if (add === undefined) {
      const name = nameOf(value);
      if (typeof value.apiVersion === "string" && value.apiVersion.startsWith(`${group}/`)) {
        input.problems.push(
          `${where}: kind ${text(value.kind)} of ${value.apiVersion} is not known; write apiVersion: ${apiVersion} and kind: Connector or ConnectorClass`,
        );
      } else if (value.kind === undefined || value.apiVersion === undefined) {
        input.problems.push(`${where}: a document should be a Kubernetes object, with apiVersion, kind and metadata`);
      } else input.ignored.push(`${text(value.kind)}/${name} (${where})`);
      continue;
    }
    const key = `${kindOf(value)} ${namespaceOf(value)}/${nameOf(value)}`;
    const first = seen.get(key);
    if (first !== undefined) {
      input.problems.push(`${where}: the ${key} is here and at ${first}; keep one of them`);
      continue;
    }
    seen.set(key, where);
    add(input, where, value);
  }
  return input;
}

type Add = (input: Input, where: string, value: Record<string, unknown>) => void;

const parsers: Record<string, Add> = {
  Connector(input, where, value) {
    const parsed = connectorSchema.safeParse(value);
    const name = nameOf(value);
    const problems = parsed.success ? [] : schemaProblems(parsed.error);
    if (!/^[a-z0-9]([a-z0-9-]{0,59}[a-z0-9])?$/.test(name)) {
      problems.push("metadata.name: should be lower-case letters, digits and dashes, at most 61 characters");
    }
    if (!/^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/.test(namespaceOf(value))) {
      problems.push("metadata.namespace: should be lower-case letters, digits and dashes, at most 63 characters");
    }
    for (const problem of problems) input.problems.push(`${where}: Connector ${name || "without a name"}: ${problem}`);
    if (!parsed.success || problems.length > 0) return;
    const namespace = namespaceOf(value);
    const connector = { ...parsed.data, metadata: { ...parsed.data.metadata, namespace } };
    input.connectors.set(`${namespace}/${name}`, { connector, where });
  },
  ConnectorClass(input, where, value) {
    const parsed = connectorClassSchema.safeParse(value);
    if (parsed.success) input.classes.set(nameOf(value), parsed.data);
    else {
      for (const problem of schemaProblems(parsed.error)) {
        input.problems.push(`${where}: ConnectorClass ${nameOf(value) || "without a name"}: ${problem}`);
      }
    }
  },
  Secret(input, where, value) {
    const name = nameOf(value);
    const wrong = (sentence: string) =>
      input.problems.push(`${where}: Secret ${name || "without a name"}: ${sentence}`);
    if (name === "") wrong("metadata.name should be there");
    if (value.type !== undefined && typeof value.type !== "string") wrong("type should be text");
    const data: Record<string, Secret> = {};
    for (const [entry, encoded] of entriesOf(value.data, () => wrong("data should be a mapping"))) {
      const bytes = typeof encoded === "string" ? decodeBase64(encoded) : undefined;
      if (bytes === undefined) wrong(`data.${entry} should be base64; for plain text use stringData`);
      else data[entry] = new Secret(bytes);
    }
    // As the API server does it: stringData overwrites data.
    for (const [entry, plain] of entriesOf(value.stringData, () => wrong("stringData should be a mapping"))) {
      if (typeof plain === "string") data[entry] = new Secret(plain);
      else wrong(`stringData.${entry} should be text; put it in quotes`);
    }
    const type = typeof value.type === "string" ? value.type : "Opaque";
    input.secrets.set(`${namespaceOf(value)}/${name}`, { type, data });
  },
};

/** Connector, ConnectorClass or Secret; empty for everything else. */
function kindOf(value: Record<string, unknown>): string {
  if (value.apiVersion === "v1" && value.kind === "Secret") return "Secret";
  const ours = value.kind === "Connector" || value.kind === "ConnectorClass";
  return value.apiVersion === apiVersion && ours ? String(value.kind) : "";
}

const metadataOf = (value: Record<string, unknown>): Record<string, unknown> =>
  typeof value.metadata === "object" && value.metadata !== null ? (value.metadata as Record<string, unknown>) : {};
const text = (value: unknown): string => (typeof value === "string" ? value : "");
const nameOf = (value: Record<string, unknown>): string => text(metadataOf(value).name);
const namespaceOf = (value: Record<string, unknown>): string => text(metadataOf(value).namespace) || "default";

function entriesOf(value: unknown, wrong: () => void): [string, unknown][] {
  if (value === undefined || value === null) return [];
  if (typeof value === "object" && !Array.isArray(value)) return Object.entries(value);
  wrong();
  return [];
}

function decodeBase64(encoded: string): string | undefined {
  const compact = encoded.replaceAll(/\s/g, "");
  if (!/^[A-Za-z0-9+/]*={0,2}$/.test(compact) || compact.length % 4 !== 0) return undefined;
  return Buffer.from(compact, "base64").toString("utf8");
}
