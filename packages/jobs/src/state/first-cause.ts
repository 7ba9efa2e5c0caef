import type { Diagnosis, DiagnosisCategory } from "../run.ts";

/**
 * Of the cause that was known and the one that is seen now, the one to tell. What a run waits for is over once it is at work
 * (`isIdle` false) and nothing more is seen of it; why something failed stays. An unchanged cause is the same object.
 */
export function firstCause(
  before: Diagnosis | undefined,
  found: Diagnosis | undefined,
  isIdle: boolean,
): Diagnosis | undefined {
  if (before === undefined) return found;
  const { category, message } = before;
  const isWait = waits.some((one) => category === one || category.startsWith(`${one}.`));
  if (found === undefined) return isWait && !isIdle ? undefined : before;
  // That no pod is left to tell why is no news where one has told it.
  const isNews = found.category !== "BackoffLimit" || isWait;
  return isNews && (found.category !== category || found.message !== message) ? found : before;
}

/** Categories, or their families, of what a run waits for; the others are of something that has ended. */
const waits: readonly (DiagnosisCategory | "Unschedulable")[] = [
  "InvalidImage",
  "ImagePull",
  "ConfigMissing",
  "VolumeMount",
  "Unschedulable",
  "Gated",
  "Quota",
  "Denied",
  "AwaitingAdmission",
  "StuckTerminating",
];
