// The log of a run against a real kubelet and a real container runtime: every line once and in order, whatever breaks.
import { join } from "node:path";
import { Secret, silentLog } from "@kube-connector/core";
import { isTerminal, type Jobs, openStore, readLog, type RunRecord } from "@kube-connector/jobs";
import { afterAll, beforeAll, expect, test } from "vitest";
import { linesByPod, numbered } from "../kit/jobs-checks.ts";
import { createJobsProcesses } from "../kit/jobs-process.ts";
import type { Started } from "../kit/jobs-room.ts";
import { control } from "./cluster.ts";
import { image, type JobsCluster, script, startJobsCluster, untilRun } from "./jobs-cluster.ts";
import { eventually } from "./kubectl.ts";

const ns = "jobs-logs";
let room: JobsCluster;
/** Its connections are cut. */
let shaken: JobsCluster;
let folder: string;
let started: Started;
let jobs: Jobs;

beforeAll(async () => {
  room = await startJobsCluster(ns);
  shaken = await startJobsCluster("jobs-shaken");
  folder = await room.folder();
  started = await room.start(folder);
  jobs = started.jobs;
});
afterAll(async () => {
  await started?.stop();
  await room?.stop();
  await shaken?.stop();
});

const isComplete = ({ state, log }: RunRecord) => isTerminal(state) && log?.sha256 !== undefined;

async function runToEnd(definition: object): Promise<RunRecord> {
  const { run } = await jobs.submit(definition);
  return untilRun(jobs, run.id, isComplete, 120);
}

async function bytesOf(id: string, logs = join(folder, "logs")): Promise<Buffer> {
  const pieces: Buffer[] = [];
  for await (const piece of readLog(logs, id)) pieces.push(piece);
  return Buffer.concat(pieces);
}

/** What programs said, by `container#restart`; our marks as they stand. */
async function linesByContainer(id: string): Promise<Record<string, string[]>> {
  const found: Record<string, string[]> = {};
  for (const line of (await bytesOf(id)).toString().split("\n")) {
    const [, of, rest] = /^\S+ \[[^/]+\/([^\]]+)\]([ !].*)$/s.exec(line) ?? [];
    if (of !== undefined && rest !== undefined) (found[of] ??= []).push(rest.replace(/^ /, ""));
  }
  return found;
}

test.concurrent("200,000 lines, while every connection is cut every second and our process is killed twice: each line once, in order", async () => {
  const own = await shaken.folder();
  const store = await openStore(new Secret(join(own, "jobs.db")), { log: silentLog });
  using processes = createJobsProcesses({ connector: shaken.config, folder: own });
  let child = await processes.launch();
  const id = await child.say(
    // 1,000 lines at a time, so that they take some seconds.
    script("i=0; while [ $i -lt 200 ]; do seq $((i*1000)) $((i*1000+999)); i=$((i+1)); usleep 60000; done", {
      name: "numbers",
    }),
  );
  const cutting = setInterval(() => shaken.cut(), 1000);
  try {
    for (let kill = 0; kill < 2; kill++) {
      await eventually(async () => expect((await store.read(id))?.state).toBe("Running"), 60_000);
      await new Promise((resolve) => setTimeout(resolve, 3300));
      await child.kill();
      child = await processes.launch();
    }
    await eventually(async () => expect((await store.read(id))?.cleanup.state).toBe("Done"), 90_000);
  } finally {
    clearInterval(cutting);
    await child.kill();
  }
  const run = await store.read(id);
  await store.stop();
  expect(run).toMatchObject({ state: "Succeeded", log: { lines: 200_000, gaps: 0 } });
  const [lines = [], ...others] = (await linesByPod(own, id)).values();
  expect(others).toEqual([]);
  expect(lines.length).toBe(200_000);
  expect(lines.findIndex((line, at) => line !== String(at))).toBe(-1);
}, 180_000);

