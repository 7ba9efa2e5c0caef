// Writes deploy/crd/*.yaml from the schemas in packages/core. A test fails when a file and its schema differ.
import { mkdir, writeFile } from "node:fs/promises";
import { customResourceDefinitions } from "@kube-connector/core";
import { stringify } from "yaml";

const folder = new URL("../deploy/crd/", import.meta.url);
await mkdir(folder, { recursive: true });
for (const definition of customResourceDefinitions()) {
  const name = (definition.metadata as { name: string }).name;
  await writeFile(new URL(`${name}.yaml`, folder), renderYaml(definition));
  console.log(`deploy/crd/${name}.yaml`);
}

function renderYaml(value: unknown): string {
  return `# Made by \`npm run generate\` from packages/core/src/connector.ts.\n${stringify(value, { lineWidth: 120, aliasDuplicateObjects: false })}`;
}
