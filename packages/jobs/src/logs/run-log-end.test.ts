// Where a container's log ends: what ends well need not be the end, and what is the end costs one call more at most.
import { Readable } from "node:stream";
import { sleep } from "@kube-connector/core";
import { describe, expect, test } from "vitest";
import { refused } from "../../../../test/kit/log-kubelet.ts";
import { logRoom, until } from "../../../../test/kit/log-room.ts";
import { createRandom } from "../../../../test/kit/random.ts";

/** Cuts a stream behind whatever is written next. */
const nextCut = (how: "broken" | "clean") => ({
  random: createRandom(5),
  broken: how === "broken" ? 1 : 0,
  clean: how === "clean" ? 1 : 0,
  piece: 1_000_000,
});

describe.concurrent("the end of a log", { timeout: 60_000 }, () => {
  test("a stream that ends well behind a whole line in the container's last moment is not the end", async (t) => {
    const { kubelet, start, end, see, read, shown } = logRoom(t);
    const main = kubelet.pod("report-a").container("main");
    main.start();
    const log = await start();
    see(log);
    main.write("one");
    await shown(1);
    kubelet.spoil = nextCut("clean");
    main.write("two");
    await until(() => kubelet.streams === 0);
    kubelet.spoil = undefined;
    main.write("three");
    main.end();
    see(log);
    expect(await end(log)).toMatchObject({ lines: 3, gaps: 0 });
    expect(read("merged.log").byLabel.get("report-a/main#0")).toEqual(["one", "two", "three"]);
    expect(kubelet.asked.length).toBe(3);
  });

  test("a stream without a line that ends well in the container's last moment is not the end", async (t) => {
    const { kubelet, start, end, see, read } = logRoom(t);
    const main = kubelet.pod("report-a").container("main");
    main.start();
    let opened = 0;
    const log = await start({
      open: (...asked) => (++opened === 1 ? Promise.resolve(Readable.from([])) : kubelet.open(...asked)),
    });
    see(log);
    await until(() => opened === 1);
    main.write("one");
    main.end();
    see(log);
    expect(await end(log)).toMatchObject({ lines: 1, gaps: 0 });
    expect(read("merged.log").byLabel.get("report-a/main#0")).toEqual(["one"]);
  });

  test.for([
    { first: "the container's end", endDelay: 500, asked: 1 },
    { first: "the stream's end", endDelay: 0, asked: 2 },
  ])("when $first is known first, its log takes $asked calls", async ({ endDelay, asked }, t) => {
    // In real time, as the 5 s after the container's end are not to pass on a busy machine.
    const { kubelet, start, end, see, shown } = logRoom(t, 1);
    kubelet.endDelay = endDelay;
    const main = kubelet.pod("report-a").container("main");
    main.start();
    const log = await start();
    see(log);
    main.write("one");
    await shown(1);
    main.end();
    if (endDelay === 0) await until(() => kubelet.streams === 0);
    see(log);
    expect(await end(log)).toMatchObject({ lines: 1, gaps: 0 });
    expect(kubelet.asked.length).toBe(asked);
  });

  test("a stream that goes on for long after the container's end may be cut as well", async (t) => {
    const { kubelet, start, end, see, read, clock } = logRoom(t);
    const main = kubelet.pod("report-a").container("main");
    main.start();
    for (const text of ["one", "two", "three"]) main.write(text);
    main.end();
    /** The kubelet behind it goes away in the middle. */
    async function* slowly(stream: Readable) {
      for await (const chunk of stream) {
        yield (chunk as Buffer).subarray(0, (chunk as Buffer).indexOf(10) + 1);
        await sleep(clock, 6_000);
        return;
      }
    }
    let opened = 0;
    const log = await start({
      async open(...asked) {
        const stream = await kubelet.open(...asked);
        return ++opened === 1 ? Readable.from(slowly(stream)) : stream;
      },
    });
    see(log);
    expect(await end(log)).toMatchObject({ lines: 3, gaps: 0 });
    expect(read("merged.log").byLabel.get("report-a/main#0")).toEqual(["one", "two", "three"]);
  });

  test.for([
    { how: "ended well", cut: undefined, gaps: 0 },
    { how: "broke", cut: nextCut("broken"), gaps: 1 },
  ])("a pod is gone before its log's end could be confirmed: a stream that $how leaves $gaps gaps", async (one, t) => {
    const { kubelet, start, end, see, shown } = logRoom(t);
    const pod = kubelet.pod("report-a");
    const main = pod.container("main");
    main.start();
    const log = await start();
    see(log);
    main.write("one");
    await shown(1);
    kubelet.spoil = one.cut;
    main.write("two");
    main.end();
    await until(() => kubelet.streams === 0);
    const last = pod.object();
    kubelet.remove(pod);
    log.observe([last], []);
    expect(await end(log)).toMatchObject({ gaps: one.gaps });
  });

  test("a kubelet that has just begun and knows no pod yet is asked again", async (t) => {
    const { kubelet, start, end, see } = logRoom(t);
    const main = kubelet.pod("report-a").container("main");
    main.start();
    main.write("one");
    main.end();
    const words = "the server could not find the requested resource ( pods/log report-a)";
    for (let times = 0; times < 5; times += 1) kubelet.refusals.push(refused("not_found", 404, words));
    const log = await start();
    see(log);
    expect(await end(log)).toMatchObject({ lines: 1, gaps: 0 });
  });
});
