// Every line of every container, once and in order, while streams are cut and our process is killed at any byte.
import { sleep } from "@kube-connector/core";
import { describe, expect, test } from "vitest";
import { caughtUp, expectExact, expectWellFormed, logRoom, sorted, until } from "../../../../test/kit/log-room.ts";
import { createMortalFiles } from "../../../../test/kit/mortal-files.ts";
import { createRandom } from "../../../../test/kit/random.ts";

describe.concurrent("each line once", { timeout: 120_000 }, () => {
  test("containers of several pods are merged by time, init containers and sidecars too", async (t) => {
    const { kubelet, start, see, end, read, clock } = logRoom(t, 10);
    const [a, b] = [kubelet.pod("report-a"), kubelet.pod("report-b")];
    const [init, main, side, other] = [
      a.container("init", true),
      a.container("main"),
      a.container("side", true),
      b.container("main"),
    ];
    const log = await start();
    init.start();
    init.write("first");
    see(log);
    init.end();
    for (const one of [main, side, other]) one.start();
    see(log);
    for (let turn = 0; turn < 50; turn += 1) {
      for (const one of [main, side, other]) one.write(`${one.name} ${turn}`);
      await sleep(clock, 10);
    }
    for (const one of [main, side, other]) one.end();
    see(log);
    const summary = await end(log);
    const file = read("merged.log");
    expectExact(file, kubelet.pods.values());
    expectWellFormed(file);
    expect(summary).toMatchObject({ lines: 151, gaps: 0, bytes: file.raw.length });
    // One each, and one more where so much time has passed that the end had to be confirmed.
    expect(kubelet.asked.length).toBeGreaterThanOrEqual(4);
    expect(kubelet.asked.length).toBeLessThanOrEqual(8);
    expect(sorted(read("live.log").byLabel)).toEqual(sorted(file.byLabel));
  });

  test("many lines in one second survive cuts: what is sent again is skipped", async (t) => {
    const { kubelet, start, see, end, read, shown } = logRoom(t);
    kubelet.spoil = { random: createRandom(7), broken: 0.004, clean: 0.004, piece: 2_000 };
    const main = kubelet.pod("report-a").container("main");
    main.start();
    const log = await start();
    see(log);
    const stamp = kubelet.stamp();
    for (let line = 0; line < 2_000; line += 1) main.write(`line ${line}`, { stamp });
    await shown(2_000);
    for (let line = 2_000; line < 4_000; line += 1)
      main.write(`line ${line}`, { stamp: `${stamp.slice(0, 20)}999999999Z` });
    await shown(4_000);
    main.end();
    see(log);
    await end(log, 3_600_000);
    expect(kubelet.asked.length).toBeGreaterThan(2);
    expectExact(read("merged.log"), kubelet.pods.values());
  });

  test("200,000 lines are exact while the stream is cut again and again", async (t) => {
    const { kubelet, start, see, end, read, clock } = logRoom(t, 100);
    kubelet.spoil = { random: createRandom(3), broken: 0.01, clean: 0.002, piece: 65_536 };
    const main = kubelet.pod("report-a").container("main");
    main.start();
    const log = await start();
    see(log);
    for (let line = 0; line < 200_000; line += 1) {
      main.write(`line ${line} ${"x".repeat(line % 60)}`);
      if (line % 10_000 === 0) await sleep(clock, 500);
    }
    main.end();
    see(log);
    await end(log, 36_000_000);
    expect(kubelet.asked.length).toBeGreaterThan(4);
    expectExact(read("merged.log"), kubelet.pods.values());
    expectWellFormed(read("merged.log"));
  });

  test.for(Array.from({ length: 6 }, (_, seed) => seed + 1))(
    "cuts and kills at any byte lose and double nothing (seed %i)",
    async (seed, t) => {
      const random = createRandom(seed);
      const { kubelet, start, see, end, read, clock, gaps } = logRoom(t, 20);
      kubelet.spoil = { random, broken: 0.01, clean: 0.004, piece: 400 };
      const pods = [kubelet.pod("report-a"), kubelet.pod("report-b")];
      for (const pod of pods) pod.restartPolicy = "OnFailure";
      const all = [pods[0]?.container("main"), pods[0]?.container("side"), pods[1]?.container("main")] as const;
      for (const one of all) one?.start();
      let files = createMortalFiles(random);
      let log = await start({ files, limits: { lineBytes: 600, runBytes: 1e9 } });
      see(log);
      for (let turn = 0; turn < 60; turn += 1) {
        for (const one of all) {
          if (one === undefined) continue;
          for (let count = random.number(12); count > 0; count -= 1)
            one.write(bytesOf(random, random.chance(0.05) ? 3_000 : 80));
          // Restarts are far enough apart for their logs to be read.
          if (turn % 20 === 19) {
            one.end();
            see(log);
            await sleep(clock, 1_200);
            one.start();
            see(log);
          }
        }
        await sleep(clock, random.number(800));
        if (random.chance(0.12)) {
          await files.kill();
          await sleep(clock, random.number(200));
          files = createMortalFiles(random);
          log = await start({ files, limits: { lineBytes: 600, runBytes: 1e9 } });
          see(log);
        }
        // All is read before the run that is now the last but one can be read no more.
        if (turn % 20 === 18) await until(() => caughtUp(read("live.log"), kubelet.pods.values()));
      }
      for (const one of all) one?.end();
      see(log);
      await end(log, 36_000_000);
      const file = read("merged.log");
      expect(gaps).toEqual([]);
      expectExact(file, kubelet.pods.values());
      expectWellFormed(file);
      const live = read("live.log");
      for (const [label, lines] of file.byLabel) expect([label, live.byLabel.get(label)]).toEqual([label, lines]);
      expect(live.lines.length).toBe(file.lines.length);
      await log.stop();
    },
  );

  /** Any bytes but a newline, NUL and halves of characters among them. */
  function bytesOf(random: ReturnType<typeof createRandom>, most: number): Buffer {
    const bytes = Buffer.from(Array.from({ length: random.number(most) }, () => random.number(256)));
    for (let at = 0; at < bytes.length; at += 1) if (bytes[at] === 10) bytes[at] = 0;
    return bytes;
  }

  test("a line of 2 MB, half a character, no newline at the end", async (t) => {
    const { kubelet, start, see, end, read } = logRoom(t);
    const main = kubelet.pod("report-a").container("main");
    main.start();
    main.write(`begin ${"ä".repeat(1_100_000)} end`);
    main.write(Buffer.from([0xc3]));
    main.write("the end", { newline: false });
    main.end();
    const log = await start();
    see(log);
    await end(log);
    const file = read("merged.log");
    expectExact(file, kubelet.pods.values());
    const pieces = file.lines.filter(({ kind, text }) => kind === "text" && text.length > 1_000);
    expect(pieces.length).toBe(3);
    for (const { text } of pieces) expect(Buffer.from(text, "latin1").toString()).not.toContain("\ufffd");
  });
});
