// `kube-connector jobs` as a person and as a script use it: what is printed where, exit statuses, leaving and coming back,
// wrong input, a terminal, and a server in place of the engine.
import { join } from "node:path";
import type { RunRecord } from "@kube-connector/jobs";
import { afterAll, beforeAll, expect, test } from "vitest";
import { parse } from "yaml";
import { createPlace, type Finished, linesOf, type Place } from "../kit/jobs-cli.ts";
import { definition, left, numbered } from "../kit/jobs-checks.ts";
import { connector, type JobsRoom, namespace, startJobsRoom } from "../kit/jobs-room.ts";

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
const list = async (...flags: string[]) =>
  (JSON.parse((await place.run("list", "-o", "json", ...flags)).stdout) as { runs: RunRecord[] }).runs;
const idOf = ({ stdout }: Finished) => stdout.trim();

test("run prints the log, says on standard error where it stands, and ends with the run's status", async () => {
  const lost = place.start("run", await place.definition({ stay: -1 }, { name: "lost" }));
  const [fine, failed, exit, late, quiet] = await Promise.all([
    place.run("run", await place.definition({ lines: 5 }, { completions: 2 })),
    place.run("run", await place.definition({ lines: 1, exit: 7 })),
    place.run("run", await place.definition({ exit: 7 }), "--exit-from", "main"),
    place.run("run", await place.definition({ stay: -1 }), "--timeout", "1"),
    place.run("run", await place.definition({ lines: 5 }), "--wait"),
    (async () => {
      await lost.says("Running");
      const { items } = await room.plane.admin.request<{ items: { metadata: { name: string } }[] }>("GET", jobsPath);
      const name = items.find(({ metadata }) => metadata.name.startsWith("lost-"))?.metadata.name;
      await room.plane.admin.request("DELETE", `${jobsPath}/${name}`, { query: { propagationPolicy: "Background" } });
    })(),
  ]);
  expect([fine.status, linesOf(fine.stdout).toSorted()]).toEqual([0, [...numbered(5), ...numbered(5)].toSorted()]);
  expect(fine.stderr).toMatch(/^(Queued|Submitting|Submitted) · 0 of 2 done$/m);
  expect(fine.stderr).toMatch(/\nSucceeded · 2 of 2 done\n$/);
  expect(fine.stdout + fine.stderr).not.toContain("\u001b");
  expect([failed.status, exit.status, late.status, (await lost.done).status]).toEqual([10, 7, 11, 13]);
  expect(failed.stderr).toContain("7");
  expect([quiet.status, quiet.stdout]).toEqual([0, ""]);
  expect(await left(room, "app.kubernetes.io/managed-by=kube-connector-jobs")).toEqual([]);
});

test("json and yaml are one object at the end, ndjson is an event a line", async () => {
  const path = await place.definition({ lines: 3, message: '{"rows":"42"}' });
  const [json, yaml, events] = await Promise.all([
    place.run("run", path, "-o", "json"),
    place.run("run", path, "-o", "yaml"),
    place.run("run", path, "-o", "ndjson"),
  ]);
  expect(JSON.parse(json.stdout)).toMatchObject({ state: "Succeeded", log: { lines: 3 }, outputs: { rows: "42" } });
  expect(parse(yaml.stdout)).toMatchObject({ state: "Succeeded", log: { lines: 3 } });
  const parsed = events.stdout
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line) as { type: string; message: string });
  expect(parsed.filter(({ type }) => type === "log").map(({ message }) => message)).toEqual(numbered(3));
  expect(new Set(parsed.map(({ type }) => type))).toEqual(new Set(["state", "attempt", "log", "end"]));
  expect(parsed.filter(({ type }) => type === "end").length).toBe(1);
});

test("every mistake is told at once, before anything is sent", async () => {
  const before = (await list("--limit", "1000")).length;
  const wrong = await place.file("wrong.yaml", "image: x\nname: Not A Name\nparallelism: -1\ncolour: red\n");
  const [mistakes, broken, missing, flag, server] = await Promise.all([
    place.run("run", wrong, "--env", "novalue", "--secret-env", "A=/nowhere", "--from", "pod/x", "--set", "=1"),
    place.run("run", await place.file("broken.yaml", "a: [")),
    place.run("run", "/nowhere.yaml"),
    place.run("run", "--colour"),
    place.run("list", "--server", "http://jobs.example", "--server-token", "/nowhere"),
  ]);
  expect(mistakes.status).toBe(2);
  for (const part of [
    "--env novalue",
    "cannot read /nowhere",
    "--from pod/x",
    "--set =1",
    "/name",
    "/parallelism",
    "colour",
  ])
    expect(mistakes.stderr).toContain(part);
  expect(mistakes.stderr).not.toContain("    at ");
  expect([broken.status, missing.status, flag.status, server.status]).toEqual([2, 2, 2, 2]);
  expect(server.stderr).toContain("should be https");
  expect((await list("--limit", "1000")).length).toBe(before);
});

