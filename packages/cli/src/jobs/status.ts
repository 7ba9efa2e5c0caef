import type { Fault } from "@kube-connector/core";
import type { RunRecord } from "@kube-connector/jobs";

/** Exit statuses of `kube-connector jobs`, beside 0. */
export const exitStatus = {
  error: 1,
  badInput: 2,
  refused: 3,
  Failed: 10,
  TimedOut: 11,
  Cancelled: 12,
  Lost: 13,
  interrupted: 130,
} as const;

/** Of a command that failed. */
export function statusOfFault({ code }: Fault): number {
  if (code === "invalid_argument") return exitStatus.badInput;
  return code === "unauthenticated" || code === "permission_denied" ? exitStatus.refused : exitStatus.error;
}

/** Of a run that has ended; with `container` that container's own, of the last attempt. */
export function statusOfRun({ state, attempts }: RunRecord, container?: string): number {
  if (container !== undefined) {
    const exits = (attempts.at(-1)?.exits ?? []).filter((exit) => exit.container === container);
    const found = exits.find(({ exitCode }) => exitCode !== 0) ?? exits[0];
    if (found !== undefined) return found.exitCode;
  }
  if (state === "Failed" || state === "TimedOut" || state === "Cancelled" || state === "Lost") return exitStatus[state];
  return state === "Succeeded" ? 0 : exitStatus.error;
}
