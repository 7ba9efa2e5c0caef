import {
  type ApiServer,
  type Clock,
  Fault,
  type KubeObject,
  type Log,
  resolvedEntries,
  resolvedSecretType,
  Secret,
  startReflector,
} from "@kube-connector/core";
import { createServedConnectors } from "./served.ts";
import type { ConnectorSource } from "./source.ts";
import { type ConnectorVersion, parseUsable } from "./usable.ts";

export interface SecretsSourceOptions {
  api: ApiServer;
  clock: Clock;
  log: Log;
  /** The namespace of the resolved Secrets: the proxy's own. */
  namespace: string;
  /**
   * One Secret by its name, or those with a label. By name, the request carries exactly the field selector that RBAC
   * wants to see where resourceNames limits list and watch: kubernetes.io/docs/reference/access-authn-authz/rbac.
   */
  select: { name: string } | { labelSelector: string };
}

/**
 * Resolved connectors from watched Secrets. While the API server is away, what is known stays served; a Secret that is
 * deleted, or whose content can no longer be used, takes its connector away at once.
 */
export function startSecretsSource(options: SecretsSourceOptions): ConnectorSource {
  const { namespace, select } = options;
  const log = options.log.with({ connectorSource: "secrets" });
  const served = createServedConnectors(log);
  const reflector = startReflector<ConnectorVersion>({
    api: options.api,
    clock: options.clock,
    log,
    path: `/api/v1/namespaces/${namespace}/secrets`,
    query: "name" in select ? { fieldSelector: `metadata.name=${select.name}` } : select,
    keep: (object) => readVersion(object, log),
    onChange: (key, { after }) => served.put(key, after),
  });
  void reflector.synced.then(() => served.announceSynced());
  return { ...served, done: reflector.done, stop: () => reflector.stop() };
}

function readVersion(object: KubeObject, log: Log): ConnectorVersion | undefined {
  try {
    if (object.type !== resolvedSecretType) {
      throw new Fault("invalid_argument", `The Secret should be of type ${resolvedSecretType}`);
    }
    return parseUsable(entriesOf(object.data));
  } catch (error) {
    log.error("A Secret cannot be served", { key: `${object.metadata.namespace}/${object.metadata.name}`, error });
    return undefined;
  }
}

function entriesOf(data: unknown): Record<string, Secret> {
  const entries: Record<string, Secret> = {};
  for (const name of Object.values(resolvedEntries)) {
    const text = (data as Record<string, unknown> | undefined)?.[name];
    if (typeof text === "string") entries[name] = new Secret(Buffer.from(text, "base64").toString("utf8"));
  }
  return entries;
}
