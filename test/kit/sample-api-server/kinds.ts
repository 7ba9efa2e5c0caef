import type { KubeObject } from "@kube-connector/core";

// The kinds that the sample API server knows, all of the core group, and how a Table shows them.

export interface Column {
  name: string;
  /** 0: always shown; 1: with -o wide. */
  priority: 0 | 1;
  cell: (object: KubeObject, now: number) => string | number;
}

export interface Kind {
  kind: string;
  /** The plural, as in the path. */
  resource: string;
  singular: string;
  shortNames: readonly string[];
  categories?: readonly string[];
  namespaced: boolean;
  columns: readonly Column[];
}

type Fields = Record<string, unknown>;

/** A field of an object as a map, empty when it is none. */
export const fieldsOf = (value: unknown): Fields =>
  typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Fields) : {};
const listOf = (value: unknown): Fields[] => (Array.isArray(value) ? (value as Fields[]) : []);
const textOf = (value: unknown, otherwise = "<none>"): string =>
  typeof value === "string" && value !== "" ? value : otherwise;

const column = (name: string, cell: Column["cell"], priority: 0 | 1 = 0): Column => ({ name, priority, cell });
const nameColumn = column("Name", (object) => object.metadata.name);
const ageColumn = column("Age", (object, now) => age(now - Date.parse(textOf(object.metadata.creationTimestamp, ""))));
const entries = (object: KubeObject) =>
  Object.keys(fieldsOf(object.data)).length + Object.keys(fieldsOf(object.binaryData)).length;

/** Milliseconds → 5s, 3m20s, 2h, 4d, as kubectl writes ages. */
export function age(milliseconds: number): string {
  const seconds = Math.max(0, Math.floor(milliseconds / 1000));
  if (Number.isNaN(seconds)) return "<unknown>";
  if (seconds < 120) return `${seconds}s`;
  if (seconds < 600) return `${Math.floor(seconds / 60)}m${seconds % 60 === 0 ? "" : `${seconds % 60}s`}`;
  if (seconds < 3 * 3600) return `${Math.floor(seconds / 60)}m`;
  return seconds < 2 * 86_400 ? `${Math.floor(seconds / 3600)}h` : `${Math.floor(seconds / 86_400)}d`;
}

function podStatus(pod: KubeObject): string {
  return pod.metadata.deletionTimestamp === undefined ? textOf(fieldsOf(pod.status).phase, "Pending") : "Terminating";
}

function readyContainers(pod: KubeObject): string {
  const containers = listOf(fieldsOf(pod.spec).containers);
  const ready = listOf(fieldsOf(pod.status).containerStatuses).filter((status) => status.ready === true);
  return `${ready.length}/${containers.length}`;
}

export const kinds: readonly Kind[] = [
  {
    kind: "Namespace",
    resource: "namespaces",
    singular: "namespace",
    shortNames: ["ns"],
    namespaced: false,
    columns: [nameColumn, column("Status", (object) => textOf(fieldsOf(object.status).phase, "Active")), ageColumn],
  },
  {
    kind: "Pod",
    resource: "pods",
    singular: "pod",
    shortNames: ["po"],
    categories: ["all"],
    namespaced: true,
    columns: [
      nameColumn,
      column("Ready", readyContainers),
      column("Status", podStatus),
      column("Restarts", () => "0"),
      ageColumn,
      column("IP", (pod) => textOf(fieldsOf(pod.status).podIP), 1),
      column("Node", (pod) => textOf(fieldsOf(pod.spec).nodeName), 1),
      column("Nominated Node", () => "<none>", 1),
      column("Readiness Gates", () => "<none>", 1),
    ],
  },
  {
    kind: "ConfigMap",
    resource: "configmaps",
    singular: "configmap",
    shortNames: ["cm"],
    namespaced: true,
    columns: [nameColumn, column("Data", entries), ageColumn],
  },
  {
    kind: "Secret",
    resource: "secrets",
    singular: "secret",
    shortNames: [],
    namespaced: true,
    columns: [
      nameColumn,
      column("Type", (object) => textOf(object.type, "Opaque")),
      column("Data", entries),
      ageColumn,
    ],
  },
  {
    kind: "Event",
    resource: "events",
    singular: "event",
    shortNames: ["ev"],
    namespaced: true,
    columns: [
      column("Last Seen", (event, now) => age(now - Date.parse(textOf(event.lastTimestamp, "")))),
      column("Type", (event) => textOf(event.type, "Normal")),
      column("Reason", (event) => textOf(event.reason)),
      column("Object", (event) => {
        const about = fieldsOf(event.involvedObject);
        return `${textOf(about.kind).toLowerCase()}/${textOf(about.name)}`;
      }),
      column("Message", (event) => textOf(event.message)),
      column("Name", (event) => event.metadata.name, 1),
    ],
  },
];

export const kindOf = (resource: string): Kind | undefined => kinds.find((kind) => kind.resource === resource);

/** A meta.k8s.io/v1 Table of these objects; without columns for the later events of a watch, as an API server does. */
export function tableOf(
  kind: Kind,
  objects: readonly KubeObject[],
  options: { resourceVersion: string; withColumns: boolean; withObject: boolean; now: number },
): Record<string, unknown> {
  const columnDefinitions = kind.columns.map(({ name, priority }) => ({
    name,
    type: name === "Data" ? "integer" : "string",
    format: name === "Name" ? "name" : "",
    description: "",
    priority,
  }));
  return {
    kind: "Table",
    apiVersion: "meta.k8s.io/v1",
    metadata: { resourceVersion: options.resourceVersion },
    columnDefinitions: options.withColumns ? columnDefinitions : [],
    rows: objects.map((object) => ({
      cells: kind.columns.map((one) => one.cell(object, options.now)),
      object: options.withObject
        ? object
        : { kind: "PartialObjectMetadata", apiVersion: "meta.k8s.io/v1", metadata: object.metadata },
    })),
  };
}
