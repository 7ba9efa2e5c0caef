import { problems } from "@kube-connector/core";
import * as z from "zod";
import { runStates } from "../run.ts";

// What each route takes: one schema for the check and for the OpenAPI document.

const flag = z.enum(["true", "false"]).transform((text) => text === "true");
const words = z.string().min(1).max(1000);
/** Of the API server, whose continue tokens have the length that they have. */
const token = z.string().min(1).max(10_000);
const count = (most: number) =>
  z
    .string()
    .regex(/^\d{1,6}$/, { error: "should be a whole number" })
    .transform(Number)
    .refine((number) => number >= 1 && number <= most, { error: `should be from 1 to ${most}` });

/** Of queries: every value is text. */
export const queries = {
  submit: z.strictObject({ dryRun: z.enum(["client", "server"]).optional() }),
  list: z.strictObject({
    state: z
      .union([z.enum(runStates), z.array(z.enum(runStates))])
      .optional()
      .describe("May be repeated."),
    connector: words.optional(),
    namespace: words.optional(),
    name: words.optional(),
    endedBefore: z.iso.datetime().optional(),
    cursor: words.optional(),
    limit: count(1000).optional(),
  }),
  logs: z.strictObject({
    view: z.enum(["merged", "pod"]).optional(),
    pod: words.optional(),
    container: words.optional(),
    search: words.optional().describe("Only lines with these words."),
    limit: count(100_000).optional().describe("With search: lines at most; 1000 unless told."),
  }),
  events: z.strictObject({
    logs: flag.optional().describe("Also the lines of the log; true unless told."),
    pod: words.optional(),
    container: words.optional(),
  }),
  sources: z.strictObject({
    connector: words,
    namespace: words,
    kind: z.enum(["Job", "CronJob"]),
    limit: count(1000).optional().describe("Objects that the cluster is asked for; 100 unless told."),
    cursor: token.optional(),
    all: flag.optional(),
    allContainers: flag.optional(),
  }),
} as const;

/** Of bodies. */
export const bodies = {
  cancel: z.strictObject({
    propagation: z.enum(["Background", "Foreground"]).optional(),
    force: z.boolean().optional(),
  }),
  retry: z.strictObject({ failedIndexes: z.boolean().optional() }),
  clean: z.strictObject({ orphans: z.boolean().optional() }),
  none: z.strictObject({}),
} as const;

/** The value by its schema, or one `invalid_argument` Fault with every mistake. */
export function readInput<T>(schema: z.ZodType<T>, value: unknown, what: string): T {
  const parsed = schema.safeParse(value ?? {});
  if (parsed.success) return parsed.data;
  const sentences = parsed.error.issues.map(({ path, message }) =>
    path.length === 0 ? message : `${path.map(String).join(".")}: ${message}`,
  );
  throw problems(`The ${what} cannot be used`, sentences) ?? parsed.error;
}
