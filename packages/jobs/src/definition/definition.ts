import * as z from "zod";
import { type DiagnosisCategory, diagnosisCategories } from "../run.ts";
import {
  annotationsSchema,
  anyObject,
  commaList,
  count,
  dnsLabel,
  dnsName,
  envName,
  envSchema,
  labelsSchema,
  resourcesSchema,
  seconds,
  text,
  word,
  type envValueSchema,
} from "./fields.ts";

// What somebody wants to run. One schema gives the form that people write, its JSON Schema, and the parsed form: defaults
// filled in, comma lists split, `[[name]]` filled. Checks that take more than one field are in checks.ts. Times in seconds.

const retrySchema = z
  .strictObject({
    maxAttempts: count(1, 10).default(1).describe("How often it is tried in all."),
    backoff: z
      .enum(["Exponential", "Fixed", "Linear"])
      .default("Exponential")
      .describe("How the delay grows: doubled each time, the same, or by initialDelay each time."),
    initialDelay: seconds(0).default(10).describe("Before the second attempt."),
    maxDelay: seconds(0).default(600).describe("The longest delay."),
    on: z
      .array(z.enum(["Any", "Infra", ...diagnosisCategories]))
      .min(1)
      .default(["Infra"])
      .describe("Infra: any of its categories. Any: whatever failed."),
  })
  .prefault({});

/** Each field of a definition, by name. */
export const definitionShape = {
  connector: word.describe("The connector to the cluster; the configuration lists them."),
  namespace: dnsLabel.optional().describe("Where the Job runs. Absent: the connector's default, else default."),
  name: dnsLabel.optional().describe("The base of the Job's name. Absent: from source, job or image."),
  image: word.optional().describe("Origin: an image. Exactly one of image, job and source is given."),
  job: anyObject.optional().describe("Origin: a whole batch/v1 Job."),
  source: z
    .strictObject({
      kind: z.enum(["Job", "CronJob"]).default("Job"),
      name: dnsName,
      namespace: dnsLabel.optional().describe("Absent: the run's."),
      onMissing: z
        .enum(["Snapshot", "Fallback", "Fail"])
        .default("Snapshot")
        .describe("When it is gone: what was last seen of it, then fallback; or fallback alone; or the run fails."),
    })
    .optional()
    .describe("Origin: a Job or CronJob of the cluster, to be cloned."),
  container: dnsLabel.default("main").describe("With image: the container's name."),
  command: commaList.optional().describe("With image: what is run. A comma in a text is \\, and a backslash \\\\."),
  args: commaList.optional().describe("With image: its arguments."),
  completions: count(1)
    .nullable()
    .optional()
    .describe("Pods to succeed. null: a work queue, done when its pods are. Absent: 1, or as in source or job."),
  parallelism: count(0).optional().describe("Pods at once. Absent: 1, or as in source or job."),
  completionMode: z.enum(["NonIndexed", "Indexed"]).optional(),
  resources: resourcesSchema.optional().describe("With image: of its container."),
  mounts: z
    .array(
      z.strictObject({
        name: dnsLabel.describe("The volume's name."),
        claim: dnsName.describe("The PersistentVolumeClaim."),
        mountPath: z
          .string()
          .regex(/^\/[^:]*$/, { error: "should be an absolute path without a colon" })
          .describe("Where the container sees it."),
        readOnly: z.boolean().default(false),
      }),
    )
    .default([])
    .describe("PersistentVolumeClaims for the container: the image's, or the one that overlay names."),
  env: envSchema.default({}).describe("With image: its variables. Text reaches the program as it is."),
  secretEnv: z
    .record(envName, text)
    .default({})
    .describe("Variables whose values go into a Secret of the run; they are in no history and masked in the log."),
  vars: z.record(word, z.string()).default({}).describe("Texts for [[name]] in any string; other names stay."),
  overlay: z
    .strictObject({
      container: dnsLabel.optional().describe("Absent: the first."),
      env: envSchema.optional().describe("Replaces variables of these names in place; new ones come last."),
      image: word.optional(),
      command: commaList.optional(),
      args: commaList.optional(),
      resources: resourcesSchema.optional().describe("Replaces the quantities that it names."),
    })
    .optional()
    .describe("With source or job: what is changed in one container."),
  fallback: z
    .strictObject({ image: word, command: commaList.optional(), args: commaList.optional() })
    .optional()
    .describe("With source: what is run when there is neither source nor snapshot."),
  patch: anyObject.optional().describe("Merged last into the Job; lists of things with names are merged by name."),
  serviceAccountName: dnsName.optional(),
  podFailurePolicy: anyObject.optional().describe("As in batch/v1."),
  successPolicy: anyObject.optional().describe("As in batch/v1."),
  restartPolicy: z.enum(["Never", "OnFailure"]).optional().describe("Absent: Never, or as in source or job."),
  backoffLimit: count(0).optional().describe("Retries inside one Job. Absent: 0, or as in source or job."),
  backoffLimitPerIndex: count(0)
    .optional()
    .describe("With completionMode Indexed: retries of each index. Only then does a Job say which indexes failed."),
  retry: retrySchema.describe("When a new Job is tried."),
  timeout: seconds(0).optional().describe("activeDeadlineSeconds. 0: none. Absent: 86400, or as in source or job."),
  deadlines: z
    .strictObject({
      queue: seconds(1).default(3600).describe("Until the cluster has taken the Job."),
      start: seconds(1).optional().describe("From then to the first running container."),
      silence: seconds(1).optional().describe("Without a line in the log."),
      collect: seconds(1).default(300).describe("For the rest of the log after the end."),
    })
    .prefault({})
    .describe("Our own clocks; a run that misses one is TimedOut."),
  ttl: seconds(1)
    .optional()
    .describe("ttlSecondsAfterFinished. Absent: 86400; keepFailedFor with cleanup OnSuccess; none with cleanup Never."),
  cleanup: z
    .enum(["Always", "OnSuccess", "Never"])
    .default("Always")
    .describe("When Job and pods are deleted after the end."),
  keepFailedFor: seconds(1).default(604_800).describe("With cleanup OnSuccess: how long a failed Job is kept."),
  failFast: z
    .partialRecord(z.enum(diagnosisCategories), seconds(0).nullable())
    .prefault({})
    .describe(
      "Seconds that a diagnosis may stand before the run is given up; null: for ever. InvalidImage 0, ImagePull and ConfigMissing 300 unless told.",
    ),
  resultContainer: dnsLabel.optional().describe("The container whose end is the run's end."),
  logRetentionDays: count(1, 3650).default(30).describe("How long the log files are kept."),
  priority: z.int().min(-100).max(100).default(0).describe("Higher first."),
  profile: word.optional().describe("Concurrency and rate, by name; the configuration lists them."),
  labels: labelsSchema.default({}).describe("For the Job and its pods."),
  annotations: annotationsSchema.default({}).describe("For the Job and its pods."),
  runKey: z.string().min(1).max(253).optional().describe("Run once: the same key gives the same run."),
  outputs: z.array(z.string().min(1).max(253)).optional().describe("Outputs that the run must give."),
} as const;

