// One watch of each kind for all runs of a namespace: each run sees its own pods, hears of its own changes, and misses none that went.
import { createServer, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { openApiServer, silentLog } from "@kube-connector/core";
import { expect, onTestFinished, test } from "vitest";
// oxlint-disable-next-line import/no-relative-packages -- the kit is no package
import { createTestClock } from "../../../../test/kit/clock.ts";
import { runLabels } from "../labels.ts";
import { containersOf } from "../logs/instances.ts";
import { createClusterView } from "./cluster-view.ts";

interface Thing {
  metadata: { name: string; uid: string; labels: Record<string, string>; [field: string]: unknown };
  [field: string]: unknown;
}

const thing = (name: string, run: string, more: object = {}): Thing => ({
  metadata: { name, namespace: "batch", uid: `uid-${name}`, labels: { [runLabels.run]: run }, managedFields: [{}] },
  ...more,
});

/** An API server with these objects, whose watches say what `send` says. */
async function startRoom(objects: { jobs?: Thing[]; pods?: Thing[] } = {}, status = 200, watching = 200) {
  const watches = new Map<string, ServerResponse>();
  const lists: URL[] = [];
  const answers = { status, watching };
  const server = createServer((request, response) => {
    const url = new URL(request.url ?? "", "http://x");
    const kind = url.pathname.endsWith("/jobs") ? "jobs" : "pods";
    if (url.searchParams.get("watch") === "true") {
      if (answers.watching !== 200) {
        response.writeHead(answers.watching).end();
        return;
      }
      response.writeHead(200).flushHeaders();
      watches.set(kind, response);
      return;
    }
    lists.push(url);
    const from = Number(url.searchParams.get("continue") ?? 0);
    const to = from + Number(url.searchParams.get("limit"));
    const items = (objects[kind] ?? []).slice(from, to);
    const next = to < (objects[kind] ?? []).length ? String(to) : "";
    response.writeHead(answers.status, { "content-type": "application/json" });
    response.end(JSON.stringify({ items, metadata: { resourceVersion: "1", continue: next } }));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const api = openApiServer({ url: `http://127.0.0.1:${(server.address() as AddressInfo).port}` });
  const clock = createTestClock();
  const changed: string[] = [];
  const lags: number[] = [];
  const counted = { relists: 0 };
  const view = createClusterView({
    api,
    engine: "engine1234",
    clock,
    log: silentLog,
    onChange: (run) => changed.push(run),
    counts: { saw: (lag) => lags.push(lag), relisted: () => void (counted.relists += 1) },
  });
  onTestFinished(async () => {
    const stopped = view.stop();
    for (const one of watches.values()) one.destroy();
    await stopped;
    await api.stop();
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  });
  return {
    view,
    clock,
    changed,
    lags,
    counted,
    lists,
    answers,
    watches,
    send: async (kind: "jobs" | "pods", type: string, object: object) => {
      await expect.poll(() => watches.has(kind)).toBe(true);
      watches.get(kind)?.write(`${JSON.stringify({ type, object })}\n`);
    },
  };
}

test("more pods than a page: all are there, each with its own run, and only what is needed is kept", async () => {
  const pods = Array.from({ length: 1201 }, (_, at) => thing(`pod-${at}`, at % 3 === 0 ? "a" : "b"));
  const { view, lists } = await startRoom({ pods });
  const [a, b] = [view.view("batch", "a"), view.view("batch", "b")];
  expect(a.isSynced()).toBe(false);
  await Promise.all([a.synced, b.synced]);
  expect([a.pods().length, b.pods().length]).toEqual([401, 800]);
  expect(a.pods()[0]?.metadata).not.toHaveProperty("managedFields");
  const asked = lists.filter(({ pathname }) => pathname.endsWith("/pods"));
  expect(asked.map(({ searchParams }) => searchParams.get("continue"))).toEqual([null, "500", "1000"]);
  expect(asked[0]?.searchParams.get("labelSelector")).toBe("connectors.cpaas.io/engine=engine1234");
  expect(view.watches()).toEqual({ watch: 2, poll: 0 });
});

test("what the pod says of restarts is kept: a container of one that is never restarted has ended for good", async () => {
  const status = {
    containerStatuses: [{ name: "main", restartCount: 0, state: { terminated: { exitCode: 1, startedAt: "x" } } }],
  };
  const pods = ["Never", "OnFailure"].map((restartPolicy) =>
    thing(restartPolicy, "a", { spec: { restartPolicy }, status }),
  );
  const { view } = await startRoom({ pods });
  const a = view.view("batch", "a");
  await a.synced;
  expect(a.pods().map((pod) => [pod.metadata.name, containersOf(pod)[0]?.unsettled])).toEqual([
    ["Never", false],
    ["OnFailure", true],
  ]);
});

test("a change wakes its run alone, and a pod that went is told once, as it was", async () => {
  const { view, send, changed } = await startRoom({ pods: [thing("pod-a", "a"), thing("pod-b", "b")] });
  const a = view.view("batch", "a");
  const b = view.view("batch", "b");
  await a.synced;
  changed.length = 0;
  await send("pods", "MODIFIED", thing("pod-a", "a", { status: { phase: "Running" } }));
  await send("pods", "DELETED", thing("pod-a", "a"));
  await expect.poll(() => a.pods()).toEqual([]);
  expect(new Set(changed)).toEqual(new Set(["a"]));
  expect(a.takeGone().map(({ metadata, status }) => [metadata.name, status?.phase])).toEqual([["pod-a", "Running"]]);
  expect([a.takeGone(), b.takeGone()]).toEqual([[], []]);
});

test("a pod that another one of its name has replaced between two lists has gone", async () => {
  const { view, send } = await startRoom({ pods: [thing("pod-a", "a")] });
  const a = view.view("batch", "a");
  await a.synced;
  const next = thing("pod-a", "a");
  next.metadata.uid = "uid-other";
  await send("pods", "MODIFIED", next);
  await expect.poll(() => a.pods()[0]?.metadata.uid).toBe("uid-other");
  expect(a.takeGone().map(({ metadata }) => metadata.uid)).toEqual(["uid-pod-a"]);
});

test("how late a condition is seen is measured once, by its own time", async () => {
  const { view, send, lags, clock } = await startRoom({ jobs: [thing("job", "a")] });
  const a = view.view("batch", "a");
  await a.synced;
  const at = new Date(clock.now() - 1500).toISOString();
  const conditions = [{ type: "Complete", status: "True", lastTransitionTime: at }];
  await send("jobs", "MODIFIED", thing("job", "a", { status: { conditions } }));
  await send("jobs", "MODIFIED", thing("job", "a", { status: { conditions, succeeded: 1 } }));
  await expect.poll(() => a.job("job")?.status?.succeeded).toBe(1);
  expect(lags).toEqual([1.5]);
});

test("410 lists anew: it is counted, and what has gone meanwhile is told", async () => {
  const pods = [thing("pod-a", "a"), thing("pod-c", "a")];
  const { view, send, counted } = await startRoom({ pods });
  const a = view.view("batch", "a");
  await a.synced;
  pods.pop();
  await send("pods", "ERROR", { kind: "Status", code: 410, message: "too old", metadata: {} });
  await expect.poll(() => a.pods().map(({ metadata }) => metadata.name)).toEqual(["pod-a"]);
  expect(a.takeGone().map(({ metadata }) => metadata.name)).toEqual(["pod-c"]);
  expect(counted.relists).toBe(1);
});

test("where lists are refused there is trouble, which ends with the first that is not", async () => {
  const { view, changed, clock, answers } = await startRoom({}, 403);
  const a = view.view("batch", "a");
  await expect.poll(() => a.trouble()).toBeDefined();
  expect([a.isSynced(), new Set(changed)]).toEqual([false, new Set(["a"])]);
  answers.status = 200;
  await expect
    .poll(() => {
      clock.pass(30_000);
      return [a.isSynced(), a.trouble()];
    })
    .toEqual([true, undefined]);
});

test("where watching is forbidden the kinds are polled, which is told, until it is allowed", async () => {
  const { view, answers, clock, lists } = await startRoom({}, 200, 403);
  const a = view.view("batch", "a");
  await a.synced;
  await expect.poll(() => view.watches()).toEqual({ watch: 0, poll: 2 });
  const before = lists.length;
  answers.watching = 200;
  await expect
    .poll(() => {
      clock.pass(5000);
      return view.watches();
    })
    .toEqual({ watch: 2, poll: 0 });
  expect([lists.length > before, a.trouble()]).toEqual([true, undefined]);
});

test("the watches end a minute after the last run, and not when another one comes before", async () => {
  const { view, clock } = await startRoom();
  const a = view.view("batch", "a");
  const b = view.view("batch", "b");
  await a.synced;
  a.release();
  clock.pass(120_000);
  expect(view.watches()).toEqual({ watch: 2, poll: 0 });
  b.release();
  clock.pass(59_000);
  const c = view.view("batch", "c");
  clock.pass(120_000);
  expect(view.watches()).toEqual({ watch: 2, poll: 0 });
  c.release();
  clock.pass(60_000);
  expect(view.watches()).toEqual({ watch: 0, poll: 0 });
});
