// The stored token and the CA's key are nowhere in the controller: a process with everything at debug level, a Secret made
// by kubectl apply (so that an annotation holds the token too), and then its whole heap, its log, the Events and the
// status are searched.
import { execFile, spawn } from "node:child_process";
import { createReadStream } from "node:fs";
import { mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { apiVersion } from "@kube-connector/core";
import { afterAll, beforeAll, expect, test } from "vitest";
import {
  type ControllerRoom,
  createClass,
  createConnector,
  eventually,
  startControllerRoom,
  untilCondition,
} from "../kit/controller-room.ts";

let room: ControllerRoom;
let folder: string;
const mark = "MARKED-stored-token-4f9d2c";

beforeAll(async () => {
  room = await startControllerRoom();
  folder = await mkdtemp(join(tmpdir(), "controller-secrets-"));
  await createClass(room.api, "k8s");
});
afterAll(async () => {
  await room?.stop();
  await rm(folder, { recursive: true, force: true });
});

async function occurrences(file: string, texts: string[]): Promise<Record<string, number>> {
  const counts = Object.fromEntries(texts.map((text) => [text, 0]));
  let rest = "";
  for await (const chunk of createReadStream(file, "utf8")) {
    const piece = rest + String(chunk);
    for (const text of texts) counts[text] = (counts[text] ?? 0) + piece.split(text).length - 1;
    rest = piece.slice(-Math.min(...texts.map((text) => text.length)) + 1);
  }
  return counts;
}

test("attack 28: neither heap nor log, Event nor status holds the token, plain or in base64, nor the CA's key", async () => {
  const manifest = join(folder, "secret.yaml");
  const secret = {
    apiVersion: "v1",
    kind: "Secret",
    metadata: { name: "prod-token", namespace: "team-a" },
    type: "connectors.cpaas.io/bearer-token",
    stringData: { token: mark },
  };
  await writeFile(manifest, JSON.stringify(secret));
  const kubectl = join(room.plane.bin, "kubectl");
  await promisify(execFile)(kubectl, [`--kubeconfig=${room.plane.kubeconfig}`, "apply", "-f", manifest]);
  const main = fileURLToPath(new URL("../../controller/src/main.ts", import.meta.url));
  const args = [
    "--heapsnapshot-signal=SIGUSR2",
    "--heap-snapshot-string-limit=10000000",
    `--diagnostic-dir=${folder}`,
    main,
  ];
  const flags = [
    "--proxy-image=proxy:test",
    "--private-address=127.0.0.1:0",
    "--log-level=debug",
    "--leader-elect=false",
  ];
  const child = spawn(process.execPath, [...args, `--kubeconfig=${room.plane.kubeconfig}`, ...flags], {
    env: { PATH: process.env.PATH ?? "" },
    stdio: ["ignore", "pipe", "pipe"],
  });
  const parts: Buffer[] = [];
  child.stdout.on("data", (part: Buffer) => parts.push(part));
  child.stderr.on("data", (part: Buffer) => parts.push(part));
  const ended = new Promise((resolve) => child.once("close", resolve));
  try {
    await createConnector(room.api, "team-a", "prod", { address: "https://127.0.0.1:6443" });
    await untilCondition(room.api, "team-a", "prod", "LivenessReady=False/ConnectionFailed", 30_000);
    const stored = await room.api.request<{ metadata: { annotations: object } }>(
      "GET",
      "/api/v1/namespaces/team-a/secrets/prod-token",
    );
    expect(JSON.stringify(stored.metadata.annotations)).toContain(mark);
    const path = "/api/v1/namespaces/kube-connector/secrets/ca-team-a--prod";
    const authority = await room.api.request<{ data: Record<string, string> }>("GET", path);
    const key = Buffer.from(authority.data["ca.key"] ?? "", "base64").toString();
    await new Promise((resolve) => setTimeout(resolve, 1000));
    child.kill("SIGUSR2");
    const snapshot = await eventually(
      "the heap is written",
      async () => {
        const file = (await readdir(folder)).find((name) => name.endsWith(".heapsnapshot"));
        if (file === undefined) throw new Error("not yet");
        return join(folder, file);
      },
      30_000,
    );
    // It is written while the process stands still; when the process answers again it is complete.
    const connectors = await room.api.request<object>("GET", `/apis/${apiVersion}/connectors`);
    await room.api.request("DELETE", `/apis/${apiVersion}/namespaces/team-a/connectors/prod`);
    await eventually(
      "the sweep has run",
      async () => await expect(room.api.request("GET", path)).rejects.toThrow("not found"),
      60_000,
    );
    const keyLine = key.split("\n")[1] ?? "no key";
    const texts = [mark, Buffer.from(mark).toString("base64").slice(0, 30), keyLine];
    const heap = await occurrences(snapshot, ["r-team-a--prod", ...texts]);
    expect(heap["r-team-a--prod"]).toBeGreaterThan(0);
    expect(texts.map((text) => heap[text])).toEqual([0, 0, 0]);
    const events = await room.api.request<object>("GET", "/api/v1/events");
    const told = Buffer.concat(parts).toString() + JSON.stringify(events) + JSON.stringify(connectors);
    expect(told).toContain("Works");
    for (const text of texts) expect(told).not.toContain(text);
  } finally {
    child.kill("SIGKILL");
    await ended;
  }
});
