import { afterAll, beforeAll, expect, test } from "vitest";
import { requestAdminToken } from "../kit/control-plane.ts";
import { type PodTokens, type ProxiedPlane, startProxiedPlane } from "../kit/proxied-plane.ts";
import type { RawClient } from "../kit/raw-client.ts";

// A policy that changes in the resolved Secret, before a real API server: the next request is judged by it, a stream that it still
// allows goes on, and one that it forbids ends; in mode Warn nothing does.

let world: ProxiedPlane;
let pod: PodTokens;
let stored: string;

beforeAll(async () => {
  world = await startProxiedPlane();
  const { admin } = world.plane;
  const token = await requestAdminToken(admin);
  stored = token.reveal();
  await serve({ preset: "Full" });
  pod = await world.pod("team-a", "worker");
});
afterAll(() => world.stop());

const serve = (policy: unknown) =>
  world.serve({
    name: "prod",
    address: world.plane.url,
    tls: { caBundle: world.plane.ca },
    token: stored,
    more: { policy },
  });

const text = (method: string, path: string) =>
  `${method} ${path} HTTP/1.1\r\nHost: c-prod.team-a.svc.cluster.local\r\nAuthorization: Bearer ${pod.request.reveal()}\r\n\r\n`;

async function ask(method: string, path: string) {
  const client = await world.direct();
  const answer = await client.ask(text(method, path));
  client.socket.destroy();
  return answer;
}

async function watch(resource: string): Promise<RawClient> {
  const client = await world.direct();
  client.send(text("GET", `/api/v1/${resource}?watch=1`));
  expect(await client.until("\r\n\r\n")).toContain("HTTP/1.1 200 ");
  return client;
}

test("attack 31: Full, Warn, ReadOnly, rules: each acts at once, on requests and on open streams", async () => {
  const secrets = await watch("secrets");
  const pods = await watch("pods");
  await serve({ preset: "ReadOnly", mode: "Warn" });
  const warned = async () => (await ask("GET", "/api/v1/secrets?limit=1")).head;
  await expect
    .poll(warned, { timeout: 5_000 })
    .toMatch(/ 200 [\s\S]*Warning: 299 - "The policy of connector team-a\/prod/);
  await new Promise((resolve) => setTimeout(resolve, 1_500));
  expect([secrets.socket.readable, pods.socket.readable]).toEqual([true, true]);
  await serve({ preset: "ReadOnly" });
  await secrets.closed();
  expect((await ask("GET", "/api/v1/secrets?limit=1")).status).toBe(403);
  expect(pods.socket.readable).toBe(true);
  await serve({ rules: [{ verbs: ["list"], apiGroups: [""], resources: ["pods"] }] });
  await pods.closed();
  const refused = await ask("GET", "/api/v1/pods?watch=1");
  expect(refused.body).toContain("(rules) does not allow watch of pods for all namespaces");
  expect((await ask("GET", "/api/v1/pods?limit=1")).status).toBe(200);
  expect(await world.read("/metrics")).toMatch(/decisions_total\{[^}]*step="policy"[^}]*result="warn"[^}]*\} [1-9]/);
});
