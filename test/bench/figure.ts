import { readFileSync, writeFileSync } from "node:fs";

/** Where all figures of a run are kept as well; not in git. */
const results = new URL("./results.json", import.meta.url);

interface Figure {
  name: string;
  value: number;
  unit: string;
  target: string;
  ok: boolean;
}

/**
 * CPU milliseconds that nginx takes for a TLS handshake and one GET on the machine for which targets in milliseconds are meant,
 * while nobody else is at work there. Where others are, everyone takes more of them, but in the same proportion.
 */
export const nginxHandshake = 0.4;

/** Prints one figure as `name value unit target ok|short`, and keeps it in results.json. */
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
  const kept = readFigures().filter((one) => one.name !== name);
  writeFileSync(results, `${JSON.stringify([...kept, { name, value, unit, target: bound, ok }], null, 1)}\n`);
}

function readFigures(): Figure[] {
  try {
    return JSON.parse(readFileSync(results, "utf8")) as Figure[];
  } catch {
    return [];
  }
}
