import { createServer, type IncomingMessage } from "node:http";
import type { AddressInfo } from "node:net";
import { networkInterfaces } from "node:os";
import type { Secret } from "@kube-connector/core";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type Attempt, type Attacker, expectStatus, openAttacker, type Way, ways } from "../../kit/attacks.ts";
import { createPod, requestAdminToken, requestToken } from "../../kit/control-plane.ts";
import { valuesOf } from "../../kit/lenient-target.ts";
import { type PodTokens, type ProxiedPlane, startProxiedPlane } from "../../kit/proxied-plane.ts";
import { basic } from "../../kit/test-proxy.ts";
import { clusterTokenSigner, serviceAccountClaims } from "../../kit/tokens.ts";

// Attacks that need a real API server: real tokens and reviews, grants, and a target that asks its own questions. The target of the
// connectors named "real" and "stale" is the same API server; "prod" has one that echoes and knows nobody.

const kubernetes = "https://kubernetes.default.svc.cluster.local";
let world: ProxiedPlane;
let pod: PodTokens;
let guest: PodTokens;
let stored: Secret;

beforeAll(async () => {
  world = await startProxiedPlane();
  const { admin, ca, url } = world.plane;
  stored = await requestAdminToken(admin);
  await world.serve({ name: "prod" });
  const real = { address: url, tls: { caBundle: ca } };
  await world.serve({ name: "real", ...real, token: stored.reveal() });
  await world.serve({ name: "stale", ...real, token: "no-token-of-that-cluster" });
  pod = await world.pod("team-a", "worker");
  guest = await world.pod("team-b", "guest");
});
afterAll(() => world?.stop());

/** A connection to that connector; the CONNECT has the pod's tunnel token. */
async function open(way: Way, connector: string, tokens: PodTokens = pod): Promise<Attacker> {
  const authority = connector === "prod" ? world.authority : new URL(world.plane.url).host;
  const credentials = basic(`team-a/${connector}`, tokens.tunnel.reveal());
  return await openAttacker(way, {
    ...world.proxy,
    ca: world.ca,
    host: way.door === "forward" ? authority : `c-${connector}.team-a.svc.cluster.local`,
    connect: `CONNECT ${authority} HTTP/1.1\r\nHost: ${authority}\r\nProxy-Authorization: ${credentials}\r\n\r\n`,
  });
}

/** One request on a connection of its own; without a token when it is undefined. */
async function ask(way: Way, connector: string, token: Secret | undefined, attempt: Attempt = {}) {
  const attacker = await open(way, connector);
  const authorization = token === undefined ? [] : [`Bearer ${token.reveal()}`];
  const answer = await attacker.ask({ authorization, path: "/version", ...attempt });
  attacker.close();
  return answer;
}

/** The way into "prod" whose target speaks no HTTP/2. */
const plainWays = ways.filter(({ protocol }) => protocol === "HTTP/1.1");

test.each(ways)(
  "attack 11: what an API server tells anybody it does not tell nobody through a connector ($name)",
  async (way) => {
    // Its anonymous authentication is on: /version is for everybody.
    const direct = await fetchAnonymously("/version");
    expect(direct).toBe(200);
    const before = await arrived("/version?by=nobody");
    expectStatus(await ask(way, "real", undefined, { path: "/version?by=nobody" }), {
      status: 401,
      says: "has no Authorization",
    });
    for (const authorization of [
      ["Bearer "],
      ["Bearer x"],
      [`Bearer ${stored.reveal()}`],
      ["Bearer x", `Bearer ${pod.request.reveal()}`],
    ]) {
      const answer = await ask(way, "real", pod.request, { authorization, path: "/version?by=nobody" });
      // In HTTP/2 a blank at the end of a value is malformed.
      expect(answer.ended ?? answer.status, JSON.stringify(authorization)).toSatisfy(
        (how) => how === 401 || how === "reset 1",
      );
    }
    expect(await arrived("/version?by=nobody")).toBe(before);
    expect((await ask(way, "real", pod.request)).status).toBe(200);
    // A stored token that it does not know makes nobody of no one: 401, and no answer for everybody.
    const stale = await ask(way, "stale", pod.request);
    expect(stale.status).toBe(401);
    expect(valuesOf(stale.head, "warning").join()).toContain("refuses the stored token of connector team-a/stale");
  },
);

async function fetchAnonymously(path: string): Promise<number> {
  const { request } = await import("node:https");
  const { ca, url } = world.plane;
  return await new Promise((resolve, reject) => {
    request(`${url}${path}`, { ca }, (response) => resolve(response.resume().statusCode ?? 0))
      .on("error", reject)
      .end();
  });
}

/** How many requests with that URI the API server has answered. */
const arrived = async (uri: string) =>
  (await world.plane.audited()).filter(({ requestURI }) => requestURI === uri).length;

