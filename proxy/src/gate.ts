import { type Clock, Fault, type Log, type ResolvedConnector, Secret } from "@kube-connector/core";
import { Refusal } from "./answers.ts";
import type { Audit } from "./audit/audit.ts";
import type { Authenticator, Caller, ConnectorName } from "./authenticate.ts";
import type { Authorizer } from "./authorize.ts";
import type { ConnectorSource } from "./connectors/source.ts";
import { bearerToken } from "./headers.ts";
import type { RequestHead } from "./http1/head.ts";
import type { CallerLimiter } from "./limits/callers.ts";
import type { ProxyMetrics } from "./metrics.ts";
import { judge, type Asked as Requested } from "./policy.ts";
import type { Limits, Timeouts } from "./timeouts.ts";
import type { Upstreams } from "./upstream.ts";

/** What every connection of a proxy works with. */
export interface Collaborators {
  connectors: ConnectorSource;
  authenticator: Authenticator;
  authorizer: Authorizer;
  upstreams: Upstreams;
  metrics: ProxyMetrics;
  clock: Clock;
  log: Log;
  timeouts: Timeouts;
  limits: Limits;
  limiter: CallerLimiter;
  audit: Audit;
  isDraining(): boolean;
}

type Asked = Pick<Collaborators, "authenticator" | "authorizer" | "metrics">;

/** Takes the request tokens out of the heads of one connection: of equal header lines the token is the same object. */
export class RequestTokens {
  #headers: RequestHead["headers"] | undefined;
  #token: Secret | undefined;

  /** Refusal: 401 when there is not exactly one. */
  of(head: RequestHead): Secret {
    if (this.#token === undefined || this.#headers !== head.headers) {
      this.#token = requestToken(head);
      this.#headers = head.headers;
    }
    return this.#token;
  }
}

/** The request token of one head. Refusal: 401 when there is not exactly one. */
export function requestToken(head: RequestHead): Secret {
  const token = bearerToken(head.headers);
  if (token !== undefined) return new Secret(token);
  const count = head.headers.filter(({ lower }) => lower === "authorization").length;
  const what = count === 0 ? "has no Authorization header" : "should have one Authorization header, Bearer and a token";
  throw new Refusal(401, `The request ${what}; use the kubeconfig of the mounted volume as it is`);
}

/**
 * Who sends it, and may they: in this order, for each request. Where both are remembered the answer is there at once, and a
 * promise is not made for nothing. It never throws; the promise's Faults: unauthenticated, permission_denied, unavailable.
 */
export function passGate(token: Secret, connector: ResolvedConnector, asked: Asked): Caller | Promise<Caller> {
  const caller = asked.authenticator.request(token);
  if (caller instanceof Promise) return passSlowly(caller, connector, asked);
  const may = asked.authorizer.may(caller, connector);
  if (may !== undefined) return passSlowly(caller, connector, asked, may);
  asked.metrics.decided("authenticate", "allow");
  asked.metrics.decided("authorize", "allow");
  return caller;
}

async function passSlowly(
  who: Caller | Promise<Caller>,
  connector: ResolvedConnector,
  asked: Asked,
  may?: Promise<void>,
): Promise<Caller> {
  let step: Step = "authenticate";
  try {
    const caller = await who;
    asked.metrics.decided(step, "allow");
    step = "authorize";
    await (may ?? asked.authorizer.may(caller, connector));
    asked.metrics.decided(step, "allow");
    return caller;
  } catch (error) {
    asked.metrics.decided(step, resultOf(error));
    throw error;
  }
}

/** How a request passes the connector's policy. */
export interface PolicyPass {
  /** Only metadata may leave: the answer has to be reduced. */
  metadataOnly: boolean;
  /** What would be refused or reduced if the policy were enforced; for the answer's Warning. */
  warning: string | undefined;
}

const asItIs: PolicyPass = { metadataOnly: false, warning: undefined };

/** What they may ask of the target: after who and may they. Refusal: 403 with what is missing. */
export function passPolicy(
  requested: Requested,
  connector: ResolvedConnector,
  by: Pick<Collaborators, "metrics" | "log">,
): PolicyPass {
  const judgement = judge(connector, requested);
  if (judgement.effect === "Allow") {
    by.metrics.decided("policy", "allow");
    return asItIs;
  }
  const key = `${connector.namespace}/${connector.name}`;
  if (connector.policy?.mode === "Warn") {
    const reduced = `The policy of connector ${key} would answer this with metadata alone`;
    const what = judgement.effect === "Deny" ? judgement.sentence : reduced;
    by.metrics.decided("policy", "warn");
    by.log.info("The policy would not let this pass as it is, but its mode is Warn", { connector: key, reason: what });
    return { metadataOnly: false, warning: `${what}; its mode is Warn, so this passed` };
  }
  by.metrics.decided("policy", judgement.effect === "Deny" ? "deny" : "allow");
  if (judgement.effect === "Deny") throw new Refusal(403, judgement.sentence);
  return { metadataOnly: true, warning: undefined };
}

/** Whether a request that once passed in one way would still pass so. */
export function stillPasses(passed: PolicyPass, requested: Requested, connector: ResolvedConnector): boolean {
  const { effect } = judge(connector, requested);
  return connector.policy?.mode === "Warn" || effect === (passed.metadataOnly ? "MetadataOnly" : "Allow");
}

/** Whether the caller of an open stream may still have it. Faults as above. */
export async function passGateAgain(
  stream: { token: Secret; caller: Caller },
  connector: ResolvedConnector,
  asked: Asked,
): Promise<void> {
  await asked.authenticator.streaming(stream.token);
  await asked.authorizer.may(stream.caller, connector);
}

/** Whether a tunnel token opens a tunnel to that connector. Faults: unauthenticated, unavailable. */
export async function passTunnelGate(token: Secret, connector: ConnectorName, asked: Asked): Promise<void> {
  try {
    await asked.authenticator.tunnel(token, connector);
    asked.metrics.decided("tunnel", "allow");
  } catch (error) {
    asked.metrics.decided("tunnel", resultOf(error));
    throw error;
  }
}

type Step = Parameters<ProxyMetrics["decided"]>[0];

function resultOf(error: unknown): "deny" | "error" {
  return isNo(error) ? "deny" : "error";
}

/** Whether a step said no, as against could not say. */
export function isNo(error: unknown): boolean {
  return error instanceof Fault && (error.code === "unauthenticated" || error.code === "permission_denied");
}
