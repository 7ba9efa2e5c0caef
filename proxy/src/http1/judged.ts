import type { ResolvedConnector } from "@kube-connector/core";
import { type Collaborators, type PolicyPass, passPolicy, stillPasses } from "../gate.ts";
import { askForMetadata } from "../metadata/ask.ts";
import type { RequestInfo } from "../request-info.ts";
import type { Allowed } from "./exchange-client.ts";
import type { RequestHead } from "./head.ts";
import type { RequestInHand } from "./request.ts";

/** What a request asks for, how it passed the policy, and which version of the connector that policy was of. */
export interface Judged {
  info: RequestInfo;
  passed: PolicyPass;
  connector: ResolvedConnector;
}

/** What the audit log says of it; undefined when the request passed as it is, or did not pass. */
export function policyMark(judged: Judged | undefined): "Warn" | "MetadataOnly" | undefined {
  if (judged === undefined) return undefined;
  if (judged.passed.metadataOnly) return "MetadataOnly";
  return judged.passed.warning === undefined ? undefined : "Warn";
}

type By = Pick<Collaborators, "metrics" | "log">;

/** What the policy makes of a request: what goes upstream, and how it is answered. Refusal: 403, 406. */
export function judgeRequest(
  request: RequestInHand,
  head: RequestHead,
  of: { info: RequestInfo; connector: ResolvedConnector },
  by: By,
): Pick<Allowed, "head" | "warning" | "reduction"> {
  const { info, connector } = of;
  const passed = passPolicy({ info, upgrade: request.upgrade !== undefined }, connector, by);
  request.judged = { info, passed, connector };
  if (!passed.metadataOnly) return { head, warning: passed.warning };
  const asked = askForMetadata(head, info.verb);
  return { head: asked.head, reduction: { verb: info.verb, method: head.method, form: asked.form } };
}

/** Whether the policy of a newer version of its connector lets a request in hand go on. */
export function policyHolds(request: RequestInHand, connector: ResolvedConnector | undefined, by: By): boolean {
  const { judged, method, path } = request;
  if (judged === undefined || connector === undefined || connector === judged.connector) return true;
  judged.connector = connector;
  if (stillPasses(judged.passed, { info: judged.info, upgrade: request.upgrade !== undefined }, connector)) return true;
  const key = `${connector.namespace}/${connector.name}`;
  by.log.info("A stream was ended because its connector's policy forbids it now", { connector: key, method, path });
  return false;
}
