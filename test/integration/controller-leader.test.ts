// Two replicas, as processes: one works, the other stands by. A leader that is killed is followed within the Lease's
// time, one that is asked to stop at once; a leader that cannot reach the API server ends itself and writes no more. And a
// controller that is killed in the middle of its work is repaired by the next one.
import { type ChildProcess, spawn } from "node:child_process";
import { fileURLToPath } from "node:url";
import type { KubeObject } from "@kube-connector/core";
import { afterAll, afterEach, beforeAll, expect, test } from "vitest";
import {
  type ControllerRoom,
  createClass,
  createConnector,
  createSecret,
  eventually,
  startControllerRoom,
  untilCondition,
} from "../kit/controller-room.ts";

let room: ControllerRoom;
const processes: Replica[] = [];
const main = fileURLToPath(new URL("../../controller/src/main.ts", import.meta.url));

interface Replica {
  name: string;
  child: ChildProcess;
  output: () => string;
  ended: Promise<number | null>;
}

function startReplica(name: string, flags: string[] = []): Replica {
  const args = [
    main,
    `--kubeconfig=${room.plane.kubeconfig}`,
    "--proxy-image=proxy:test",
    "--private-address=127.0.0.1:0",
    "--log-level=debug",
    ...flags,
  ];
  const env = { PATH: process.env.PATH ?? "", POD_NAME: name };
  const child = spawn(process.execPath, args, { env, stdio: ["ignore", "pipe", "pipe"] });
  const parts: Buffer[] = [];
  child.stdout.on("data", (part: Buffer) => parts.push(part));
  child.stderr.on("data", (part: Buffer) => parts.push(part));
  const ended = new Promise<number | null>((resolve) => child.once("close", resolve));
  const replica = { name, child, output: () => Buffer.concat(parts).toString(), ended };
  processes.push(replica);
  return replica;
}

beforeAll(async () => {
  room = await startControllerRoom();
  await createClass(room.api, "k8s");
});
afterEach(async () => {
  for (const { child } of processes) child.kill("SIGKILL");
  await Promise.all(processes.splice(0).map(({ ended }) => ended));
});
afterAll(async () => {
  await room?.stop();
});

const leasePath = "/apis/coordination.k8s.io/v1/namespaces/kube-connector/leases/kube-connector-controller";

async function holder(): Promise<string> {
  const lease = await room.api.request<{ spec: { holderIdentity?: string } }>("GET", leasePath);
  return lease.spec.holderIdentity ?? "";
}

async function untilHolder(name: string, within?: number): Promise<number> {
  const started = performance.now();
  await eventually(`${name} holds the Lease`, async () => expect(await holder()).toBe(name), within);
  return performance.now() - started;
}

// The processes may not probe loopback, and have no right to: what they make is what is looked at here.
async function makeAndSee(name: string, within?: number): Promise<void> {
  await createSecret(room.api, "team-a", `${name}-token`, { token: "stored-token-0123456789" });
  await createConnector(room.api, "team-a", name, { address: "https://127.0.0.1:6443" });
  const connector = await untilCondition(
    room.api,
    "team-a",
    name,
    "LivenessReady=False/ConnectionFailed",
    within ?? 30_000,
  );
  const liveness = connector.status?.conditions?.find(({ type }) => type === "LivenessReady");
  expect(liveness?.message).toContain("a loopback address, which is never dialled");
}

test("one of two works; when it is killed the other takes over within 20 s; when asked to stop, at once", async () => {
  const first = startReplica("replica-1");
  await untilHolder("replica-1", 30_000);
  const second = startReplica("replica-2");
  await eventually("the second one runs", async () => {
    await Promise.resolve();
    expect(second.child.exitCode).toBeNull();
  });
  await makeAndSee("watched");
  expect(await holder()).toBe("replica-1");
  expect(second.output()).not.toContain("Became the leader");

  first.child.kill("SIGKILL");
  const taken = await untilHolder("replica-2", 30_000);
  expect(taken).toBeGreaterThan(10_000);
  expect(taken).toBeLessThan(20_000);
  await makeAndSee("followed");

  startReplica("replica-3");
  await new Promise((resolve) => setTimeout(resolve, 3000));
  second.child.kill("SIGTERM");
  expect(await untilHolder("replica-3", 10_000)).toBeLessThan(6000);
  expect(await second.ended).toBe(0);
  await makeAndSee("handed");
}, 120_000);

