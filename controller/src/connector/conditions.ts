import {
  type Condition,
  type ConditionType,
  type Connector,
  type ConnectorStatus,
  conditionTypes,
  findCondition,
} from "@kube-connector/core";
import type { EventText } from "../kube/events.ts";
import { notChecked, type Verdict } from "./resolve.ts";

// Verdicts → the status, and the Events that go with its changes. Pure.

export type Verdicts = Record<Exclude<ConditionType, "Ready">, Verdict>;

/** True when all are, False with the first False one's reason, else Unknown. */
export function judgeReady(verdicts: Verdicts): Verdict {
  const all = conditionTypes.flatMap((type) => (type === "Ready" ? [] : [verdicts[type]]));
  const wrong = all.find(({ status }) => status === "False");
  if (wrong !== undefined) return { status: "False", reason: wrong.reason, message: wrong.message };
  const unknown = all.find(({ status }) => status === "Unknown");
  if (unknown !== undefined) return { status: "Unknown", reason: unknown.reason, message: unknown.message };
  return { status: "True", reason: "Ready", message: "The connector can be used." };
}

/** The conditions in their order; a lastTransitionTime stays unless its status changes. `now`: milliseconds since 1970. */
export function nextConditions(connector: Connector, verdicts: Verdicts, now: number): Condition[] {
  const time = `${new Date(now).toISOString().slice(0, 19)}Z`;
  const generation = connector.metadata.generation;
  return conditionTypes.map((type) => {
    const verdict = type === "Ready" ? judgeReady(verdicts) : verdicts[type];
    const before = findCondition(connector.status, type);
    return {
      type,
      status: verdict.status,
      reason: verdict.reason,
      message: verdict.message,
      lastTransitionTime: before?.status === verdict.status ? before.lastTransitionTime : time,
      ...(generation === undefined ? {} : { observedGeneration: generation }),
    };
  });
}

/** A condition as it was, when what it says is about the same spec; else that it is being looked at. */
export function carriedOver(connector: Connector, type: ConditionType, message: string): Verdict {
  const before = findCondition(connector.status, type);
  const same = connector.status?.observedGeneration === connector.metadata.generation;
  if (!same || before === undefined || before.reason === "NotChecked") return notChecked(message);
  return { status: before.status, reason: before.reason, message: before.message };
}

/** One Event for each condition that turned, or that is False for another reason; only one with the first status. */
export function eventsOf(before: ConnectorStatus | undefined, after: readonly Condition[]): EventText[] {
  const texts = after.flatMap((condition): EventText[] => {
    const old = before?.conditions?.find(({ type }) => type === condition.type);
    const turned = old?.status !== condition.status || old.reason !== condition.reason;
    if (!turned || condition.status === "Unknown") return [];
    // Ready repeats the first False one.
    if (condition.type === "Ready" && condition.status === "False") return [];
    const warning = condition.status === "False" || condition.reason === "InsecureSkipVerify";
    const reason = condition.reason === "Ready" ? condition.type : condition.reason;
    return [{ type: warning ? "Warning" : "Normal", reason, message: condition.message }];
  });
  if (before?.conditions !== undefined) return texts;
  const first = texts.find(({ type }) => type === "Warning") ?? texts.at(-1);
  return first === undefined ? [] : [first];
}

/** Whether two statuses say the same, apart from the time of the last probe. */
export function sameStatus(a: ConnectorStatus | undefined, b: ConnectorStatus): boolean {
  const facts = (status: ConnectorStatus | undefined) =>
    JSON.stringify([
      status?.observedGeneration,
      status?.conditions?.map((one) => [
        one.type,
        one.status,
        one.reason,
        one.message,
        one.lastTransitionTime,
        one.observedGeneration,
      ]),
      status?.proxy?.httpAddress?.url,
      status?.proxy?.httpsAddress?.url,
      status?.proxy?.caBundle,
      status?.target?.version,
      status?.credential?.expiresAt,
    ]);
  return facts(a) === facts(b);
}

const day = 86_400_000;

/** Warnings 7 days and 1 day before a stored token expires: due between two looks at it. Milliseconds since 1970. */
export function expiryWarning(expiresAt: number | undefined, lastLook: number, now: number): EventText | undefined {
  if (expiresAt === undefined || expiresAt <= now) return undefined;
  const crossed = [7 * day, day].some((ahead) => lastLook < expiresAt - ahead && now >= expiresAt - ahead);
  if (!crossed) return undefined;
  return {
    type: "Warning",
    reason: "CredentialExpiresSoon",
    message: `The stored token expires at ${new Date(expiresAt).toISOString()}; put a new one into the Secret before that.`,
  };
}

/** The next time at which expiryWarning may be due. */
export function nextExpiryWarning(expiresAt: number | undefined, now: number): number {
  const times =
    expiresAt === undefined ? [] : [expiresAt - 7 * day, expiresAt - day, expiresAt].filter((time) => time > now);
  return Math.min(Number.POSITIVE_INFINITY, ...times);
}
