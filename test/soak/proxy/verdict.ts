import { slopeOf } from "../fit.ts";
import { megabytes, type Quiet, type Run } from "./run.ts";

export interface Verdict {
  /** A line for each figure. */
  table: string[];
  /** What was not as it should be; empty when all was. */
  problems: string[];
}

/** Bytes that may be held more at the end: what V8 keeps of compiled code comes and goes by some megabytes. */
const moreHeld = 8e6;
/** Share of its mean by which resident memory may rise over the second half of the load, by its trend. */
const moreResident = 0.08;
/** Samples that a trend needs. */
const trendNeeds = 120;
/** Milliseconds after which a token that was replaced is in no new request, on a machine that keeps no timer waiting. */
const tokenRule = 1_000;
/** A change goes through so many hands until a request is made with it, each of which a busy machine may keep waiting. */
const waits = 5;

export function verdict(run: Run & { descriptors: number; first: Quiet; last: Quiet }): Verdict {
  const { crowd, world, proxy, first, last } = run;
  const { tally } = crowd;
  const seen = world.seen();
  const problems = [
    ...tally.lost.map((sentence) => `lost: ${sentence}`),
    ...tally.mixedUp.map((sentence) => `mixed up: ${sentence}`),
    ...seen.wrong.map((sentence) => `wrong: ${sentence}`),
    ...[...first.left, ...last.left].map((sentence) => `left behind: ${sentence}`),
  ];
  const unless = (good: boolean, problem: string) => {
    if (!good) problems.push(problem);
  };
  unless(proxy.revealed() === 0, `${proxy.revealed()} lines of the proxy's logs hold a token`);
  const late = tokenRule + waits * run.lag;
  unless(
    seen.latest <= late,
    `a token was used ${seen.latest} ms after it was replaced, ${late.toFixed(0)} ms are allowed`,
  );
  unless(
    last.descriptors <= first.descriptors,
    `${last.descriptors} descriptors at the end, ${first.descriptors} at the beginning`,
  );
  unless(
    last.live - first.live <= moreHeld,
    `the proxy holds ${megabytes(last.live - first.live)} MB more than at the beginning`,
  );
  const half = run.resident.slice(Math.floor(run.resident.length / 2));
  const mean = half.reduce((sum, one) => sum + one, 0) / half.length;
  const trend = (slopeOf(half) * half.length) / mean;
  const hasTrend = run.resident.length >= trendNeeds;
  if (hasTrend) unless(trend <= moreResident, `resident memory rises by ${percent(trend)} over the second half`);
  for (const what of ["small", "list", "upload", "watch", "exec", "longWatch", "slowReader", "slowWriter", "leave"]) {
    unless(
      Object.entries(tally.counts).some(([key, times]) => key.includes(` ${what} `) && times > 0),
      `no client did ${what}: the soak shows less than it says`,
    );
  }
  const table = [
    ...Object.entries(tally.counts)
      .toSorted(([a], [b]) => a.localeCompare(b))
      .map(([what, times]) => row(what, times)),
    row("requests at targets", seen.requests),
    row("bytes read by clients", `${(tally.bytes / 1e9).toFixed(2)} GB`),
    row("audit lines", proxy.audited()),
    row("oldest token in use after its replacement", `${Math.max(0, seen.latest)} ms of ${late.toFixed(0)} allowed`),
    row("longest that this machine kept a timer waiting", `${run.lag.toFixed(0)} ms`),
    row(
      "descriptors before, at the first quiet, at the end",
      `${run.descriptors} ${first.descriptors} ${last.descriptors}`,
    ),
    row("held at the first quiet, at the end", `${megabytes(first.live)} ${megabytes(last.live)} MB`),
    row("RSS at the first quiet, at the end", `${megabytes(first.resident)} ${megabytes(last.resident)} MB`),
    row("RSS under load: mean of the second half", `${megabytes(mean)} MB`),
    row("RSS under load: its trend over that half", hasTrend ? percent(trend) : "too short to tell"),
    ...[...proxy.errors()].map(([sentence, times]) => row(`logged as an error: ${sentence}`, times)),
  ];
  return { table, problems };
}

function row(what: string, value: string | number): string {
  return `${what.padEnd(52)} ${value}`;
}

function percent(share: number): string {
  return `${(share * 100).toFixed(1)} %`;
}
