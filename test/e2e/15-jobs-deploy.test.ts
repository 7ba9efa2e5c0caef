// The jobs module as a service, in a pod: an administrator applies the files of deploy/examples, with no more changed than
// the target's address, and a scheduler starts runs by its API and by the command. The pod holds no credential of the target,
// and may go at any time.
import { execFile } from "node:child_process";
import { readFileSync } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import type { RunRecord } from "@kube-connector/jobs";
import { afterAll, beforeAll, expect, test } from "vitest";
import { parse, stringify } from "yaml";
import { numbered } from "../kit/jobs-checks.ts";
import { target } from "./cluster.ts";
import { batch, deployJobsService, example, type JobsService, ns } from "./jobs-service.ts";
import { image, script } from "./jobs-cluster.ts";
import { apply, eventually, getJson, kubectlOk, start } from "./kubectl.ts";
import { formsOf } from "./leaks.ts";
import { processes } from "./processes.ts";

let service: JobsService;

beforeAll(async () => {
  service = await deployJobsService();
});
afterAll(async () => {
  await kubectlOk(["-n", ns, "delete", "pod", "scheduler", "--now", "--ignore-not-found"]);
  await service?.stop();
});

const onTarget = (...args: string[]) => kubectlOk(args, { kubeconfig: target("global").kubeconfig });
const left = (id: string) =>
  onTarget("-n", batch, "get", "jobs,pods,secrets", "-l", `connectors.cpaas.io/run-id=${id}`, "-o", "name");
const get = async (id: string) => ((await service.ask("GET", `/v1/runs/${id}`)).body as { run: RunRecord }).run;
const cleaned = (id: string) =>
  eventually(async () => {
    const run = await get(id);
    expect(run.cleanup).toEqual({ state: "Done" });
    return run;
  }, 30_000);
const lines = (count: number, every = 100) =>
  `i=0; while [ $i -lt ${count} ]; do echo "line $i"; i=$((i+1)); usleep ${every * 1000}; done`;
/** What programs said, by pod; the log's own lines and the marks left out. */
function saidByPod(log: readonly string[]): string[][] {
  const pods = new Map<string, string[]>();
  for (const line of log) {
    const [, pod = "", text] = /^\S+ \[([^/\]]+)\/[^\]]+\] (.*)$/.exec(line) ?? [];
    if (text !== undefined) pods.set(pod, [...(pods.get(pod) ?? []), text]);
  }
  return [...pods.values()];
}

test("the pod is served through its Service, by its certificate and to who has the token; a restricted namespace has nothing against it", async () => {
  expect(service.applied).not.toMatch(/warning/i);
  expect(await service.ask("GET", "/readyz")).toMatchObject({ status: 200, text: "ok\n" });
  expect((await service.ask("GET", "/")).text).toContain("page.js");
  expect((await service.ask("GET", "/v1/runs", { token: "another" })).status).toBe(401);
  const { body } = await service.ask("GET", "/v1/connectors");
  expect(body).toEqual({ connectors: [{ name: "team-a/prod", defaultNamespace: batch }] });
  // What the account may not do on the target is refused in words.
  const elsewhere = await service.ask("GET", "/v1/sources?connector=team-a/prod&namespace=kube-system&kind=Job");
  expect(elsewhere).toMatchObject({ status: 403, text: expect.stringContaining("kube-system") });
});

