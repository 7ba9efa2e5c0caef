import { expect, test } from "vitest";
import { job, unplacedPod } from "../../../../test/kit/job-objects.ts";
import type { DiagnosisCategory } from "../run.ts";
import { diagnose, type Trouble } from "./diagnose.ts";

// Why a pod has no node, in the words of the scheduler of 1.35 and before. Of several reasons the one of the node that came
// closest.

const now = Date.parse("2026-03-01T10:05:00Z");
const unscheduled = (message: string) => ({ pods: [unplacedPod("Unschedulable", message)] });
const preemption =
  "no new claims to deallocate, preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod.";

test.each<[DiagnosisCategory, Partial<Trouble>, RegExp, RegExp]>([
  [
    "Unschedulable.Resources",
    unscheduled(`0/1 nodes are available: 1 Insufficient cpu. ${preemption}`),
    /asks for cpu 64, memory 1Gi for main\) fits no node: 0\/1 nodes are available: 1 Insufficient cpu\.$/,
    /resources.requests/,
  ],
  [
    "Unschedulable.Resources",
    unscheduled(
      "0/1 nodes are available: 1 Too many pods. preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod.",
    ),
    /Too many pods\.$/,
    /more nodes/,
  ],
  // A worker is full, three control planes are tainted: the worker came closest.
  [
    "Unschedulable.Resources",
    unscheduled(`0/4 nodes are available: 1 Insufficient memory, 3 node(s) had untolerated taint(s). ${preemption}`),
    /Insufficient memory/,
    /requests/,
  ],
  [
    "Unschedulable.Affinity",
    unscheduled(`0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector. ${preemption}`),
    /node affinity\/selector/,
    /nodeSelector/,
  ],
  [
    "Unschedulable.Affinity",
    unscheduled(
      `0/2 nodes are available: 1 Insufficient cpu, 1 node(s) didn't match pod topology spread constraints. ${preemption}`,
    ),
    /topology/,
    /spread/,
  ],
  [
    "Unschedulable.Taint",
    unscheduled(
      "0/1 nodes are available: 1 node(s) had untolerated taint {gpu: true}. preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling.",
    ),
    /gpu: true}\.$/,
    /toleration/,
  ],
  [
    "Unschedulable.Taint",
    unscheduled(`0/1 nodes are available: 1 node(s) were unschedulable. ${preemption}`),
    /were unschedulable/,
    /cordoned/,
  ],
  [
    "Unschedulable.Volume",
    unscheduled(`0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims. ${preemption}`),
    /unbound immediate/,
    /claim/,
  ],
  [
    "Unschedulable.Volume",
    unscheduled(`0/1 nodes are available: persistentvolumeclaim "reports" not found. ${preemption}`),
    /"reports" not found/,
    /claim/,
  ],
  [
    "Unschedulable.Volume",
    unscheduled(
      `0/3 nodes are available: 1 node(s) had untolerated taint(s), 2 node(s) had no available volume zone. ${preemption}`,
    ),
    /volume zone/,
    /claim/,
  ],
  [
    "Gated",
    {
      pods: [
        unplacedPod("SchedulingGated", "Scheduling is blocked due to non-empty scheduling gates", {
          schedulingGates: [{ name: "example.com/wait" }],
        }),
      ],
    },
    /scheduling gates example.com\/wait/,
    /controller that set a gate/,
  ],
])("%s: %#", (category, trouble, message, hint) => {
  const found = diagnose({ job: job(), pods: [], now, ...trouble });
  expect(found?.category).toBe(category);
  expect(found?.message).toMatch(message);
  expect(found?.hint).toMatch(hint);
});
