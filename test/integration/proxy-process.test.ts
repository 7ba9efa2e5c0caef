import { type ChildProcess, spawn } from "node:child_process";
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { Secret } from "@kube-connector/core";
import { afterAll, beforeAll, expect, onTestFinished, test } from "vitest";
import { type AuditEvent, own } from "../kit/audit-log.ts";
import { createTestCa } from "../kit/certificates.ts";
import { type ControlPlane, createPod, requestToken, startControlPlane } from "../kit/control-plane.ts";
import { openRaw, openSecure } from "../kit/raw-client.ts";
import { resolvedParts } from "../kit/resolved.ts";

// The proxy as a process: what it says when it cannot start, when it is ready, how it ends, and that nothing it ever says
// holds a token, at debug level, whatever it was sent.

const main = fileURLToPath(new URL("../../proxy/src/main.ts", import.meta.url));
const mark = "canary-of-the-stored-token";
let plane: ControlPlane;
let directory: string;
let ca: string;

beforeAll(async () => {
  plane = await startControlPlane();
  directory = await mkdtemp(join(tmpdir(), "proxy-process-"));
  const testCa = await createTestCa();
  ca = testCa.certificate;
  const entries = await resolvedParts({ name: "prod", address: "https://127.0.0.1:1", token: mark, ca: testCa });
  await mkdir(join(directory, "prod"));
  for (const [name, secret] of Object.entries(entries)) await writeFile(join(directory, "prod", name), secret.reveal());
});
afterAll(async () => {
  await plane.stop();
  await rm(directory, { recursive: true });
});

interface Started {
  child: ChildProcess;
  said: () => string;
  /** What it wrote to standard output alone. */
  audited: () => string;
  ended: Promise<number | null>;
}

function start(args: string[], env: Record<string, string> = {}): Started {
  const child = spawn(process.execPath, [main, ...args], { env: { PATH: process.env.PATH ?? "", ...env } });
  onTestFinished(() => void child.kill("SIGKILL"));
  const parts: Buffer[] = [];
  const lines: Buffer[] = [];
  child.stdout?.on("data", (bytes: Buffer) => lines.push(bytes));
  for (const stream of [child.stdout, child.stderr]) stream?.on("data", (bytes: Buffer) => parts.push(bytes));
  const ended = new Promise<number | null>((resolve) => child.once("close", resolve));
  return { child, said: () => Buffer.concat(parts).toString(), audited: () => Buffer.concat(lines).toString(), ended };
}

let nextPort = 31_000 + (process.pid % 500) * 3;

/** A process with everything it needs, and its ports. */
function startWhole(...more: string[]) {
  const [forward, reverse, internal] = [nextPort++, nextPort++, nextPort++];
  const at = (port: number | undefined) => `127.0.0.1:${port}`;
  const addresses = [
    ["--forward-address", at(forward)],
    ["--reverse-address", at(reverse)],
    ["--private-address", at(internal)],
  ].flat();
  const source = ["--connectors-dir", directory, "--kubeconfig", plane.kubeconfig];
  const started = start([...source, ...addresses, "--log-level", "debug", ...more]);
  const read = async (path: string) =>
    await fetch(`http://127.0.0.1:${internal}${path}`).then(
      async (answer) => `${answer.status} ${await answer.text()}`,
      () => "no answer",
    );
  return { ...started, forward: forward ?? 0, reverse: reverse ?? 0, read };
}

test.each([
  [[], {}, "give --connectors-dir, or --secrets-namespace with"],
  [["--connectors-dir", "/nowhere"], {}, "KUBERNETES_SERVICE_HOST is not set, so this is no pod; give --kubeconfig"],
  [["--connectors-dir", "/nowhere"], { NODE_TLS_REJECT_UNAUTHORIZED: "0" }, "no target would be verified"],
  [["--forward-address", "8080"], {}, "should be host:port"],
])("started with %j it ends with status 2 and a sentence", async (args, env, sentence) => {
  const { ended, said } = start(args, env);
  expect([await ended, said()]).toEqual([2, expect.stringContaining(sentence)]);
});

test("a port that is taken ends it with a sentence", async () => {
  const first = startWhole();
  await expect.poll(() => first.read("/readyz"), { timeout: 10_000 }).toBe("200 ok\n");
  const second = startWhole("--forward-address", `127.0.0.1:${first.forward}`);
  expect([await second.ended, second.said()]).toEqual([7, expect.stringContaining("in use by another process")]);
});

test("it is ready when connectors and keys are read; after SIGTERM it says draining, serves on, and ends with 0", async () => {
  const { child, ended, read, forward } = startWhole("--drain-delay", "1500ms", "--drain-grace", "100ms");
  await expect.poll(() => read("/readyz"), { timeout: 10_000 }).toBe("200 ok\n");
  expect(await read("/livez")).toBe("200 ok\n");
  expect(await read("/metrics")).toContain('leaf_expiry_timestamp_seconds{connector="team-a/prod"}');
  expect(await read("/other")).toContain("404");
  child.kill("SIGTERM");
  await expect.poll(() => read("/readyz"), { timeout: 1_000 }).toBe("503 draining\n");
  const client = await openRaw(forward);
  client.send("GET / HTTP/1.1\r\n\r\n");
  expect(await client.until("\r\n")).toContain("405");
  expect(await ended).toBe(0);
});

