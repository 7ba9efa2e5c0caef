import { expect, test } from "vitest";
import { soakProxy } from "../soak/proxy/soak.ts";

// The short form of `make soak`: the same code for twenty seconds.

test("the short form of the soak: the proxy ends where it began, and answers nobody with what is another's", async () => {
  const said: string[] = [];
  const { table, problems } = await soakProxy({ seconds: 20, seed: 1, say: (line) => said.push(line) });
  expect(problems, [...said, ...table].join("\n")).toEqual([]);
});
