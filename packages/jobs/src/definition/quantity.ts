// Quantities as Kubernetes has them (k8s.io/apimachinery/pkg/api/resource): 250m, 1Gi, 1.5, 2e3.

const suffixes: Record<string, [base: bigint, exponent: number]> = {
  n: [10n, -9],
  u: [10n, -6],
  m: [10n, -3],
  "": [10n, 0],
  k: [10n, 3],
  M: [10n, 6],
  G: [10n, 9],
  T: [10n, 12],
  P: [10n, 15],
  E: [10n, 18],
  Ki: [1024n, 1],
  Mi: [1024n, 2],
  Gi: [1024n, 3],
  Ti: [1024n, 4],
  Pi: [1024n, 5],
  Ei: [1024n, 6],
};

/** A quantity that is not negative, for schemas. The exponent is kept short so that no number grows without bound. */
export const quantityPattern = /^\+?(\d{1,18}(\.\d{0,9})?|\.\d{1,9})([numkMGTPE]|[KMGTPE]i|[eE][+-]?\d{1,2})?$/;

/** The quantity in billionths, rounded up as an API server does; undefined when it is none, or negative. */
export function parseQuantity(text: string): bigint | undefined {
  if (!quantityPattern.test(text)) return undefined;
  const [, whole = "", fraction = "", suffix = ""] = /^\+?(\d*)\.?(\d*)(.*)$/.exec(text) ?? [];
  const [base, exponent] = suffixes[suffix] ?? [10n, Number(suffix.slice(1))];
  const scaled = BigInt(whole + fraction) * base ** BigInt(Math.max(exponent, 0)) * 1_000_000_000n;
  const divisor = 10n ** BigInt(fraction.length + Math.max(-exponent, 0));
  return (scaled + divisor - 1n) / divisor;
}