test("without the API server it is up but not ready, says why, and becomes ready by itself", async () => {
  await plane.control("stop", "apiserver");
  const { read } = startWhole();
  const why = "503 the cluster's keys for tokens are not read yet\n";
  await expect.poll(() => read("/readyz"), { timeout: 10_000 }).toBe(why);
  expect(await read("/livez")).toBe("200 ok\n");
  await plane.control("start", "apiserver");
  await expect.poll(() => read("/readyz"), { timeout: 20_000 }).toBe("200 ok\n");
});

test("attack 28: nothing it says at debug level holds a token, a key or what a stranger sent as one", async () => {
  const { child, ended, read, forward, reverse, said, audited } = startWhole("--drain-delay=0s", "--drain-grace=0s");
  await expect.poll(() => read("/readyz"), { timeout: 10_000 }).toBe("200 ok\n");
  const uid = await createPod(plane.admin, "team-a", "quiet");
  const pod = { name: "quiet", uid };
  const good = await requestToken(plane.admin, { namespace: "team-a", audience: "kube-connector", pod });
  const tunnel = await requestToken(plane.admin, { namespace: "team-a", audience: "kube-connector-tunnel", pod });
  const tokens = [good, tunnel, new Secret("canary-of-a-stranger"), new Secret(`${good.reveal()}x`)];
  for (const token of tokens) {
    const client = await openRaw(forward);
    const basic = Buffer.from(`team-a/prod:${token.reveal()}`).toString("base64");
    client.send(`CONNECT 127.0.0.1:1 HTTP/1.1\r\nHost: 127.0.0.1:1\r\nProxy-Authorization: Basic ${basic}\r\n\r\n`);
    await client.until("\r\n\r\n");
    client.socket.destroy();
    const host = "c-prod.team-a.svc.cluster.local";
    const direct = await openSecure({ port: reverse }, { ca, servername: host });
    const answer = await direct.ask(
      `GET /api?token=${token.reveal()} HTTP/1.1\r\nHost: ${host}\r\nAuthorization: Bearer ${token.reveal()}\r\n\r\n`,
    );
    // The good one gets as far as the dial, which goes to no loopback address outside standalone.
    expect(answer.status).toBe(token === good ? 502 : 401);
    direct.socket.destroy();
  }
  await writeFile(join(directory, "prod", "connector.json"), `{"broken": "${mark}`);
  await expect.poll(said, { timeout: 5_000 }).toContain("A folder cannot be served");
  const metrics = await read("/metrics");
  expect(await read("/debug/streams")).toMatch(/^200 {"open": \d+, /);
  child.kill("SIGTERM");
  expect(await ended).toBe(0);
  const everything = said() + metrics;
  expect(everything).toContain("Tunnel refused");
  for (const token of [...tokens, new Secret(mark)]) {
    expect(everything).not.toContain(token.reveal());
    for (const part of token.reveal().split(".").slice(1)) expect(everything).not.toContain(part);
  }
  expect(everything).not.toContain("PRIVATE KEY");
  // Standard output is the audit log, whole, up to the last line.
  const events = audited()
    .trimEnd()
    .split("\n")
    .map((line) => JSON.parse(line) as AuditEvent);
  const codes = (method: string) =>
    events
      .filter((event) => own(event, "method") === method)
      .map(({ responseStatus }) => responseStatus?.code ?? 0)
      .toSorted((a, b) => a - b);
  expect(codes("CONNECT")).toEqual([200, 407, 407, 407]);
  expect(codes("GET")).toEqual([401, 401, 401, 502]);
  const known = events.find(({ responseStatus }) => responseStatus?.code === 502);
  expect(known).toMatchObject({ user: { username: "system:serviceaccount:team-a:default" }, requestURI: "/api" });
  expect(["pod.namespace", "pod.name", "pod.uid"].map((name) => own(known, name))).toEqual(["team-a", "quiet", uid]);
});

test("with a file as its audit log the lines are there, and a file that cannot be written keeps it from starting", async () => {
  const file = join(directory, "..", `audit-${process.pid}.log`);
  onTestFinished(() => rm(file, { force: true }));
  const { child, ended, read, forward, audited } = startWhole("--audit", file, "--drain-delay", "0s");
  await expect.poll(() => read("/readyz"), { timeout: 10_000 }).toBe("200 ok\n");
  const client = await openRaw(forward);
  client.send("GET / HTTP/1.1\r\n\r\n");
  await client.until("405");
  child.kill("SIGTERM");
  expect(await ended).toBe(0);
  expect(JSON.parse(await readFile(file, "utf8"))).toMatchObject({ responseStatus: { code: 405 } });
  expect(audited()).toBe("");
  const { ended: failed, said } = startWhole("--audit", "/nowhere/audit.log");
  expect([await failed, said()]).toEqual([5, expect.stringContaining("Cannot open the audit log /nowhere/audit.log")]);
});
