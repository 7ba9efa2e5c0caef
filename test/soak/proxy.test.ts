import { expect, test } from "vitest";
import { soakProxy } from "./proxy/soak.ts";
import { readSettings } from "./settings.ts";

const settings = readSettings();

test("a proxy that is used hard ends where it began, and answers nobody with what is another's", async () => {
  const { table, problems } = await soakProxy({ ...settings, say: (line) => console.log(line) });
  console.log(`\n${table.join("\n")}\n`);
  expect(problems).toEqual([]);
});
