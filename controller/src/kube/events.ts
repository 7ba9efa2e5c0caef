import { randomBytes } from "node:crypto";
import { type ApiServer, apiVersion, type Clock, type Connector, type Log } from "@kube-connector/core";

/** What `kubectl describe connector` shows below the status. */
export interface EventText {
  type: "Normal" | "Warning";
  reason: string;
  message: string;
}

/** Writes one Event (core/v1) about a Connector. Best effort: a lost Event is a line in the log and nothing else. */
export async function writeEvent(
  of: { api: ApiServer; clock: Clock; log: Log; identity: string },
  connector: Connector,
  event: EventText,
): Promise<void> {
  const { name, namespace = "default", uid, resourceVersion } = connector.metadata;
  const time = new Date(of.clock.now()).toISOString().replace(/\.\d+Z$/, "Z");
  const body = {
    apiVersion: "v1",
    kind: "Event",
    metadata: { name: `${name}.${Date.now().toString(16)}${randomBytes(4).toString("hex")}`, namespace },
    involvedObject: { apiVersion, kind: "Connector", name, namespace, uid, resourceVersion },
    type: event.type,
    reason: event.reason,
    message: event.message.slice(0, 1024),
    source: { component: "kube-connector-controller", host: of.identity },
    reportingComponent: "kube-connector-controller",
    reportingInstance: of.identity,
    firstTimestamp: time,
    lastTimestamp: time,
    count: 1,
  };
  try {
    await of.api.request("POST", `/api/v1/namespaces/${namespace}/events`, { body });
  } catch (error) {
    of.log.debug("An Event could not be written", { namespace, name, reason: event.reason, error });
  }
}