/** Five pods, two at a time, each with 300 lines in 3 s at least. */
const five = (end = "true") =>
  script(`i=0; while [ $i -lt 300 ]; do echo "line $i"; i=$((i+1)); usleep 10000; done; ${end}`, {
    completions: 5,
    parallelism: 2,
    completionMode: "Indexed",
    backoffLimitPerIndex: 0,
  });

/** All lines by their times, and nothing left in the cluster. */
async function expectInOrderAndGone(id: string): Promise<void> {
  const stamps = (await bytesOf(id))
    .toString()
    .split("\n")
    .slice(1, -2)
    .map((line) => line.slice(0, 30));
  expect(stamps).toEqual(stamps.toSorted());
  await untilRun(jobs, id, ({ cleanup }) => cleanup.state === "Done");
  const label = `connectors.cpaas.io/run-id=${id}`;
  expect(await room.kubectl("-n", ns, "get", "jobs,pods,secrets", "-l", label, "-o", "name")).toBe("");
}

test.concurrent.each([
  ["succeeds", "true", "Succeeded"],
  ["fails", "test $JOB_COMPLETION_INDEX != 3", "Failed"],
])(
  "five completions, two at a time, of a run that %s: five pods' lines in one log, each once and in order, then nothing is left",
  async (_, end, state) => {
    const { id } = await runToEnd(five(end));
    expect([...(await linesByPod(folder, id)).values()]).toEqual(Array.from({ length: 5 }, () => numbered(300)));
    expect(await jobs.get(id)).toMatchObject({ state, log: { lines: 1500, gaps: 0 } });
    await expectInOrderAndGone(id);
  },
);

test.concurrent("five completions, cancelled in the middle: what was written is in the log once and in order, then nothing is left", async () => {
  const { run } = await jobs.submit(five());
  await untilRun(jobs, run.id, ({ progress }) => progress.succeeded >= 2);
  await jobs.cancel(run.id);
  expect(await untilRun(jobs, run.id, isComplete)).toMatchObject({ state: "Cancelled", log: { gaps: 0 } });
  const pods = [...(await linesByPod(folder, run.id)).values()];
  for (const lines of pods) expect(lines).toEqual(numbered(lines.length));
  expect(pods.filter(({ length }) => length === 300).length).toBeGreaterThanOrEqual(2);
  await expectInOrderAndGone(run.id);
});

test.concurrent("the log of each restart of a container", async () => {
  const { id } = await runToEnd(
    script(
      'n=$(cat /scratch/n 2>/dev/null || echo 0); echo $((n+1)) > /scratch/n; echo "try $n"; sleep 2; echo "end of $n"; test $n = 2',
      {
        restartPolicy: "OnFailure",
        backoffLimit: 5,
        patch: {
          spec: {
            template: {
              spec: {
                containers: [{ name: "main", volumeMounts: [{ name: "scratch", mountPath: "/scratch" }] }],
                volumes: [{ name: "scratch", emptyDir: {} }],
              },
            },
          },
        },
      },
    ),
  );
  expect(await linesByContainer(id)).toEqual({
    "main#0": ["try 0", "end of 0"],
    "main#1": ["try 1", "end of 1"],
    "main#2": ["try 2", "end of 2"],
  });
});

test.concurrent("init containers and sidecars", async () => {
  const spec = {
    terminationGracePeriodSeconds: 5,
    initContainers: [
      { name: "prepare", image, command: ["echo", "prepared"] },
      {
        name: "helper",
        image,
        restartPolicy: "Always",
        command: ["sh", "-c", "trap 'echo helper ends; exit 0' TERM; echo helper begins; sleep 600 & wait"],
      },
    ],
  };
  const { id, state } = await runToEnd(script("sleep 2; echo worked", { patch: { spec: { template: { spec } } } }));
  expect(state).toBe("Succeeded");
  expect(await linesByContainer(id)).toEqual({
    "prepare#0": ["prepared"],
    "helper#0": ["helper begins", "helper ends"],
    "main#0": ["worked"],
  });
});

