import * as z from "zod";

// The configuration of the jobs module, as a file has it.

const connectorSchema = z.strictObject({
  name: z.string().regex(/^[a-z0-9-]+\/[a-z0-9.-]+$/, { error: "should be namespace/name of a Connector" }),
  kubeconfig: z.string().min(1).describe("A kubeconfig that kube-connector made."),
  defaultNamespace: z.string().min(1).optional().describe("Where runs go that name no namespace."),
  monitorUrl: z
    .string()
    .min(1)
    .optional()
    .describe("Shown for its runs; {cluster}, {namespace} and {job} are filled in."),
});

const profileSchema = z.strictObject({
  concurrency: z
    .strictObject({
      max: z.int().min(1).describe("Runs at a time, from POST to end."),
      queueSize: z.int().min(0).optional().describe("Runs that wait; 10000 unless told."),
      onFull: z.enum(["Queue", "Reject"]).optional(),
    })
    .optional(),
  rate: z.strictObject({ perSecond: z.number().positive(), burst: z.int().min(1) }).optional(),
  scope: z.enum(["Connector", "Global"]).optional().describe("For each connector, or over all of them."),
});

export const jobsConfigSchema = z.strictObject({
  connectors: z.array(connectorSchema).default([]),
  profiles: z.record(z.string().regex(/^\S+$/), profileSchema).default({}),
  history: z.string().min(1).optional().describe("A file for SQLite, or @ and a file that holds a postgres:// URL."),
  logs: z.string().min(1).optional().describe("The folder of the log files."),
});
