import type { RunRecord } from "@kube-connector/jobs";

export interface RunDifference {
  path: string;
  before: string;
  after: string;
}

/** What differs between two runs: definition, images with their digests, how long they took, exit codes. */
export function compareRuns(one: RunRecord, other: RunRecord): RunDifference[] {
  const [before, after] = [factsOf(one), factsOf(other)];
  return [...new Set([...before.keys(), ...after.keys()])]
    .map((path) => ({ path, before: before.get(path) ?? "", after: after.get(path) ?? "" }))
    .filter((fact) => fact.before !== fact.after);
}

function factsOf(run: RunRecord): Map<string, string> {
  const facts = new Map<string, string>();
  flatten("definition", run.definition, facts);
  facts.set("state", run.state);
  facts.set("reason", run.reason);
  if (run.startedAt !== undefined && run.endedAt !== undefined) {
    facts.set("seconds", String(Math.round((Date.parse(run.endedAt) - Date.parse(run.startedAt)) / 1000)));
  }
  facts.set("attempts", String(run.attempts.length));
  for (const { container, index, restart, exitCode, imageID, image } of run.attempts.at(-1)?.exits ?? []) {
    const at = `${index === undefined ? "" : `index ${index} `}${container}#${restart}`;
    facts.set(`${at} exit`, String(exitCode));
    facts.set(`${at} image`, imageID ?? image ?? "");
  }
  return facts;
}

function flatten(path: string, value: unknown, into: Map<string, string>): void {
  if (typeof value === "object" && value !== null && Object.keys(value).length > 0) {
    for (const [key, inner] of Object.entries(value)) flatten(`${path}.${key}`, inner, into);
  } else if (value !== undefined) into.set(path, typeof value === "string" ? value : JSON.stringify(value));
}
