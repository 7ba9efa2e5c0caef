import { Refusal } from "../answers.ts";
import { passGate } from "../gate.ts";
import type { RequestHead } from "../http1/head.ts";
import { judgeRequest } from "../http1/judged.ts";
import { requestInfo } from "../request-info.ts";
import { checkHost, upstreamTarget } from "../target.ts";
import type { RelayCore } from "./core.ts";
import type { Allowed, Stream } from "./stream.ts";

/**
 * All that a request has to pass before the target hears of it, in the order of the HTTP/1.1 relay: what may go upstream;
 * undefined when its stream has ended meanwhile. A Fault says why not. Answers are reduced over HTTP/1.1 alone.
 */
export async function passSteps(
  relay: RelayCore,
  stream: Stream,
  head: RequestHead,
): Promise<Allowed | "onlyOverHttp1" | undefined> {
  const { request } = stream;
  const { door, key } = relay.admitted;
  const by = relay.collaborators;
  const connector = relay.currentConnector();
  if (connector === undefined) throw new Refusal(503, `The connector ${key} is not served here any more`);
  checkHost(head.host, door, connector);
  const target = upstreamTarget(head.target, door, connector.target.prefix);
  const info = requestInfo(head.method, target.judged, target.query);
  request.connector = connector;
  request.path = target.judged;
  request.info = info;
  const token = relay.tokens.of(head);
  const caller = await passGate(token, connector, by);
  if (stream.phase !== "deciding") return undefined;
  request.sender = { token, caller };
  by.audit.check();
  request.admission = by.limiter.admit(caller, connector);
  request.watch = info.verb === "watch";
  request.allowedAt = relay.now();
  const judged = judgeRequest(request, head, { info, connector }, by);
  if (judged.reduction !== undefined) return "onlyOverHttp1";
  if (connector.token === undefined) {
    throw new Refusal(503, connector.unavailable ?? `The connector ${key} has no token`);
  }
  return { head: judged.head, connector, target, warning: judged.warning };
}
