import { expect, test } from "vitest";
import type { Diagnosis, DiagnosisCategory } from "../run.ts";
import { firstCause } from "./first-cause.ts";

const cause = (category: DiagnosisCategory, message = "why"): Diagnosis => ({ category, message, hint: "what" });

test("what a run waits for is over when it is at work, and not before", () => {
  for (const category of ["ImagePull", "Unschedulable.Taint", "Quota", "AwaitingAdmission"] as const) {
    const before = cause(category);
    expect(firstCause(before, undefined, true)).toBe(before);
    expect(firstCause(before, undefined, false)).toBeUndefined();
  }
});

test("why something failed stays, also when no pod is left to tell it", () => {
  for (const category of ["AppExit", "OutOfMemory", "Infra.Preempted", "StartError"] as const) {
    const before = cause(category);
    expect(firstCause(before, undefined, false)).toBe(before);
    expect(firstCause(before, cause("BackoffLimit"), false)).toBe(before);
  }
  const late = cause("BackoffLimit");
  expect(firstCause(cause("ImagePull"), late, false)).toBe(late);
  expect(firstCause(undefined, late, false)).toBe(late);
});

test("what is seen now replaces what was; the same is the same object, so that it is not told twice", () => {
  const before = cause("AppExit");
  expect(firstCause(before, cause("AppExit"), false)).toBe(before);
  for (const found of [cause("AppExit", "another pod"), cause("CrashLoop"), cause("PodFailurePolicy")]) {
    expect(firstCause(before, found, false)).toBe(found);
  }
});