test.each(ways)(
  "attack 12: tokens of another purpose, cluster or time are a 401, and reach nothing ($name)",
  async (way) => {
    const { admin, tokenKey } = world.plane;
    const [head = ""] = pod.request.reveal().split(".");
    const { kid } = JSON.parse(Buffer.from(head, "base64url").toString()) as { kid: string };
    const cluster = await clusterTokenSigner(tokenKey, kid);
    const hourAgo = Math.floor(Date.now() / 1000) - 3_600;
    const audience = "kube-connector";
    const stranger = { name: "never-was", uid: "00000000-0000-4000-8000-000000000000" };
    const uri = `/version?attack=12-${way.door}-${way.protocol.slice(-1)}`;
    for (const [token, why] of [
      // The two of this very pod, swapped.
      [pod.tunnel, "has the audience kube-connector-tunnel, not kube-connector"],
      [await requestToken(admin, { namespace: "team-a", audience: kubernetes }), "has the audience https://kubernetes"],
      [await requestToken(admin, { namespace: "team-a", audience }), "is bound to no pod"],
      [await cluster.sign(serviceAccountClaims({ audience, issued: hourAgo - 3_600, expires: hourAgo })), "expired"],
      [await cluster.sign(serviceAccountClaims({ audience, pod: stranger })), "no longer accepted"],
      [await cluster.sign(serviceAccountClaims({ audience, issuer: "https://elsewhere.example" })), "issuer"],
    ] as const) {
      expectStatus(await ask(way, "real", token, { path: uri }), { status: 401, says: why }, why);
    }
    expect(await arrived(uri)).toBe(0);
    expect((await ask(way, "real", pod.request, { path: uri })).status).toBe(200);
    expect(await arrived(uri)).toBe(1);
  },
);

test("attack 12: the request token opens no tunnel", async () => {
  const entered = await world.get({ tunnel: pod.request, request: pod.request });
  expect([entered.status, entered.head]).toEqual([
    407,
    expect.stringContaining("has the audience kube-connector, not"),
  ]);
  expect((await world.get(pod)).status).toBe(200);
});

test.each(ways)(
  "attack 12: a pod that was deleted is refused, and so is one that has its name ($name)",
  async (way) => {
    const { admin } = world.plane;
    const name = `doomed-${way.door}-${way.protocol.slice(-1)}`;
    const doomed = await world.pod("team-a", name);
    const path = `/api/v1/namespaces/team-a/pods/${name}`;
    await admin.request("DELETE", path, { query: { gracePeriodSeconds: 0 } });
    // Its first use is after its end: nothing is remembered of it. What is, counts 10 s: proxy-identity.test.ts.
    await expect
      .poll(
        async () =>
          await admin.request("GET", path).then(
            () => true,
            () => false,
          ),
      )
      .toBe(false);
    await createPod(admin, "team-a", name);
    const uri = `/version?attack=12-${name}`;
    expectStatus(await ask(way, "real", doomed.request, { path: uri }), { status: 401, says: "no longer accepted" });
    expect(await arrived(uri)).toBe(0);
  },
);

const rbac = "/apis/rbac.authorization.k8s.io/v1/namespaces/team-a";

// All at once, because a no counts for 3 s.
test("attack 13: without a grant no other namespace uses a connector, by any way", async () => {
  await Promise.all(ways.map(withoutGrant));
});

async function withoutGrant(way: Way): Promise<void> {
  const guestOf = `team-${way.door}-${way.protocol.slice(-1)}`;
  const other = await world.pod(guestOf, "guest");
  const uri = `/version?attack=13-${guestOf}`;
  const status = async () => (await ask(way, "real", other.request, { path: uri })).status;
  const says = "grant it the verb use on connectors.connectors.cpaas.io/real in namespace team-a";
  expectStatus(await ask(way, "real", other.request, { path: uri }), { status: 403, says });
  // A grant for another connector, another verb or another resource is none.
  for (const rule of [
    { name: "prod", resource: "connectors", verb: "use" },
    { name: "real", resource: "connectors", verb: "get" },
    { name: "real", resource: "secrets", verb: "use" },
  ]) {
    await grant(`${guestOf}-${rule.name}-${rule.resource}-${rule.verb}`, guestOf, rule);
  }
  await new Promise((resolve) => setTimeout(resolve, 3_100));
  expectStatus(await ask(way, "real", other.request, { path: uri }), { status: 403, says });
  expect(await arrived(uri)).toBe(0);
  await grant(`${guestOf}-real`, guestOf, { name: "real", resource: "connectors", verb: "use" });
  await expect.poll(status, { timeout: 10_000 }).toBe(200);
}

async function grant(name: string, to: string, rule: { name: string; resource: string; verb: string }): Promise<void> {
  const { admin } = world.plane;
  const rules = [
    { apiGroups: ["connectors.cpaas.io"], resources: [rule.resource], resourceNames: [rule.name], verbs: [rule.verb] },
  ];
  await admin.request("POST", `${rbac}/roles`, { body: { metadata: { name }, rules } });
  await admin.request("POST", `${rbac}/rolebindings`, {
    body: {
      metadata: { name },
      roleRef: { apiGroup: "rbac.authorization.k8s.io", kind: "Role", name },
      subjects: [{ kind: "ServiceAccount", name: "default", namespace: to }],
    },
  });
}

