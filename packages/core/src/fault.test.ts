// One error class: its message is for the caller and never shows what it does not know.
import { expect, test } from "vitest";
import { describeErrno, errnoOf, Fault, problems } from "./fault.ts";

test("a Fault stays itself when it is caught and made a Fault again", () => {
  const fault = new Fault("not_found", "There is no connector team-a/prod");
  expect(Fault.from(fault, "Something else")).toBe(fault);
});

test("an unknown error is hidden behind a sentence, and kept as the cause for the log", () => {
  const error = new Error("Bearer abc leaked");
  const fault = Fault.from(error, "Reading the Secret");
  expect(fault.code).toBe("internal");
  expect(fault.message).not.toContain("abc");
  expect(fault.cause).toBe(error);
});

test("Node's error codes become words, also when they are in a cause or an aggregate", () => {
  const refused = Object.assign(new Error("connect ECONNREFUSED"), { code: "ECONNREFUSED" });
  expect(Fault.from(refused, "Reaching the API server").message).toBe("Reaching the API server: connection refused");
  expect(errnoOf(new Error("outer", { cause: refused }))).toBe("ECONNREFUSED");
  expect(describeErrno(new AggregateError([refused]))?.code).toBe("unavailable");
  expect(describeErrno(new Error("nothing"))).toBeUndefined();
});

test("several problems of one input are reported at once", () => {
  expect(problems("x", [])).toBeUndefined();
  expect(problems("The file cannot be used", ["a"])?.message).toBe("The file cannot be used: a");
  expect(problems("The file cannot be used", ["a", "b"])?.message).toBe("The file cannot be used:\n  - a\n  - b");
});