test("a run of two completions: its log comes as it is written, it succeeds, and Job and pods are gone", async () => {
  const { patch: _, ...definition } = script(lines(30), { completions: 2, parallelism: 2, name: "pair" });
  const { status, body } = await service.ask("POST", "/v1/runs", { body: definition });
  expect(status).toBe(201);
  const { id } = (body as { run: RunRecord }).run;
  const states: string[] = [];
  const log: string[] = [];
  let wasLive = false;
  for await (const { type, data } of service.events(id)) {
    if (type === "state") states.push(data.data?.state ?? "");
    if (type === "log") log.push(...(data.lines ?? []));
    wasLive ||= log.length > 0 && !states.includes("Succeeded");
  }
  expect(wasLive).toBe(true);
  expect(states.at(-1)).toBe("Succeeded");
  expect(saidByPod(log)).toEqual([numbered(30), numbered(30)]);
  expect(await cleaned(id)).toMatchObject({
    state: "Succeeded",
    progress: { succeeded: 2, completions: 2 },
    log: { lines: 60, gaps: 0 },
  });
  expect(await left(id)).toBe("");
  const whole = await service.ask("GET", `/v1/runs/${id}/logs`);
  expect(saidByPod(whole.text.split("\n"))).toEqual([numbered(30), numbered(30)]);
});

/** The scheduler's pod: the command as examples/jobs/README.md has it, in the image of the cli. */
function scheduler(): object {
  const [secret, files] = ["jobs-token", "scheduler"];
  const command =
    "kube-connector jobs run report.yaml --set day=2026-03-01 --run-key report-2026-03-01" +
    " --server https://jobs.team-a.svc:8443 --server-token /etc/jobs-token/token --cancel-on-interrupt";
  return {
    apiVersion: "v1",
    kind: "Pod",
    metadata: { name: "scheduler", namespace: ns },
    spec: {
      restartPolicy: "Never",
      automountServiceAccountToken: false,
      containers: [
        {
          name: "scheduler",
          image: "kube-connector/cli:0.1.0",
          imagePullPolicy: "Never",
          args: [...command.split(" ").slice(1), "--server-ca", "/files/ca.crt"],
          workingDir: "/files",
          volumeMounts: [
            { name: secret, mountPath: "/etc/jobs-token", readOnly: true },
            { name: files, mountPath: "/files", readOnly: true },
          ],
        },
      ],
      volumes: [
        { name: secret, secret: { secretName: secret } },
        { name: files, configMap: { name: files } },
      ],
    },
  };
}

/** report.yaml with an image that is there, and what it refers to on the target. */
async function giveReport(): Promise<string> {
  const report = parse(await example("jobs/report.yaml")) as Record<string, unknown>;
  const said = 'echo "$0 of $1 in $MODE by $DATABASE"; ls -d /data';
  await apply(
    [
      {
        apiVersion: "v1",
        kind: "Secret",
        metadata: { name: "report-db", namespace: batch },
        stringData: { url: "db:1" },
      },
      {
        apiVersion: "v1",
        kind: "PersistentVolume",
        metadata: { name: "reports" },
        spec: {
          capacity: { storage: "1Gi" },
          accessModes: ["ReadWriteOnce"],
          hostPath: { path: "/tmp" },
          claimRef: { name: "reports", namespace: batch },
        },
      },
      {
        apiVersion: "v1",
        kind: "PersistentVolumeClaim",
        metadata: { name: "reports", namespace: batch },
        spec: { accessModes: ["ReadWriteOnce"], resources: { requests: { storage: "1Gi" } } },
      },
    ],
    { kubeconfig: target("global").kubeconfig },
  );
  return stringify({ ...report, image, command: ["sh", "-c", `${said}; ${lines(200)}`] });
}

