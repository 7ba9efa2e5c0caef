import { readFileSync } from "node:fs";
import { inspect } from "node:util";
import { Fault } from "@kube-connector/core";
import { expect, test } from "vitest";
import { diagnosisCategories, runStates } from "../run.ts";
import { definitionJsonSchema, definitionShape } from "./definition.ts";
import { parseDefinition } from "./parse.ts";

// A definition is read whole: what is right comes back with its defaults, what is wrong comes back as one Fault with a
// sentence for each mistake, each beginning with a JSON pointer. A value of secretEnv is in nothing but its Secret.

const context = {
  connectors: new Map([
    ["team-a/prod", {}],
    ["team-a/test", { defaultNamespace: "sandbox" }],
  ]),
  profiles: new Set(["slow"]),
};
const least = { connector: "team-a/prod", image: "images.example/team/report:1.4" };

function parse(more: Record<string, unknown>) {
  return parseDefinition({ ...least, ...more }, context);
}

function mistakesOf(definition: unknown): string {
  try {
    parseDefinition(definition, context);
  } catch (error) {
    if (error instanceof Fault && error.code === "invalid_argument") return error.message;
    throw error;
  }
  return "";
}

test("the least definition has every default", () => {
  expect(parse({})).toEqual({
    definition: {
      connector: "team-a/prod",
      namespace: "default",
      name: "report",
      image: "images.example/team/report:1.4",
      container: "main",
      completions: 1,
      parallelism: 1,
      completionMode: "NonIndexed",
      mounts: [],
      env: {},
      secretEnv: [],
      restartPolicy: "Never",
      backoffLimit: 0,
      retry: { maxAttempts: 1, backoff: "Exponential", initialDelay: 10, maxDelay: 600, on: ["Infra"] },
      timeout: 86_400,
      deadlines: { queue: 3600, collect: 300 },
      ttl: 86_400,
      cleanup: "Always",
      keepFailedFor: 604_800,
      failFast: { InvalidImage: 0, ImagePull: 300, ConfigMissing: 300 },
      logRetentionDays: 30,
      priority: 0,
      labels: {},
      annotations: {},
    },
    secrets: new Map(),
    warnings: [expect.stringContaining("/resources is missing")],
  });
});

test("the two examples of the design are read", () => {
  const { definition, warnings } = parseDefinition(
    {
      connector: "team-a/prod",
      namespace: "batch",
      name: "report",
      image: "images.example/report:1.4",
      command: "python,-m,report",
      args: ["--day", "[[day]]"],
      vars: { day: "2026-03-01" },
      completions: 4,
      parallelism: 2,
      logRetentionDays: 9,
      env: { MODE: "full", DB: { secretKeyRef: { name: "db", key: "url" } } },
      resources: { requests: { cpu: "250m" }, limits: { memory: "1Gi" } },
      mounts: [{ name: "data", claim: "reports", mountPath: "/data" }],
    },
    context,
  );
  expect(definition).toMatchObject({
    command: ["python", "-m", "report"],
    args: ["--day", "2026-03-01"],
    mounts: [{ name: "data", claim: "reports", mountPath: "/data", readOnly: false }],
  });
  expect(definition).not.toHaveProperty("vars");
  expect(warnings).toEqual([]);
  const clone = parseDefinition(
    {
      connector: "team-a/prod",
      namespace: "batch",
      source: { kind: "CronJob", name: "tidy" },
      overlay: { container: "worker", env: { REGION: "eu", DEPTH: "3" } },
      fallback: { image: "images.example/tidy:2", command: ["tidy"] },
      cleanup: "OnSuccess",
    },
    context,
  ).definition;
  expect(clone).toMatchObject({
    name: "tidy",
    source: { kind: "CronJob", name: "tidy", namespace: "batch", onMissing: "Snapshot" },
    ttl: 604_800,
  });
  // What a source says for itself is not decided here.
  for (const field of ["completions", "parallelism", "restartPolicy", "backoffLimit", "timeout"])
    expect(clone).not.toHaveProperty(field);
});