test("a leader that cannot renew ends itself, with a status that is not 0 and a sentence", async () => {
  const lonely = startReplica("lonely");
  await untilHolder("lonely", 30_000);
  await room.plane.control("pause", "apiserver");
  const stopped = performance.now();
  let status: number | null;
  try {
    // Its sentence comes at once; the process itself ends when the last connection attempt is given up.
    await eventually("it says that it has lost", async () => {
      await Promise.resolve();
      expect(lonely.output()).toContain("could not be renewed in time");
    });
    expect(performance.now() - stopped).toBeLessThan(14_000);
    status = await lonely.ended;
  } finally {
    await room.plane.control("resume", "apiserver");
  }
  expect(status).not.toBe(0);
}, 90_000);

test("killed again and again in the middle of its work, the next start repairs what is half done", async () => {
  await eventually("the API server is back", async () => await holder(), 30_000);
  // Nobody has to wait for the last one's time to run out.
  await room.api.request("DELETE", leasePath).catch(() => undefined);
  const names = Array.from({ length: 12 }, (_, index) => `killed-${index}`);
  for (const name of names) {
    await createSecret(room.api, "team-b", `${name}-token`, { token: "stored-token-0123456789" });
    await createConnector(room.api, "team-b", name, { address: "https://127.0.0.1:6443" });
  }
  const made = async () => {
    const path = "/api/v1/namespaces/kube-connector-proxy/services";
    const { items } = await room.api.request<{ items: KubeObject[] }>("GET", path);
    return items.filter(({ metadata }) => metadata.name.startsWith("p-team-b--killed")).length;
  };
  for (const least of [1, 4, 8]) {
    const replica = startReplica(`killed-${least}`, ["--leader-elect=false"]);
    await eventually("some are made", async () => expect(await made()).toBeGreaterThanOrEqual(least), 30_000);
    replica.child.kill("SIGKILL");
    await replica.ended;
  }
  startReplica("last", ["--leader-elect=false"]);
  for (const name of names)
    await untilCondition(room.api, "team-b", name, "LivenessReady=False/ConnectionFailed", 40_000);
  for (const kind of ["secrets", "services", "serviceaccounts"]) {
    const path = `/api/v1/namespaces/kube-connector-proxy/${kind}`;
    const { items } = await room.api.request<{ items: KubeObject[] }>("GET", path);
    const own = items.filter(({ metadata }) => metadata.name.includes("team-b--killed"));
    expect({ kind, count: own.length }).toEqual({ kind, count: names.length });
  }
}, 150_000);

test("settings that cannot be used are told all at once, and nothing starts", async () => {
  const broken = startReplica("broken", ["--leader-elect=perhaps", "--namespaces=A_B", "--unknown=1"]);
  expect(await broken.ended).toBe(2);
  for (const text of ["--leader-elect", "--namespaces", "unknown flag --unknown"])
    expect(broken.output()).toContain(text);
});

test("with --namespaces only these are served", async () => {
  startReplica("narrow", ["--leader-elect=false", "--namespaces=team-b"]);
  await createSecret(room.api, "team-b", "inside-token", { token: "stored-token-0123456789" });
  for (const namespace of ["team-a", "team-b"]) {
    await createConnector(room.api, namespace, "inside", { address: "https://127.0.0.1:6443" });
  }
  await untilCondition(room.api, "team-b", "inside", "LivenessReady=False/ConnectionFailed", 30_000);
  const outside = await room.api.request<{ status?: object }>(
    "GET",
    "/apis/connectors.cpaas.io/v1alpha1/namespaces/team-a/connectors/inside",
  );
  expect(outside.status).toBeUndefined();
});