test("values come from flags, files and sources, and a dry run says what changes", async () => {
  await room.plane.admin.request("POST", `/apis/batch/v1/namespaces/${namespace}/cronjobs`, {
    body: {
      metadata: { name: "tidy" },
      spec: {
        schedule: "0 3 * * *",
        jobTemplate: {
          spec: {
            template: {
              metadata: { annotations: { "stand-in/script": '{"lines":2}' } },
              spec: {
                restartPolicy: "Never",
                containers: [
                  { name: "worker", image: "images.example/tidy:1", env: [{ name: "REGION", value: "us" }] },
                ],
              },
            },
          },
        },
      },
    },
  });
  const day = await place.file("day.txt", "2026-03-01\n");
  const password = await place.file("password.txt", "canary-7d1c");
  const piped = place.start("run", "-", "--dry-run", "client", "-o", "json");
  piped.child.stdin?.end(JSON.stringify(definition({}, { name: "piped" })));
  const shape = await place.definition({}, { args: ["--day", "[[day]]", "--to", "[[to]]"] });
  const [client, server, found, clone, secret] = await Promise.all([
    place.run("run", shape, "--set-file", `day=${day}`, "--set", "to=a=b", "--env", "MODE=full", "--dry-run", "client"),
    place.run("run", "--from", "cronjob/tidy", "--env", "REGION=eu", "--dry-run", "server", "--", "--deep"),
    place.run("discover"),
    place.run("run", "--from", "cronjob/tidy", "--env", "REGION=eu", "-o", "json"),
    place.run(
      "run",
      await place.definition({ lines: 1, text: " canary-7d1c" }),
      "--secret-env",
      `PASSWORD=${password}`,
    ),
  ]);
  expect(client.status).toBe(0);
  expect(JSON.parse((await piped.done).stdout)).toMatchObject({ manifest: { kind: "Job" }, differences: [] });
  const { spec } = parse(client.stdout) as { spec: { template: { spec: { containers: object[] } } } };
  expect(spec.template.spec.containers[0]).toMatchObject({
    args: ["--day", "2026-03-01", "--to", "a=b"],
    env: [{ name: "MODE", value: "full" }],
  });
  expect(client.stderr).toContain("Nothing was sent.");
  expect(server.stderr).toContain("Cloned from CronJob batch/tidy (Live)");
  expect(server.stderr).toMatch(/env\/0\/value: "us" -> "eu"/);
  expect(server.stderr).toContain("The cluster would take it.");
  expect(found.stdout).toMatch(/^cronjob\/tidy +0 3 \* \* \* +images.example\/tidy:1 +REGION=us$/m);
  expect(JSON.parse(clone.stdout)).toMatchObject({
    state: "Succeeded",
    name: "tidy",
    source: { kind: "CronJob", used: "Live" },
    definition: { overlay: { env: { REGION: "eu" } } },
  });
  expect([secret.status, linesOf(secret.stdout)]).toEqual([0, ["line 0 ***"]]);
});

