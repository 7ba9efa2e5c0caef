import { faults } from "@kube-connector/core";
import { diagnosisCategories, runStates, terminalStates } from "../run.ts";

// What the API answers with, as JSON Schemas of the OpenAPI document. A test holds answers to them, both ways: each field
// that is answered is here, in this form.

export const ref = (name: string) => ({ $ref: `#/components/schemas/${name}` });
export const text = { type: "string" };
const number = { type: "integer" };
const flag = { type: "boolean" };
const time = { type: "string", format: "date-time" };
const list = (items: unknown) => ({ type: "array", items });
const texts = { type: "object", additionalProperties: text };
/** Kubernetes' own, or the caller's. */
const anything = { type: "object", additionalProperties: true };

/** All of `required`, and what may be absent. */
const object = (required: Record<string, unknown>, optional: Record<string, unknown> = {}) => ({
  type: "object",
  properties: { ...required, ...optional },
  required: Object.keys(required),
});

const place = { pod: text, container: text };
const outcome = { state: { enum: terminalStates }, reason: text };

/** Of a run and of its summary. */
const run = {
  required: {
    id: text,
    engine: text,
    connector: text,
    namespace: text,
    name: text,
    state: { enum: runStates },
    status: { enum: ["Starting", "Running", "Success", "Failed", "Cancelled", "Unknown"] },
    reason: text,
    since: time,
    stale: flag,
    progress: ref("Progress"),
    createdAt: time,
    cleanup: object({ state: { enum: ["Pending", "Done", "Kept"] } }, { until: time, problem: text }),
    version: number,
  },
  optional: {
    source: object(
      { kind: text, namespace: text, name: text, used: { enum: ["Live", "Snapshot", "Fallback"] } },
      { uid: text },
    ),
    message: text,
    diagnosis: ref("Diagnosis"),
    startedAt: time,
    endedAt: time,
    retryAt: time,
    cancel: object({ at: time, propagation: { enum: ["Background", "Foreground"] }, force: flag }),
    suspend: flag,
    log: object({ lines: number, bytes: number, gaps: number }, { sha256: text }),
    retryOf: text,
    indexes: list(number),
  },
};

export const schemas: Record<string, unknown> = {
  Error: object({ error: object({ code: { enum: Object.keys(faults) }, message: text }) }),
  Diagnosis: object({ category: { enum: diagnosisCategories }, message: text, hint: text }, { ...place, since: time }),
  Progress: object({
    active: number,
    ready: number,
    succeeded: number,
    failed: number,
    completions: { type: ["integer", "null"], description: "null: a work queue." },
  }),
  Exit: object(
    { ...place, podUid: text, restart: number, exitCode: number },
    {
      index: number,
      signal: number,
      reason: text,
      message: text,
      image: text,
      imageID: text,
      node: text,
      startedAt: time,
      finishedAt: time,
    },
  ),
  Attempt: object(
    { number, job: text, manifest: anything, fingerprint: text, exits: list(ref("Exit")) },
    {
      uid: text,
      postedAt: time,
      startedAt: time,
      endedAt: time,
      outcome: { enum: terminalStates },
      reason: text,
      message: text,
      diagnosis: ref("Diagnosis"),
      decided: object(outcome, { message: text }),
      verdict: object({ ...outcome, message: text }),
      failedIndexes: { ...text, description: "As in 1,3-5." },
    },
  ),
  Run: object(
    {
      ...run.required,
      definition: { ...anything, description: "As in RunDefinition, with its defaults; of secretEnv the names." },
      attempts: list(ref("Attempt")),
    },
    { ...run.optional, outputs: texts },
  ),
  RunSummary: object({ ...run.required, attempt: number }, { ...run.optional, job: text }),
  RunEvent: object({
    number,
    at: time,
    type: { enum: ["state", "progress", "diagnosis", "attempt", "gap", "cleanup", "end"] },
    message: text,
    data: anything,
  }),
  LogLines: { ...object({ lines: list(text) }), description: "Data of an event of type log." },
  RunAnswer: object({ run: ref("Run") }, { monitorUrl: text }),
  RunPage: object({ runs: list(ref("RunSummary")) }, { next: text }),
  Submission: object({ run: ref("Run"), warnings: list(text) }),
  DryRun: object(
    {
      manifest: anything,
      differences: list(object({ path: text }, { before: {}, after: {} })),
      warnings: list(text),
    },
    { source: run.optional.source },
  ),
  SubmissionOrDryRun: { anyOf: [ref("Submission"), ref("DryRun")] },
  FoundLines: object({ lines: list(object({ line: text, offset: number })) }),
  Source: object(
    {
      kind: { enum: ["Job", "CronJob"] },
      name: text,
      namespace: text,
      uid: text,
      suspended: flag,
      containers: list(object({ name: text, image: text }, { command: list(text), args: list(text) })),
      parameters: list(
        object(
          { name: text, type: { const: "String" }, default: { type: ["string", "null"] }, container: text },
          { from: text, expand: { const: true } },
        ),
      ),
      groups: list(object({ container: text, prefix: text, from: text })),
    },
    { schedule: text, timeZone: text },
  ),
  SourcePage: object(
    { items: list(ref("Source")) },
    { next: text, restarted: { const: true, description: "The cursor was too old: this is the first page again." } },
  ),
  SweepReport: object({ deleted: list(text), orphans: list(text), problems: list(text) }),
  Connectors: object({ connectors: list(object({ name: text }, { defaultNamespace: text })) }),
};
