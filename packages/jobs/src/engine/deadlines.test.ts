import { expect, test } from "vitest";
import { parseDefinition } from "../definition/parse.ts";
import type { Job, Pod } from "../kube.ts";
import type { Attempt, Diagnosis, RunRecord } from "../run.ts";
import { deadlineOver, type DeadlinesSeen } from "./deadlines.ts";

// Deadlines that we keep ourselves, each a second before and at its time.

const zero = Date.UTC(2026, 0, 1);
const at = (seconds: number) => new Date(zero + seconds * 1000).toISOString();

function look(
  fields: object,
  now: number,
  seen: Partial<DeadlinesSeen> & { lastLineAt?: string; listeningSince?: number; startedAt?: string } = {},
) {
  const { definition } = parseDefinition(
    { connector: "team-a/prod", image: "images.example/report:1", name: "report", ...fields },
    { connectors: new Map([["team-a/prod", {}]]), profiles: new Set() },
  );
  const attempt = {
    number: 1,
    postedAt: at(0),
    ...(seen.startedAt === undefined ? {} : { startedAt: seen.startedAt }),
  } as Attempt;
  return deadlineOver(
    {
      record: { definition, createdAt: at(0) } as RunRecord,
      lastLineAt: seen.lastLineAt,
      listeningSince: zero + (seen.listeningSince ?? 0) * 1000,
    },
    zero + now * 1000,
    { attempt, job: seen.job, pods: seen.pods ?? [], diagnosis: seen.diagnosis, stands: seen.stands ?? false },
  );
}

const job = (startTime: number, more: Job["spec"] = {}): Job => ({
  metadata: { name: "report" },
  spec: more,
  status: { startTime: at(startTime) },
});

const imagePull: Diagnosis = { category: "ImagePull", message: "not there", hint: "", since: at(10) };

/** A running pod whose containers have ended with these codes, at 10 s; undefined: it runs. */
const pod = (codes: Record<string, number | undefined>): Pod => ({
  metadata: { name: "report-x" },
  status: {
    phase: "Running",
    containerStatuses: Object.entries(codes).map(([name, exitCode]) => ({
      name,
      restartCount: 0,
      state: exitCode === undefined ? { running: {} } : { terminated: { exitCode, finishedAt: at(10) } },
    })),
  },
});

test("start counts from the POST, and ends with the first container", () => {
  const fields = { deadlines: { start: 60 } };
  expect(look(fields, 59)).toEqual({ again: 1000 });
  expect(look(fields, 60).verdict).toMatchObject({ state: "TimedOut", reason: "Start" });
  expect(look(fields, 60, { pods: [pod({ main: undefined })] }).verdict).toBeUndefined();
  expect(look(fields, 60, { startedAt: at(30) }).verdict).toBeUndefined();
});

test("start says why nothing has started", () => {
  const { verdict } = look({ deadlines: { start: 60 } }, 60, { diagnosis: imagePull });
  expect(verdict?.message).toBe("no container ran within deadlines.start (60 s): not there");
});

test("a suspended Job has no deadline; once it is resumed start counts anew", () => {
  const fields = { deadlines: { start: 60, silence: 5 } };
  expect(look(fields, 500, { job: job(0, { suspend: true }), startedAt: at(1) }).verdict).toBeUndefined();
  expect(look(fields, 559, { job: job(500) }).verdict).toBeUndefined();
  expect(look(fields, 560, { job: job(500) }).verdict?.reason).toBe("Start");
});

test("silence counts from the last line, or from the start", () => {
  const fields = { deadlines: { silence: 30 } };
  const pods = [pod({ main: undefined })];
  expect(look(fields, 500).verdict).toBeUndefined();
  expect(look(fields, 129, { pods, startedAt: at(1), lastLineAt: at(100) })).toEqual({ again: 1000 });
  expect(look(fields, 130, { pods, startedAt: at(1), lastLineAt: at(100) }).verdict?.reason).toBe("Silence");
  expect(look(fields, 31, { pods, startedAt: at(1) }).verdict?.reason).toBe("Silence");
});

test("only what runs can be silent: not the time between two pods, nor what has ended and is not counted yet", () => {
  const fields = { deadlines: { silence: 30 } };
  expect(look(fields, 500, { startedAt: at(1), pods: [pod({ main: 0 })] }).verdict).toBeUndefined();
  const second = pod({ main: undefined });
  second.status = {
    containerStatuses: [{ name: "main", restartCount: 0, state: { running: { startedAt: at(480) } } }],
  };
  expect(look(fields, 500, { startedAt: at(1), pods: [pod({ main: 1 }), second] })).toEqual({ again: 10_000 });
});

test("nobody is silent while nobody listens: after a restart of ours, and while the cluster is away", () => {
  const fields = { deadlines: { silence: 30 } };
  const seen = { startedAt: at(1), listeningSince: 1000, pods: [pod({ main: undefined })] };
  expect(look(fields, 1029, seen).verdict).toBeUndefined();
  expect(look(fields, 1030, seen).verdict?.reason).toBe("Silence");
});

test("failFast counts from when the cause was first seen, and only while it stands", () => {
  const fields = { failFast: { ImagePull: 300 } };
  expect(look(fields, 309, { diagnosis: imagePull, stands: true })).toEqual({ again: 1000 });
  expect(look(fields, 310, { diagnosis: imagePull, stands: true }).verdict).toEqual({
    state: "Failed",
    reason: "ImagePull",
    message: "not there",
  });
  expect(look(fields, 5000, { diagnosis: imagePull, stands: false }).verdict).toBeUndefined();
  expect(look({ failFast: { ImagePull: null } }, 5000, { diagnosis: imagePull, stands: true }).verdict).toBeUndefined();
});

test("the result container's end is the run's, once its pod has had a moment to end by itself", () => {
  const fields = { resultContainer: "main" };
  expect(look(fields, 14, { pods: [pod({ main: 0, proxy: undefined })] }).verdict).toBeUndefined();
  expect(look(fields, 15, { pods: [pod({ main: 0, proxy: undefined })] }).verdict).toMatchObject({
    state: "Succeeded",
    message: "main ended with 0",
  });
  expect(look(fields, 15, { pods: [pod({ main: 3, proxy: undefined })] }).verdict?.state).toBe("Failed");
  expect(look(fields, 15, { pods: [pod({ main: undefined, proxy: 0 })] }).verdict).toBeUndefined();
});

test("of several completions each has to have its result", () => {
  const done = pod({ main: 0, proxy: undefined });
  const seen = { job: job(0, { completions: 3 }), pods: [done, done] };
  expect(look({ resultContainer: "main", completions: 3 }, 60, seen).verdict).toBeUndefined();
  expect(
    look({ resultContainer: "main", completions: 3 }, 60, { ...seen, pods: [done, done, done] }).verdict?.state,
  ).toBe("Succeeded");
});
