// standalone as a person uses it: the command as a process of its own, a directory of Connector and Secret files, the
// sample API server as the target, and the real kubectl. The stored token is in no output, file, environment or argument.
// A change of the directory takes effect without a restart; Ctrl-C leaves nothing behind.
import { existsSync } from "node:fs";
import { readdir, readFile, stat, unlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { openApiServer, readKubeconfig, Secret } from "@kube-connector/core";
import { expect, onTestFinished, test } from "vitest";
import { parse } from "yaml";
import type { AuditEvent } from "../kit/audit-log.ts";
import { connectorYaml, secretYaml } from "../kit/connector-files.ts";
import { startSampleApiServer } from "../kit/sample-api-server.ts";
import { canaryToken, createScene, createServing, until } from "../kit/standalone.ts";

test("kubectl gets, describes, creates, applies and deletes through the proxy", async () => {
  const scene = await createScene({ prefix: "/kubernetes/global" });
  const { kube } = await createServing(scene);
  expect((await kube("get", "pods")).output).toMatch(/NAME +READY[^]*web +1\/1 +Running/);
  expect((await kube("describe", "pod", "web")).output).toMatch(/Name: +web[^]*Started/);
  expect((await kube("auth", "whoami")).output).toContain("sample-admin");
  expect((await kube("api-resources")).output).toContain("configmaps");
  expect(await kube("create", "configmap", "made", "--from-literal=a=b")).toMatchObject({ status: 0 });
  const manifest = join(scene.temporary, "made.yaml");
  const write = (data: string) =>
    writeFile(manifest, `apiVersion: v1\nkind: ConfigMap\nmetadata: {name: applied}\ndata: {${data}}\n`);
  await write("a: one, b: two");
  expect((await kube("apply", "-f", manifest)).output).toContain("configmap/applied created");
  await write("a: three");
  expect((await kube("apply", "-f", manifest)).output).toContain("configmap/applied configured");
  expect((await kube("get", "configmap", "applied", "-o", "jsonpath={.data}")).output).toBe('{"a":"three"}');
  expect((await kube("apply", "--server-side", "-f", manifest)).output).toContain("serverside-applied");
  expect(await kube("delete", "configmap", "made", "applied")).toMatchObject({ status: 0 });
  expect(await kube("get", "configmap", "made")).toMatchObject({
    status: 1,
    output: expect.stringContaining('configmaps "made" not found') as unknown,
  });
  expect(scene.target.requests.every((line) => line.includes("/kubernetes/global/"))).toBe(true);
});

test("kubectl watches and follows a log as things happen", async () => {
  const { kube, launch } = await createServing(await createScene());
  const watch = launch(["get", "pods", "-w"]);
  const log = launch(["logs", "-f", "web"]);
  await until("the watch shows what is there", () => watch.output().includes("web"));
  expect(await kube("run", "fresh", "--image=registry.example/fresh")).toMatchObject({ status: 0 });
  await until("the watch shows the new pod running", () => /fresh +1\/1 +Running/.test(watch.output()));
  expect(await kube("delete", "pod", "fresh")).toMatchObject({ status: 0 });
  await until("the watch shows it going", () => /fresh.*Terminating/.test(watch.output()));
  const lines = () => log.output().split("\n").length;
  const before = lines();
  await until("the log goes on", () => lines() > before + 2);
});

test("kubectl exec carries standard input, both outputs and the exit status", async () => {
  const { kube, launch } = await createServing(await createScene());
  expect(await kube("exec", "web", "--", "sh", "-c", "echo out; echo err >&2; exit 7")).toEqual({
    status: 7,
    output: expect.stringMatching(/out\n[^]*exit code 7|err\n[^]*exit code 7/) as unknown,
  });
  const input = Buffer.alloc(3 * 1024 * 1024, "0123456789abcdef\n");
  const echoed = await launch(["exec", "-i", "web", "--", "cat"], input).done;
  expect({ status: echoed.status, same: echoed.output === input.toString() }).toEqual({ status: 0, same: true });
});

test("the reverse door serves clients that ignore proxy-url", async () => {
  const { kubeconfig, launch } = await createServing(await createScene());
  const { status, output } = await launch(["get", "pods"], undefined, `${kubeconfig}-direct`).done;
  expect({ status, output }).toMatchObject({ status: 0, output: expect.stringContaining("web") as unknown });
});

test("the stored token is in no file, output, environment or argument; Ctrl-C leaves nothing and ends with 0", async () => {
  const scene = await createScene();
  const { standalone, kubeconfig, kube } = await createServing(scene, "--log-level", "debug");
  const calls = [await kube("get", "pods", "-v=9"), await kube("get", "nonsense", "-v=9"), await kube("version")];
  expect((await stat(kubeconfig)).mode & 0o777).toBe(0o600);
  const pid = standalone.child.pid ?? 0;
  const seen = [
    await readFile(kubeconfig, "utf8"),
    await readFile(`${kubeconfig}-direct`, "utf8"),
    ...(existsSync("/proc")
      ? [await readFile(`/proc/${pid}/cmdline`, "utf8"), await readFile(`/proc/${pid}/environ`, "utf8")]
      : []),
    ...calls.map(({ output }) => output),
  ];
  const { status, output } = await standalone.interrupt();
  expect(status).toBe(0);
  expect(await readdir(scene.temporary)).toEqual([]);
  expect([...seen, output].join("\n")).not.toContain(canaryToken);
  expect([...seen, output].join("\n")).not.toContain(Buffer.from(canaryToken).toString("base64").replace(/=+$/, ""));
});

test("with --audit each request and tunnel is a line in that file, of mode 0600, and no token is in it", async () => {
  const scene = await createScene();
  const file = join(scene.temporary, "audit.log");
  const { standalone, kube } = await createServing(scene, "--audit", file);
  await kube("get", "pods", "-n", "default");
  await standalone.interrupt();
  const text = await readFile(file, "utf8");
  expect(text).not.toContain(canaryToken);
  expect(text).not.toContain("local.");
  const events = text
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line) as AuditEvent);
  const pods = events.find(({ requestURI }) => requestURI.endsWith("/pods"));
  expect(pods).toMatchObject({ user: { username: "local:team-a/prod" }, responseStatus: { code: 200 } });
  expect(events.some(({ verb }) => verb === "connect")).toBe(true);
  expect((await stat(file)).mode & 0o777).toBe(0o600);
});