export const definitionSchema = z.strictObject(definitionShape).meta({
  title: "Run definition of kube-connector jobs",
  // For editors; checks.ts says it in a sentence.
  oneOf: [{ required: ["image"] }, { required: ["job"] }, { required: ["source"] }],
});

/** Each field as it is read, before the defaults that depend on other fields. */
export type DefinitionFields = z.output<typeof definitionSchema>;

export type EnvValue = z.output<typeof envValueSchema>;
export type Resources = z.output<typeof resourcesSchema>;
/** What is laid over a container of a source or of `job`. */
export type Overlay = NonNullable<DefinitionFields["overlay"]>;
export type RetryPolicy = DefinitionFields["retry"];
export type RetryCause = RetryPolicy["on"][number];

/**
 * A definition after parsing. With image, what is absent in the form has its default here; with source and job an absent
 * field means: as it is there. It holds no secret: `secretEnv` has names only, and `vars` are filled in and dropped.
 */
export type RunDefinition = Omit<
  DefinitionFields,
  "namespace" | "name" | "source" | "secretEnv" | "vars" | "failFast"
> & {
  namespace: string;
  name: string;
  source?: NonNullable<DefinitionFields["source"]> & { namespace: string };
  secretEnv: string[];
  failFast: Partial<Record<DiagnosisCategory, number>>;
};

/** The JSON Schema (2020-12) of a definition as people write it. */
export function definitionJsonSchema(): Record<string, unknown> {
  return z.toJSONSchema(definitionSchema, { io: "input" });
}
