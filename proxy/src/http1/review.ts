import type { ResolvedConnector } from "@kube-connector/core";
import { type Collaborators, isNo, passGateAgain } from "../gate.ts";
import type { RequestInHand } from "./request.ts";

/**
 * Asks again whether the caller of an open stream may still have it. Answers one word for why it may not; undefined when it
 * may, or while nobody can say and that has not lasted for too long.
 */
export async function reviewRequest(
  request: RequestInHand,
  connector: ResolvedConnector | undefined,
  by: Collaborators,
): Promise<{ why: "ConnectorGone" | "NoLongerAllowed"; error?: unknown } | undefined> {
  if (connector === undefined || request.sender === undefined) return { why: "ConnectorGone" };
  try {
    await passGateAgain(request.sender, connector, by);
    request.allowedAt = by.clock.monotonic();
    return undefined;
  } catch (error) {
    const canWait = !isNo(error) && by.clock.monotonic() - request.allowedAt < by.timeouts.reviewGrace;
    return canWait ? undefined : { why: "NoLongerAllowed", error };
  }
}
