// What a person may get wrong with standalone, and several runs beside each other: every problem is a sentence that says
// what to change, the exit status is not 0, nothing is left behind, and no run touches another one's files.
import { existsSync } from "node:fs";
import { mkdir, readdir, readFile, unlink, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { join } from "node:path";
import { Secret } from "@kube-connector/core";
import { expect, onTestFinished, test } from "vitest";
import { connectorYaml, secretYaml } from "../kit/connector-files.ts";
import { createFolder, createScene, createServing, main, until } from "../kit/standalone.ts";

test("a second run has ports and files of its own, and leaves the first one's alone", async () => {
  const scene = await createScene();
  const output = join(scene.temporary, "out");
  const first = await createServing(scene, "--output", output);
  const second = await createServing(scene);
  expect(second.kubeconfig).not.toBe(first.kubeconfig);
  const third = await scene.run("standalone", scene.directory, "--output", output).done;
  expect(third.status).toBe(2);
  expect(third.output).toMatch(/belongs to another kube-connector \(process \d+\); end that one, or give --output/);
  await second.standalone.interrupt();
  expect(await first.kube("get", "pods")).toMatchObject({ status: 0 });
  expect(await first.standalone.interrupt()).toMatchObject({ status: 0 });
  expect(existsSync(output)).toBe(false);
});

test("what a killed run left behind is overwritten, what somebody else wrote is not", async () => {
  const scene = await createScene();
  const output = join(scene.temporary, "out");
  const first = await createServing(scene, "--output", output);
  first.standalone.child.kill("SIGKILL");
  await first.standalone.done;
  const second = await createServing(scene, "--output", output);
  expect(await second.kube("get", "pods")).toMatchObject({ status: 0 });
  await second.standalone.interrupt();
  await writeFile(join(output, "team-a.prod.kubeconfig"), "mine\n").catch(async () => {
    await mkdir(output);
    await writeFile(join(output, "team-a.prod.kubeconfig"), "mine\n");
  });
  const third = await scene.run("standalone", scene.directory, "--output", output).done;
  expect(third).toMatchObject({
    status: 2,
    output: expect.stringContaining("was not written by kube-connector") as unknown,
  });
  expect(await readFile(join(output, "team-a.prod.kubeconfig"), "utf8")).toBe("mine\n");
});

test("every problem of a directory is told at once, with file and line, and nothing is left behind", async () => {
  const scene = await createScene();
  await writeFile(join(scene.directory, "connector.yaml"), connectorYaml("prod", { url: "http://x", ca: "x" }));
  await writeFile(join(scene.directory, "other.yaml"), "kind: A\n  b: [\n");
  await writeFile(join(scene.directory, "secret.yaml"), secretYaml("prod", new Secret("1234")));
  const wrong = await scene.run("standalone", scene.directory).done;
  expect(wrong.status).toBe(2);
  expect(wrong.output).toMatch(/other\.yaml:\d+: /);
  expect(wrong.output).toContain("secret.yaml:1: Secret prod-token: stringData.token should be text; put it in quotes");
  await unlink(join(scene.directory, "other.yaml"));
  await unlink(join(scene.directory, "secret.yaml"));
  const less = await scene.run("standalone", scene.directory).done;
  expect(less).toMatchObject({ status: 2, output: expect.stringContaining("should begin with https://") as unknown });
  expect(less.output).toContain('There is no Secret "prod-token"');
  expect(await readdir(scene.temporary)).toEqual([]);
});

test.each([
  [
    "a directory that is not there",
    ["standalone", "/nonexistent/dir"],
    2,
    "no such file or directory; give a directory",
  ],
  ["a file in place of a directory", ["standalone", main], 2, "not a directory; give a directory"],
  ["no directory", ["standalone"], 2, "missing required argument 'directory'"],
  [
    "a port that is none",
    ["standalone", ".", "--forward-port", "70000"],
    2,
    "should be a whole number from 0 to 65535",
  ],
  ["an unknown flag", ["standalone", ".", "--fast"], 2, "unknown option '--fast'"],
  ["an unknown command", ["serve"], 2, "unknown command 'serve'"],
  ["a kubeconfig that is not there", ["uninstall", "--kubeconfig", "/nonexistent"], 2, "Cannot read the kubeconfig"],
])("%s is a sentence and an exit status", async (_what, args, status, sentence) => {
  const scene = await createScene();
  const finished = await scene.run(...args).done;
  expect(finished).toMatchObject({ status, output: expect.stringContaining(sentence) as unknown });
  expect(finished.output).not.toMatch(/\n +at /);
});

test("an empty directory, a port in use and an output folder that cannot be written are sentences", async () => {
  const scene = await createScene();
  const empty = await scene.run("standalone", await createFolder()).done;
  expect(empty).toMatchObject({ status: 2, output: expect.stringContaining("there is no Connector in it") as unknown });
  const taken = createServer().listen(0, "127.0.0.1");
  onTestFinished(() => void taken.close());
  await until("the port is taken", () => taken.listening);
  const { port } = taken.address() as { port: number };
  const used = await scene.run("standalone", scene.directory, "--reverse-port", String(port)).done;
  expect(used.status).toBe(7);
  expect(used.output).toContain("in use by another process; give --forward-port or --reverse-port another port");
  const nowhere = await scene.run("standalone", scene.directory, "--output", "/nonexistent/a/b").done;
  expect(nowhere).toMatchObject({
    status: 2,
    output: expect.stringContaining("/nonexistent/a is not there") as unknown,
  });
  expect(await readdir(scene.temporary)).toEqual([]);
});

test("help and version answer without reading anything", async () => {
  const scene = await createScene();
  expect(await scene.run("--help").done).toMatchObject({ status: 0 });
  expect(await scene.run("standalone", "--help").done).toMatchObject({
    status: 0,
    output: expect.stringContaining("--reverse-port") as unknown,
  });
  expect((await scene.run("version").done).output).toMatch(/^kube-connector \d+\.\d+\.\d+ \(Node v\d+/);
});

test("a terminal that is closed ends it like Ctrl-C, a pipe whose reader is gone does not", async () => {
  const scene = await createScene();
  const { standalone, kubeconfig, kube } = await createServing(scene);
  standalone.child.stdout?.destroy();
  await writeFile(join(scene.directory, "more.yaml"), "kind: A\n  broken: [\n");
  await writeFile(join(scene.directory, "more.yaml"), secretYaml("more", new Secret("stored-more")));
  await new Promise((resolve) => setTimeout(resolve, 1500));
  expect(await kube("get", "pods")).toMatchObject({ status: 0 });
  standalone.child.kill("SIGHUP");
  expect(await standalone.done).toMatchObject({ status: 0 });
  expect(existsSync(kubeconfig)).toBe(false);
});

test("a path that a shell would take apart is printed in quotes", async () => {
  const scene = await createScene();
  const { standalone } = await createServing(scene, "--output", join(scene.temporary, "it's here"));
  expect(standalone.output()).toContain(`export KUBECONFIG='${scene.temporary}/it'\\''s here/team-a.prod.kubeconfig'`);
});