test("Ctrl-C ends it although a watch is open", async () => {
  const { standalone, launch } = await createServing(await createScene());
  const watch = launch(["get", "pods", "-w"]);
  await until("the watch is open", () => watch.output().includes("web"));
  const before = performance.now();
  expect((await standalone.interrupt()).status).toBe(0);
  expect(performance.now() - before).toBeLessThan(5000);
});

test("a token that is replaced in the directory takes effect without a restart, and an open watch goes on", async () => {
  const scene = await createScene();
  const { standalone, kube, launch } = await createServing(scene);
  const watch = launch(["get", "pods", "-w"]);
  await until("the watch is open", () => watch.output().includes("web"));
  const next = new Secret("stored-next-token");
  await writeFile(join(scene.directory, "secret.yaml"), secretYaml("prod", next, { namespace: "team-a" }));
  await until("the change is taken over", () => standalone.output().includes("team-a/prod has changed."));
  scene.target.setToken(next);
  expect(await kube("run", "fresh", "--image=registry.example/fresh")).toMatchObject({ status: 0 });
  await until("the watch shows what came after", () => watch.output().includes("fresh"));
});

test("a half-written file changes nothing; a Secret that is gone takes its token away; a Connector that is gone ends", async () => {
  const scene = await createScene();
  const { standalone, kubeconfig, kube } = await createServing(scene);
  await writeFile(join(scene.directory, "more.yaml"), "kind: Connector\n  broken: [\n");
  await until("the problem is told", () => standalone.output().includes("what was served goes on"));
  expect(standalone.output()).toContain("! more.yaml:");
  expect(await kube("get", "pods")).toMatchObject({ status: 0 });
  await unlink(join(scene.directory, "more.yaml"));
  await unlink(join(scene.directory, "secret.yaml"));
  await until("the missing Secret is told", () => standalone.output().includes('There is no Secret "prod-token"'));
  // kubectl waits and asks again for half a minute, as Retry-After says; the answer itself has the sentence.
  expect(await kube("get", "pods", "--request-timeout=2s")).not.toMatchObject({ status: 0 });
  const api = openApiServer(await readKubeconfig(`${kubeconfig}-direct`));
  onTestFinished(() => api.stop());
  await expect(api.request("GET", "/api")).rejects.toMatchObject({
    code: "unavailable",
    message: expect.stringContaining('There is no Secret "prod-token"') as unknown,
  });
  await unlink(join(scene.directory, "connector.yaml"));
  await until("the end is told", () => standalone.output().includes("team-a/prod is gone"));
  expect(existsSync(kubeconfig)).toBe(false);
});

