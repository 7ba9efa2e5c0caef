// What deploy/examples gives an administrator of a scheduler to copy: the API server takes the manifests as they are, the
// definitions are taken too, with the rights of jobs-target.yaml and no more, and the program of the image serves its page.
import { spawn } from "node:child_process";
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, expect, onTestFinished, test } from "vitest";
import { parse } from "yaml";
import { bundleProgram } from "../../scripts/bundling.ts";
import { ensureNamespace } from "../kit/control-plane.ts";
import { type JobsRoom, namespace, startJobsRoom } from "../kit/jobs-room.ts";

const examples = fileURLToPath(new URL("../../deploy/examples", import.meta.url));

let room: JobsRoom;

beforeAll(async () => {
  room = await startJobsRoom();
});
afterAll(() => room?.stop());

test.each(["jobs.yaml", "jobs-target.yaml"])("the API server takes examples/%s", async (file) => {
  for (const name of ["team-a", namespace]) await ensureNamespace(room.plane.admin, name);
  const { status, output } = await run(join(room.plane.bin, "kubectl"), [
    `--kubeconfig=${room.plane.kubeconfig}`,
    "apply",
    "--server-side",
    "--force-conflicts",
    "--dry-run=server",
    "--validate=strict",
    "-f",
    join(examples, file),
  ]);
  expect(output).not.toMatch(/warning/i);
  expect({ status, output }).toMatchObject({ status: 0 });
});

test("the definitions of examples/jobs are taken by the module and by the cluster", async () => {
  const started = await room.start(await room.folder(), { profiles: { nightly: {} } });
  onTestFinished(() => started.stop());
  const template = { spec: { containers: [{ name: "worker", image: "tidy:1" }], restartPolicy: "Never" } };
  await room.plane.admin.request("POST", `/apis/batch/v1/namespaces/${namespace}/cronjobs`, {
    body: { metadata: { name: "tidy" }, spec: { schedule: "0 3 * * *", jobTemplate: { spec: { template } } } },
  });
  const files = (await readdir(join(examples, "jobs"))).filter((name) => name.endsWith(".yaml"));
  expect(files).toHaveLength(3);
  for (const file of files) {
    const definition: unknown = parse(await readFile(join(examples, "jobs", file), "utf8"));
    const { manifest } = await started.jobs.dryRun(definition, "server");
    expect(manifest.metadata.namespace).toBe(namespace);
    expect(JSON.stringify(manifest)).not.toContain("[[");
  }
});

test("the bundled program says how it is used, and serves its API and its page", async () => {
  const folder = await mkdtemp(join(tmpdir(), "bundle-"));
  onTestFinished(() => rm(folder, { recursive: true }));
  await bundleProgram("kube-connector", folder);
  const program = join(folder, "kube-connector.mjs");
  const help = await run(process.execPath, [program, "jobs", "serve", "--help"]);
  expect(help.status).toBe(0);
  expect(help.output).toContain("--token-file");

  const { config } = room;
  await writeFile(join(folder, "token"), "a-token");
  await writeFile(
    join(folder, "jobs.yaml"),
    JSON.stringify({ connectors: [config], history: join(folder, "jobs.db"), logs: join(folder, "logs") }),
  );
  const service = spawn(
    process.execPath,
    [
      program,
      "jobs",
      "serve",
      "--listen=127.0.0.1:0",
      `--config=${join(folder, "jobs.yaml")}`,
      `--token-file=${join(folder, "token")}`,
    ],
    { stdio: ["ignore", "pipe", "inherit"] },
  );
  const ended = new Promise<number | null>((resolve) => service.once("exit", resolve));
  onTestFinished(async () => {
    service.kill("SIGKILL");
    await ended;
  });
  let url = "";
  for await (const line of createInterface({ input: service.stdout })) {
    url = / on (\S+)$/.exec(line)?.[1] ?? "";
    break;
  }
  const ask = async (path: string, headers: Record<string, string> = {}) => {
    const answer = await fetch(new URL(path, url), { headers });
    return { status: answer.status, text: await answer.text() };
  };
  expect(await ask("/livez")).toEqual({ status: 200, text: "ok\n" });
  expect(await ask("/readyz")).toEqual({ status: 200, text: "ok\n" });
  expect(await ask("/")).toMatchObject({ status: 200, text: expect.stringContaining("page.js") });
  expect((await ask("/page.css")).status).toBe(200);
  expect((await ask("/v1/runs")).status).toBe(401);
  const runs = await ask("/v1/runs", { authorization: "Bearer a-token" });
  expect(runs.status).toBe(200);
  service.kill("SIGTERM");
  expect(await ended).toBe(0);
});

async function run(program: string, args: string[]): Promise<{ status: number | null; output: string }> {
  const child = spawn(program, args, { stdio: ["ignore", "pipe", "pipe"] });
  let output = "";
  for (const stream of [child.stdout, child.stderr]) stream.on("data", (chunk: Buffer) => (output += chunk.toString()));
  const status = await new Promise<number | null>((resolve) => child.once("close", resolve));
  return { status, output };
}
