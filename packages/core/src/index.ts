export { parseAddress, type TargetAddress } from "./address.ts";
export {
  type ApiAccess,
  type ApiRequest,
  type ApiServer,
  inClusterAccess,
  openApiServer,
  rereadSecret,
} from "./api-server.ts";
export { alpnOf } from "./alpn.ts";
export { backoff, type Clock, sleep, systemClock } from "./clock.ts";
export {
  type Condition,
  type ConditionType,
  type Connector,
  type ConnectorClass,
  type ConnectorClassSpec,
  type ConnectorSpec,
  type ConnectorStatus,
  conditionTypes,
  connectorClassSchema,
  connectorSchema,
  findCondition,
  schemaProblems,
} from "./connector.ts";
export { connectorAccess } from "./connector-access.ts";
export { customResourceDefinitions } from "./crd.ts";
export { refusedAddress } from "./dial-rules.ts";
export { type ApiAnswer, describeErrno, errnoOf, Fault, type FaultCode, faults, problems } from "./fault.ts";
export { type HttpClient, type HttpPlace, type HttpRequest, openHttpClient } from "./http-client.ts";
export { type KubeconfigParts, parseKubeconfig, renderKubeconfig, tunnelUrl } from "./kubeconfig.ts";
export { readKubeconfig } from "./kubeconfig-access.ts";
export { type CallerLimits, defaultCallerLimits, type LimitsSpec, mergeLimits } from "./limits.ts";
export { createJsonLog, describeError, type Log, type LogFields, type LogLevel, logLevels, silentLog } from "./log.ts";
export {
  apiVersion,
  bearerTokenSecretType,
  files,
  group,
  labels,
  parseServiceAccountUser,
  requestAudience,
  resolvedSecretType,
  serviceAccountGroups,
  serviceAccountSecretType,
  serviceAccountUser,
  serviceName,
  tunnelAudience,
  version,
} from "./names.ts";
export { envOf, flagOf, type Option, type Options, optionsMarkdown, readOptions, value } from "./options.ts";
export { type Policy, type PolicyRule, policySchema } from "./policy.ts";
export { type PrivatePortOptions, startPrivatePort } from "./private-port.ts";
export { type Queue, type QueueOptions, startQueue } from "./queue.ts";
export {
  type KubeObject,
  keyOf,
  type Reflector,
  type ReflectorOptions,
  readLines,
  startReflector,
} from "./reflector.ts";
export {
  type DescribedConnector,
  isTokenText,
  parseResolved,
  type ResolvedConnector,
  resolvedEntries,
  resolvedToEntries,
} from "./resolved.ts";
export { type Running, runMain, stopAll } from "./run.ts";
export { Secret } from "./secret.ts";
export { failureStatus, type Status, statusOf } from "./status.ts";
