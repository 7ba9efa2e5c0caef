// `kube-connector jobs` beyond a plain run: what can be cloned, by page, and the clone with its differences; quantities as flags;
// each form of output, each exit status, leaving a terminal; repeating failed indexes, orphans, a history in PostgreSQL.
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { Secret } from "@kube-connector/core";
import type { RunRecord, RunSummary } from "@kube-connector/jobs";
import { afterAll, beforeAll, expect, onTestFinished, test } from "vitest";
import { parse } from "yaml";
import { createPlace, type Finished, linesOf, type Place } from "../kit/jobs-cli.ts";
import { left, numbered } from "../kit/jobs-checks.ts";
import { connector, type JobsRoom, namespace, startJobsRoom } from "../kit/jobs-room.ts";
import { passwordMark, postgresPrograms, startPostgres } from "../kit/postgres.ts";

let room: JobsRoom;
let place: Place;

beforeAll(async () => {
  room = await startJobsRoom();
  place = await createPlace(room);
});
afterAll(async () => {
  await place?.stop();
  await room?.stop();
});

const jobsPath = `/apis/batch/v1/namespaces/${namespace}/jobs`;
const post = (path: string, body: object) => room.plane.admin.request("POST", path, { body });
const json = ({ stdout }: Finished): unknown => JSON.parse(stdout);
const listed = async (...flags: string[]) =>
  json(await place.run("list", "-o", "json", ...flags)) as { runs: RunSummary[]; next?: string };

/** Sources: two CronJobs and three Jobs that do nothing. */
async function createSources(): Promise<void> {
  const containers = [
    {
      name: "main",
      image: "images.example/tidy:1",
      env: [{ name: "REGION", value: "us" }],
      resources: { requests: { cpu: "1", memory: "1Gi" } },
    },
    { name: "worker", image: "images.example/worker:1", env: [{ name: "DEPTH", value: "1" }] },
  ];
  const template = {
    metadata: { annotations: { "stand-in/script": '{"lines":2}' } },
    spec: { restartPolicy: "Never", containers },
  };
  for (const name of ["night", "noon"])
    await post(`/apis/batch/v1/namespaces/${namespace}/cronjobs`, {
      metadata: { name },
      spec: { schedule: "0 3 * * *", suspend: true, jobTemplate: { spec: { template } } },
    });
  for (const name of ["a", "b", "c"])
    await post(jobsPath, { metadata: { name: `source-${name}` }, spec: { suspend: true, template } });
}

test("what can be cloned is listed by page, in each form, and a page goes on where the one before has ended", async () => {
  const none = await place.run("discover");
  expect([none.status, none.stdout, none.stderr]).toEqual([0, "", "Nothing to clone found in namespace batch\n"]);
  await createSources();
  const names: string[] = [];
  let cursor: string[] = [];
  const sizes: number[] = [];
  do {
    const page = await place.run("discover", "--limit", "3", "-o", "ndjson", ...cursor);
    const items = page.stdout
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line) as { kind: string; name: string });
    sizes.push(items.length);
    names.push(...items.map(({ kind, name }) => `${kind} ${name}`));
    cursor = /^There are more: (--cursor) (\S+)\n$/.exec(page.stderr)?.slice(1) ?? [];
  } while (cursor.length > 0);
  expect(names).toEqual(["CronJob night", "CronJob noon", "Job source-a", "Job source-b", "Job source-c"]);
  expect(sizes).toEqual([3, 2]);
  const [table, whole, yaml, one, odd, crossed, many] = await Promise.all([
    place.run("discover", "--all-containers"),
    place.run("discover", "-o", "json"),
    place.run("discover", "--kind", "Job", "--limit", "1", "-o", "yaml"),
    place.run("discover", "--kind", "CronJob", "--limit", "1", "-o", "json"),
    place.run("discover", "--cursor", "nonsense"),
    place.run("discover", "--kind", "Job", "--cursor", "CronJob:x"),
    place.run("discover", "--limit", "1001"),
  ]);
  expect(table.stdout).toMatch(/^SOURCE +SCHEDULE +IMAGE +PARAMETERS\n/);
  expect(table.stdout).toMatch(/^job\/source-b +images.example\/tidy:1 +REGION=us DEPTH=1$/m);
  expect((json(whole) as { items: object[] }).items.length).toBe(5);
  expect(parse(yaml.stdout)).toMatchObject({ items: [{ name: "source-a" }], next: expect.stringMatching(/^Job:\S+$/) });
  const { next } = json(one) as { next: string };
  const rest = await place.run("discover", "--kind", "CronJob", "--cursor", next, "-o", "json");
  expect(json(rest) as { items: object[] }).toEqual({ items: [expect.objectContaining({ name: "noon" })] });
  expect([odd.status, crossed.status, many.status]).toEqual([2, 2, 2]);
  expect(crossed.stderr).toBe("--cursor is of a page of CronJobs, and --kind is Job\n");
});

