// The log of a run: what is kept when containers restart, pods go, disks fill; and a mark where a line is missing.
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { Secret, sleep } from "@kube-connector/core";
import { describe, expect, test } from "vitest";
import { refused } from "../../../../test/kit/log-kubelet.ts";
import { expectExact, expectWellFormed, logRoom, run, sorted, until } from "../../../../test/kit/log-room.ts";
import { createMortalFiles } from "../../../../test/kit/mortal-files.ts";
import { createRandom } from "../../../../test/kit/random.ts";
import { diskFiles, type LogFiles } from "./files.ts";
import { createSlots } from "./slots.ts";

describe.concurrent("the log of a run", { timeout: 60_000 }, () => {
  test("rotation while the stream is away leaves a mark where the lines were", async (t) => {
    const { kubelet, start, see, end, read, clock, gaps, shown } = logRoom(t);
    const main = kubelet.pod("report-a").container("main");
    main.start();
    let log = await start();
    see(log);
    main.write("before");
    await shown(1);
    await log.stop();
    main.write("lost");
    main.rotate();
    await sleep(clock, 1_000);
    main.write("after");
    log = await start();
    see(log);
    await shown(2);
    main.end();
    see(log);
    await end(log);
    const file = read("merged.log");
    expect(file.byLabel.get("report-a/main#0")).toEqual(["before", "!gap Rotated", "after"]);
    expect(gaps).toEqual([{ pod: "report-a", container: "main", restart: 0, reason: "Rotated" }]);
    expectWellFormed(file);
  });

  test("a restart is read to its end; a run between two looks is marked as missed", async (t) => {
    const { kubelet, start, see, end, read, gaps, shown } = logRoom(t);
    const pod = kubelet.pod("report-a");
    pod.restartPolicy = "OnFailure";
    const main = pod.container("main");
    main.start();
    main.write("zero");
    const log = await start();
    see(log);
    await shown(1);
    main.end();
    main.start();
    main.write("one");
    see(log);
    await shown(2);
    for (const text of ["two", "three", "four"]) {
      main.end();
      main.start();
      main.write(text);
    }
    see(log);
    await shown(4);
    main.end();
    see(log);
    await end(log);
    expect(sorted(read("merged.log").byLabel)).toEqual([
      ["report-a/main#0", ["zero"]],
      ["report-a/main#1", ["one"]],
      ["report-a/main#2", ["!gap RestartMissed"]],
      ["report-a/main#3", ["three"]],
      ["report-a/main#4", ["four"]],
    ]);
    expect(gaps.map(({ restart, reason }) => [restart, reason])).toEqual([[2, "RestartMissed"]]);
  });

  test("a run of a container that its node has removed already is marked as missed", async (t) => {
    const { kubelet, start, see, end, read, gaps, shown } = logRoom(t);
    const pod = kubelet.pod("report-a");
    pod.restartPolicy = "OnFailure";
    const main = pod.container("main");
    main.start();
    main.write("zero");
    main.end();
    main.life.removed = true;
    main.start();
    main.write("one");
    const log = await start();
    see(log);
    await shown(1);
    main.end();
    see(log);
    await end(log);
    expect(sorted(read("merged.log").byLabel)).toEqual([
      ["report-a/main#0", ["!gap RestartMissed"]],
      ["report-a/main#1", ["one"]],
    ]);
    expect(gaps.map(({ restart, reason }) => [restart, reason])).toEqual([[0, "RestartMissed"]]);
  });

  test("a restart that is not known yet is not taken for the run before it", async (t) => {
    const { kubelet, start, see, end, read, clock, gaps, shown } = logRoom(t);
    const pod = kubelet.pod("report-a");
    pod.restartPolicy = "OnFailure";
    const main = pod.container("main");
    main.start();
    main.write("zero");
    let log = await start();
    see(log);
    await until(() => read("live.log").lines.length === 2);
    const before = kubelet.pods.get("report-a")?.object();
    await log.stop();
    main.write("zero's last");
    main.end();
    await sleep(clock, 1_500);
    main.start();
    main.write("one");
    log = await start();
    log.observe(before === undefined ? [] : [before], []);
    await sleep(clock, 700);
    see(log);
    await shown(3);
    main.end();
    see(log);
    await end(log);
    expect(sorted(read("merged.log").byLabel)).toEqual([
      ["report-a/main#0", ["zero", "zero's last"]],
      ["report-a/main#1", ["one"]],
    ]);
    expect(gaps).toEqual([]);
  });

  test("a pod deleted while it is followed: what came is kept, what could not be read is marked", async (t) => {
    const { kubelet, start, end, see, read, gaps, shown } = logRoom(t);
    const [a, b] = [kubelet.pod("report-a"), kubelet.pod("report-b")];
    const [gone, evicted] = [a.container("main"), b.container("main")];
    for (const one of [gone, evicted]) {
      one.start();
      one.write("here");
    }
    const log = await start();
    see(log);
    await shown(2);
    kubelet.spoil = { random: createRandom(1), broken: 1, clean: 0, piece: 5 };
    log.observe([b.object("Evicted")], []);
    for (const one of [gone, evicted]) one.write("cut off");
    kubelet.remove(a);
    kubelet.remove(b);
    log.observe([], [a.uid, b.uid]);
    await end(log);
    expect(sorted(read("merged.log").byLabel)).toEqual([
      ["report-a/main#0", ["here", "!gap PodDeleted"]],
      ["report-b/main#0", ["here", "!gap Evicted"]],
    ]);
    expect(gaps.map(({ reason }) => reason).sort()).toEqual(["Evicted", "PodDeleted"]);
  });

  test("a pod deleted in good order, whose stream ended well, has no gap", async (t) => {
    const { kubelet, start, end, see, read, gaps, shown } = logRoom(t);
    const pod = kubelet.pod("report-a");
    const main = pod.container("main");
    main.start();
    const log = await start();
    see(log);
    main.write("all");
    await shown(1);
    kubelet.remove(pod);
    log.observe([], [pod.uid]);
    await end(log);
    expect(read("merged.log").byLabel.get("report-a/main#0")).toEqual(["all"]);
    expect(gaps).toEqual([]);
  });

  test("a stream that ends while the container runs is opened again; one that ends late is waited for", async (t) => {
    const { kubelet, start, end, see, read, shown } = logRoom(t);
    kubelet.endDelay = 3_000;
    kubelet.spoil = { random: createRandom(5), broken: 0, clean: 1, piece: 1_000 };
    const main = kubelet.pod("report-a").container("main");
    main.start();
    const log = await start();
    see(log);
    main.write("one");
    await shown(1);
    main.write("two");
    await shown(2);
    kubelet.spoil = undefined;
    main.write("three");
    main.end();
    see(log);
    await end(log);
    expect(read("merged.log").byLabel.get("report-a/main#0")).toEqual(["one", "two", "three"]);
  });

  test("400 before the start, 204 without a node, 503 and 403 once are tried again; 403 for 15 s is a gap", async (t) => {
    const { kubelet, start, end, see, read, gaps } = logRoom(t);
    const main = kubelet.pod("report-a").container("main");
    main.start();
    main.write("one");
    kubelet.refusals.push(
      refused("invalid_argument", 400, "waiting to start"),
      refused("not_found", 204, "no content"),
      refused("not_found", 503, "away"),
      refused("permission_denied", 403, "no rules yet"),
    );
    const log = await start();
    see(log);
    main.end();
    see(log);
    await end(log);
    expect(read("merged.log").byLabel.get("report-a/main#0")).toEqual(["one"]);
    expect(gaps).toEqual([]);

    const other = logRoom(t);
    const closed = other.kubelet.pod("report-a").container("main");
    closed.start();
    other.kubelet.refusals.push(...Array.from({ length: 100 }, () => refused("permission_denied", 403, "no")));
    const second = await other.start();
    other.see(second);
    await other.end(second);
    expect(other.gaps.map(({ reason }) => reason)).toEqual(["Forbidden"]);
  });

  test("what cannot be read until the deadline is marked", async (t) => {
    const { kubelet, start, end, see, read, gaps, shown } = logRoom(t);
    const main = kubelet.pod("report-a").container("main");
    main.start();
    main.write("one");
    const log = await start();
    see(log);
    await shown(1);
    await end(log, 2_000);
    expect(read("merged.log").byLabel.get("report-a/main#0")).toEqual(["one", "!gap Unreadable"]);
    expect(gaps.map(({ reason }) => reason)).toEqual(["Unreadable"]);
  });

  test("secrets are in no file, wherever the stream is cut", async (t) => {
    const { folder, kubelet, start, end, see, read, shown } = logRoom(t);
    kubelet.spoil = { random: createRandom(11), broken: 0.0005, clean: 0, piece: 7 };
    const main = kubelet.pod("report-a").container("main");
    main.start();
    const log = await start({ masks: [new Secret("hunter2-hunter2"), new Secret("-----BEGIN\nabcdefgh\n")] });
    see(log);
    for (let line = 0; line < 40; line += 1) main.write(`password is hunter2-hunter2, ${line} abcdefgh hunter2-`);
    await shown(40);
    main.end();
    see(log);
    await end(log);
    const lines = read("merged.log").byLabel.get("report-a/main#0");
    expect(lines).toEqual(Array.from({ length: 40 }, (_, line) => `password is ***, ${line} *** hunter2-`));
    for (const name of ["live.log", "merged.log", "merged.json"])
      expect(readFileSync(join(folder, run, name), "utf8")).not.toMatch(/hunter2-hunter2|abcdefgh/);
  });

  test("a run's limit ends the storing, not the counting, and says so", async (t) => {
    const { kubelet, start, end, see, read, gaps } = logRoom(t);
    const main = kubelet.pod("report-a").container("main");
    main.start();
    for (let line = 0; line < 100; line += 1) main.write("x".repeat(1_000));
    main.end();
    kubelet.spoil = { random: createRandom(2), broken: 0, clean: 0, piece: 4_000 };
    const log = await start({ limits: { lineBytes: 1_048_576, runBytes: 50_000 } });
    see(log);
    const summary = await end(log);
    const lines = read("merged.log").byLabel.get("report-a/main#0") ?? [];
    expect(gaps.map(({ reason }) => reason)).toEqual(["LimitReached"]);
    expect(lines.at(-2)).toBe("!gap LimitReached");
    expect(lines.at(-1)).toBe(`!dropped ${100 - summary.lines} lines`);
    expect(summary.lines).toBeGreaterThan(30);
    expect(summary.lines).toBeLessThan(50);
  });

  test("a full disk is a clear fault; when it has space again nothing is missing", async (t) => {
    const { kubelet, start, end, see, read, shown } = logRoom(t);
    const files = createMortalFiles(createRandom(1));
    const main = kubelet.pod("report-a").container("main");
    main.start();
    const log = await start({ files });
    see(log);
    main.write("one");
    await shown(1);
    files.full = true;
    main.write("two");
    await until(() => log.problem() !== undefined);
    main.write("three");
    expect(log.problem()?.message).toBe("Cannot write the log: no space left");
    await expect(end(log, 5_000)).rejects.toMatchObject({ code: "unavailable" });
    files.full = false;
    main.end();
    see(log);
    await end(log);
    expect(read("merged.log").byLabel.get("report-a/main#0")).toEqual(["one", "two", "three"]);
    expectWellFormed(read("merged.log"));
    await log.stop();
  });

  test("stopped while it is being completed: nothing is written as complete, and the next one reads the rest", async (t) => {
    const { kubelet, start, end, see, read, shown } = logRoom(t);
    const main = kubelet.pod("report-a").container("main");
    main.start();
    main.write("one");
    const log = await start();
    see(log);
    await shown(1);
    const [ending] = await Promise.allSettled([end(log, 60_000), log.stop()]);
    expect(ending).toMatchObject({ status: "rejected", reason: { code: "unavailable" } });
    main.write("two");
    main.end();
    const next = await start();
    see(next);
    await end(next);
    expect(read("merged.log").byLabel.get("report-a/main#0")).toEqual(["one", "two"]);
    expectWellFormed(read("merged.log"));
  });

  test("stopped while merged.log is made: nothing is complete, and nobody writes any more", async (t) => {
    const { folder, kubelet, start, end, see, read } = logRoom(t);
    const main = kubelet.pod("report-a").container("main");
    main.start();
    main.write("one");
    main.end();
    let reach = () => {};
    let open = () => {};
    const reached = new Promise<void>((resolve) => (reach = resolve));
    const gate = new Promise<void>((resolve) => (open = resolve));
    const files: LogFiles = {
      ...diskFiles,
      async open(path) {
        const file = await diskFiles.open(path);
        if (!path.includes("merged.")) return file;
        const sync = () => {
          reach();
          return gate.then(() => file.sync());
        };
        return { ...file, sync };
      },
    };
    const log = await start({ files });
    see(log);
    const ending = end(log);
    ending.catch(() => undefined);
    await reached;
    let isStopped = false;
    const stopping = log.stop().then(() => (isStopped = true));
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(isStopped).toBe(false);
    open();
    await stopping;
    await expect(ending).rejects.toMatchObject({ code: "unavailable" });
    expect(readdirSync(join(folder, run)).sort()).toEqual(["live.log", "parts"]);
    const next = await start();
    see(next);
    await end(next);
    expect(read("merged.log").byLabel.get("report-a/main#0")).toEqual(["one"]);
    expect(readdirSync(join(folder, run)).sort()).toEqual(["live.log", "merged.json", "merged.log"]);
    expectWellFormed(read("merged.log"));
  });

  test("outputs are taken from the log, the last one counts; a finished log answers again", async (t) => {
    const { kubelet, start, end, see } = logRoom(t);
    const main = kubelet.pod("report-a").container("main");
    main.start();
    for (const line of [
      '::output {"rows": 1, "name": "a"}',
      "::output nonsense",
      'x ::output {"no": 1}',
      '::output {"rows": "2"}',
    ])
      main.write(line);
    main.end();
    const log = await start();
    see(log);
    const summary = await end(log);
    expect(log.outputs()).toEqual({ rows: "2", name: "a" });
    const again = await start();
    expect(again.outputs()).toEqual(log.outputs());
    expect(await end(again)).toEqual(summary);
  });

  test("a thousand follows share the slots; all are read while few may be open", async (t) => {
    const { kubelet, start, end, see, read, clock } = logRoom(t, 200);
    const all = Array.from({ length: 60 }, (_, at) => kubelet.pod(`report-${at}`).container("main"));
    for (const one of all) one.start();
    const log = await start({ slots: createSlots(10, clock) });
    see(log);
    for (let turn = 0; turn < 3; turn += 1) {
      for (const [at, one] of all.entries()) one.write(`${at} ${turn}`);
      await sleep(clock, 60_000);
    }
    expect(kubelet.mostStreams).toBeLessThanOrEqual(10);
    await until(() => read("live.log").byLabel.size === 60);
    for (const one of all) one.end();
    see(log);
    await end(log, 600_000);
    expectExact(read("merged.log"), kubelet.pods.values());
  });
});
