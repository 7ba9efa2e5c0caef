import { expect, test } from "vitest";
import type { RetryPolicy } from "../definition/definition.ts";
import { byPriority, planRetry } from "./retry.ts";
import type { DiagnosisCategory, TerminalState } from "../run.ts";

// A failed attempt is followed by another when the policy says so for its cause; delays grow, with a little chance in them.

const policy: RetryPolicy = { maxAttempts: 5, backoff: "Exponential", initialDelay: 10, maxDelay: 60, on: ["Infra"] };
const diagnosis = (category: DiagnosisCategory) => ({ category, message: "", hint: "" });
const seen = { attempt: 1, outcome: "Failed" as const, diagnosis: diagnosis("Infra.Evicted"), random: () => 0 };

test.each<[Partial<RetryPolicy>, number[]]>([
  [{}, [10, 20, 40, 60]],
  [{ backoff: "Linear" }, [10, 20, 30, 40]],
  [{ backoff: "Fixed" }, [10, 10, 10, 10]],
  [{ initialDelay: 0 }, [0, 0, 0, 0]],
  [{ maxAttempts: 3 }, [10, 20]],
  [{ maxAttempts: 1 }, []],
])("%j waits %j seconds", (more, delays) => {
  const planned = [1, 2, 3, 4, 5].map((attempt) => planRetry({ ...policy, ...more }, { ...seen, attempt }));
  expect(planned).toEqual([...delays, ...Array.from({ length: 5 - delays.length }, () => undefined)]);
});

test("chance takes up to a tenth off", () => {
  expect(planRetry(policy, { ...seen, random: () => 1 })).toBe(9);
  expect(planRetry(policy, { ...seen, attempt: 4, random: () => 0.5 })).toBe(57);
});

test.each<[RetryPolicy["on"], DiagnosisCategory | undefined, TerminalState, boolean]>([
  [["Infra"], "Infra.NodeLost", "Failed", true],
  [["Infra"], "AppExit", "Failed", false],
  [["Infra"], undefined, "Failed", false],
  [["Infra"], "Infra.NodeLost", "Lost", true],
  [["OutOfMemory", "AppExit"], "AppExit", "Failed", true],
  [["Infra.Evicted"], "Infra.Preempted", "Failed", false],
  [["Any"], undefined, "Failed", true],
  [["Any"], "Deadline", "TimedOut", true],
  [["Any"], undefined, "Lost", true],
  [["Any"], "AppExit", "Cancelled", false],
  [["Any"], "AppExit", "Succeeded", false],
])("on %j, %s and %s: %s", (on, category, outcome, again) => {
  const cause = category === undefined ? undefined : diagnosis(category);
  expect(planRetry({ ...policy, on }, { ...seen, outcome, diagnosis: cause }) !== undefined).toBe(again);
});

test("a higher priority goes first, then who came first", () => {
  const runs = [
    { id: "c", priority: 0 },
    { id: "b", priority: 0 },
    { id: "d", priority: 5 },
    { id: "a", priority: -5 },
  ];
  expect(runs.sort(byPriority).map(({ id }) => id)).toEqual(["d", "b", "c", "a"]);
});
