import type { Case, Result } from "./campaign.ts";
import { saveCase } from "./case-file.ts";
import type { Finding } from "./judge.ts";

/** Most characters of what is told of one connection. */
const lineLimit = 2000;

/** What a campaign did, in one line. */
export function summaryOf(where: string, seed: number, { executions, passed, behaviours, found }: Result): string {
  const findings = found === undefined ? "no finding" : "1 finding";
  return `${where}: ${executions} executions, ${passed} of them went on, ${behaviours} behaviours, ${findings}; seed ${seed}`;
}

/** Tells of what was found and of how to try it again; saves it unless it is from that file. */
export async function reportOf(found: { case: Case; finding: Finding }, file?: string): Promise<string> {
  const details = found.finding.details.split("\n").map((line) => `  ${line.slice(0, lineLimit)}`);
  const input = `  input: ${JSON.stringify(found.case.input).slice(0, lineLimit)}`;
  const again = `again: make fuzz ARGS="--case ${file ?? (await saveCase(found.case))}"`;
  return [`FOUND: ${found.finding.rule}`, input, ...details, again].join("\n");
}
