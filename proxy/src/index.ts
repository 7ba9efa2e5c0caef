export type { Authenticator, Caller } from "./authenticate.ts";
export type { Authorizer } from "./authorize.ts";
export { startDirectorySource } from "./connectors/directory.ts";
export { createServedConnectors, type ServedConnectors } from "./connectors/served.ts";
export type { ConnectorChange, ConnectorSource } from "./connectors/source.ts";
export { type ConnectorVersion, parseUsable } from "./connectors/usable.ts";
export { createLocalAccess, type LocalAccess } from "./local-token.ts";
export { type Door, noMetrics, type ProxyMetrics } from "./metrics.ts";
