import { expect, test } from "vitest";
import { containerStatus, job, pod, terminated } from "../../../../test/kit/job-objects.ts";
import type { DiagnosisCategory } from "../run.ts";
import { diagnose, type Trouble } from "./diagnose.ts";

// What a container says of itself, in the words of the kubelet of 1.35 and of containerd 2.

const now = Date.parse("2026-03-01T10:05:00Z");
const name = "report-mz4k7q2xpa-x7f2p";

function waiting(reason: string, message: string, more: object = {}) {
  return [pod("Pending", [containerStatus({ waiting: { reason, message } }, more)])];
}

function ended(exitCode: number, more: object = {}) {
  return [pod("Failed", [containerStatus(terminated(exitCode, more))])];
}

test.each<[DiagnosisCategory, Partial<Trouble>, RegExp, RegExp]>([
  [
    "InvalidImage",
    {
      pods: waiting(
        "InvalidImageName",
        'Failed to apply default image tag "Report:1": couldn\'t parse image name "Report:1": invalid reference format: repository name (library/Report) must be lowercase',
      ),
    },
    /"images.example\/report:1.4", is no valid name: .*must be lowercase/,
    /lower-case/,
  ],
  [
    "ImagePull",
    {
      pods: waiting(
        "ErrImagePull",
        'failed to pull and unpack image "images.example/report:1.4": failed to resolve reference "images.example/report:1.4": images.example/report:1.4: not found',
      ),
    },
    /container main, "images.example\/report:1.4", cannot be pulled: .*not found/,
    /name and tag/,
  ],
  [
    "ImagePull",
    {
      pods: waiting(
        "ImagePullBackOff",
        'Back-off pulling image "images.example/report:1.4": ErrImagePull: failed to authorize: failed to fetch anonymous token: unexpected status from GET request: 401 Unauthorized',
      ),
    },
    /Back-off pulling/,
    /imagePullSecret/,
  ],
  [
    "ImagePull",
    { pods: waiting("ErrImagePull", "dial tcp: lookup images.example on 10.96.0.10:53: no such host") },
    /no such host/,
    /cannot reach the registry/,
  ],
  [
    "ImagePull",
    { pods: waiting("ErrImagePull", "no match for platform in manifest: not found") },
    /platform/,
    /processor/,
  ],
  [
    "ImagePull",
    { pods: waiting("ErrImagePull", "429 Too Many Requests - Server message: toomanyrequests: rate limit") },
    /429/,
    /limits pulls/,
  ],
  [
    "ImagePull",
    { pods: waiting("ErrImageNeverPull", 'Container image "x" is not present with pull policy of Never') },
    /not present/,
    /imagePullPolicy/,
  ],
  [
    "ConfigMissing",
    { pods: waiting("CreateContainerConfigError", 'secret "db" not found') },
    /Container main cannot be set up: secret "db" not found/,
    /Create it/,
  ],
  [
    "ConfigMissing",
    { pods: waiting("CreateContainerConfigError", "couldn't find key url in Secret batch/db") },
    /key url in Secret batch\/db/,
    /Add that key/,
  ],
  [
    "ConfigMissing",
    {
      pods: waiting(
        "CreateContainerConfigError",
        'container has runAsNonRoot and image will run as root (pod: "x", container: main)',
      ),
    },
    /runAsNonRoot/,
    /runAsUser/,
  ],
  [
    "StartError",
    {
      pods: waiting(
        "RunContainerError",
        "failed to create containerd task: failed to create shim task: OCI runtime create failed: permission denied",
      ),
    },
    /Container main cannot be started: .*permission denied/,
    /mode in the image/,
  ],
  [
    "StartError",
    {
      pods: ended(128, {
        reason: "StartError",
        message: 'failed to create containerd task: exec: "reprt": executable file not found in $PATH',
      }),
    },
    /exec: "reprt": executable file not found/,
    /command is not in the image/,
  ],
  [
    "AppExit",
    { pods: ended(3, { message: "no such day\n" }) },
    new RegExp(`Container main of pod ${name} ended with exit code 3: no such day$`),
    /Read the end/,
  ],
  ["AppExit", { pods: ended(137) }, /exit code 137 \(SIGKILL\)/, /does not say that it was memory/],
  ["AppExit", { pods: ended(127) }, /exit code 127/, /did not find the command/],
  [
    "OutOfMemory",
    { pods: ended(137, { reason: "OOMKilled" }) },
    /more memory than its limit of 1Gi/,
    /limits.memory above 1Gi/,
  ],
  ["OutOfMemory", { pods: ended(1, { reason: "OOMKilled" }) }, /more memory/, /limits.memory/],
  [
    "CrashLoop",
    {
      pods: waiting("CrashLoopBackOff", "back-off 20s restarting failed container=main pod=x", {
        restartCount: 2,
        lastState: terminated(1),
      }),
    },
    /ended 3 times, first seen with exit code 1; back-off 20s/,
    /restartPolicy Never/,
  ],
  [
    "OutOfMemory",
    {
      pods: waiting("CrashLoopBackOff", "back-off 20s", {
        restartCount: 2,
        lastState: terminated(137, { reason: "OOMKilled" }),
      }),
    },
    /limit of 1Gi/,
    /Raise/,
  ],
])("%s: %#", (category, trouble, message, hint) => {
  const found = diagnose({ job: job(), pods: [], now, ...trouble });
  expect(found?.category).toBe(category);
  expect(found?.message).toMatch(message);
  expect(found?.hint).toMatch(hint);
});
