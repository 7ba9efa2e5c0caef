import { afterAll, beforeAll, expect, test } from "vitest";
import { ensureNamespace } from "../kit/control-plane.ts";
import { type PodTokens, type ProxiedPlane, requestText, startProxiedPlane } from "../kit/proxied-plane.ts";

// Streams that are open while rights change, with a real API server's answers: the caller is asked about again and again
// (here every second, else every minute), and the stream ends when the answer is no, or when its connector is gone. A new
// token, leaf or an API server that is away for a while cuts nothing.

let world: ProxiedPlane;
const rbac = "/apis/rbac.authorization.k8s.io/v1/namespaces/team-a";
const sleep = (milliseconds: number) => new Promise((resolve) => setTimeout(resolve, milliseconds));

beforeAll(async () => {
  world = await startProxiedPlane({
    timeouts: { review: 1_000 },
    // Each request is a watch with an event every 100 ms.
    onConnection: (connection) => {
      void connection.until("\r\n\r\n").then(() => {
        connection.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        const timer = setInterval(() => connection.send("6\r\nevent\n\r\n"), 100);
        connection.socket.once("close", () => clearInterval(timer));
      });
    },
  });
  await world.serve({ name: "prod" });
  await ensureNamespace(world.plane.admin, "team-a");
  await world.plane.admin.request("POST", `${rbac}/roles`, {
    body: {
      metadata: { name: "use" },
      rules: [{ apiGroups: ["connectors.cpaas.io"], resources: ["connectors"], verbs: ["use"] }],
    },
  });
});
afterAll(() => world.stop());

/** A stream of that pod, and how many seconds it lives from now on. */
async function openStream(tokens: PodTokens) {
  const entered = await world.open(tokens);
  if ("refused" in entered) throw new Error(entered.refused.head);
  const { client } = entered;
  client.send(requestText(world.authority, tokens.request));
  await client.until("event");
  let endedAt: number | undefined;
  const ended = client.closed().then(() => {
    endedAt = performance.now();
    return endedAt;
  });
  const flows = async () => {
    const before = client.received().length;
    await sleep(500);
    return endedAt === undefined && client.received().length > before;
  };
  return { ended, flows };
}

test("a stream ends soon after its grant is removed, and its neighbours go on", async () => {
  const guest = await world.pod("team-b", "guest");
  const own = await openStream(await world.pod("team-a", "own"));
  await world.plane.admin.request("POST", `${rbac}/rolebindings`, {
    body: {
      metadata: { name: "guests" },
      roleRef: { apiGroup: "rbac.authorization.k8s.io", kind: "Role", name: "use" },
      subjects: [{ kind: "ServiceAccount", name: "default", namespace: "team-b" }],
    },
  });
  await sleep(500);
  const stream = await openStream(guest);
  await sleep(2_500);
  expect(await stream.flows()).toBe(true);
  await world.plane.admin.request("DELETE", `${rbac}/rolebindings/guests`);
  const removed = performance.now();
  const seconds = ((await stream.ended) - removed) / 1000;
  console.log(`a stream ended ${seconds.toFixed(1)} s after its grant was removed`);
  // 1 s until the next question, 10 s that a yes counts, and what RBAC takes.
  expect(seconds).toBeLessThan(13);
  expect(await own.flows()).toBe(true);
});

test("a stream ends soon after its pod is deleted", async () => {
  const stream = await openStream(await world.pod("team-a", "doomed"));
  await world.plane.admin.request("DELETE", "/api/v1/namespaces/team-a/pods/doomed", {
    query: { gracePeriodSeconds: 0 },
  });
  const deleted = performance.now();
  expect((await stream.ended) - deleted).toBeLessThan(22_000);
});

test("a stream goes on through a new stored token, a new leaf and ten seconds without the API server", async () => {
  const stream = await openStream(await world.pod("team-a", "steady"));
  await world.serve({ name: "prod", token: "next-token" });
  expect(await stream.flows()).toBe(true);
  await world.plane.control("stop", "apiserver");
  await sleep(12_000);
  expect(await stream.flows()).toBe(true);
  await world.plane.control("start", "apiserver");
  await sleep(2_000);
  expect(await stream.flows()).toBe(true);
});

test("a stream ends at once when its connector is deleted", async () => {
  const stream = await openStream(await world.pod("team-a", "last"));
  await world.plane.admin.request("DELETE", "/api/v1/namespaces/kube-connector-proxy/secrets/team-a-prod");
  const deleted = performance.now();
  expect((await stream.ended) - deleted).toBeLessThan(2_000);
});