test.each<[string, Record<string, unknown>, Record<string, unknown>]>([
  ["the connector's namespace", { connector: "team-a/test" }, { namespace: "sandbox" }],
  ["a namespace that is given", { connector: "team-a/test", namespace: "x" }, { namespace: "x" }],
  ["a work queue", { completions: null }, { completions: null, parallelism: 1 }],

  ["a ttl that is given with cleanup Never", { cleanup: "Never", ttl: 900 }, { ttl: 900 }],
  [
    "failFast over its defaults",
    { failFast: { ImagePull: null, Quota: 9 } },
    { failFast: { InvalidImage: 0, ConfigMissing: 300, Quota: 9 } },
  ],
  ["one field of deadlines", { deadlines: { silence: 60 } }, { deadlines: { queue: 3600, collect: 300, silence: 60 } }],
  [
    "one field of retry",
    { retry: { maxAttempts: 3, on: ["Any"] } },
    { retry: { maxAttempts: 3, backoff: "Exponential", initialDelay: 10, maxDelay: 600, on: ["Any"] } },
  ],
  [
    "numbers as quantities",
    { resources: { requests: { cpu: 2 }, limits: { cpu: "2000m" } } },
    { resources: { requests: { cpu: "2" }, limits: { cpu: "2000m" } } },
  ],
  ["a name from a digest's image", { image: "r:5000/My_Tool@sha256:ab" }, { name: "my-tool" }],
  ["empty arguments in a list", { args: ["--x", "", " y "] }, { args: ["--x", "", " y "] }],
  ["a comma list with escapes, untrimmed", { args: "a\\,b, c,d\\\\" }, { args: ["a,b", " c", "d\\"] }],
  [
    "names that no variable fills",
    { env: { A: "[[day]]-[[other]]" }, vars: { day: "1" } },
    { env: { A: "1-[[other]]" } },
  ],
  [
    "variables in every string, however deep",
    { patch: { spec: { x: ["[[day]]"] } }, vars: { day: "1" } },
    { patch: { spec: { x: ["1"] } } },
  ],
  ["a variable's value as it is", { env: { A: "[[a]]" }, vars: { a: "[[b]]$&", b: "no" } }, { env: { A: "[[b]]$&" } }],
  ["an inherited name as undeclared", { env: { A: "[[toString]]" } }, { env: { A: "[[toString]]" } }],
])("%s", (_name, more, expected) => {
  expect(parse(more).definition).toMatchObject(expected);
});

test("cleanup Never has a ttl only when it is given one", () => {
  expect(parse({ cleanup: "Never" }).definition).not.toHaveProperty("ttl");
});

test("a job gives its own namespace and name", () => {
  const job = {
    apiVersion: "batch/v1",
    kind: "Job",
    metadata: { generateName: "nightly-", namespace: "night" },
    spec: { template: { spec: { containers: [{ name: "a" }] } } },
  };
  expect(parseDefinition({ connector: "team-a/prod", job }, context).definition).toMatchObject({
    name: "nightly",
    namespace: "night",
  });
});

const job = { apiVersion: "batch/v1", kind: "Job", spec: { template: { spec: { containers: [{ name: "a" }] } } } };
const source = { connector: "team-a/prod", source: { name: "tidy" } };

