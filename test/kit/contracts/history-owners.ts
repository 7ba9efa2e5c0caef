import { setTimeout as wait } from "node:timers/promises";
import type { RunRecord, RunState } from "@kube-connector/jobs";
import { expect, test } from "vitest";
import { at, codeOf, type HistoryUnderTest, owner, startHistory } from "../history-under-test.ts";
import { testRun, testRunId } from "../runs.ts";

/** Who works on what: requests, leases, claims. */
export function historyOwnersContract(make: () => Promise<HistoryUnderTest>) {
  const start = () => startHistory(make);

  test("a request shows at once, changes no version, and is told to the owner until a save holds it", async () => {
    const { store, open } = await start();
    const other = await open();
    const { record } = await store.create(testRun(1), {}, owner);
    await store.create(testRun(2), {}, owner);
    const cancel = { at, propagation: "Background", force: false } as const;
    expect(await other.request(record.id, { cancel })).toEqual({ ...record, cancel });
    expect(await other.request(record.id, { suspend: false })).toEqual({ ...record, cancel, suspend: false });
    expect((await other.list({ limit: 5 })).runs.at(-1)).toMatchObject({ cancel, suspend: false, version: 1 });
    expect(await store.requests(owner)).toEqual([record.id]);
    // The owner was at something else and knows nothing of it yet.
    const later = await store.save({ ...record, reason: "Later" }, [], owner);
    expect(await store.requests(owner)).toEqual([record.id]);
    expect(await store.read(record.id)).toEqual({ ...later, cancel, suspend: false });
    const taken = await store.save(
      { ...later, cancel: { force: false, at, propagation: "Background" }, suspend: false },
      [],
      owner,
    );
    expect(await store.requests(owner)).toEqual([]);
    expect(await store.read(record.id)).toEqual(taken);
    const forced = { ...cancel, force: true };
    await other.request(record.id, { cancel: forced });
    expect(await store.requests(owner)).toEqual([record.id]);
    expect(await other.requests("engine-b")).toEqual([]);
    expect(await codeOf(other.request(testRunId(77), { cancel }))).toBe("not_found");
    await store.release(owner);
    expect(await other.claim("engine-b", 5, 30)).toMatchObject([
      { id: record.id, cancel: forced },
      { id: testRun(2).id },
    ]);
  });

  test("a lease ends by the database's clock; then another takes the run, and the first can save no more", async () => {
    const { store, open } = await start();
    const other = await open();
    const { record } = await store.create(testRun(1), {}, owner);
    const { record: second } = await store.create(testRun(2), {}, owner);
    expect(await other.claim("engine-b", 9, 30)).toEqual([]);
    expect(await store.renew(owner, 0.3)).toEqual([record.id, second.id]);
    await wait(400);
    expect(await codeOf(store.save(record, [], owner))).toBe("conflict");
    expect(await other.claim("engine-b", 1, 30)).toEqual([record]);
    // What nobody took is the owner's again.
    expect(await store.renew(owner, 30)).toEqual([second.id]);
    expect((await store.save(second, [], owner)).version).toBe(2);
    expect(await codeOf(store.save(record, [], owner))).toBe("conflict");
    expect((await other.save(record, [], "engine-b")).version).toBe(2);
    expect(await store.claim(owner, 9, 30)).toEqual([]);
  });

  test("runs that are given back are taken by others; done ones only by id", async () => {
    const { store, open } = await start();
    const other = await open();
    const states: [RunState, RunRecord["cleanup"]["state"]][] = [
      ["Running", "Pending"],
      ["Succeeded", "Pending"],
      ["Succeeded", "Done"],
      ["Failed", "Kept"],
    ];
    const made = await Promise.all(
      states.map(([state, cleanup], count) =>
        store.create(testRun(count, { state, cleanup: { state: cleanup } }), {}, owner),
      ),
    );
    const ids = made.map(({ record }) => record.id);
    await store.release(owner, [ids[3] ?? ""]);
    expect(await store.renew(owner, 30)).toEqual(ids.slice(0, 3));
    await store.release(owner);
    expect(await store.renew(owner, 30)).toEqual([]);
    const claimed = await other.claim("engine-b", 9, 30);
    expect(claimed.map(({ id }) => id)).toEqual(ids.slice(0, 2));
    const byId = await other.claim("engine-b", 9, 30, [ids[3] ?? "", ids[0] ?? ""]);
    expect(byId.map(({ id }) => id)).toEqual([ids[3]]);
  });

  test("owners that have died leave nothing behind once their runs are taken", async () => {
    const { store, sql, schema } = await start();
    for (let count = 0; count < 5; count += 1) {
      const dead = `dead-${count}`;
      await store.renew(dead, 0.001);
      await store.create(testRun(count), {}, dead);
      await store.create(testRun(count + 10, { state: "Lost", cleanup: { state: "Done" } }), {}, dead);
    }
    await wait(20);
    expect(await store.claim(owner, 9, 30)).toHaveLength(5);
    await store.claim(owner, 9, 30);
    expect(await sql(`SELECT DISTINCT owner FROM ${schema}owners`)).toMatchObject([{ owner }]);
    expect(await sql(`SELECT DISTINCT owner FROM ${schema}runs WHERE owner IS NOT NULL`)).toMatchObject([{ owner }]);
  });

  test("of processes that compete for the same runs each gets others, and together they get all", async () => {
    const { store, open } = await start();
    const stores = [store, await open(), await open()];
    await Promise.all(Array.from({ length: 90 }, (_, count) => store.create(testRun(count), {}, "dead")));
    // Each time as new processes, of which the others cannot know yet.
    for (let round = 0; round < 20; round++) {
      const got = stores.map(() => [] as string[]);
      while (got.flat().length < 90) {
        const before = got.flat().length;
        await Promise.all(
          stores.map(async (one, index) => {
            got[index]?.push(...(await one.claim(`claimer-${round}-${index}`, 7, 30)).map(({ id }) => id));
          }),
        );
        expect(got.flat().length).toBeGreaterThan(before);
      }
      expect(got.flat().length).toBe(90);
      for (const [index, one] of stores.entries()) {
        expect(await one.renew(`claimer-${round}-${index}`, 30)).toEqual(got[index]?.sort());
        await one.release(`claimer-${round}-${index}`);
      }
    }
  });
}