test("a run that was left is found again, looked at, followed, compared and repeated", async () => {
  const detached = await place.run(
    "run",
    await place.definition({ lines: 40, every: 50 }, { name: "left" }),
    "--detach",
  );
  expect(detached.status).toBe(0);
  const id = idOf(detached);
  expect(id).toMatch(/^[0-9a-z]{26}$/);
  const followed = await place.run("logs", "--follow", id);
  expect([followed.status, linesOf(followed.stdout)]).toEqual([0, numbered(40)]);
  const [table, shown, plain, found, head, again, none] = await Promise.all([
    place.run("list", "--name", "left"),
    place.run("show", id),
    place.run("logs", id, "--plain"),
    place.run("logs", id, "--search", "LINE 39", "--plain"),
    place.run("logs", id, "--view", "pod", "--container", "main"),
    place.run("retry", id, "--wait", "-o", "json"),
    place.run("show", "01k9zzzzzzzzzzzzzzzzzzzzzz"),
  ]);
  expect(table.stdout).toMatch(/^ID +NAME +CONNECTOR +NAMESPACE +STATE +AGE\n/);
  expect(table.stdout).toMatch(new RegExp(`^${id} +left +${connector} +batch +Succeeded +\\d+s$`, "m"));
  for (const part of [/^Run: +\w{26}$/m, /^State: +Succeeded · 1 of 1 done$/m, /^Log: +40 lines, 0 gaps$/m])
    expect(shown.stdout).toMatch(part);
  expect(shown.stdout).toMatch(/^Monitor: +https:\/\/monitor\.example\/team-a%2Fprod\/batch\/left-\w+$/m);
  expect([plain.stdout, found.stdout]).toEqual([`${numbered(40).join("\n")}\n`, "line 39\n"]);
  expect(linesOf(head.stdout)).toEqual(numbered(40));
  const repeated = JSON.parse(again.stdout) as RunRecord;
  expect(repeated).toMatchObject({ retryOf: id, state: "Succeeded" });
  const other = idOf(
    await place.run("run", await place.definition({}, { name: "left", image: "images.example/other:2" }), "--detach"),
  );
  const [same, difference] = await Promise.all([
    place.run("show", id, "--diff", id),
    place.run("show", id, "--diff", other),
  ]);
  expect(same.stdout).toBe("The two do not differ.\n");
  expect(difference.stdout).toMatch(new RegExp(`^WHAT +${id} +${other}$`, "m"));
  expect(difference.stdout).toMatch(/^definition\.image +images\.example\/report:1 +images\.example\/other:2$/m);
  expect([none.status, none.stderr]).toEqual([1, "There is no run 01k9zzzzzzzzzzzzzzzzzzzzzz in this history\n"]);
});

test("Ctrl-C leaves a run and says how to come back; a closed pipe leaves it too; SIGTERM as well", async () => {
  const path = await place.definition({ lines: 400, every: 20 }, { name: "left-behind" });
  const [first, piped, ended] = [place.start("run", path), place.start("run", path), place.start("run", path)];
  await Promise.all([first.says("line 3"), piped.says("line 3"), ended.says("line 3")]);
  first.child.kill("SIGINT");
  piped.child.stdout?.destroy();
  ended.child.kill("SIGTERM");
  const [left130, leftPipe, left143] = await Promise.all([first.done, piped.done, ended.done]);
  expect([left130.status, leftPipe.status, left143.status]).toEqual([130, 130, 143]);
  for (const { stderr } of [left130, leftPipe, left143])
    expect(stderr).toMatch(
      /The run goes on without this terminal. To come back: kube-connector jobs logs --follow \w{26}\n$/,
    );
  const id = /--follow (\w{26})/.exec(left130.stderr)?.[1] ?? "";
  const back = await place.run("logs", "--follow", id);
  expect([back.status, linesOf(back.stdout)]).toEqual([0, numbered(400)]);
});

test("with --cancel-on-interrupt Ctrl-C cancels and waits, and a second one quits", async () => {
  // Something holds the pods of one, so that it stays Cancelling.
  const path = await place.definition({ lines: 1, stay: -1 });
  const held = await place.definition(
    { lines: 1, stay: -1 },
    { patch: { spec: { template: { metadata: { finalizers: ["example.com/held"] } } } } },
  );
  const [patient, hasty] = [
    place.start("run", path, "--cancel-on-interrupt"),
    place.start("run", held, "--cancel-on-interrupt"),
  ];
  await Promise.all([patient.says("line 0"), hasty.says("line 0")]);
  patient.child.kill("SIGINT");
  expect(await patient.done).toMatchObject({ status: 12, stderr: expect.stringMatching(/\nCancelled/) });
  hasty.child.kill("SIGINT");
  await hasty.says("Cancelling");
  hasty.child.kill("SIGINT");
  expect((await hasty.done).status).toBe(130);
});

test("a run is suspended, resumed and cancelled from elsewhere", async () => {
  const following = place.start("run", await place.definition({ lines: 1, stay: -1 }, { name: "verbs" }));
  await following.says("line 0");
  const id = (await list("--name", "verbs"))[0]?.id ?? "";
  const suspended = await place.run("suspend", id);
  expect([suspended.status, suspended.stdout]).toEqual([0, expect.stringContaining(`${id} Suspended`)]);
  expect((await place.run("show", id, "--wait")).stdout).toMatch(/^State: +Suspended/m);
  expect((await place.run("resume", id)).status).toBe(0);
  const cancelled = await place.run("cancel", id);
  expect([cancelled.status, cancelled.stdout]).toEqual([0, expect.stringContaining(`${id} Cancelled`)]);
  expect((await following.done).status).toBe(12);
  expect((await place.run("cancel", id)).stderr).toContain("has ended already: Cancelled");
  const cleaned = await place.run("clean", "--older-than", "0");
  expect([cleaned.status, cleaned.stdout]).toEqual([0, expect.stringMatching(/^forgot \d+ runs$/m)]);
  expect((await place.run("show", id)).status).toBe(1);
});

