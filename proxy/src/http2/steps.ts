import type { ResolvedConnector, Secret } from "@kube-connector/core";
import { Refusal, refusalOf } from "../answers.ts";
import type { Caller } from "../authenticate.ts";
import { passGate } from "../gate.ts";
import type { RequestHead } from "../http1/head.ts";
import { judgeRequest } from "../http1/judged.ts";
import type { RequestInHand } from "../http1/request.ts";
import { type RequestInfo, requestInfo } from "../request-info.ts";
import { checkHost, type UpstreamTarget, upstreamTarget } from "../target.ts";
import type { RelayCore } from "./core.ts";
import type { Allowed, Stream } from "./stream.ts";

/** What the steps need of the connection and of the stream, whoever carries them. */
type On = Pick<RelayCore, "admitted" | "collaborators" | "tokens" | "now" | "currentConnector">;
type Of = Pick<Stream, "request" | "phase">;

/** What may go upstream. Answers are reduced over HTTP/1.1 alone. */
export type Passed = Allowed | "onlyOverHttp1";

/**
 * Takes a request through all that it has to pass before the target hears of it: refuses it, or calls `then`. At once where
 * what is asked of others is remembered. Does nothing when the stream has ended meanwhile.
 */
export function decide<S extends Of>(
  relay: On & { refuse(stream: S, refusal: Refusal): void },
  stream: S,
  head: RequestHead,
  then: (stream: S, passed: Passed) => void,
): void {
  const refuse = (error: unknown) => {
    if (stream.phase === "deciding") relay.refuse(stream, refusalOf(error));
  };
  const admit = (asked: Asked, caller: Caller) => {
    if (stream.phase === "deciding") then(stream, passAs(caller, relay, stream.request, asked));
  };
  try {
    const asked = readAsked(relay, stream.request, head);
    const caller = passGate(asked.token, asked.connector, relay.collaborators);
    if (caller instanceof Promise) caller.then((late) => admit(asked, late)).catch(refuse);
    else admit(asked, caller);
  } catch (error) {
    refuse(error);
  }
}

/** What a request asks for, and by which token. */
interface Asked {
  head: RequestHead;
  connector: ResolvedConnector;
  target: UpstreamTarget;
  info: RequestInfo;
  token: Secret;
}

/** The steps before anybody is asked who sent it, in the order of the HTTP/1.1 relay. A Refusal says why not. */
function readAsked(relay: On, request: RequestInHand, head: RequestHead): Asked {
  const { door, key } = relay.admitted;
  const connector = relay.currentConnector();
  if (connector === undefined) throw new Refusal(503, `The connector ${key} is not served here any more`);
  checkHost(head.host, door, connector);
  const target = upstreamTarget(head.target, door, connector.target.prefix);
  const info = requestInfo(head.method, target.judged, target.query);
  request.connector = connector;
  request.path = target.judged;
  request.info = info;
  return { head, connector, target, info, token: relay.tokens.of(head) };
}

/** The steps that depend on who sent it. A Refusal says why not. */
function passAs(caller: Caller, relay: On, request: RequestInHand, asked: Asked): Passed {
  const by = relay.collaborators;
  const { connector, target, info } = asked;
  request.sender = { token: asked.token, caller };
  by.audit.check();
  request.allowedAt = relay.now();
  request.admission = by.limiter.admit(caller, connector, request.allowedAt);
  request.watch = info.verb === "watch";
  const judged = judgeRequest(request, asked.head, asked, by);
  if (judged.reduction !== undefined) return "onlyOverHttp1";
  if (connector.token === undefined) {
    const { unavailable, namespace, name } = connector;
    throw new Refusal(503, unavailable ?? `The connector ${namespace}/${name} has no token`);
  }
  return { head: judged.head, connector, target, warning: judged.warning };
}
