import { randomBytes } from "node:crypto";
import {
  type ApiServer,
  apiVersion,
  type Clock,
  type Connector,
  Fault,
  faults,
  type Log,
  sleep,
} from "@kube-connector/core";

const tries = 3;
/** Seconds between two tries unless the API server names others, and at most: the Connector waits meanwhile. */
const pause = 1;
const longestPause = 5;

/** What `kubectl describe connector` shows below the status. */
export interface EventText {
  type: "Normal" | "Warning";
  reason: string;
  message: string;
}

/**
 * Writes one Event (core/v1) about a Connector. Best effort: one that an API server under load refuses is sent again, and one
 * that is lost is a line in the log and nothing else.
 */
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
  for (let attempt = 1; ; attempt += 1) {
    try {
      await of.api.request("POST", `/api/v1/namespaces/${namespace}/events`, { body });
      return;
    } catch (error) {
      const { code, answer } = Fault.from(error);
      // The name is ours alone: an earlier try was heard.
      if (code === "conflict") return;
      if (attempt === tries || !faults[code].retry) {
        of.log.info("An Event could not be written", { namespace, name, reason: event.reason, error });
        return;
      }
      await sleep(of.clock, Math.min(answer?.retryAfterSeconds ?? pause, longestPause) * 1000);
    }
  }
}