test.each<[unknown, string]>([
  [null, "it should be an object"],
  [[], "it should be an object"],
  [{ image: "x" }, "/connector is missing"],
  [
    { ...least, connector: "team-b/prod" },
    '/connector is "team-b/prod", which is not configured; there are: team-a/prod, team-a/test',
  ],
  [{ ...least, profile: "fast" }, '/profile is "fast", which is not configured; there are: slow'],
  [{ ...least, commnd: "x" }, "/commnd is not a field that there is"],
  [{ ...least, retry: { attempts: 1 } }, "/retry/attempts is not a field that there is"],
  [{ ...least, "a/b~c": 1 }, "/a~1b~0c is not a field that there is"],
  [{ connector: "team-a/prod" }, "/ should have exactly one of image, job and source, and has none"],
  [{ ...least, job }, "/ should have exactly one of image, job and source, and has image and job"],
  [{ ...least, namespace: "Batch" }, "/namespace should be a DNS label"],
  [{ ...least, name: "a".repeat(64) }, "/name should be a DNS label"],
  [{ ...least, image: "a b" }, "/image should be text without blanks"],
  [{ ...least, command: "" }, "/command should have no empty item"],
  [{ ...least, command: "a,,b" }, "/command should have no empty item"],
  [{ ...least, command: "a\\d" }, "/command should have a comma or a backslash after each backslash"],
  [{ ...least, command: 5 }, "/command should be a list of texts, or one text with commas"],
  [{ ...least, command: ["a", 5] }, "/command/1 should be text, and is a number"],
  [{ ...least, args: ["a\0"] }, "/args/0 should have no zero byte"],
  [{ ...least, completions: 0 }, "/completions should be at least 1"],
  [{ ...least, completions: 1.5 }, "/completions should be a whole number"],
  [{ ...least, completions: "4" }, "/completions should be a number, and is text"],
  [{ ...least, parallelism: -1 }, "/parallelism should be at least 0"],
  [
    { ...least, completions: null, completionMode: "Indexed" },
    "/completions should be a number, as /completionMode is Indexed",
  ],
  [{ ...least, completionMode: "indexed" }, "/completionMode should be one of NonIndexed, Indexed"],
  [{ ...least, resources: { requests: { cpu: "1 core" } } }, "/resources/requests/cpu should be a quantity"],
  [{ ...least, resources: { requests: { cpu: "-1" } } }, "/resources/requests/cpu should be a quantity"],
  [{ ...least, resources: { requests: { mem: "1" } } }, "/resources/requests/mem is not a resource"],
  [
    { ...least, resources: { requests: { cpu: "1500m" }, limits: { cpu: "1" } } },
    "/resources/requests/cpu is 1500m, above the limit of 1",
  ],
  [
    { ...source, overlay: { resources: { requests: { memory: "1Gi" }, limits: { memory: "1G" } } } },
    "/overlay/resources/requests/memory is 1Gi, above the limit of 1G",
  ],
  [{ ...least, mounts: [{ name: "a", claim: "c" }] }, "/mounts/0/mountPath is missing"],
  [
    { ...least, mounts: [{ name: "a", claim: "c", mountPath: "data" }] },
    "/mounts/0/mountPath should be an absolute path",
  ],
  [
    {
      ...least,
      mounts: [
        { name: "a", claim: "c", mountPath: "/a" },
        { name: "a", claim: "d", mountPath: "/a" },
      ],
    },
    "/mounts/1/name is a, as of another mount\n  - /mounts/1/mountPath is /a",
  ],
  [{ ...least, env: { "1A": "x" } }, "/env/1A is not a name of an environment variable"],
  [{ ...least, env: { A: 1 } }, "/env/A should be text (numbers in quotes)"],
  [{ ...least, env: { A: { secretKeyRef: { name: "db" } } } }, "/env/A/secretKeyRef/key is missing"],
  [{ ...least, env: { A: { value: "x", expnd: true } } }, "/env/A should be text (numbers in quotes), {value, expand}"],
  [{ ...least, env: { A: "x" }, secretEnv: { A: "y" } }, "/secretEnv/A is also in /env"],
  [{ ...source, overlay: { env: { A: "x" } }, secretEnv: { A: "y" } }, "/secretEnv/A is also in /overlay/env"],
  [{ ...least, secretEnv: { A: 1 } }, "/secretEnv/A should be text, and is a number"],
  [
    { ...least, secretEnv: { A: "x".repeat(1_000_001) } },
    "/secretEnv has 1000002 bytes; a Secret holds at most 1000000",
  ],
  [{ ...least, vars: { a: 1 } }, "/vars/a should be text, and is a number"],
  [{ ...least, overlay: {} }, "/overlay is for source and job"],
  [
    { ...source, env: { A: "x" }, command: "x" },
    "/command is for image; with source use /overlay/command\n  - /env is for image; with source use /overlay/env",
  ],
  [{ ...least, fallback: { image: "x" } }, "/fallback is for source"],
  [{ ...source, fallback: {} }, "/fallback/image is missing"],
  [
    { ...source, source: { name: "tidy", onMissing: "Fallback" } },
    "/source/onMissing is Fallback, and /fallback is missing",
  ],
  [{ ...source, source: { name: "tidy", onMissing: "Fail" }, fallback: { image: "x" } }, "/fallback is never used"],
  [{ ...source, source: { kind: "Pod", name: "x" } }, "/source/kind should be one of Job, CronJob"],
  [{ ...least, restartPolicy: "Always" }, "/restartPolicy should be one of Never, OnFailure"],
  [
    { ...least, restartPolicy: "OnFailure", podFailurePolicy: { rules: [] } },
    "/podFailurePolicy is for /restartPolicy Never",
  ],
  [{ ...least, successPolicy: { rules: [] } }, "/successPolicy is for /completionMode Indexed"],
  [{ ...least, backoffLimitPerIndex: 1 }, "/backoffLimitPerIndex is for /completionMode Indexed"],
  [
    { ...source, backoffLimitPerIndex: 1, restartPolicy: "OnFailure" },
    "/backoffLimitPerIndex is for /restartPolicy Never",
  ],
  [{ ...least, retry: { maxAttempts: 11 } }, "/retry/maxAttempts should be at most 10"],
  [{ ...least, retry: { on: [] } }, "/retry/on should have at least 1 items"],
  [{ ...least, retry: { on: ["Infra", "Bad"] } }, "/retry/on/1 should be one of Any, Infra, InvalidImage"],
  [{ ...least, retry: { initialDelay: 700 } }, "/retry/maxDelay should be at least /retry/initialDelay"],
  [{ ...least, timeout: -1 }, "/timeout should be at least 0"],
  [{ ...least, deadlines: { queue: 0 } }, "/deadlines/queue should be at least 1"],
  [{ ...least, ttl: 599 }, "/ttl should be at least 600: twice /deadlines/collect"],
  [{ ...least, deadlines: { collect: 50_000 } }, "/ttl is missing, and should be at least 100000"],
  [{ ...least, cleanup: "OnSuccess", keepFailedFor: 60 }, "/keepFailedFor should be at least 600"],
  [{ ...least, cleanup: "OnSuccess", ttl: 700 }, "/ttl should be at least /keepFailedFor"],
  [{ ...least, failFast: { Bad: 1 } }, "/failFast/Bad is not a field that there is"],
  [{ ...least, logRetentionDays: 0 }, "/logRetentionDays should be at least 1"],
  [{ ...least, logRetentionDays: 3651 }, "/logRetentionDays should be at most 3650"],
  [{ ...least, priority: 101 }, "/priority should be at most 100"],
  [
    { ...least, labels: { "connectors.cpaas.io/run-id": "x" } },
    "/labels/connectors.cpaas.io~1run-id is set by the engine or by the cluster",
  ],
  [{ ...least, labels: { "app.kubernetes.io/managed-by": "me" } }, "/labels/app.kubernetes.io~1managed-by is set by"],
  [{ ...least, labels: { a: "b c" } }, "/labels/a should be a value of a label"],
  [{ ...least, annotations: { "a b": "" } }, "/annotations/a b should be NAME or DOMAIN/NAME"],
  [
    { ...least, patch: { metadata: { name: "x" }, status: {} } },
    "/patch/status cannot be changed\n  - /patch/metadata/name cannot be changed",
  ],
  [
    { ...least, patch: { spec: { template: { metadata: { labels: { "job-name": null } } } } } },
    "/patch/spec/template/metadata/labels/job-name is set by",
  ],
  [{ connector: "team-a/prod", job: { ...job, kind: "Pod" } }, "/job/kind should be Job"],
  [{ connector: "team-a/prod", job: { ...job, spec: {} } }, "/job/spec/template is missing"],
  [
    { connector: "team-a/prod", job: { ...job, metadata: { namespace: "../kube-system" } } },
    "/job/metadata/namespace should be a DNS label",
  ],
  [
    { connector: "team-a/prod", namespace: "a", job: { ...job, metadata: { namespace: "b" } } },
    "/job/metadata/namespace differs from /namespace",
  ],
  [
    { connector: "team-a/prod", job, overlay: { container: "b" } },
    "/overlay/container is b; the containers of /job are: a",
  ],
  [{ connector: "team-a/prod", job, resultContainer: "b" }, "/resultContainer is b; the containers of /job are: a"],
  [{ ...least, runKey: "" }, "/runKey should have at least 1 characters"],
])("%j is refused: %s", (definition, sentence) => {
  expect(mistakesOf(definition)).toContain(sentence);
});