test.each(plainWays)(
  "attack 13: a connector of a used name is another one: its grants are asked for anew ($name)",
  async (way) => {
    const name = `again-${way.door}`;
    const path = "/api/v1/pods";
    const use = async () => {
      const entered =
        way.door === "forward"
          ? await world.open(guest, `team-a/${name}`)
          : { client: await world.direct(`team-a/${name}`) };
      if ("refused" in entered) return entered.refused.status;
      const host = way.door === "forward" ? world.authority : `c-${name}.team-a.svc.cluster.local`;
      const text = `GET ${path} HTTP/1.1\r\nHost: ${host}\r\nAuthorization: Bearer ${guest.request.reveal()}\r\n\r\n`;
      const { status } = await entered.client.ask(text);
      entered.client.socket.destroy();
      return status;
    };
    await world.serve({ name, uid: "first" });
    await grant(`use-${name}`, "team-b", { name, resource: "connectors", verb: "use" });
    await expect.poll(use, { timeout: 10_000 }).toBe(200);
    await world.plane.admin.request("DELETE", `${rbac}/rolebindings/use-${name}`);
    await until(async () => !(await mayUse(name)));
    // What was known of the first one would count for 10 s.
    await world.serve({ name, uid: "second" });
    await expect.poll(use, { timeout: 3_000 }).toBe(403);
  },
);

async function mayUse(name: string): Promise<boolean> {
  const path = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
  const resourceAttributes = {
    group: "connectors.cpaas.io",
    resource: "connectors",
    verb: "use",
    namespace: "team-a",
    name,
  };
  const { status } = await world.plane.admin.request<{ status: { allowed: boolean } }>("POST", path, {
    body: { spec: { user: "system:serviceaccount:team-b:default", resourceAttributes } },
  });
  return status.allowed;
}

async function until(holds: () => Promise<boolean>): Promise<void> {
  while (!(await holds())) await new Promise((resolve) => setTimeout(resolve, 50));
}

/** An address of this machine that an API server reaches services at: it goes to no loopback address. */
const ownAddress = Object.values(networkInterfaces())
  .flat()
  .find((one) => one?.family === "IPv4" && !one.internal)?.address;

test.each(ways)(
  "attack 29: who echoes behind services/proxy or pods/proxy sees no stored token ($name)",
  async (way) => {
    if (ownAddress === undefined) throw new Error("this machine has no address but loopback");
    const { admin } = world.plane;
    const heard: IncomingMessage["headers"][] = [];
    const echo = createServer((request, response) => {
      heard.push(request.headers);
      response.end(JSON.stringify(request.rawHeaders));
    });
    await new Promise<void>((resolve) => echo.listen(0, ownAddress, resolve));
    const { port } = echo.address() as AddressInfo;
    const name = `echo-${way.door}-${way.protocol.slice(-1)}`;
    try {
      const services = "/api/v1/namespaces/team-a/services";
      await admin.request("POST", services, {
        body: { metadata: { name }, spec: { clusterIP: "None", ports: [{ name: "http", port }] } },
      });
      const pods = "/api/v1/namespaces/team-a/pods";
      const uid = await createPod(admin, "team-a", name);
      await admin.request("PATCH", `${pods}/${name}/status`, {
        contentType: "application/merge-patch+json",
        body: { status: { phase: "Running", podIP: ownAddress, podIPs: [{ ip: ownAddress }] } },
      });
      const targetRef = { kind: "Pod", namespace: "team-a", name, uid };
      const subsets = [{ addresses: [{ ip: ownAddress, targetRef }], ports: [{ name: "http", port }] }];
      await admin.request("POST", "/api/v1/namespaces/team-a/endpoints", { body: { metadata: { name }, subsets } });
      const lines = ["X-Marker: came-through", "Cookie: a=b"];
      for (const path of [
        `${services}/http:${name}:http/proxy/deep/path`,
        `${pods}/http:${name}:${port}/proxy/deep/path`,
      ]) {
        heard.length = 0;
        const answer = await ask(way, "real", pod.request, { path, lines });
        expect([answer.status, heard.length], `${path} ${answer.body.slice(0, 200)}`).toEqual([200, 1]);
        expect(heard[0]).toMatchObject({ "x-marker": "came-through" });
        const all = answer.body + JSON.stringify(heard);
        for (const token of [stored, pod.request, pod.tunnel]) expect(all).not.toContain(token.reveal());
        expect(heard[0]?.authorization).toBeUndefined();
      }
    } finally {
      echo.closeAllConnections();
      await new Promise((resolve) => echo.close(resolve));
    }
  },
);
