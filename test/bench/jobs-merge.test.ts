// How fast a run's log is merged at its end, and in how much memory. BENCH_PART_MB: size of each of the 8 parts, 500 for the
// figure that counts; the smaller default measures the same loop.
import { mkdtempSync, rmSync } from "node:fs";
import { open } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { diskFiles } from "../../packages/jobs/src/logs/files.ts";
import { headerLine } from "../../packages/jobs/src/logs/line.ts";
import { type MergePart, mergeParts } from "../../packages/jobs/src/logs/merge.ts";
import { createRandom } from "../kit/random.ts";
import { figure } from "./figure.ts";

const megabytes = Number(process.env.BENCH_PART_MB ?? 100);
const mebi = 1_048_576;

test("a log of 8 parts is merged at 100 MB/s or more, and memory does not grow with it", async (t) => {
  const folder = mkdtempSync(join(tmpdir(), "jobs-merge-"));
  t.onTestFinished(() => rmSync(folder, { recursive: true, force: true }));
  const parts: MergePart[] = [];
  let size = 0;
  for (let at = 0; at < 8; at += 1) {
    const instance = { pod: `report-mz4k7q2xpa-${at}`, podUid: `u${at}`, container: "main", restart: 0 };
    const path = join(folder, `part${at}`);
    size += await writePart(path, at);
    parts.push({ path, instance });
  }
  const before = process.memoryUsage().rss;
  let peak = before;
  const watching = setInterval(() => {
    peak = Math.max(peak, process.memoryUsage().rss);
  }, 20);
  const header = headerLine({ run: "01k9", job: "report", connector: "team-a/prod" });
  const cpu = process.cpuUsage();
  const started = performance.now();
  const index = await mergeParts({
    signal: new AbortController().signal,
    files: diskFiles,
    folder,
    run: "01k9",
    header,
    state: "Succeeded",
    endedAt: "",
    parts,
  });
  const seconds = (performance.now() - started) / 1000;
  const { user, system } = process.cpuUsage(cpu);
  clearInterval(watching);
  expect(index.bytes).toBeGreaterThan(size);
  figure("jobs_merge", size / 1e6 / seconds, "MB/s", { atLeast: 100 });
  // What a machine that does other things as well leaves as it is.
  figure("jobs_merge_cpu", size / (user + system), "MB per s of CPU", { atLeast: 100 });
  figure("jobs_merge_memory", (peak - before) / mebi, "MiB", { atMost: 128 });
});

/** Lines of 40 to 200 bytes, their times a little apart, so that the parts take turns. Answers with the bytes. */
async function writePart(path: string, seed: number): Promise<number> {
  const random = createRandom(seed + 1);
  await using file = await open(path, "w");
  let size = 0;
  for (let now = 0; size < megabytes * 1e6; ) {
    const lines: string[] = [];
    for (let line = 0; line < 10_000; line += 1) {
      now += random.number(2_000_000);
      const milliseconds = Math.floor(now / 1_000_000);
      const nanos = String(now % 1_000_000).padStart(6, "0");
      const stamp = `${new Date(1_772_359_200_000 + milliseconds).toISOString().slice(0, 23)}${nanos}Z`;
      lines.push(`${stamp} ${"x".repeat(10 + random.number(160))}\n`);
    }
    const bytes = Buffer.from(lines.join(""));
    await file.write(bytes);
    size += bytes.length;
  }
  return size;
}
