import { silentLog } from "@kube-connector/core";
import { expect, test } from "vitest";
import { resolvedParts } from "../../../test/kit/resolved.ts";
import { createServedConnectors } from "./served.ts";
import type { ConnectorChange } from "./source.ts";
import { parseUsable } from "./usable.ts";

// What is served follows from what the places hold, in whatever order they change: a connector that moves to another
// place, or a place that turns to another connector, is told as what it is. A listener that fails hinders nobody.

const version = async (name: string, token = "t") => parseUsable(await resolvedParts({ name, token }));

function make() {
  const served = createServedConnectors(silentLog);
  const told: (string | undefined)[][] = [];
  const nameAndToken = (one: ConnectorChange["before"]) => one && `${one.name} ${one.token?.reveal()}`;
  served.subscribe(({ before, after }) => told.push([nameAndToken(before), nameAndToken(after)]));
  return { served, told };
}

test("a place that turns to another connector takes one away and brings another", async () => {
  const { served, told } = make();
  served.put("place", await version("one"));
  served.put("place", await version("two"));
  expect(told).toEqual([
    [undefined, "one t"],
    ["one t", undefined],
    [undefined, "two t"],
  ]);
  expect(served.get("team-a/one")).toBeUndefined();
});

test("a connector that is copied to a second place is away until the first one is gone", async () => {
  const { served, told } = make();
  served.put("first", await version("one", "a"));
  served.put("second", await version("one", "b"));
  expect(served.all()).toEqual([]);
  served.put("first", undefined);
  expect(told.at(-1)).toEqual([undefined, "one b"]);
  served.put("second", undefined);
  expect([served.all(), served.places()]).toEqual([[], []]);
});

test("a place that holds nothing any more, twice, is one change", async () => {
  const { served, told } = make();
  served.put("place", await version("one"));
  served.put("place", undefined);
  served.put("place", undefined);
  expect(told).toHaveLength(2);
});

test("a listener that throws hinders neither the others nor the source", async () => {
  const { served, told } = make();
  served.subscribe(() => {
    throw new Error("broken");
  });
  const after: unknown[] = [];
  served.subscribe((change) => after.push(change));
  served.put("place", await version("one"));
  expect([told.length, after.length]).toEqual([1, 1]);
});

test("the last of four thousand connectors costs no more than the first ones", async () => {
  const { served } = make();
  const one = await version("one");
  const thousands: number[] = [];
  for (let thousand = 0; thousand < 4; thousand += 1) {
    const started = performance.now();
    for (let count = 0; count < 1_000; count += 1) {
      const name = `c${thousand * 1_000 + count}`;
      served.put(`place-${name}`, { connector: { ...one.connector, name }, fingerprint: `${one.fingerprint}${name}` });
    }
    thousands.push(performance.now() - started);
  }
  expect(served.all()).toHaveLength(4_000);
  // Work that grew with the number of connectors would make it seven times.
  expect(Math.min(...thousands.slice(2)) / Math.max(...thousands.slice(0, 2), 1)).toBeLessThan(4);
});