test("every mistake comes at once, of single fields and of several together", () => {
  const message = mistakesOf({
    connector: "nowhere",
    image: "x",
    source: { name: "Y" },
    completions: 0,
    env: { A: 1, B: { valu: "x" } },
    ttl: 5,
    labels: { "connectors.cpaas.io/engine": "x" },
    more: 1,
  });
  const pointers = message
    .split("\n")
    .slice(1)
    .map((line) => line.trim().split(" ")[1]);
  expect(new Set(pointers)).toEqual(
    new Set([
      "/",
      "/completions",
      "/connector",
      "/env/A",
      "/env/B",
      "/labels/connectors.cpaas.io~1engine",
      "/more",
      "/source/name",
      "/ttl",
    ]),
  );
});

test("what would fill memory or the stack is refused", () => {
  const bomb = { env: { A: "[[a]]".repeat(100) }, vars: { a: "x".repeat(30_000) } };
  expect(mistakesOf({ ...least, ...bomb })).toContain("/vars make it too large for a Job");
  const deep = JSON.parse(`${"[".repeat(100_000)}${"]".repeat(100_000)}`) as unknown;
  expect(mistakesOf({ ...least, patch: { deep } })).toContain("nested more than 64 deep");
});

test("a key's control characters are not in a sentence", () => {
  expect(mistakesOf({ ...least, "a\u001b[2J\nb": 1 })).toContain("/a?[2J?b is not a field that there is");
});