test("a stored token that the target refuses, and a target that is not there, are told and mended without a restart", async () => {
  const scene = await createScene();
  const { standalone, kube } = await createServing(scene);
  scene.target.setToken(new Secret("stored-other"));
  expect((await kube("get", "pods")).status).not.toBe(0);
  const save = (file: string, text: string) => writeFile(join(scene.directory, file), text);
  await save("secret.yaml", secretYaml("prod", new Secret("stored-wrong"), { namespace: "team-a" }));
  await until("the refused token is told", () =>
    /! team-a\/prod: The target \S+ does not know the stored token \(401\)/.test(standalone.output()),
  );
  await save("secret.yaml", secretYaml("prod", new Secret("stored-other"), { namespace: "team-a" }));
  await until("the good token is told", () => standalone.output().split("team-a/prod answers").length === 3);
  expect(await kube("get", "pods")).toMatchObject({ status: 0 });

  const nowhere = { url: "https://127.0.0.1:1", ca: scene.target.ca };
  await save("connector.yaml", connectorYaml("prod", nowhere, { namespace: "team-a" }));
  await until("the dead address is told", () =>
    standalone.output().includes("! team-a/prod: Cannot reach 127.0.0.1:1"),
  );
  const { status, output } = await kube("get", "pods");
  expect(status).not.toBe(0);
  expect(output).toContain("Cannot reach the target cluster at 127.0.0.1:1: connection refused");
});

test("a kubeconfig of another run opens nothing, and kubectl says what to do", async () => {
  const scene = await createScene();
  const { standalone, kubeconfig, launch } = await createServing(scene);
  const port = /proxy-url: "[^"]*:(\d+)"/.exec(await readFile(kubeconfig, "utf8"))?.[1] ?? "";
  const stale = join(scene.directory, "stale");
  await writeFile(stale, await readFile(kubeconfig, "utf8"));
  await standalone.interrupt();
  await createServing(scene, "--forward-port", port);
  const { status, output } = await launch(["get", "pods"], undefined, stale).done;
  expect(status).not.toBe(0);
  expect(output).toContain("is of another run");
});

test("several connectors are served beside each other, from JSON too, and a kubeconfig opens only its own", async () => {
  const scene = await createScene();
  const other = await startSampleApiServer({ token: new Secret("stored-other") });
  onTestFinished(() => other.stop());
  const objects = [connectorYaml("second", other), secretYaml("second", new Secret("stored-other"))].map((text) => {
    return parse(text) as { stringData?: object; data?: object };
  });
  const encoded = { token: Buffer.from("stored-other\n").toString("base64") };
  const items = objects.map(({ stringData, ...rest }) =>
    stringData === undefined ? rest : { ...rest, data: encoded },
  );
  const list = { apiVersion: "v1", kind: "List", items };
  await writeFile(join(scene.directory, "second.json"), JSON.stringify(list));
  const { standalone, kubeconfig, launch } = await createServing(scene);
  expect(standalone.output()).toContain("Serving 2 connectors");
  const second = kubeconfig.replace("team-a.prod", "default.second");
  const get = (file: string) => launch(["get", "pods"], undefined, file).done;
  for (const file of [kubeconfig, `${kubeconfig}-direct`, second, `${second}-direct`]) {
    const before = [scene.target.requests.length, other.requests.length];
    expect(await get(file), file).toMatchObject({ status: 0 });
    const reached = [scene.target.requests.length, other.requests.length].map((count, at) => count > (before[at] ?? 0));
    expect(reached, file).toEqual(file.includes("prod") ? [true, false] : [false, true]);
  }
  const [mine, theirs] = [await readFile(`${kubeconfig}-direct`, "utf8"), await readFile(`${second}-direct`, "utf8")];
  const tokenLine = /^ {4}token: .*$/m;
  const mixed = join(scene.directory, "mixed");
  await writeFile(mixed, theirs.replace(tokenLine, tokenLine.exec(mine)?.[0] ?? ""));
  const before = other.requests.length;
  const { status, output } = await get(mixed);
  expect(status).not.toBe(0);
  expect(output).toContain("may not use default/second; use the kubeconfig of default/second");
  expect(other.requests.length).toBe(before);
});
