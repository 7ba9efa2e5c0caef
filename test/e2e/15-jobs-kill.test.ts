// The process of the jobs module is killed at thirty random moments, before a real kubelet and a real container runtime: no
// second Job, no lost or doubled line, no Job left behind, and each run ends right.
import { silentLog, startReflector, systemClock } from "@kube-connector/core";
import { afterAll, beforeAll, test } from "vitest";
import { killAtRandom } from "../kit/jobs-kills.ts";
import { type JobsCluster, script, startJobsCluster } from "./jobs-cluster.ts";

const ns = "jobs-kill";
let room: JobsCluster;

beforeAll(async () => {
  room = await startJobsCluster(ns);
});
afterAll(() => room?.stop());

test("killed at thirty random moments, ten runs of five pods, two at a time, end right, once, with every line", async () => {
  let made = 0;
  await using closing = new AsyncDisposableStack();
  const seen = startReflector<true>({
    api: room.admin,
    clock: systemClock,
    log: silentLog,
    path: `/apis/batch/v1/namespaces/${ns}/jobs`,
    keep: () => true,
    onChange: (_, { before, after }) => {
      if (before === undefined && after !== undefined) made += 1;
    },
  });
  closing.defer(() => seen.stop());
  await seen.synced;
  await killAtRandom({
    connector: room.config,
    folder: await room.folder(),
    runs: 10,
    kills: 3,
    run(at) {
      // Of one that fails the last index does; the others go on to their ends.
      const fails = at % 3 === 2;
      const end = fails ? "test $JOB_COMPLETION_INDEX != 4" : "true";
      const lines = 100;
      const text = `i=0; while [ $i -lt ${lines} ]; do echo "line $i"; i=$((i+1)); usleep 10000; done; ${end}`;
      const five = { completions: 5, parallelism: 2, completionMode: "Indexed", backoffLimitPerIndex: 0 };
      return {
        definition: script(text, { name: `run-${at}`, ...five }),
        state: fails ? "Failed" : "Succeeded",
        pods: 5,
        lines,
      };
    },
    made: async () => made,
    async left(engine) {
      const label = `connectors.cpaas.io/engine=${engine}`;
      const names = await room.kubectl("-n", ns, "get", "jobs,pods,secrets", "-l", label, "-o", "name");
      return names.split("\n").filter((name) => name !== "");
    },
  });
}, 600_000);