test("values of secretEnv come back as Secrets, and are in no definition, warning or sentence", () => {
  const mark = "hunter2-7f3a";
  const parsed = parse({ secretEnv: { PASSWORD: "[[p]]!", KEY: mark }, vars: { p: mark } });
  expect(parsed.definition.secretEnv).toEqual(["PASSWORD", "KEY"]);
  expect(parsed.secrets.get("PASSWORD")?.reveal()).toBe(`${mark}!`);
  expect(inspect(parsed, { depth: 9 }) + JSON.stringify(parsed)).not.toContain(mark);
  expect(mistakesOf({ ...least, secretEnv: { "1A": mark, B: `${mark}\0`, C: [mark] }, env: { B: "" } })).not.toContain(
    mark,
  );
});

test("a timeout of 0 is warned of", () => {
  const resources = { requests: { cpu: "1" } };
  expect(parse({ timeout: 0, resources }).warnings).toEqual([expect.stringContaining("/timeout is 0")]);
  expect(parse({ timeout: 1, resources }).warnings).toEqual([]);
});

test("run-definition.schema.json says what the schema says", () => {
  const file = readFileSync(new URL("../../run-definition.schema.json", import.meta.url), "utf8");
  expect(JSON.parse(file)).toEqual(definitionJsonSchema());
});

test("README.md names every field, state and category of diagnosis", () => {
  const readme = readFileSync(new URL("../../README.md", import.meta.url), "utf8");
  const words = new Set(readme.match(/[A-Za-z]+/g));
  const names = [
    ...Object.keys(definitionShape),
    ...runStates,
    ...diagnosisCategories.flatMap((name) => name.split(".")),
  ];
  expect(names.filter((name) => !words.has(name))).toEqual([]);
});
