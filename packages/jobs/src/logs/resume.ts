import { secondOf } from "./line.ts";

// Going on where a stream broke. A kubelet can be asked for what was written since a whole second only, so it sends again
// what we have of that second: so many lines are skipped, and the last of them must be the one that we have last.

export interface ResumePoint {
  /** Time of the last whole line that we have. */
  stamp: string;
  /** Lines that we have with a time not before the second of `stamp`: those the kubelet sends again. */
  lines: number;
  /** Whether no line of it has an earlier time than the one before: a node's clock may have been set back. */
  ordered: boolean;
}

/** keep: new. skip: we have it. lost: new, but lines between what we have and it cannot be had any more. */
export type Verdict = "keep" | "skip" | "lost";

export interface ResumeFilter {
  /** What the request says, RFC 3339. */
  sinceTime: string | undefined;
  /** To be called for each line that the kubelet sends, in order. */
  judge(stamp: string): Verdict;
  /** Lines that we have and that the stream has not sent yet. If it ends so, lines may be lost. */
  pending(): number;
}

/** Judges the lines of a stream that was opened at that point; without a point all are new. */
export function createResumeFilter(point: ResumePoint | undefined): ResumeFilter {
  if (point === undefined) return { sinceTime: undefined, judge: () => "keep", pending: () => 0 };
  let left = point.lines;
  let mismatch = false;
  return {
    sinceTime: secondOf(point.stamp),
    judge(stamp) {
      if (left === 0 && !mismatch) return "keep";
      if (mismatch || (point.ordered && stamp > point.stamp)) {
        if (stamp <= point.stamp) return "skip";
        left = 0;
        mismatch = false;
        return "lost";
      }
      left -= 1;
      if (left > 0 || stamp === point.stamp) return "skip";
      mismatch = true;
      return this.judge(stamp);
    },
    pending: () => (mismatch ? 1 : left),
  };
}
