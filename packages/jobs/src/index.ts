export { connectJobs, type RemoteJobs } from "./api/client.ts";
export { type JobsService, type JobsServiceOptions, startJobsService } from "./api/service.ts";
export { jobsConfigSchema } from "./config.ts";
export { type JobsCounts, noCounts } from "./counts.ts";
export type { DefinitionContext } from "./definition/checks.ts";
export {
  definitionJsonSchema,
  type EnvValue,
  type Overlay,
  type Resources,
  type RetryPolicy,
  type RunDefinition,
} from "./definition/definition.ts";
export { type ParsedDefinition, parseDefinition } from "./definition/parse.ts";
export type { DiscoverQuery, SourcePage } from "./discover.ts";
export type { SweepReport } from "./engine/sweep.ts";
export { openStore } from "./history/open.ts";
export { openSqliteStore, type SqliteOptions } from "./history/sqlite.ts";
export type { NewEvent, RunKeys, RunQuery, RunSummary, SnapshotKey, Store } from "./history/store.ts";
export { type ConnectorConfig, fillMonitorUrl } from "./clusters.ts";
export { type Jobs, type JobsOptions, startJobs } from "./jobs.ts";
export type { DryRun, Submitted } from "./submit/submission.ts";
export { diskFiles, type LogFiles } from "./logs/files.ts";
export { forTerminal, type GapReason, gapReasons, type LineFilter, type LogLine, parseLine } from "./logs/line.ts";
export type { LivePiece } from "./logs/read-live.ts";
export { type Found, type LogQueryOptions, readLog, searchLog } from "./logs/read-log.ts";
export { isRunId, noSuchRun } from "./run-id.ts";
export type { Profile } from "./submit/slots.ts";
export {
  type Attempt,
  type Cleanup,
  type ContainerExit,
  type Diagnosis,
  type DiagnosisCategory,
  diagnosisCategories,
  isTerminal,
  type LogSummary,
  type Progress,
  type RunEvent,
  type RunRecord,
  type RunState,
  type RunStatus,
  runStates,
  type TerminalState,
  terminalStates,
} from "./run.ts";
export type { JobManifest } from "./source/manifest.ts";
export type { Difference } from "./source/merge.ts";
export type { Parameter, ParameterGroup, SourceItem } from "./source/parameters.ts";
