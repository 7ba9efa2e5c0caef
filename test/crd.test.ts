// The CRDs in deploy/ are the schemas in packages/core: neither changes without the other.
import { readFileSync } from "node:fs";
import { customResourceDefinitions } from "@kube-connector/core";
import { expect, test } from "vitest";
import { parse } from "yaml";

for (const definition of customResourceDefinitions()) {
  const name = (definition.metadata as { name: string }).name;

  test(`deploy/crd/${name}.yaml says what the schema says`, () => {
    const file = readFileSync(new URL(`../deploy/crd/${name}.yaml`, import.meta.url), "utf8");
    expect(parse(file), "run `npm run generate`").toEqual(definition);
  });

  test(`${name} is structural: every node has a type, and nothing the API server would refuse`, () => {
    const versions = (definition.spec as { versions: { schema: { openAPIV3Schema: object } }[] }).versions;
    for (const version of versions) check(version.schema.openAPIV3Schema, name);
  });
}

function check(node: object, path: string): void {
  const schema = node as Record<string, unknown>;
  expect(schema.type, `${path} has a type`).toBeTypeOf("string");
  for (const refused of ["$ref", "$schema", "oneOf", "anyOf", "allOf", "const", "additionalProperties"]) {
    if (refused === "additionalProperties" && typeof schema[refused] === "object") continue;
    expect(schema, path).not.toHaveProperty(refused);
  }
  for (const rule of (schema["x-kubernetes-validations"] ?? []) as { message?: string }[]) {
    expect(rule.message, `a rule of ${path} has a sentence for the user`).toBeTypeOf("string");
  }
  const children = (schema.properties ?? {}) as Record<string, object>;
  for (const [key, child] of Object.entries(children))
    if (path.split(".").length > 5 || key !== "metadata") check(child, `${path}.${key}`);
  if (schema.items !== undefined) check(schema.items as object, `${path}[]`);
}
