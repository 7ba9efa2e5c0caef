// A disk that fails at any call: no file stays open, and once it works again the log is whole.
import { expect, test } from "vitest";
import { expectExact, logRoom } from "../../../../test/kit/log-room.ts";
import { diskFiles, type LogFiles } from "./files.ts";

/** The disk, whose call of that number fails; counts the files that are open. */
function createFailingFiles(number: number) {
  let calls = 0;
  const counts = { open: 0, failed: false };
  const call = <T>(work: () => Promise<T>): Promise<T> => {
    calls += 1;
    if (calls !== number) return work();
    counts.failed = true;
    return Promise.reject(Object.assign(new Error("EIO: i/o error"), { code: "EIO" }));
  };
  const files: LogFiles = {
    open: (path) =>
      call(async () => {
        const file = await diskFiles.open(path);
        counts.open += 1;
        return {
          size: file.size,
          write: (bytes, at) => call(() => file.write(bytes, at)),
          truncate: (size) => call(() => file.truncate(size)),
          read: (buffer, at) => call(() => file.read(buffer, at)),
          sync: () => call(() => file.sync()),
          close() {
            counts.open -= 1;
            return file.close();
          },
        };
      }),
    replace: (...given) => call(() => diskFiles.replace(...given)),
    rename: (...given) => call(() => diskFiles.rename(...given)),
  };
  return { files, counts };
}

test("whichever call fails", async (t) => {
  let number = 0;
  for (let hasFailed = true; hasFailed; ) {
    number += 1;
    const { kubelet, start, see, end, read } = logRoom(t, 200);
    const main = kubelet.pod("report-a").container("main");
    main.start();
    main.write("one");
    main.end();
    // What it goes on with.
    const before = await start();
    see(before);
    await before.stop();
    const { files, counts } = createFailingFiles(number);
    const log = await start({ files }).catch(() => undefined);
    if (log !== undefined) {
      see(log);
      await end(log).catch(() => undefined);
      await log.stop();
    }
    expect([number, counts.open]).toEqual([number, 0]);
    const next = await start();
    see(next);
    await end(next);
    expectExact(read("merged.log"), kubelet.pods.values());
    hasFailed = counts.failed;
  }
  expect(number).toBeGreaterThan(15);
}, 60_000);
