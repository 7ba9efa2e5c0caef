import { expect, test } from "vitest";
import { createRandom } from "../../../test/kit/random.ts";
import type { Stream } from "./stream.ts";
import { StreamsById } from "./streams-by-id.ts";

test("it holds what a Map would, whatever comes and goes", () => {
  const random = createRandom(3);
  const streams = new StreamsById();
  const map = new Map<number, Stream>();
  for (let id = 1; id < 4000; id += 2) {
    const stream = { id } as Stream;
    streams.add(id, stream);
    map.set(id, stream);
    while (map.size > 0 && random.chance(0.49)) {
      const gone = random.pick([...map.keys(), id - 1]);
      expect(streams.delete(gone)).toBe(map.delete(gone));
    }
    const some = random.number(4000);
    expect(streams.get(some)).toBe(map.get(some));
    expect(streams.size).toBe(map.size);
  }
  expect(new Set(streams.all())).toEqual(new Set(map.values()));
  expect(map.size).toBeGreaterThan(2);
  streams.clear();
  expect([streams.size, ...streams.all()]).toEqual([0]);
});

test("what is deleted while all are looked at is left out", () => {
  const streams = new StreamsById();
  for (const id of [1, 3, 5]) streams.add(id, { id } as Stream);
  const seen: number[] = [];
  for (const { id } of streams.all()) {
    seen.push(id);
    streams.delete(3);
  }
  expect(seen).toEqual([1, 5]);
});