test.concurrent("a line of 1 MiB is whole; a longer one is split with a mark; the last one may have no newline", async () => {
  const { id } = await runToEnd(
    script(
      "head -c 1048576 /dev/zero | tr '\\0' a; echo; echo between; head -c 2500000 /dev/zero | tr '\\0' b; echo; printf last",
    ),
  );
  const { "main#0": lines = [] } = await linesByContainer(id);
  expect(lines[0]?.length).toBe(1_048_576);
  expect(lines[1]).toBe("between");
  expect(lines.at(-1)).toBe("last");
  const pieces = lines.slice(2, -1);
  expect(pieces.filter((line) => line === "!split").length).toBe(2);
  expect(pieces.filter((line) => line !== "!split").join("")).toBe("b".repeat(2_500_000));
});

test.concurrent("bytes of any kind", async () => {
  const { id } = await runToEnd(
    script('i=0; while [ $i -lt 256 ]; do printf "\\\\$(printf %03o $i)"; i=$((i+1)); done; echo'),
  );
  const all = Buffer.from(Array.from({ length: 256 }, (_, byte) => byte));
  const log = await bytesOf(id);
  const texts = [all.subarray(0, 10), all.subarray(11)];
  for (const text of texts) {
    expect(log.includes(Buffer.concat([Buffer.from("/main#0] "), text, Buffer.from("\n")]))).toBe(true);
  }
});

test.concurrent("a pod that was deleted before its log was read to the end: a mark", async () => {
  const own = await room.folder();
  let first = await room.start(own);
  const text = 'echo "line 0"; while [ ! -e /tmp/go ]; do usleep 100000; done; echo "line 1"; sleep 600';
  const { run } = await first.jobs.submit(script(text, { name: "gone" }));
  await untilRun(first.jobs, run.id, ({ state }) => state === "Running");
  await eventually(async () => {
    for await (const piece of first.jobs.readLog(run.id)) if (piece.includes("line 0")) return;
    throw new Error("no line yet");
  });
  await first.stop();
  const pod = await room.pod(ns, run.id);
  await room.kubectl("-n", ns, "exec", pod, "--", "sh", "-c", "touch /tmp/go; sleep 1");
  await room.kubectl("-n", ns, "delete", "pod", pod, "--grace-period=0", "--force");
  first = await room.start(own);
  await untilRun(first.jobs, run.id, isComplete);
  const log = (await bytesOf(run.id, join(own, "logs"))).toString();
  await first.stop();
  expect(log).toMatch(/\/main#0\] line 0\n\S+ \[.*\/main#0\]!gap PodDeleted\n#end state=Failed lines=1 gaps=1/);
});

test("the kubelet is killed in the last second of containers: each line once, and no gap", async () => {
  // They end a fifth of a second apart, around the moment at which it is killed, and while it is away.
  const counts = Array.from({ length: 8 }, (_, at) => 20 + 2 * at);
  const runs = await Promise.all(
    counts.map(async (count, at) => {
      const text = `i=0; while [ $i -lt ${count} ]; do echo "line $i"; i=$((i+1)); usleep 100000; done`;
      const { run } = await jobs.submit(script(text, { name: `last-${at}` }));
      return run;
    }),
  );
  await eventually(async () => {
    const last = await bytesOf(runs.at(-1)?.id ?? "");
    expect(last.includes("line 18\n")).toBe(true);
  }, 60_000);
  await control("kill", "target-kubelet");
  for (const [at, { id }] of runs.entries()) {
    const { state, log } = await untilRun(jobs, id, isComplete, 120);
    const count = counts[at] ?? 0;
    expect([state, log?.gaps, ...(await linesByPod(folder, id)).values()]).toEqual(["Succeeded", 0, numbered(count)]);
  }
}, 180_000);
