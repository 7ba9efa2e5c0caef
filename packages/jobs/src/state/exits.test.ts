import { expect, test } from "vitest";
import { containerStatus, pod, running, terminated } from "../../../../test/kit/job-objects.ts";
import { exitsOf, mergeExits, missingOutputs, outputsOf, parseOutputs } from "./exits.ts";

// Every end of a container is kept once, with the restart that it was, though the kubelet tells of the last two only.

const loop = { waiting: { reason: "CrashLoopBackOff", message: "back-off 10s restarting failed container=main" } };

test("an end with what the kubelet says of it", () => {
  const ended = terminated(3, { reason: "Error", message: "no such day", signal: 0 });
  const metadata = { annotations: { "batch.kubernetes.io/job-completion-index": "4" } };
  expect(exitsOf([pod("Failed", [containerStatus(ended)], { metadata })])).toEqual([
    {
      pod: "report-mz4k7q2xpa-x7f2p",
      podUid: "uid-report-mz4k7q2xpa-x7f2p",
      container: "main",
      restart: 0,
      index: 4,
      exitCode: 3,
      reason: "Error",
      message: "no such day",
      image: "images.example/report:1.4",
      imageID: "images.example/report@sha256:4d2e",
      node: "node-1",
      startedAt: "2026-03-01T10:00:02Z",
      finishedAt: "2026-03-01T10:00:30Z",
    },
  ]);
});

test("each restart is an end of its own, whatever moment is seen of it", () => {
  const looks = [
    containerStatus(running),
    containerStatus(terminated(1)),
    // Waiting for the next start: the end has moved to lastState, and the count is still its own.
    containerStatus(loop, { restartCount: 0, lastState: terminated(1) }),
    containerStatus(running, { restartCount: 1, lastState: terminated(1) }),
    containerStatus(terminated(2), { restartCount: 1, lastState: terminated(1) }),
    containerStatus(loop, { restartCount: 1, lastState: terminated(2) }),
    containerStatus(terminated(0), { restartCount: 2, lastState: terminated(2) }),
  ];
  const known = looks.reduce(
    (exits, status) => mergeExits(exits, exitsOf([pod("Running", [status])])),
    [] as ReturnType<typeof exitsOf>,
  );
  expect(known.map(({ restart, exitCode }) => [restart, exitCode])).toEqual([
    [0, 1],
    [1, 2],
    [2, 0],
  ]);
});

test("a container that the kubelet lost sight of is the restart before", () => {
  const lost = terminated(137, { reason: "ContainerStatusUnknown", startedAt: null, finishedAt: null });
  const status = containerStatus({ waiting: { reason: "ContainerCreating" } }, { restartCount: 1, lastState: lost });
  const [exit] = exitsOf([pod("Running", [status])]);
  expect(exit).toMatchObject({ restart: 0, exitCode: 137, reason: "ContainerStatusUnknown" });
  expect(exit).not.toHaveProperty("finishedAt");
});

test("init containers and sidecars are among them", () => {
  const initContainerStatuses = [containerStatus(terminated(0), { name: "init" })];
  const names = exitsOf([pod("Succeeded", [containerStatus(terminated(0))], { status: { initContainerStatuses } })]);
  expect(names.map(({ container }) => container)).toEqual(["init", "main"]);
});

test("an end stays known when its pod is gone", () => {
  const exits = exitsOf([pod("Failed", [containerStatus(terminated(1))])]);
  expect(mergeExits(exits, [])).toEqual(exits);
});

test("outputs are JSON objects of texts in termination messages; the later end wins", () => {
  const exits = exitsOf([
    pod("Succeeded", [containerStatus(terminated(0, { message: '{"rows": "2", "b": "x"}' }, 50))], { name: "late" }),
    pod("Succeeded", [containerStatus(terminated(0, { message: '{"rows": "1", "a": "y"}' }, 20))], { name: "early" }),
    pod("Succeeded", [containerStatus(terminated(0, { message: "done" }))], { name: "text" }),
    pod("Succeeded", [containerStatus(terminated(0, { message: '{"n": 1}' }))], { name: "number" }),
  ]);
  expect(outputsOf(exits)).toEqual({
    outputs: { rows: "2", b: "x", a: "y" },
    problems: ["The termination message of number/main has outputs that are no text: n"],
  });
});

test.each<[string, Record<string, string>, number]>([
  ['{"a": "1"}', { a: "1" }, 0],
  [' \n{"a": ""}\n', { a: "" }, 0],
  ["{}", {}, 0],
  ["", {}, 0],
  ['["a"]', {}, 0],
  ['"a"', {}, 0],
  ['{"a": "1"', {}, 1],
  ['{"a": null}', {}, 1],
  ["{not json}", {}, 1],
])("%j gives %j", (text, outputs, problems) => {
  const parsed = parseOutputs(text);
  expect([parsed.outputs, parsed.problems.length]).toEqual([outputs, problems]);
});

test("outputs that are wanted and missing are named", () => {
  expect(missingOutputs({ a: "1" }, ["a", "b", "toString"])).toEqual(["b", "toString"]);
  expect(missingOutputs({ a: "1" })).toEqual([]);
});