test("in a terminal one line tells where the run stands, and a program's control characters do not get there", async () => {
  const text = "\u001b]0;owned\u0007\u001b[2J\u001b[31mred";
  const shown = place.terminal(
    "run",
    await place.definition({ lines: 30, every: 50, text, message: "\u001b[2Jbye", exit: 1 }),
  );
  await shown.says("line 29");
  const { status, stdout } = await shown.done;
  expect(status).toBe(10);
  expect(stdout).toContain("\r\u001b[K");
  expect(stdout).toMatch(/Running · 1 active · \d+s/);
  expect(stdout).toContain("\u001b[31mred\u001b[0m");
  for (const part of ["\u001b]0;", "\u0007", "\u001b[2J"]) expect(stdout).not.toContain(part);
  const left130 = place.terminal("run", await place.definition({ lines: 1, stay: -1 }), "--cancel-on-interrupt");
  await left130.says("line 0");
  left130.child.stdin?.write("\u0003");
  const cancelled = await left130.done;
  expect([cancelled.status, cancelled.stdout]).toEqual([12, expect.stringContaining("Cancelled")]);
});

test("a server does everything that an engine in the process does", async () => {
  const tokenFile = await place.file("token", "server-canary");
  const wrongFile = await place.file("wrong-token", "other");
  const refused = await place.run("serve", "--listen", "0.0.0.0:0", "--token-file", tokenFile);
  expect([refused.status, refused.stderr]).toEqual([2, expect.stringContaining("would see the token")]);
  const server = place.start("serve", "--listen", "127.0.0.1:0", "--token-file", tokenFile);
  await server.says(/on http:\S+\n/);
  const url = /http:\S+/.exec(server.stdout())?.[0] ?? "";
  const bare = await createPlace(room, { configured: false });
  const at = (verb: string, ...rest: string[]) => bare.run(verb, ...rest, "--server", url, "--server-token", tokenFile);
  const path = await place.definition({ lines: 20, every: 20, exit: 7 }, { name: "afar", connector: undefined });
  const followed = await at("run", path);
  expect([followed.status, linesOf(followed.stdout)]).toEqual([10, numbered(20)]);
  const [found] = (JSON.parse((await at("list", "-o", "json")).stdout) as { runs: RunRecord[] }).runs;
  const id = found?.id ?? "";
  const [shown, log, sources, dry, retried, wrong, nobody] = await Promise.all([
    at("show", id, "--wait"),
    at("logs", id, "--plain"),
    at("discover", "--kind", "CronJob", "-o", "ndjson"),
    at("run", path, "--dry-run", "server"),
    at("retry", id, "--detach"),
    bare.run("list", "--server", url, "--server-token", wrongFile),
    bare.run("list", "--server", "http://127.0.0.1:9", "--server-token", tokenFile),
  ]);
  expect([shown.status, shown.stdout]).toEqual([10, expect.stringContaining("https://monitor.example/")]);
  expect(log.stdout).toBe(`${numbered(20).join("\n")}\n`);
  expect(JSON.parse(sources.stdout)).toMatchObject({ kind: "CronJob", name: "tidy" });
  expect(dry.stderr).toContain("The cluster would take it.");
  expect([retried.status, wrong.status, nobody.status]).toEqual([0, 3, 1]);
  expect(wrong.stderr).toBe("That is not this server's token\n");
  expect((await at("show", idOf(retried), "--wait", "-o", "yaml")).status).toBe(10);
  expect((await at("clean")).status).toBe(0);
  server.child.kill("SIGTERM");
  expect((await server.done).status).toBe(0);
  await bare.stop();
});

test("Connector files are enough, without a configuration", async () => {
  const bare = await createPlace(room, { configured: false });
  const places = ["--history", join(bare.folder, "h.db"), "--logs", join(bare.folder, "logs")];
  const path = await place.definition({ lines: 2 });
  const { status, stdout } = await bare.run("run", path, "--connectors", room.directory, "-n", namespace, ...places);
  expect([status, linesOf(stdout)]).toEqual([0, numbered(2)]);
  const unknown = await bare.run("run", "--image", "x", "--", "true");
  expect([unknown.status, unknown.stderr]).toEqual([
    2,
    expect.stringContaining("No connector is known: give --kubeconfig"),
  ]);
});