test("a scheduler's command follows a run to its end; the service's pod is deleted in the middle, its successor goes on, and every line is there once", async () => {
  const files = { apiVersion: "v1", kind: "ConfigMap", metadata: { name: "scheduler", namespace: ns } };
  await apply([{ ...files, data: { "report.yaml": await giveReport(), "ca.crt": service.ca } }, scheduler()]);
  const output = () => kubectlOk(["-n", ns, "logs", "scheduler"]);
  await eventually(async () => expect(await output()).toContain("line 40"), 60_000);

  const first = await service.pod();
  const status = "jsonpath={.status.containerStatuses[0].state.terminated.exitCode} ";
  const watch = start("kubectl", ["-n", ns, "get", "pod", first, "-w", "-o", status]);
  const began = performance.now();
  await kubectlOk(["-n", ns, "delete", "pod", first, "--wait=true"], { timeout: 60_000 });
  // It has given its runs back by itself, long before the kubelet would have killed it.
  const seconds = (performance.now() - began) / 1000;
  await eventually(() => expect(watch.stdout().trim().split(" ")).toContain("0"), 10_000).finally(
    () => void watch.kill(),
  );
  expect(seconds).toBeLessThan(25);
  expect(await service.pod()).not.toBe(first);

  const phase = await eventually(async () => {
    const pod = await getJson<{ status: { phase: string } }>(["-n", ns, "pod", "scheduler"]);
    expect(pod.status.phase).toMatch(/Succeeded|Failed/);
    return pod.status.phase;
  }, 90_000);
  const told = await output();
  expect(phase, told).toBe("Succeeded");
  const wanted = ["--day of 2026-03-01 in full by db:1", "/data", ...numbered(200)];
  expect(saidByPod(told.split("\n"))).toEqual([wanted]);

  const { runs } = (await service.ask("GET", "/v1/runs?name=report")).body as { runs: { id: string }[] };
  expect(runs.length).toBe(1);
  const id = runs[0]?.id ?? "";
  const run = await cleaned(id);
  expect(run).toMatchObject({ state: "Succeeded", attempts: [{ number: 1 }], log: { lines: 202, gaps: 0 } });
  expect(saidByPod((await service.ask("GET", `/v1/runs/${id}/logs`)).text.split("\n"))).toEqual([wanted]);
  expect(await left(id)).toBe("");
}, 240_000);

test("nowhere in the pod is a token of the target: not in its environment, its arguments or its files; the connector's kubeconfig is all it has", async () => {
  const [serving, ...others] = processes("kube-connector.mjs").filter(({ args }) => args.includes("serve"));
  expect(others).toEqual([]);
  const proc = `/proc/${serving?.pid}`;
  const request = readFileSync(`${proc}/root/access/prod/token`, "utf8");
  expect(request).not.toBe("");
  const forms = formsOf(service.targetToken);
  for (const place of ["environ", "cmdline"]) {
    const text = readFileSync(`${proc}/${place}`, "latin1");
    expect(forms.filter((form) => text.includes(form))).toEqual([]);
  }
  expect(await filesWith(`${proc}/root`, forms)).toEqual([]);
  // The same look finds what is there.
  const own = await filesWith(`${proc}/root`, [request]);
  expect(own.every((file) => file.startsWith("/access/prod/"))).toBe(true);
  expect(own.filter((file) => /\/(kubeconfig|token)$/.test(file)).length).toBeGreaterThanOrEqual(2);
  expect(await filesWith(`${proc}/root/var`, ["BEGIN CERTIFICATE"])).toEqual([]);
});

/** Files of a pod's root, from its root on, that hold one of those texts. */
async function filesWith(root: string, texts: readonly string[]): Promise<string[]> {
  const folder = await mkdtemp(join(tmpdir(), "texts-"));
  try {
    await writeFile(join(folder, "texts"), texts.join("\n"));
    const skip = ["proc", "sys", "dev"].flatMap((name) => ["-path", `${root}/${name}`, "-prune", "-o"]);
    const grep = ["-type", "f", "-exec", "grep", "-lF", "-f", join(folder, "texts"), "{}", "+"];
    const found = await promisify(execFile)("find", [`${root}/`, ...skip, ...grep]).catch(
      (error: { code?: number; stdout?: string; stderr?: string }) => {
        // grep's word for "not found", by way of find.
        if (error.code === 1 && error.stderr === "") return { stdout: error.stdout ?? "" };
        throw error as Error;
      },
    );
    return found.stdout
      .split("\n")
      .filter(Boolean)
      .map((file) => file.slice(root.length));
  } finally {
    await rm(folder, { recursive: true });
  }
}
