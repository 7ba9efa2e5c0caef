// Which runs of a container a pod's status tells of, and what can still be read of them.
import { expect, test } from "vitest";
import type { ContainerStatus, Pod } from "../kube.ts";
import { containersOf, wantedRuns } from "./instances.ts";

const ended = { terminated: { exitCode: 1, startedAt: "2026-03-01T10:00:00Z", finishedAt: "2026-03-01T10:00:05Z" } };
const running = { running: { startedAt: "2026-03-01T10:00:06Z" } };

function news(status: Partial<ContainerStatus>, pod: Pod["status"] = {}) {
  const containerStatuses = [{ name: "main", restartCount: 0, ...status }];
  const [one] = containersOf({ metadata: { name: "p", uid: "u" }, status: { ...pod, containerStatuses } });
  if (one === undefined) throw new Error("no news");
  return one;
}

test("init containers, sidecars and the others all count", () => {
  const pod: Pod = {
    metadata: { name: "p", uid: "u" },
    status: {
      initContainerStatuses: [{ name: "init", restartCount: 0, state: ended }],
      containerStatuses: [{ name: "main", restartCount: 0, state: running }],
    },
  };
  expect(containersOf(pod).map(({ container, started, ended }) => [container, started, ended])).toEqual([
    ["init", true, "2026-03-01T10:00:05Z"],
    ["main", true, undefined],
  ]);
});

test("what waits to be started for the first time has no log; what waits to be started again has its last one", () => {
  expect(wantedRuns(news({ state: { waiting: { reason: "ContainerCreating" } } }), -1)).toEqual([]);
  const again = news({ restartCount: 2, state: { waiting: { reason: "CrashLoopBackOff" } }, lastState: ended });
  expect(again).toMatchObject({ started: true, ended: "2026-03-01T10:00:05Z" });
  expect(wantedRuns(again, 1)).toEqual([{ restart: 2, how: "read" }]);
});

test("one that never ran, although it ended, has no log", () => {
  expect(wantedRuns(news({ state: { terminated: { exitCode: 137 } } }), -1)).toEqual([]);
});

test("the run before the latest can be read, earlier ones are missed, once", () => {
  const third = news({ restartCount: 3, state: running, lastState: ended });
  expect(third.previousEnded).toBe("2026-03-01T10:00:05Z");
  expect(wantedRuns(third, -1)).toEqual([
    { restart: 1, how: "missed" },
    { restart: 2, how: "read" },
    { restart: 3, how: "read" },
  ]);
  expect(wantedRuns(third, 1)).toEqual([
    { restart: 2, how: "read" },
    { restart: 3, how: "read" },
  ]);
  expect(wantedRuns(third, 2)).toEqual([{ restart: 3, how: "read" }]);
  expect(wantedRuns(third, 3)).toEqual([]);
});

test("one that has ended may be starting again, unless its pod says otherwise", () => {
  const pod = (restartPolicy: string, init?: { name: string; restartPolicy: string }): Pod => ({
    metadata: { name: "p", uid: "u" },
    spec: { restartPolicy, ...(init === undefined ? {} : { initContainers: [init] }) },
    status: { initContainerStatuses: [{ name: "main", restartCount: 0, state: ended }] },
  });
  const unsettled = (of: Pod) => containersOf(of).map((one) => one.unsettled);
  expect(unsettled(pod("Never"))).toEqual([false]);
  expect(unsettled(pod("OnFailure"))).toEqual([true]);
  const sidecar = pod("Never", { name: "main", restartPolicy: "Always" });
  expect(unsettled(sidecar)).toEqual([true]);
  expect(unsettled({ ...sidecar, status: { ...sidecar.status, phase: "Failed" } })).toEqual([false]);
});

test("an evicted pod is known by its reason or its condition", () => {
  expect(news({}, { reason: "Evicted" }).evicted).toBe(true);
  const condition = { type: "DisruptionTarget", status: "True", reason: "EvictionByEvictionAPI" };
  expect(news({}, { conditions: [condition] }).evicted).toBe(true);
  expect(news({}, { conditions: [{ ...condition, status: "False" }] }).evicted).toBe(false);
});
