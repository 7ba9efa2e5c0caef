import type { Policy, PolicyRule, ResolvedConnector } from "@kube-connector/core";
import { jobRunner, readOnly } from "./policy-presets.ts";
import type { RequestInfo } from "./request-info.ts";

// What a caller may ask of the target: rules as RBAC has them (k8s.io/kubernetes pkg/apis/rbac/v1 evaluation_helpers.go),
// plus namespaces, plus rules that leave only metadata.

/** What is judged: the request as kube-apiserver reads it, and whether it asks for a protocol other than HTTP. */
export interface Asked {
  info: RequestInfo;
  upgrade: boolean;
}

/** `MetadataOnly`: it may pass when its answer is reduced to metadata. */
export type Judgement = { effect: "Allow" } | { effect: "MetadataOnly" } | { effect: "Deny"; sentence: string };

/** These run or open something whatever the method: a WebSocket is opened by GET. */
const opening = new Set(["exec", "attach", "portforward"]);
const readVerbs = new Set(["get", "list", "watch"]);
const allow: Judgement = { effect: "Allow" };

export function judge(connector: Pick<ResolvedConnector, "namespace" | "name" | "policy">, asked: Asked): Judgement {
  const { policy } = connector;
  if (policy === undefined || policy.preset === "Full") return allow;
  const verdict = policy.rules === undefined ? byPreset(policy, asked) : byRules(policy.rules, asked);
  if (typeof verdict !== "string") return verdict;
  return { effect: "Deny", sentence: sentenceOf(connector, asked.info, verdict) };
}

/** Whether answers to some requests are reduced: only the HTTP/1.1 relay does that. */
export function reducesAnswers(policy: Policy | undefined): boolean {
  return policy?.rules?.some(({ effect }) => effect === "MetadataOnly") === true && policy.mode !== "Warn";
}

/** A judgement, or for a no what else there is to say ("" for nothing). */
type Verdict = Judgement | string;

function byPreset({ preset }: Policy, { info, upgrade }: Asked): Verdict {
  const allows = preset === "ReadOnly" ? readOnly : preset === "JobRunner" ? jobRunner : undefined;
  if (allows === undefined || !allows(info)) return "";
  return upgrade ? "; it takes no upgrade to another protocol" : allow;
}

function byRules(rules: readonly PolicyRule[], { info, upgrade }: Asked): Verdict {
  if (!info.isResource) {
    const { verb, path } = info;
    return rules.some((rule) => hasVerb(rule, verb) && rule.nonResourceURLs?.some((url) => matchesPath(url, path)))
      ? allow
      : "";
  }
  const verb = opening.has(info.subresource) ? "create" : info.verb;
  const masked = rules.filter((rule) => rule.effect === "MetadataOnly" && mayTouch(rule, info));
  const matching = rules.filter((rule) => hasVerb(rule, verb) && matchesResource(rule, info));
  if (masked.length > 0 && readVerbs.has(verb) && info.subresource === "") {
    if (matching.length === 0) return "";
    return upgrade ? "; metadata is not sent over an upgraded connection" : { effect: "MetadataOnly" };
  }
  // The answer to a write is the whole object, and a patch can copy values into metadata. So where one rule shows only
  // metadata, a rule for all resources does not allow to write: one must name this resource.
  const full = fullResource(info);
  const allowing = matching.filter(isAllow).filter((rule) => masked.length === 0 || rule.resources?.includes(full));
  if (allowing.length === 0) {
    if (masked.length === 0) return "";
    return `; of ${info.resource} a rule shows only metadata, so for this a rule must name ${full}`;
  }
  const isStream = verb === "watch" || info.subresource === "log";
  if (!upgrade || isStream || verb === "create") return allow;
  const mayOpen = rules.some((rule) => isAllow(rule) && hasVerb(rule, "create") && matchesResource(rule, info));
  return mayOpen ? allow : "; an upgrade to another protocol needs the verb create as well";
}

const isAllow = ({ effect }: PolicyRule) => effect !== "MetadataOnly";

const hasVerb = ({ verbs }: PolicyRule, verb: string) => verbs.includes("*") || verbs.includes(verb);

function matchesResource(rule: PolicyRule, info: RequestInfo): boolean {
  return (
    matchesKind(rule, info) &&
    (rule.namespaces === undefined || rule.namespaces.includes(info.namespace)) &&
    (rule.resourceNames === undefined || rule.resourceNames.includes(info.name))
  );
}

function matchesKind({ apiGroups, resources }: PolicyRule, info: RequestInfo): boolean {
  if (apiGroups?.includes("*") !== true && apiGroups?.includes(info.apiGroup) !== true) return false;
  const full = fullResource(info);
  return resources?.some((one) => one === "*" || one === full || one === `*/${info.subresource}`) === true;
}

/** Whether a request could reach one of the objects that a MetadataOnly rule is about: also by its subresources, or in a list. */
function mayTouch(rule: PolicyRule, info: RequestInfo): boolean {
  return (
    matchesKind(rule, { ...info, subresource: "" }) &&
    (rule.namespaces === undefined || info.namespace === "" || rule.namespaces.includes(info.namespace)) &&
    (rule.resourceNames === undefined || info.name === "" || rule.resourceNames.includes(info.name))
  );
}

function fullResource({ resource, subresource }: RequestInfo): string {
  return subresource === "" ? resource : `${resource}/${subresource}`;
}

function matchesPath(url: string, path: string): boolean {
  return url === path || (url.endsWith("*") && path.startsWith(url.slice(0, -1)));
}

function sentenceOf(
  connector: Pick<ResolvedConnector, "namespace" | "name" | "policy">,
  info: RequestInfo,
  more: string,
): string {
  const { namespace, name, policy } = connector;
  const rules = policy?.preset === undefined ? "rules" : `preset ${policy.preset}`;
  return `The policy of connector ${namespace}/${name} (${rules}) does not allow ${describe(info)}${more}`;
}

function describe(info: RequestInfo): string {
  const verb = info.verb === "" ? "this method" : info.verb;
  if (!info.isResource) return `${verb} of the path ${info.path}`;
  const group = info.apiGroup === "" ? "" : `.${info.apiGroup}`;
  const which = info.name === "" ? "" : ` "${info.name}"`;
  const where =
    info.namespace === ""
      ? info.verb === "list" || info.verb === "watch"
        ? " for all namespaces"
        : " outside of namespaces"
      : ` in namespace ${info.namespace}`;
  return `${verb} of ${info.resource}${group}${info.subresource === "" ? "" : `/${info.subresource}`}${which}${where}`;
}