test("a Job is cloned with what the flags change in one container, and a dry run says just that", async () => {
  const flags = ["--from", "job/source-a", "--container", "worker", "--env", "DEPTH=[[depth]]", "--set", "depth=7"];
  const dry = await place.run("run", ...flags, "--limits", "cpu=2", "--dry-run", "server", "--", "--deep");
  expect([dry.status, dry.stderr]).toEqual([0, expect.stringContaining("Cloned from Job batch/source-a (Live)")]);
  const changes = dry.stderr.split("\n").filter((line) => line.startsWith("  /spec/template/spec/containers/"));
  expect(changes.toSorted()).toEqual([
    '  /spec/template/spec/containers/1/args: nothing -> ["--deep"]',
    '  /spec/template/spec/containers/1/env/0/value: "1" -> "7"',
    '  /spec/template/spec/containers/1/resources/limits: nothing -> {"cpu":"2"}',
  ]);
  expect(dry.stderr).toContain("The cluster would take it. Nothing was sent.\n");
  const wrong = await place.run("run", ...flags, "--limits", "cpu=2", "--requests", "cpu=3", "--dry-run", "server");
  expect([wrong.status, wrong.stdout]).toEqual([2, ""]);
  expect(wrong.stderr).toContain("/overlay/resources/requests/cpu");
  const run = json(await place.run("run", ...flags, "-o", "json")) as RunRecord;
  expect(run).toMatchObject({ state: "Succeeded", source: { kind: "Job", name: "source-a", used: "Live" } });
  const gone = await place.run("run", "--from", "cronjob/never", "--dry-run", "client");
  expect([gone.status, gone.stderr]).toEqual([1, expect.stringContaining("CronJob batch/never is not in the cluster")]);
});

test("quantities come from flags, above those of the file, and wrong ones are told with what to write", async () => {
  const path = await place.definition({}, { resources: { requests: { cpu: "100m", memory: "64Mi" } } });
  const dry = await place.run(
    "run",
    path,
    "--requests",
    "cpu=250m",
    "--limits",
    "cpu=1,memory=1Gi",
    "--dry-run",
    "client",
  );
  const manifest = parse(dry.stdout) as { spec: { template: { spec: { containers: { resources: object }[] } } } };
  expect(manifest.spec.template.spec.containers[0]?.resources).toEqual({
    requests: { cpu: "250m", memory: "64Mi" },
    limits: { cpu: "1", memory: "1Gi" },
  });
  expect(dry.stderr).not.toContain("warning");
  const wrong = ["--requests", "cpu", "--limits", "memory=1GB,colour=1"];
  const { status, stderr } = await place.run("run", "--image", "images.example/x", ...wrong);
  expect(status).toBe(2);
  for (const part of [
    "--requests cpu should be RESOURCE=QUANTITY with commas between, such as cpu=250m,memory=512Mi",
    "/resources/limits/memory should be a quantity such as 250m or 1Gi",
    "/resources/limits/colour is not a resource: cpu, memory",
  ])
    expect(stderr).toContain(part);
  const nothing = await place.run("run");
  expect([nothing.status, nothing.stderr]).toEqual([
    2,
    expect.stringMatching(/^Say what to run: a FILE .*--image.*--from/),
  ]);
});

