import type { ResolvedConnector } from "@kube-connector/core";
import { reducesAnswers } from "../policy.ts";
import type { RelayCore } from "./core.ts";

// When the one connection to the target that a client's connection has is made, and when it is of no use any more: the same
// for both implementations of HTTP/2.

export interface TargetConnection {
  /** Begins to connect, so that the first request need not wait for it. Refusal: the target cannot be reached at all. */
  prepare(connector: ResolvedConnector): void;
  /** Whether that version of the connector is reached by this connection. Refusal: as above. */
  serves(connector: ResolvedConnector): boolean;
}

type Relay = Pick<RelayCore, "admitted" | "currentConnector" | "leave">;

/** Whoever came through the forward door has shown a tunnel token; strangers cause no connection. */
export function connectAhead(relay: Relay, target: TargetConnection): void {
  const connector = relay.currentConnector();
  if (relay.admitted.door !== "forward" || connector === undefined) return;
  try {
    target.prepare(connector);
  } catch {
    // The first request will hear of it.
  }
}

/** Takes no new streams when the connector's version has another target, or reduces answers. */
export function leaveIfChanged(relay: Relay, target: TargetConnection): void {
  const connector = relay.currentConnector();
  try {
    if (connector === undefined) return;
    if (reducesAnswers(connector.policy) || !target.serves(connector)) relay.leave();
  } catch {
    // Its target cannot be reached at all.
    relay.leave();
  }
}
