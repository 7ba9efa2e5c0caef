// The house keeps its shape: the arrows between packages, who may read the environment, the size of files, and that
// importing a module does nothing. ARCHITECTURE.md prints these invariants.
import { readdirSync, readFileSync } from "node:fs";
import { builtinModules } from "node:module";
import { faults } from "@kube-connector/core";
import { expect, test } from "vitest";

const root = new URL("..", import.meta.url).pathname;
const rooms: Record<string, string[]> = {
  "packages/core": [],
  proxy: ["core"],
  controller: ["core"],
  "csi-driver": ["core"],
  "packages/jobs": ["core"],
  "packages/cli": ["core", "proxy", "controller", "jobs"],
};

const sources = Object.keys(rooms).flatMap((room) =>
  readdirSync(`${root}/${room}/src`, { recursive: true, encoding: "utf8" })
    .filter((file) => file.endsWith(".ts") && !file.includes("gen/"))
    .map((file) => ({ room, file: `${room}/src/${file}`, text: readFileSync(`${root}/${room}/src/${file}`, "utf8") })),
);
const code = sources.filter(({ file }) => !file.endsWith(".test.ts"));

function importsOf(text: string): string[] {
  const statements = text.matchAll(/(?:^|[\s;}])(?:from\s+|import\s*\(\s*|import\s+)"([^"]+)"/gm);
  return [...statements].map((match) => match[1] ?? "");
}

test("rooms import core only, the command composes rooms, and nobody reaches past another package's index", () => {
  const wrong = code.flatMap(({ room, file, text }) =>
    importsOf(text)
      .filter((name) => name.startsWith("@kube-connector/"))
      .filter((name) => !rooms[room]?.includes(name.slice("@kube-connector/".length)))
      .map((name) => `${file} imports ${name}`),
  );
  expect(wrong).toEqual([]);
});

test("a relative import stays inside its room", () => {
  const wrong = code.flatMap(({ room, file, text }) =>
    importsOf(text)
      .filter((name) => name.startsWith("."))
      .filter((name) => !new URL(name, `file:///${file}`).pathname.startsWith(`/${room}/`))
      .map((name) => `${file} imports ${name}`),
  );
  expect(wrong).toEqual([]);
});

test("every package that code imports is in its own package.json", () => {
  const wrong = code.flatMap(({ room, file, text }) => {
    const manifest = JSON.parse(readFileSync(`${root}/${room}/package.json`, "utf8")) as { dependencies?: object };
    const known = Object.keys(manifest.dependencies ?? {});
    return importsOf(text)
      .filter((name) => !name.startsWith(".") && !name.startsWith("node:") && !builtinModules.includes(name))
      .map((name) =>
        name
          .split("/")
          .slice(0, name.startsWith("@") ? 2 : 1)
          .join("/"),
      )
      .filter((name) => !known.includes(name))
      .map((name) => `${file} imports ${name}`);
  });
  expect(wrong).toEqual([]);
});

test("only main.ts and core/run.ts touch the process: environment, arguments, exit, signals", () => {
  const wrong = code
    .filter(({ file }) => !file.endsWith("/main.ts") && file !== "packages/core/src/run.ts")
    .filter(({ text }) => /process\.(env|argv|exit|exitCode|on|once|kill)\b/.test(stripComments(text)))
    .map(({ file }) => file);
  expect(wrong).toEqual([]);
});

