import type { Case } from "./campaign.ts";
import type { Finding } from "./judge.ts";

/** Most attempts at making a finding smaller. */
const attempts = 3000;

/** The smallest case that can be made of one by leaving bytes out, and that breaks the same rule. */
export async function minimise(
  first: Case,
  finding: Finding,
  attempt: (smaller: Case) => Promise<{ finding: Finding | undefined }>,
): Promise<{ case: Case; finding: Finding }> {
  let best = { case: first, finding };
  let count = 0;
  const isSmaller = async (smaller: Case): Promise<boolean> => {
    count += 1;
    const tried = await attempt(smaller);
    if (tried.finding?.rule !== finding.rule) return false;
    best = { case: smaller, finding: tried.finding };
    return true;
  };
  const without = (at: number, length: number): Case => {
    const { input, split } = best.case;
    return { input: { ...input, bytes: input.bytes.slice(0, at) + input.bytes.slice(at + length) }, split };
  };
  if (first.split.length > 0) await isSmaller({ ...first, split: [] });
  // Halves, quarters and so on; single bytes again and again, as long as one can go.
  for (let length = Math.ceil(first.input.bytes.length / 2), shrank = true; shrank || length > 1; ) {
    shrank = false;
    for (let at = 0; at < best.case.input.bytes.length; ) {
      if (count >= attempts) return best;
      if (await isSmaller(without(at, length))) shrank = true;
      else at += length;
    }
    length = Math.ceil(length / 2);
  }
  return best;
}
