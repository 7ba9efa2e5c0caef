import * as z from "zod";
import { connectorClassSchema, connectorSchema } from "./connector.ts";
import { group, version } from "./names.ts";

type Json = null | boolean | number | string | Json[] | { [key: string]: Json };
type JsonObject = { [key: string]: Json };

/**
 * The two CustomResourceDefinitions, made from the zod schemas. Structural as an API server wants them: no
 * additionalProperties false (that would clash with pruning), no $schema, no bounds of safe integers.
 */
export function customResourceDefinitions(): JsonObject[] {
  return [
    definition("Connector", connectorSchema, {
      names: { plural: "connectors", singular: "connector", shortNames: ["conn"] },
      scope: "Namespaced",
      description: "Access to a Kubernetes cluster for workloads that hold no credential for it.",
      subresources: { status: {} },
      columns: [
        column("Class", ".spec.connectorClassName"),
        column("Address", ".spec.address"),
        column("Ready", '.status.conditions[?(@.type=="Ready")].status'),
        column("Reason", '.status.conditions[?(@.type=="Ready")].reason'),
        column("Age", ".metadata.creationTimestamp", "date"),
      ],
      rules: [
        {
          // c-<name> has to be a DNS label of at most 63 characters.
          rule: "self.metadata.name.matches('^[a-z0-9]([a-z0-9-]{0,59}[a-z0-9])?$')",
          message:
            "the name should be at most 61 lower-case letters, digits and dashes, as it becomes part of a Service's name",
        },
      ],
    }),
    definition("ConnectorClass", connectorClassSchema, {
      names: { plural: "connectorclasses", singular: "connectorclass", shortNames: ["connclass"] },
      scope: "Cluster",
      description: "How the Connectors that name it work: ways to authenticate, probes, and where proxies run.",
      columns: [
        column("Type", ".spec.type"),
        column("Placement", ".spec.proxy.placement"),
        column("Age", ".metadata.creationTimestamp", "date"),
      ],
      rules: [
        {
          rule: "self.metadata.name.matches('^[a-z0-9]([a-z0-9-]{0,55}[a-z0-9])?$')",
          message: "the name should be at most 57 lower-case letters, digits and dashes, as it names a Service",
        },
      ],
    }),
  ];
}

function column(name: string, jsonPath: string, type = "string"): JsonObject {
  return { name, type, jsonPath };
}

interface Parts {
  names: { plural: string; singular: string; shortNames: string[] };
  scope: string;
  description: string;
  subresources?: JsonObject;
  columns: JsonObject[];
  rules: JsonObject[];
}

function definition(kind: string, schema: z.ZodObject, parts: Parts): JsonObject {
  const { spec, status } = (
    structural(z.toJSONSchema(schema, { target: "openapi-3.0", io: "input" }) as Json) as JsonObject
  ).properties as JsonObject;
  return {
    apiVersion: "apiextensions.k8s.io/v1",
    kind: "CustomResourceDefinition",
    metadata: { name: `${parts.names.plural}.${group}` },
    spec: {
      group,
      names: { kind, listKind: `${kind}List`, ...parts.names },
      scope: parts.scope,
      versions: [
        {
          name: version,
          served: true,
          storage: true,
          ...(parts.subresources === undefined ? {} : { subresources: parts.subresources }),
          additionalPrinterColumns: parts.columns,
          schema: {
            openAPIV3Schema: {
              type: "object",
              description: parts.description,
              required: ["spec"],
              properties: {
                apiVersion: { type: "string" },
                kind: { type: "string" },
                metadata: { type: "object" },
                spec: spec ?? {},
                ...(status === undefined ? {} : { status }),
              },
              "x-kubernetes-validations": parts.rules,
            },
          },
        },
      ],
    },
  };
}

/** JSON Schema → the structural form, all the way down. */
function structural(schema: Json): Json {
  if (Array.isArray(schema)) return schema.map(structural);
  if (schema === null || typeof schema !== "object") return schema;
  const out: JsonObject = {};
  for (const [key, value] of Object.entries(schema)) {
    if (key === "$schema" || (key === "additionalProperties" && isEmptyOrFalse(value))) continue;
    // JSON Schema's integers are bounded by what JavaScript can hold; the API's are not.
    if ((key === "maximum" || key === "minimum") && Math.abs(Number(value)) === Number.MAX_SAFE_INTEGER) continue;
    if (key === "properties") {
      // An API server drops empty ones, so that each apply would see a difference.
      if (Object.keys(value as JsonObject).length > 0) out[key] = mapValues(value as JsonObject, structural);
    } else out[key] = key === "x-kubernetes-validations" ? value : structural(value);
  }
  return out;
}

function isEmptyOrFalse(value: Json): boolean {
  return value === false || (value !== null && typeof value === "object" && Object.keys(value).length === 0);
}

function mapValues(object: JsonObject, map: (value: Json) => Json): JsonObject {
  return Object.fromEntries(Object.entries(object).map(([key, value]) => [key, map(value)]));
}