test("a pure file imports no network, file system, clock or log", () => {
  const pure = [
    "packages/core/src/address.ts",
    "packages/core/src/connector.ts",
    "packages/core/src/crd.ts",
    "packages/core/src/kubeconfig.ts",
    "packages/core/src/limits.ts",
    "packages/core/src/names.ts",
    "packages/core/src/resolved.ts",
    "packages/core/src/policy.ts",
    "packages/jobs/src/definition/checks.ts",
    "packages/jobs/src/definition/definition.ts",
    "packages/jobs/src/definition/fields.ts",
    "packages/jobs/src/definition/job-shape.ts",
    "packages/jobs/src/definition/parse.ts",
    "packages/jobs/src/definition/quantity.ts",
    "packages/jobs/src/definition/sentences.ts",
    "packages/jobs/src/definition/text.ts",
    "packages/jobs/src/labels.ts",
    "packages/jobs/src/run.ts",
    "packages/jobs/src/source/manifest.ts",
    "packages/jobs/src/source/merge.ts",
    "packages/jobs/src/source/names.ts",
    "packages/jobs/src/source/overlay.ts",
    "packages/jobs/src/source/parameters.ts",
    "packages/jobs/src/source/render.ts",
    "packages/jobs/src/source/strip.ts",
    "packages/jobs/src/state/containers.ts",
    "packages/jobs/src/state/diagnose.ts",
    "packages/jobs/src/state/exits.ts",
    "packages/jobs/src/state/placement.ts",
    "packages/jobs/src/state/refusal.ts",
    "packages/jobs/src/state/retry.ts",
    "packages/jobs/src/state/state.ts",
    "proxy/src/headers.ts",
    "proxy/src/metadata/body.ts",
    "proxy/src/policy.ts",
    "proxy/src/request-info.ts",
    "proxy/src/target.ts",
    "controller/src/connector/plan.ts",
    "controller/src/connector/conditions.ts",
    "controller/src/connector/children.ts",
    "packages/jobs/src/logs/instances.ts",
    "packages/jobs/src/logs/line.ts",
    "packages/jobs/src/logs/mask.ts",
    "packages/jobs/src/logs/order.ts",
    "packages/jobs/src/logs/outputs.ts",
    "packages/jobs/src/logs/render.ts",
    "packages/jobs/src/logs/resume.ts",
    "packages/jobs/src/logs/splitter.ts",
    "csi-driver/src/mountinfo.ts",
    "csi-driver/src/volume.ts",
  ];
  const wrong = pure.flatMap((file) => {
    const text = code.find((source) => source.file === file)?.text;
    if (text === undefined) return [`${file} is not there`];
    const bad = importsOf(text).filter((name) => /^node:(fs|tls|http|https|http2|child_process|dgram|dns)/.test(name));
    return [...bad, ...(/Date\.now\(|performance\.now\(/.test(text) ? ["the clock"] : [])].map(
      (name) => `${file}: ${name}`,
    );
  });
  expect(wrong).toEqual([]);
});

test("no file is longer than 400 lines, and none has a name without meaning", () => {
  const long = sources.filter(({ text }) => text.split("\n").length > 401).map(({ file }) => file);
  const vague = sources.filter(({ file }) =>
    /(^|[/-])(utils?|helpers?|common|managers?|handlers?|base|types|misc)\.ts$/.test(file),
  );
  expect({ long, vague: vague.map(({ file }) => file) }).toEqual({ long: [], vague: [] });
});

test("every socket gets an error listener: no code creates one without", () => {
  const wrong = code
    .filter(({ text }) => /\b(net|tls)\.connect\(|new net\.Socket\(/.test(text))
    .filter(({ text }) => !/\.(on|once)\("error"/.test(text))
    .map(({ file }) => file);
  expect(wrong).toEqual([]);
});

test("tests have no module mocks", () => {
  const pattern = new RegExp(["vi", "(mock|doMock|stubGlobal)"].join("\\."));
  expect(sources.filter(({ text }) => pattern.test(text)).map(({ file }) => file)).toEqual([]);
});

test("core/README.md shows the table of errors as it is", () => {
  const readme = readFileSync(`${root}/packages/core/README.md`, "utf8");
  for (const [code, { http, retry, exit }] of Object.entries(faults)) {
    const row = readme.split("\n").find((line) => line.startsWith(`| ${code} |`)) ?? "";
    const cells = row.split("|").map((cell) => cell.trim());
    expect([code, cells[2]?.split(" ")[0], cells[4], cells[5]]).toEqual([
      code,
      String(http),
      retry ? "yes" : "no",
      String(exit),
    ]);
  }
});

test("every room has a README", () => {
  for (const room of Object.keys(rooms))
    expect(readFileSync(`${root}/${room}/README.md`, "utf8").length).toBeGreaterThan(200);
});

function stripComments(text: string): string {
  return text.replaceAll(/\/\*[\s\S]*?\*\//g, "").replaceAll(/(^|\s)\/\/.*$/gm, "");
}
