import type { ResolvedConnector, Secret } from "@kube-connector/core";
import { Refusal } from "../answers.ts";
import { type RequestInfo, requestInfo } from "../request-info.ts";
import { type UpstreamTarget, upstreamTarget } from "../target.ts";
import type { RequestHead } from "./head.ts";
import type { LastHeads } from "./last-heads.ts";
import type { Admitted, RequestInHand } from "./request.ts";

/** What a request asks for, of which connector and by which token. */
export interface Asked {
  connector: ResolvedConnector;
  target: UpstreamTarget;
  info: RequestInfo;
  token: Secret;
}

/** Reads all that before anybody is asked who sent it. Refusal: 400, 401, 404, 421, 503. */
export function readAsked(
  request: RequestInHand,
  head: RequestHead,
  of: { admitted: Admitted; connector: ResolvedConnector | undefined; last: LastHeads },
): Asked {
  const { admitted, connector, last } = of;
  if (request.upgrade !== undefined && head.body !== "none") throw new Refusal(400, "An upgrade may not have a body");
  if (connector === undefined) throw new Refusal(503, `The connector ${admitted.key} is not served here any more`);
  last.host.check(head, admitted.door, connector);
  const target = upstreamTarget(head.target, admitted.door, connector.target.prefix);
  const info = requestInfo(head.method, target.judged, target.query);
  request.connector = connector;
  request.path = target.judged;
  request.info = info;
  return { connector, target, info, token: last.tokens.of(head) };
}
