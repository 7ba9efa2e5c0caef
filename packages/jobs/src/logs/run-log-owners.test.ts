// A process that was paused completes a log that another one has taken over and completed meanwhile: the log stays as it is.
import { expect, test } from "vitest";
import { expectExact, expectWellFormed, logRoom } from "../../../../test/kit/log-room.ts";
import { diskFiles, type LogFiles, type WritableFile } from "./files.ts";
import { readLog } from "./read-log.ts";

/** The disk, where the first call of that kind for merged.log waits. */
function createPausedFiles(at: "open" | "write" | "sync" | "rename") {
  let reach = () => {};
  let resume = () => {};
  const reached = new Promise<void>((resolve) => (reach = resolve));
  const resumed = new Promise<void>((resolve) => (resume = resolve));
  const pause = async (kind: string) => {
    if (kind !== at) return;
    reach();
    await resumed;
  };
  const files: LogFiles = {
    ...diskFiles,
    async open(path): Promise<WritableFile> {
      if (!path.includes("merged.")) return diskFiles.open(path);
      await pause("open");
      const file = await diskFiles.open(path);
      return {
        ...file,
        write: async (...given) => {
          await pause("write");
          await file.write(...given);
        },
        sync: async () => {
          await pause("sync");
          await file.sync();
        },
      };
    },
    rename: async (...given) => {
      await pause("rename");
      await diskFiles.rename(...given);
    },
  };
  return { files, reached, resume };
}

test.for(["open", "write", "sync", "rename"] as const)("paused before the %s of merged.log", async (at, t) => {
  const { folder, kubelet, start, see, end, read } = logRoom(t);
  const pods = ["a", "b", "c"].map((name) => kubelet.pod(`report-${name}`).container("main"));
  // At one time, so that the order of files is that of lines.
  const stamp = kubelet.stamp();
  for (const main of pods) {
    main.start();
    for (let line = 0; line < 100; line += 1) main.write(`line ${line}`, { stamp });
    main.end();
  }
  const { files, reached, resume } = createPausedFiles(at);
  const late = await start({ files });
  // It has seen them in another order than their parts have by name.
  for (const name of ["report-c", "report-a", "report-b"]) {
    const pod = kubelet.pods.get(name);
    if (pod !== undefined) late.observe([pod.object()], []);
  }
  const ending = end(late);
  ending.catch(() => undefined);
  await reached;
  const log = await start();
  see(log);
  const summary = await end(log);
  resume();
  await Promise.allSettled([ending]);
  expect(summary).toMatchObject({ lines: 300, gaps: 0 });
  const file = read("merged.log");
  expectExact(file, kubelet.pods.values());
  expectWellFormed(file);
  const pieces: Buffer[] = [];
  for await (const piece of readLog(folder, "01k9abc")) pieces.push(piece);
  expect(Buffer.concat(pieces).equals(file.raw)).toBe(true);
  const again = await start();
  expect(await end(again)).toEqual(summary);
});