test("each exit status is that of the run, also for whoever asks later; of the rest it says what kind of thing failed", async () => {
  const ends: [string, number, string, object, string[]][] = [
    ["fine", 0, "Succeeded", { lines: 1 }, []],
    ["bad", 10, "Failed", { exit: 3 }, []],
    ["late", 11, "TimedOut", { stay: -1 }, ["--timeout", "1"]],
    ["stopped", 12, "Cancelled", { stay: -1 }, []],
    ["taken", 13, "Lost", { stay: -1 }, []],
  ];
  await Promise.all(
    ends.map(async ([name, , , script, flags]) => {
      const detached = await place.run("run", await place.definition(script, { name }), "--detach", ...flags);
      expect([name, detached.status]).toEqual([name, 0]);
    }),
  );
  const ids = new Map((await listed()).runs.map(({ name, id }) => [name, id]));
  const idOf = (name: string) => ids.get(name) ?? "";
  // While no other process has the run, nobody has to wait for that one to let it go.
  expect((await place.run("cancel", idOf("stopped"))).status).toBe(0);
  // What has ended and what goes on, asked for in two ways.
  const following = ["taken", "late"].map((name) => place.start("logs", "--follow", idOf(name)));
  await following[0]?.says("Running");
  const { attempts } = json(await place.run("show", idOf("taken"), "-o", "json")) as RunRecord;
  await room.plane.admin.request("DELETE", `${jobsPath}/${attempts[0]?.job}`, {
    query: { propagationPolicy: "Background" },
  });
  const followed = await Promise.all([...following.map(({ done }) => done), place.run("logs", "-f", idOf("bad"))]);
  expect(followed.map(({ status }) => status)).toEqual([13, 11, 10]);
  await Promise.all(
    ends.map(async ([name, status, state]) => {
      const shown = await place.run("show", "--wait", idOf(name), "-o", "yaml");
      expect([name, shown.status, parse(shown.stdout)]).toEqual([name, status, expect.objectContaining({ state })]);
    }),
  );
  const [refused, forbidden, named] = await Promise.all([
    place.run("discover", "-n", "kube-system"),
    place.run(
      "run",
      await place.definition({}, { namespace: "kube-system" }),
      "--history",
      join(place.folder, "other.db"),
    ),
    place.run("show", "bad"),
  ]);
  expect([refused.status, refused.stderr]).toEqual([3, expect.stringContaining("kube-system")]);
  // There is nothing to wait for, and no account to create.
  expect([forbidden.status, forbidden.stderr]).toEqual([
    10,
    expect.stringMatching(/Failed \(Rejected\): .*cannot create/),
  ]);
  expect(forbidden.stderr).toContain(
    "Have the connector's policy and its stored token allow it to create jobs there.\n",
  );
  expect(forbidden.stderr).not.toContain("warn: ");
  expect([named.status, named.stderr]).toEqual([
    1,
    "There is no run bad in this history; a run goes by the id that a list of runs shows\n",
  ]);
  const odd = await place.run("list", "--state", "Happy");
  expect([odd.status, odd.stderr]).toEqual([
    2,
    expect.stringMatching(/^--state Happy should be one of Queued, .*Lost\n$/),
  ]);
});

test("a token that the cluster does not know any more is told as that, and so is a cluster that is away", async () => {
  onTestFinished(() => room.setToken());
  await room.setToken(new Secret("not-a-token"));
  await expect.poll(async () => (await place.run("discover")).status, { timeout: 20_000 }).toBe(3);
  const { stderr } = await place.run("discover");
  expect(stderr).toMatch(/^GET .*cronjobs: .*stored token.*team-a\/prod/m);
  expect(stderr).not.toContain("    at ");
  const nowhere = await createPlace(room, { configured: false });
  onTestFinished(() => nowhere.stop());
  const text = (await readFile(join(room.directory, "connector.yaml"), "utf8")).replaceAll(
    /127\.0\.0\.1:\d+/g,
    "127.0.0.1:9",
  );
  await nowhere.file("connector.yaml", text);
  await nowhere.file("secret.yaml", await readFile(join(room.directory, "secret.yaml"), "utf8"));
  const away = await nowhere.run("discover", "--connectors", nowhere.folder);
  expect([away.status, away.stderr]).toEqual([1, expect.stringMatching(/127\.0\.0\.1:9.*refused/)]);
});

