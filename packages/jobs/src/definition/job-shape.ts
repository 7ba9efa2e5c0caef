import * as z from "zod";
import { sentencesOf } from "./sentences.ts";

// What has to be so of a Job before this room reads or writes its fields; everything else is left to the API server.

const marks = z.record(z.string(), z.string()).nullish();
const metadata = z.looseObject({ labels: marks, annotations: marks }).nullish();
const named = z.looseObject({ name: z.string().min(1) });
const container = z.looseObject({
  name: z.string().min(1),
  env: z.array(named).nullish(),
  envFrom: z.array(z.looseObject({})).nullish(),
  resources: z.looseObject({}).nullish(),
  volumeMounts: z.array(z.looseObject({ name: z.string(), mountPath: z.string() })).nullish(),
});

const jobShape = z.looseObject({
  metadata,
  spec: z.looseObject({
    template: z.looseObject({
      metadata,
      spec: z.looseObject({
        containers: z.array(container).min(1),
        initContainers: z.array(container).nullish(),
        volumes: z.array(named).nullish(),
      }),
    }),
  }),
});

/** Where a value is no Job, as sentences with JSON pointers below `at`. */
export function jobProblems(job: unknown, at: readonly string[]): string[] {
  const parsed = jobShape.safeParse(job);
  return parsed.success ? [] : sentencesOf(parsed.error.issues, job, at);
}
