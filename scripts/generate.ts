// Writes deploy/crd/*.yaml from the schemas in packages/core, and the JSON Schema of a run definition from packages/jobs.
// A test fails when a file and its schema differ.
import { mkdir, writeFile } from "node:fs/promises";
import { customResourceDefinitions } from "@kube-connector/core";
import { stringify } from "yaml";
import { definitionJsonSchema } from "../packages/jobs/src/definition/definition.ts";

const folder = new URL("../deploy/crd/", import.meta.url);
await mkdir(folder, { recursive: true });
for (const definition of customResourceDefinitions()) {
  const name = (definition.metadata as { name: string }).name;
  await writeFile(new URL(`${name}.yaml`, folder), renderYaml(definition));
  console.log(`deploy/crd/${name}.yaml`);
}

const runDefinition = "packages/jobs/run-definition.schema.json";
await writeFile(
  new URL(`../${runDefinition}`, import.meta.url),
  `${JSON.stringify(definitionJsonSchema(), null, 2)}\n`,
);
console.log(runDefinition);

function renderYaml(value: unknown): string {
  return `# Made by \`npm run generate\` from packages/core/src/connector.ts.\n${stringify(value, { lineWidth: 120, aliasDuplicateObjects: false })}`;
}
