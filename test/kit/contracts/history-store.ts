import type { Fault } from "@kube-connector/core";
import { type RunQuery, runStates, type Store } from "@kube-connector/jobs";
import { expect, onTestFinished, test } from "vitest";
import { createRandom } from "../random.ts";
import { at, codeOf, type HistoryUnderTest, owner, startHistory } from "../history-under-test.ts";
import { testRun, testRunId } from "../runs.ts";
import { historyOwnersContract } from "./history-owners.ts";

/** What every history store does, as the docstrings of `Store` say it. */
export function historyStoreContract(make: () => Promise<HistoryUnderTest>) {
  const start = () => startHistory(make);

  test("what was created is there as it was given, for another process too, under one engine id", async () => {
    const { store, open } = await start();
    const record = testRun(1, {
      outputs: { rows: "42" },
      source: { kind: "Job", namespace: "batch", name: "tidy", used: "Live" },
      attempts: [
        { number: 1, job: "report-1", manifest: { spec: { parallelism: 2 } }, fingerprint: "sha256:0", exits: [] },
      ],
    });
    expect(await store.create(record, {}, owner)).toEqual({ record, created: true });
    const other = await open();
    expect(await other.read(record.id)).toEqual(record);
    expect(await other.read(testRunId(2))).toBeUndefined();
    expect(store.engine).toMatch(/^[a-z0-9]{10}$/);
    expect(other.engine).toBe(store.engine);
    const { attempts: _, definition: __, outputs: ___, ...short } = record;
    expect((await other.list({ limit: 10 })).runs).toEqual([{ ...short, attempt: 1, job: "report-1" }]);
    expect(await codeOf(store.create(record, {}, owner))).toBe("conflict");
  });

  test("one run key makes one run, also when two processes ask many times at once", async () => {
    const { store, open } = await start();
    const other = await open();
    const asked = Array.from({ length: 40 }, (_, count) =>
      (count % 2 === 0 ? store : other).create(testRun(count), { runKey: `day-${count % 3}` }, owner),
    );
    const answers = await Promise.all(asked);
    expect(answers.filter(({ created }) => created)).toHaveLength(3);
    for (const [count, { record }] of answers.entries())
      expect(record).toEqual(answers.find((_, first) => first % 3 === count % 3)?.record);
    expect((await store.list({ limit: 100 })).runs).toHaveLength(3);
  });

  test("a request that is repeated finds its run, and its key on another body is a conflict", async () => {
    const { store, open } = await start();
    const other = await open();
    const keys = { idempotency: { key: "abc", digest: "one" } };
    const asked = Array.from({ length: 20 }, (_, count) =>
      (count % 2 === 0 ? store : other).create(testRun(count), keys, owner),
    );
    const answers = await Promise.all(asked);
    expect(answers.filter(({ created }) => created)).toHaveLength(1);
    expect(new Set(answers.map(({ record }) => record.id)).size).toBe(1);
    const wrong = { idempotency: { key: "abc", digest: "two" } };
    expect(await codeOf(store.create(testRun(30), wrong, owner))).toBe("conflict");
    expect((await store.list({ limit: 100 })).runs).toHaveLength(1);
  });

  test("a new request with the run key of an old run is bound to that run", async () => {
    const { store } = await start();
    await store.create(testRun(1), { runKey: "day" }, owner);
    const keys = { runKey: "day", idempotency: { key: "abc", digest: "one" } };
    expect(await store.create(testRun(2), keys, owner)).toMatchObject({
      created: false,
      record: { id: testRun(1).id },
    });
    const again = await store.create(testRun(3), { idempotency: keys.idempotency }, owner);
    expect(again).toMatchObject({ created: false, record: { id: testRun(1).id } });
  });

  test("a save raises the version; one from an older version keeps nothing, its events neither", async () => {
    const { store } = await start();
    const { record } = await store.create(testRun(1), {}, owner);
    const event = { at, type: "state", message: "It runs", data: { state: "Running" } } as const;
    const second = await store.save({ ...record, state: "Running" }, [event, { ...event, message: "still" }], owner);
    expect(second.version).toBe(2);
    expect(await codeOf(store.save({ ...record, state: "Failed" }, [event], owner))).toBe("conflict");
    expect(await store.read(record.id)).toEqual(second);
    await store.save(second, [{ ...event, type: "end", message: "done" }], owner);
    expect(await store.events(record.id, 0, 10)).toEqual([
      { ...event, number: 1 },
      { ...event, number: 2, message: "still" },
      { ...event, number: 3, type: "end", message: "done" },
    ]);
    expect((await store.events(record.id, 1, 1)).map(({ number }) => number)).toEqual([2]);
    expect(await codeOf(store.save(testRun(9), [], owner))).toBe("not_found");
  });

  test("of many calls at once those that cannot be kept fail alone", async () => {
    const { store } = await start();
    const made = await Promise.all(Array.from({ length: 250 }, (_, count) => store.create(testRun(count), {}, owner)));
    const bad = new Map<number, string>([
      [7, "conflict"],
      [8, "internal"],
      [150, "invalid_argument"],
      [151, "conflict"],
      [249, "not_found"],
    ]);
    const results = await Promise.allSettled(
      made.map(({ record }, count) => {
        if (count === 7) return store.save({ ...record, version: 5 }, [], owner);
        if (count === 8) return store.save({ ...record, attempts: [{ manifest: { size: 1n } }] as never }, [], owner);
        if (count === 150) return store.create(testRun(900), { runKey: "a\0b" }, owner);
        if (count === 151) return store.save(record, [], "somebody");
        if (count === 249) return store.save({ ...record, id: testRunId(999) }, [], owner);
        return store.save(record, [{ at, type: "state", message: `saved ${count}`, data: {} }], owner);
      }),
    );
    const wrong = results.flatMap((result, count) =>
      result.status === "rejected" ? [[count, (result.reason as Fault).code] as const] : [],
    );
    expect(wrong).toEqual([...bad]);
    const kept = await Promise.all(made.map(({ record }) => store.read(record.id)));
    expect(kept.filter((record) => record?.version === 2)).toHaveLength(245);
    expect(await store.events(made[100]?.record.id ?? "", 0, 9)).toMatchObject([{ number: 1, message: "saved 100" }]);
  });

  test("two saves of one version in one turn are one save and one conflict", async () => {
    const { store } = await start();
    const { record } = await store.create(testRun(1), {}, owner);
    const both = await Promise.allSettled(["a", "b"].map((reason) => store.save({ ...record, reason }, [], owner)));
    expect(both.map(({ status }) => status)).toEqual(["fulfilled", "rejected"]);
    expect(await store.read(record.id)).toMatchObject({ reason: "a", version: 2 });
  });

  test("whatever a container prints as its last words is kept to the character", async () => {
    const { store } = await start();
    const words = "nul \0 half \ud800 pair 😀 ' \" \\ \\u0000 $1 ? \u2028 \x7f \n";
    const { record } = await store.create(testRun(1), {}, owner);
    const saved = await store.save(
      { ...record, message: words, outputs: { words } },
      [{ at, type: "end", message: words, data: { words } }],
      owner,
    );
    expect(await store.read(record.id)).toEqual(saved);
    expect(await store.events(record.id, 0, 1)).toEqual([
      { number: 1, at, type: "end", message: words, data: { words } },
    ]);
  });

  test("pages give each run that fits once, newest first, whatever is asked for", async () => {
    const { store } = await start();
    const random = createRandom(5);
    const runs = Array.from({ length: 6000 }, (_, count) =>
      testRun(count, {
        connector: random.pick(["team-a/prod", "team-b/prod"]),
        namespace: random.pick(["batch", "night", "rare"].slice(0, random.chance(0.01) ? 3 : 2)),
        name: random.pick(["report", "tidy", "load"]),
        state: random.chance(0.02) ? random.pick(runStates) : random.pick(["Succeeded", "Failed"]),
        cleanup: { state: random.chance(0.02) ? random.pick(["Pending", "Kept"]) : "Done" },
      }),
    );
    await Promise.all(runs.map((run) => store.create(run, {}, owner)));
    const queries: Omit<RunQuery, "limit">[] = [
      {},
      { states: [] },
      { states: ["Running"] },
      { states: ["Succeeded", "Lost", "Queued"] },
      { states: ["Succeeded"], namespace: "rare" },
      { states: ["Pending", "Running"], connector: "team-b/prod", name: "tidy" },
      { connector: "team-a/prod", namespace: "night" },
      { connector: "nobody/none" },
      { cleanup: "Kept", endedBefore: runs[3000]?.endedAt ?? at },
      { cleanup: "Done", name: "load" },
      { endedBefore: runs.find(({ endedAt }, index) => index > 500 && endedAt !== undefined)?.endedAt ?? at },
    ];
    for (const query of queries) {
      const { states, endedBefore, cleanup, ...same } = query;
      const fits = runs.filter(
        (run) =>
          (!states?.length || states.includes(run.state)) &&
          (cleanup === undefined || run.cleanup.state === cleanup) &&
          (endedBefore === undefined || (run.endedAt !== undefined && run.endedAt < endedBefore)) &&
          Object.entries(same).every(([key, value]) => run[key as keyof typeof run] === value),
      );
      const limit = fits.length > 2000 ? 700 : Math.max(1, Math.ceil(fits.length / 3));
      const found: string[] = [];
      let cursor: string | undefined;
      do {
        const page: Awaited<ReturnType<Store["list"]>> = await store.list({
          ...query,
          limit,
          ...(cursor !== undefined && { cursor }),
        });
        expect(page.next === undefined || page.runs.length === limit).toBe(true);
        found.push(...page.runs.map(({ id }) => id));
        cursor = page.next;
      } while (cursor !== undefined);
      expect(found).toEqual(fits.map(({ id }) => id).toReversed());
    }
    const counts = await store.count();
    expect(counts.Succeeded).toBe(runs.filter(({ state }) => state === "Succeeded").length);
    expect(Object.values(counts).reduce((sum, count) => sum + count, 0)).toBe(6000);
    for (const wrong of [
      { limit: 0 },
      { limit: 1001 },
      { limit: 1.5 },
      { limit: 9, cursor: "x' OR 1" },
      { limit: 9, endedBefore: "noon" },
    ]) {
      expect(await codeOf(store.list(wrong))).toBe("invalid_argument");
    }
  });

  test("a snapshot is the last one that was stored, of that place only", async () => {
    const { store } = await start();
    const key = { connector: "team-a/prod", kind: "Job", namespace: "batch", name: "tidy" };
    expect(await store.readSnapshot(key)).toBeUndefined();
    await Promise.all([
      store.saveSnapshot(key, { spec: 1 }),
      store.saveSnapshot({ ...key, kind: "CronJob" }, { spec: 2 }),
    ]);
    await store.saveSnapshot(key, { spec: { nul: "\0" } });
    expect(await store.readSnapshot(key)).toEqual({ spec: { nul: "\0" } });
    expect(await store.readSnapshot({ ...key, kind: "CronJob" })).toEqual({ spec: 2 });
  });

  test("only ended runs are removed, with their events and their keys; where they were stays known", async () => {
    const { store } = await start();
    const keys = { runKey: "day", idempotency: { key: "abc", digest: "one" } };
    const { record } = await store.create(testRun(1), keys, owner);
    const event = { at, type: "state", message: "It runs", data: {} } as const;
    const saved = await store.save(record, [event], owner);
    expect(await store.remove([record.id])).toEqual([]);
    await store.save({ ...saved, state: "Lost" }, [event], owner);
    const more = Array.from({ length: 120 }, (_, count) => testRun(count + 10, { state: "Failed" }));
    await Promise.all(more.map((run) => store.create(run, {}, owner)));
    const ids = [record.id, testRunId(999), ...more.map(({ id }) => id)];
    expect((await store.remove(ids)).sort()).toEqual(ids.filter((id) => id !== testRunId(999)).sort());
    expect(await store.read(record.id)).toBeUndefined();
    expect(await store.events(record.id, 0, 9)).toEqual([]);
    expect(await store.create(testRun(2, { namespace: "night" }), keys, owner)).toMatchObject({ created: true });
    const connector = "team-a/prod";
    expect(await store.places()).toEqual([
      { connector, namespace: "batch" },
      { connector, namespace: "night" },
    ]);
  });

  test("stop answers what was asked for before it, and refuses what comes after", async () => {
    const { store, open } = await start();
    const asked = Array.from({ length: 150 }, (_, count) => store.create(testRun(count), {}, owner));
    await store.stop();
    expect(await Promise.all(asked)).toHaveLength(150);
    expect(await codeOf(store.create(testRun(200), {}, owner))).toBe("unavailable");
    expect(await codeOf(store.read(testRun(1).id))).toBe("unavailable");
    expect(await codeOf(store.list({ limit: 1 }))).toBe("unavailable");
    await store.stop();
    expect(await (await open()).count()).toEqual({ Queued: 150 });
  });

  test("processes that begin a history at once make one", async () => {
    const history = await make();
    const stores = await Promise.all(Array.from({ length: 6 }, () => history.open()));
    onTestFinished(async () => void (await Promise.all(stores.map((store) => store.stop()))));
    expect(new Set(stores.map(({ engine }) => engine)).size).toBe(1);
  });

  test("a history of a newer program is refused with a sentence, and left as it is", async () => {
    const { store, open, sql, schema } = await start();
    await store.create(testRun(1), {}, owner);
    await sql(`UPDATE ${schema}meta SET value = '99' WHERE name = 'schema'`);
    const error = await open().catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({
      code: "invalid_argument",
      message: expect.stringMatching(/newer.*schema is 99/) as string,
    });
    await sql(`UPDATE ${schema}meta SET value = '1' WHERE name = 'schema'`);
    expect(await (await open()).count()).toEqual({ Queued: 1 });
  });

  historyOwnersContract(make);
}
