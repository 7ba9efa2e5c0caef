// Verdicts become conditions in their order, Events go with transitions, and a status that says the same is not written.
import type { Connector, ConnectorStatus } from "@kube-connector/core";
import { expect, test } from "vitest";
import {
  carriedOver,
  eventsOf,
  expiryWarning,
  judgeReady,
  nextConditions,
  nextExpiryWarning,
  sameStatus,
  type Verdicts,
} from "./conditions.ts";
import type { Verdict } from "./resolve.ts";

const good: Verdict = { status: "True", reason: "Ready", message: "Well." };
const bad = (reason: string): Verdict => ({ status: "False", reason, message: `${reason} it is.` });
const unknown: Verdict = { status: "Unknown", reason: "NotChecked", message: "Not yet." };
const verdicts = (some: Partial<Verdicts> = {}): Verdicts => ({
  ConnectorClassReady: good,
  SecretReady: good,
  LivenessReady: good,
  AuthReady: good,
  ProxyServiceReady: good,
  ...some,
});
const connector = (status?: ConnectorStatus): Connector => ({
  metadata: { name: "prod", namespace: "team-a", uid: "u", generation: 2 },
  spec: {
    connectorClassName: "k8s",
    address: "https://a.example",
    auth: { name: "bearerTokenAuth", secretRef: { name: "s" } },
  },
  ...(status === undefined ? {} : { status }),
});
const at = Date.UTC(2026, 0, 1);

test("Ready is True when all are, False for the first False one, else Unknown", () => {
  expect(judgeReady(verdicts())).toMatchObject({ status: "True", reason: "Ready" });
  const two = { SecretReady: unknown, AuthReady: bad("AuthenticationFailed"), ProxyServiceReady: bad("Deploying") };
  expect(judgeReady(verdicts(two))).toMatchObject({ status: "False", reason: "AuthenticationFailed" });
  expect(judgeReady(verdicts({ AuthReady: unknown }))).toMatchObject({ status: "Unknown", reason: "NotChecked" });
});

test("a transition time moves with the status, and not with the reason", () => {
  const first = nextConditions(connector(), verdicts({ AuthReady: bad("CredentialExpired") }), at);
  const before = connector({ conditions: first });
  const second = nextConditions(before, verdicts({ AuthReady: bad("AuthenticationFailed") }), at + 60_000);
  const third = nextConditions(before, verdicts(), at + 60_000);
  const time = (list: typeof first, type: string) => list.find((one) => one.type === type)?.lastTransitionTime;
  expect(time(second, "AuthReady")).toBe("2026-01-01T00:00:00Z");
  expect(time(third, "AuthReady")).toBe("2026-01-01T00:01:00Z");
  expect(time(third, "SecretReady")).toBe("2026-01-01T00:00:00Z");
  expect(third.map(({ observedGeneration }) => observedGeneration)).toEqual([2, 2, 2, 2, 2, 2]);
});

test("one Event with the first status; later one for each turn, Ready only when it is True", () => {
  const first = nextConditions(connector(), verdicts({ ProxyServiceReady: bad("Deploying") }), at);
  expect(eventsOf(undefined, first)).toMatchObject([{ type: "Warning", reason: "Deploying" }]);
  const well = nextConditions(connector({ conditions: first }), verdicts(), at);
  expect(eventsOf({ conditions: first }, well).map(({ type, reason }) => `${type} ${reason}`)).toEqual([
    "Normal ProxyServiceReady",
    "Normal Ready",
  ]);
  expect(eventsOf({ conditions: well }, well)).toEqual([]);
  const reason = nextConditions(
    connector({ conditions: first }),
    verdicts({ ProxyServiceReady: bad("ProxyUnavailable") }),
    at,
  );
  expect(eventsOf({ conditions: first }, reason)).toMatchObject([{ type: "Warning", reason: "ProxyUnavailable" }]);
});

test("a condition is carried over while the target is asked again for the same spec, and not for another", () => {
  const conditions = nextConditions(connector(), verdicts({ AuthReady: bad("AuthenticationFailed") }), at);
  const same = connector({ observedGeneration: 2, conditions });
  expect(carriedOver(same, "AuthReady", "Asking.")).toMatchObject({ status: "False", reason: "AuthenticationFailed" });
  const older = connector({ observedGeneration: 1, conditions });
  expect(carriedOver(older, "AuthReady", "Asking.")).toMatchObject({ status: "Unknown", reason: "NotChecked" });
});

test("the time of a probe alone is no reason to write", () => {
  const status: ConnectorStatus = {
    observedGeneration: 2,
    conditions: [],
    target: { version: "v1", lastProbeTime: "a" },
  };
  expect(sameStatus(status, { ...status, target: { version: "v1", lastProbeTime: "b" } })).toBe(true);
  expect(sameStatus(status, { ...status, target: { version: "v2", lastProbeTime: "a" } })).toBe(false);
  expect(sameStatus(undefined, {})).toBe(true);
});

test("an expiring token is warned of when 7 days and when 1 day are left, once each", () => {
  const day = 86_400_000;
  const end = at + 30 * day;
  expect(nextExpiryWarning(end, at)).toBe(end - 7 * day);
  expect(expiryWarning(end, at, at + 1)).toBeUndefined();
  expect(expiryWarning(end, at, end - 7 * day)).toMatchObject({ reason: "CredentialExpiresSoon" });
  expect(expiryWarning(end, end - 7 * day, end - 6 * day)).toBeUndefined();
  expect(nextExpiryWarning(end, end - 6 * day)).toBe(end - day);
  expect(expiryWarning(end, end - 6 * day, end - day + 5)).toMatchObject({ type: "Warning" });
  // A new token with little life left is told of at once; one without an end never.
  expect(expiryWarning(end, 0, end - 3 * day)).toMatchObject({ type: "Warning" });
  expect(expiryWarning(undefined, 0, at)).toBeUndefined();
  expect(nextExpiryWarning(undefined, at)).toBe(Number.POSITIVE_INFINITY);
});
