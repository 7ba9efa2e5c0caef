import { spawn } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { readLines, type Secret } from "@kube-connector/core";
import type { Store } from "@kube-connector/jobs";
import { expect } from "vitest";

/** A process of its own that writes a history without end. */
export interface HistoryWriter {
  /** The last version of each run that was acknowledged to it. */
  acknowledged: Map<string, number>;
  faults: string[];
  /** Ends once that many saves more were acknowledged, or the process has ended. */
  more(saves: number): Promise<void>;
  /** SIGKILL, wherever it is. */
  kill(): Promise<void>;
  ended: Promise<void>;
}

/**
 * `keepOn`: it goes on after faults. `fileBlocks`: no file of it gets larger, in blocks of 512 bytes. `trace`: a file for
 * what it writes and synchronizes, by strace.
 */
export function startHistoryWriter(
  where: Secret,
  options: { keepOn?: boolean; fileBlocks?: number; trace?: string } = {},
): HistoryWriter {
  const main = fileURLToPath(new URL("./history-writer-main.ts", import.meta.url));
  const limit = options.fileBlocks === undefined ? "" : `ulimit -f ${options.fileBlocks}; `;
  const calls = "trace=write,writev,pwrite64,fsync,fdatasync";
  const strace =
    options.trace === undefined ? [] : ["strace", "-f", "--seccomp-bpf", "-y", "-e", calls, "-o", options.trace];
  const child = spawn("sh", ["-c", `${limit}exec "$@"`, "sh", ...strace, process.execPath, main], {
    env: { PATH: process.env.PATH, HISTORY: where.reveal(), ...(options.keepOn && { KEEP: "1" }) },
    stdio: ["ignore", "pipe", "inherit"],
  });
  const acknowledged = new Map<string, number>();
  const faults: string[] = [];
  let count = 0;
  let waiting: { until: number; resolve: () => void } | undefined;
  const read = async () => {
    for await (const line of readLines(child.stdout)) {
      const [kind, id = "", version] = line.split(" ");
      if (kind !== "ack") faults.push(line);
      else acknowledged.set(id, Number(version));
      count += 1;
      if (waiting && count >= waiting.until) waiting.resolve();
    }
  };
  const ended = Promise.all([read(), once(child, "exit")]).then(() => waiting?.resolve());
  return {
    acknowledged,
    faults,
    more: (saves) =>
      Promise.race([
        ended,
        new Promise<void>((resolve) => {
          waiting = { until: count + saves, resolve };
        }),
      ]),
    async kill() {
      child.kill("SIGKILL");
      await ended;
    },
    ended,
  };
}

/** Each run is there in the version that was acknowledged or the one that was under way, with all its events. */
export async function expectAllThere(store: Store, acknowledged: ReadonlyMap<string, number>): Promise<void> {
  const wrong: string[] = [];
  for (const [id, version] of acknowledged) {
    const stored = (await store.read(id))?.version ?? 0;
    const numbers = (await store.events(id, 0, 100)).map(({ number }) => number);
    const whole = numbers.length === stored - 1 && numbers.every((number, index) => number === index + 1);
    if (stored < version || stored > version + 1 || !whole)
      wrong.push(`${id}: ${version}, ${stored}, ${numbers.length}`);
  }
  expect(wrong).toEqual([]);
}
