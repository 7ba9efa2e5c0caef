// What nobody has seen in time is marked, whoever learns of it and how.
import { sleep } from "@kube-connector/core";
import { describe, expect, test } from "vitest";
import { logRoom, sorted, until } from "../../../../test/kit/log-room.ts";

describe.concurrent("what was missed", { timeout: 60_000 }, () => {
  test("a pod that came and went between two looks leaves a mark", async (t) => {
    const { kubelet, start, end, read, gaps } = logRoom(t);
    const pod = kubelet.pod("report-a");
    const main = pod.container("main");
    main.start();
    main.write("one");
    const log = await start();
    kubelet.remove(pod);
    log.observe([pod.object()], [pod.uid]);
    expect(await end(log)).toMatchObject({ lines: 0, gaps: 1 });
    expect(sorted(read("merged.log").byLabel)).toEqual([["report-a/main#0", ["!gap PodDeleted"]]]);
    expect(gaps).toEqual([{ pod: "report-a", container: "main", restart: 0, reason: "PodDeleted" }]);
  });

  test("a container whose end the history knows is read when it was not yet, and marked when its pod is gone", async (t) => {
    const { kubelet, start, end, see, read } = logRoom(t);
    for (const main of ["a", "b"].map((name) => kubelet.pod(`report-${name}`).container("main"))) {
      main.start();
      main.write("one");
      main.end();
    }
    const exit = (pod: string, more: object = {}) => ({
      pod,
      podUid: `uid-${pod}`,
      container: "main",
      restart: 0,
      exitCode: 0,
      ...more,
    });
    const startedAt = "2026-03-01T10:00:00Z";
    const log = await start();
    kubelet.pods.delete("report-b");
    see(log);
    // The last one never ran.
    log.recall([exit("report-a", { startedAt }), exit("report-b", { startedAt }), exit("report-c")]);
    await end(log);
    expect(sorted(read("merged.log").byLabel)).toEqual([
      ["report-a/main#0", ["one"]],
      ["report-b/main#0", ["!gap PodDeleted"]],
    ]);
    expect(kubelet.asked.length).toBe(2);
  });

  test("pods that nobody has seen are one mark of their Job, also when it is told again", async (t) => {
    const { kubelet, start, see, end, read, gaps, shown } = logRoom(t);
    const main = kubelet.pod("report-a").container("main");
    main.start();
    main.write("one");
    main.end();
    let log = await start();
    see(log);
    // One has a log, one is known to the history.
    const known = new Set(["uid-report-b"]);
    log.tally("report", 2, known);
    await shown(1);
    expect(gaps).toEqual([]);
    log.tally("report", 3, known);
    log.tally("report", 3, known);
    await until(() => gaps.length > 0);
    await log.stop();
    log = await start();
    see(log);
    log.tally("report", 3, known);
    expect(await end(log)).toMatchObject({ lines: 1, gaps: 1 });
    expect(sorted(read("merged.log").byLabel)).toEqual([
      ["report-a/main#0", ["one"]],
      ["report/unseen#0", ["!gap PodDeleted"]],
    ]);
    expect(gaps.length).toBe(1);
  });

  test("a run that begins before its predecessor's stream is opened has its own lines alone, and so has that one", async (t) => {
    const { kubelet, start, see, end, read, clock, gaps } = logRoom(t);
    const pod = kubelet.pod("report-a");
    pod.restartPolicy = "OnFailure";
    const main = pod.container("main");
    main.start();
    main.write("zero");
    const atWork = pod.object();
    main.end();
    const ended = pod.object();
    await sleep(clock, 1_500);
    main.start();
    main.write("one");
    // The node has removed the first run by now, and the status says nothing of it any more.
    const again = pod.object();
    for (const one of again.status.containerStatuses) one.lastState = {};
    const log = await start();
    log.observe([atWork], []);
    await sleep(clock, 300);
    log.observe([ended], []);
    await sleep(clock, 400);
    log.observe([again], []);
    main.end();
    see(log);
    await end(log);
    expect(sorted(read("merged.log").byLabel)).toEqual([
      ["report-a/main#0", ["zero"]],
      ["report-a/main#1", ["one"]],
    ]);
    expect(gaps).toEqual([]);
  });

  test("a stream that was opened before its run ended is read, also when that is known before its first line", async (t) => {
    const { kubelet, start, see, end, read, clock, gaps } = logRoom(t);
    const pod = kubelet.pod("report-a");
    pod.restartPolicy = "OnFailure";
    const main = pod.container("main");
    main.start();
    main.write("zero");
    const log = await start();
    see(log);
    await until(() => kubelet.streams > 0);
    main.end();
    main.life.removed = true;
    await sleep(clock, 1_100);
    main.start();
    main.write("one");
    see(log);
    await sleep(clock, 2_000);
    main.end();
    see(log);
    await end(log);
    expect(sorted(read("merged.log").byLabel)).toEqual([
      ["report-a/main#0", ["zero"]],
      ["report-a/main#1", ["one"]],
    ]);
    expect(gaps).toEqual([]);
  });
});