test("runs are listed by page and in each form, two of one name side by side", async () => {
  const path = await place.definition({ lines: 1 }, { name: "twin" });
  await Promise.all([place.run("run", path, "--wait"), place.run("run", path, "--wait")]);
  const first = await listed("--name", "twin", "--limit", "1");
  const second = await listed("--name", "twin", "--limit", "1", "--cursor", first.next ?? "");
  expect(new Set([...first.runs, ...second.runs].map(({ id }) => id)).size).toBe(2);
  expect(second.next).toBeUndefined();
  const [lines, yaml, none] = await Promise.all([
    place.run("list", "--name", "twin", "--limit", "1", "-o", "ndjson"),
    place.run("list", "--name", "twin", "-o", "yaml"),
    place.run("list", "--name", "nobody"),
  ]);
  expect([JSON.parse(lines.stdout), lines.stderr]).toEqual([first.runs[0], `There are more: --cursor ${first.next}\n`]);
  expect((parse(yaml.stdout) as { runs: object[] }).runs.length).toBe(2);
  expect([none.status, none.stdout, none.stderr]).toEqual([0, "", "No runs found\n"]);
});

test("serve listens to nobody without a token, and elsewhere than on loopback without a certificate", async () => {
  const empty = await place.file("empty-token", "\n");
  const at = ["--listen", "127.0.0.1:0", "--token-file"];
  const [none, missing, blank, open, asked] = await Promise.all([
    place.run("serve", "--listen", "127.0.0.1:0"),
    place.run("serve", ...at, "/nowhere"),
    place.run("serve", ...at, empty),
    place.run("serve", "--listen", "[::]:0", "--token-file", await place.file("some-token", "x")),
    place.run("list", "--server", "http://127.0.0.1:9", "--server-token", "/nowhere"),
  ]);
  const answers = [none, missing, blank, open, asked];
  expect(answers.map(({ status }) => status)).toEqual([2, 2, 1, 2, 2]);
  expect(answers.map(({ stdout }) => stdout).join("")).toBe("");
  expect(none.stderr).toContain("needs --token-file");
  for (const { stderr } of [missing, asked]) expect(stderr).toBe("Cannot read /nowhere: no such file or directory\n");
  expect(blank.stderr).toBe("The token file of this server is empty\n");
  expect(open.stderr).toContain(":: can be reached by others, who would see the token: give a certificate");
});

test("failed indexes alone are run again", async () => {
  const more = { name: "indexed", completions: 3, parallelism: 3, completionMode: "Indexed", backoffLimitPerIndex: 0 };
  const failed = await place.run("run", await place.definition({ lines: 1, exit: [0, 4, 0] }, more), "-o", "ndjson");
  expect(failed.status).toBe(10);
  const id = (JSON.parse(failed.stdout.slice(0, failed.stdout.indexOf("\n"))) as { run: string }).run;
  const again = await place.run("retry", id, "--failed-indexes", "-o", "yaml");
  const run = parse(again.stdout) as RunRecord;
  expect(run).toMatchObject({ retryOf: id, indexes: [1], progress: { completions: 1 } });
  // The one pod has index 0 now, with which the stand-in ends well.
  expect([again.status, run.state]).toEqual([0, "Succeeded"]);
  const none = await place.run("retry", run.id, "--failed-indexes");
  expect([none.status, none.stderr]).toEqual([2, expect.stringContaining("has no failed indexes")]);
});

test("what runs in the cluster and is in no history is told, and deleted only with --orphans", async () => {
  const { engine = "" } = (await listed("--limit", "1")).runs[0] ?? {};
  const labels = { "connectors.cpaas.io/engine": engine, "connectors.cpaas.io/run-id": "01k9unknown" };
  const annotations = { "stand-in/script": '{"stay":-1}' };
  const containers = [{ name: "a", image: "b" }];
  await post(jobsPath, {
    metadata: { name: "stray", labels },
    spec: { template: { metadata: { labels, annotations }, spec: { restartPolicy: "Never", containers } } },
  });
  const job = () => room.plane.admin.request<{ status?: { active?: number } }>("GET", `${jobsPath}/stray`);
  await expect.poll(async () => (await job()).status?.active, { timeout: 20_000 }).toBe(1);
  // What is younger than ten minutes may be of a POST that is on its way: for this place it is an hour later.
  const later = await createPlace(room, {
    configured: false,
    env: { NODE_OPTIONS: "--import=data:text/javascript,const{now}=Date;Date.now=()=>now()+36e5" },
  });
  onTestFinished(() => later.stop());
  const same = ["--history", join(place.folder, "state/kube-connector/jobs/history.db")];
  const at = ["--config", join(place.folder, "config/kube-connector/jobs.yaml"), ...same];
  const [young, told] = [await place.run("clean", "--orphans"), await later.run("clean", ...at)];
  expect([young.status, young.stdout]).toEqual([0, "nothing was left\n"]);
  const name = `${connector} job ${namespace}/stray`;
  expect(told).toMatchObject({
    status: 0,
    stdout: expect.stringContaining(`runs, and is in no history: ${name} (--orphans deletes it)\n`),
  });
  expect((await job()).status?.active).toBe(1);
  const cleaned = await later.run("clean", "--orphans", ...at);
  expect([cleaned.status, cleaned.stdout]).toEqual([0, expect.stringContaining(`deleted ${name}\n`)]);
  await expect.poll(() => left(room, "connectors.cpaas.io/run-id=01k9unknown"), { timeout: 20_000 }).toEqual([]);
});

