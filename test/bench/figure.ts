/** Prints one figure as `name value unit target ok|short`. */
export function figure(
  name: string,
  value: number,
  unit: string,
  target: { atMost: number } | { atLeast: number },
): void {
  const [ok, bound] =
    "atMost" in target
      ? [value <= target.atMost, `at most ${target.atMost}`]
      : [value >= target.atLeast, `at least ${target.atLeast}`];
  console.log(`${name}\t${value.toFixed(value < 10 ? 2 : 0)}\t${unit}\t${bound}\t${ok ? "ok" : "short"}`);
}
