// Rounds: in each, every subject is measured once, one after the other. Only what was measured in one round is compared,
// because the machine may be another from minute to minute.

/** What was measured, by subject; the same index is the same round. */
export type Measured<S extends string> = Record<S, number[]>;

export async function rounds<S extends string>(
  count: number,
  subjects: readonly S[],
  measure: (subject: S) => Promise<number>,
): Promise<Measured<S>> {
  const measured = Object.fromEntries(subjects.map((subject) => [subject, [] as number[]])) as Measured<S>;
  for (let round = 0; round < count; round += 1) {
    for (const subject of subjects) measured[subject].push(await measure(subject));
  }
  return measured;
}

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1
    ? (sorted[middle] ?? Number.NaN)
    : ((sorted[middle - 1] ?? 0) + (sorted[middle] ?? 0)) / 2;
}

/** The ratios of two subjects, round by round. */
export function ratios<S extends string>(measured: Measured<S>, over: S, under: S): number[] {
  return measured[over].map((value, round) => value / (measured[under][round] ?? Number.NaN));
}

/** `median (least-most)` */
export function spread(values: readonly number[], digits: number): string {
  const shown = (value: number) => value.toFixed(digits);
  return `${shown(median(values))} (${shown(Math.min(...values))}-${shown(Math.max(...values))})`;
}

/** Prints each subject's values, and its ratio to the first subject. */
export function table<S extends string>(title: string, unit: string, measured: Measured<S>): void {
  const subjects = Object.keys(measured) as S[];
  const [first] = subjects;
  if (first === undefined) return;
  const lines = subjects.map((subject) => {
    const values = spread(measured[subject], 1);
    return `  ${subject.padEnd(22)} ${values.padStart(24)} ${unit.padEnd(14)} ${spread(ratios(measured, subject, first), 2)}`;
  });
  console.log(`${title}: median (least-most), and over ${first}\n${lines.join("\n")}`);
}