test("in a terminal Ctrl-C leaves the run and says how to come back; a second one does not wait for a cancellation", async () => {
  const leaving = place.terminal("run", await place.definition({ lines: 100, every: 20 }, { name: "typed" }));
  await leaving.says("line 3");
  leaving.child.stdin?.write("\u0003");
  const { status, stdout } = await leaving.done;
  expect([status, stdout]).toEqual([
    130,
    expect.stringMatching(/To come back: kube-connector jobs logs --follow \w{26}\r?\n$/),
  ]);
  const id = /--follow (\w{26})/.exec(stdout)?.[1] ?? "";
  // The command that it named, in a terminal again, has every line once.
  const back = await place.terminal("logs", "--follow", id).done;
  expect(back.status).toBe(0);
  expect([...back.stdout.matchAll(/line \d+/g)].map(([line]) => line)).toEqual(numbered(100));
  const patch = { spec: { template: { metadata: { finalizers: ["example.com/held"] } } } };
  const held = place.terminal(
    "run",
    await place.definition({ lines: 1, stay: -1 }, { patch }),
    "--cancel-on-interrupt",
  );
  await held.says("line 0");
  held.child.stdin?.write("\u0003");
  await held.says("Cancelling");
  held.child.stdin?.write("\u0003");
  expect((await held.done).status).toBe(130);
});

test.skipIf(postgresPrograms() === undefined && process.env.CI !== "true")(
  "a history in PostgreSQL is named by a file, so that no argument, line or error holds its password",
  async () => {
    const postgres = await startPostgres();
    onTestFinished(() => postgres.stop());
    const url = (await postgres.createDatabase()).reveal();
    const history = ["--history", `@${await place.file("history-url", `${url}\n`)}`];
    const running = place.start(
      "run",
      await place.definition({ lines: 3, stay: 1500 }, { name: "kept" }),
      ...history,
      "--log-level",
      "debug",
    );
    await running.says("line 2");
    const pid = running.child.pid ?? 0;
    const seen = [await readFile(`/proc/${pid}/cmdline`, "utf8"), await readFile(`/proc/${pid}/environ`, "utf8")];
    const { status, stdout, stderr } = await running.done;
    expect([status, linesOf(stdout)]).toEqual([0, numbered(3)]);
    const [found, plain, missing, wrong] = await Promise.all([
      place.run("list", "-o", "json", ...history),
      place.run("list", "--history", url),
      place.run("list", "--history", "@/nowhere"),
      place.run("list", "--history", `@${await place.file("wrong-url", url.replace("plain", "nobody"))}`),
    ]);
    expect((json(found) as { runs: RunSummary[] }).runs.map(({ name, state }) => [name, state])).toEqual([
      ["kept", "Succeeded"],
    ]);
    expect([plain.status, missing.status, wrong.status]).toEqual([2, 2, 2]);
    expect(plain.stderr).toContain("give @file");
    expect(missing.stderr).toBe("Cannot read /nowhere: no such file or directory\n");
    for (const mark of [passwordMark, encodeURIComponent(passwordMark)])
      for (const text of [
        ...seen,
        stdout,
        stderr,
        found.stdout,
        ...[plain, wrong].map((one) => one.stdout + one.stderr),
      ])
        expect(text).not.toContain(mark);
  },
);
