import { expect, test } from "vitest";
import { job } from "../../../../test/kit/job-objects.ts";
import type { DiagnosisCategory } from "../run.ts";
import { diagnose, type Trouble } from "./diagnose.ts";
import { isQuota, refusalOf } from "./refusal.ts";

// Why a cluster takes no pod of the Job, in the words of its admission, as the Job controller's event repeats them.

const now = Date.parse("2026-03-01T10:05:00Z");
const jobEvents = (message: string) => ({
  events: [
    {
      type: "Warning",
      reason: "FailedCreate",
      message: `Error creating: ${message}`,
      count: 3,
      lastTimestamp: "2026-03-01T10:04:00Z",
      involvedObject: { kind: "Job", uid: "u1" },
    },
  ],
});

test.each<[DiagnosisCategory, Partial<Trouble>, RegExp, RegExp]>([
  [
    "Quota",
    jobEvents(
      'pods "report-mz4k7q2xpa-x" is forbidden: exceeded quota: small, requested: requests.cpu=64, used: requests.cpu=1, limited: requests.cpu=4',
    ),
    /exceeded quota: small, requested: requests.cpu=64/,
    /ResourceQuota/,
  ],
  [
    "Quota",
    jobEvents('pods "x" is forbidden: failed quota: small: must specify limits.memory for: main'),
    /must specify limits.memory/,
    /give the resources/,
  ],
  [
    "Denied",
    jobEvents(
      'pods "x" is forbidden: violates PodSecurity "restricted:latest": allowPrivilegeEscalation != false (container "main" must set securityContext.allowPrivilegeEscalation=false)',
    ),
    /violates PodSecurity/,
    /securityContext/,
  ],
  [
    "Denied",
    jobEvents('admission webhook "validate.kyverno.svc-fail" denied the request: image registry not allowed'),
    /registry not allowed/,
    /policy/,
  ],
  [
    "Denied",
    jobEvents(
      'Internal error occurred: failed calling webhook "mutate.example": failed to call webhook: Post "https://x": dial tcp: connection refused',
    ),
    /failed calling/,
    /does not answer/,
  ],
  [
    "Denied",
    jobEvents('pods "x" is forbidden: maximum cpu usage per Container is 2, but limit is 64'),
    /maximum cpu/,
    /LimitRange/,
  ],
  [
    "ConfigMissing",
    jobEvents(
      'pods "x" is forbidden: error looking up service account batch/runner: serviceaccount "runner" not found',
    ),
    /serviceaccount "runner" not found/,
    /serviceAccountName/,
  ],
])("%s: %#", (category, trouble, message, hint) => {
  const found = diagnose({ job: job(), pods: [], now, ...trouble });
  expect(found?.category).toBe(category);
  expect(found?.message).toMatch(message);
  expect(found?.hint).toMatch(hint);
});

test("a quota is the one refusal that may pass by itself", () => {
  expect(isQuota('jobs.batch "x" is forbidden: exceeded quota: small, requested: count/jobs.batch=1')).toBe(true);
  expect(isQuota('pods "x" is forbidden: failed quota: small: must specify limits.cpu')).toBe(false);
});

test.each<[DiagnosisCategory, string]>([
  [
    "Quota",
    'jobs.batch "x" is forbidden: exceeded quota: small, requested: count/jobs.batch=1, used: count/jobs.batch=5, limited: count/jobs.batch=5',
  ],
  ["Denied", 'admission webhook "jobs.example" denied the request: no owner label'],
  ["Rejected", 'Job.batch "x" is invalid: spec.template.spec.containers[0].image: Required value'],
])("a Job that is not taken: %s", (category, message) => {
  const found = refusalOf(message, "Job");
  expect(found.category).toBe(category);
  expect(found.message).toBe(`The cluster does not take the Job: ${message}`);
});

test("a right that is missing is no service account that is missing, whoever asked", () => {
  const message =
    'jobs.batch is forbidden: User "system:serviceaccount:batch:jobs" cannot create resource "jobs" in API group "batch"';
  expect(refusalOf(message, "Job").category).toBe("Rejected");
});
