// Reduced objects as a Table, which is what kubectl get asks for: their names and when they were made. The target's own tables
// are of no use here, as their cells may show content.

type Json = { readonly [key: string]: unknown };

const columnDefinitions = [
  { name: "Name", type: "string", format: "name", description: "Name of the object.", priority: 0 },
  { name: "Created At", type: "date", format: "", description: "When the object was made.", priority: 0 },
];

/** A Table without its rows. */
export function tableHead(metadata: unknown): Json {
  return { kind: "Table", apiVersion: "meta.k8s.io/v1", metadata, columnDefinitions };
}

/** A reduced object as a row. */
export function tableRow(object: Json): Json {
  const { name, creationTimestamp } = object.metadata as Json;
  return { cells: [name ?? "", creationTimestamp ?? ""], object };
}

/** One reduced object as a Table. */
export function tableOf(object: Json): Json {
  const { resourceVersion } = object.metadata as Json;
  return { ...tableHead({ resourceVersion }), rows: [tableRow(object)] };
}
