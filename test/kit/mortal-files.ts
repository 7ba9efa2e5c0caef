import type { LogFiles, WritableFile } from "../../packages/jobs/src/logs/files.ts";
import { diskFiles } from "../../packages/jobs/src/logs/files.ts";
import type { Random } from "./random.ts";

/** The disk of a process that can be killed in the middle of any write: a part of it is done then, and nothing after. */
export interface MortalFiles extends LogFiles {
  /** Ends when nothing is under way any more; what was being written may be there in part. */
  kill(): Promise<void>;
  /** Until it is told otherwise each write fails after half of its bytes, as on a full disk. */
  full: boolean;
}

const never = () => new Promise<never>(() => {});

export function createMortalFiles(random: Random): MortalFiles {
  let dead = false;
  const opened = new Set<WritableFile>();
  const underWay = new Set<Promise<unknown>>();
  /** A call of the system: it is not begun by the dead, and they do not see its end. */
  async function call<T>(begin: () => Promise<T>): Promise<T> {
    if (dead) return never();
    const under = begin();
    underWay.add(under);
    const ended = await under.then(
      (value) => () => value,
      (error: unknown) => () => {
        throw error;
      },
    );
    underWay.delete(under);
    return dead ? never() : ended();
  }
  const files: MortalFiles = {
    full: false,
    async kill() {
      dead = true;
      await Promise.allSettled(underWay);
      await Promise.allSettled([...opened].map((file) => file.close()));
    },
    open: async (path) =>
      mortal(
        await call(async () => {
          const file = await diskFiles.open(path);
          opened.add(file);
          return file;
        }),
      ),
    replace: (path, text, options) =>
      call(() => (files.full ? Promise.reject(noSpace()) : diskFiles.replace(path, text, options))),
    rename: (from, to) => call(() => diskFiles.rename(from, to)),
  };

  function mortal(file: WritableFile): WritableFile {
    return {
      size: file.size,
      async write(bytes, at) {
        const cut = files.full ? bytes.length >> 1 : random.number(bytes.length + 1);
        await call(() => file.write(bytes.subarray(0, cut), at));
        if (files.full) throw noSpace();
        await call(() => file.write(bytes.subarray(cut), at + cut));
      },
      truncate: (size) => call(() => file.truncate(size)),
      read: (buffer, at) => call(() => file.read(buffer, at)),
      sync: () => call(() => file.sync()),
      close: () =>
        call(() => {
          opened.delete(file);
          return file.close();
        }),
    };
  }
  return files;
}

function noSpace(): Error {
  return Object.assign(new Error("ENOSPC: no space left on device, write"), { code: "ENOSPC" });
}
