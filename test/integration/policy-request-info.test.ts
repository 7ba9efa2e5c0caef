import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, expect, test } from "vitest";
// oxlint-disable-next-line import/no-relative-packages -- RequestInfo is no part of the proxy's index
import { type RequestInfo, requestInfo } from "../../proxy/src/request-info.ts";
// oxlint-disable-next-line import/no-relative-packages -- nor is the request target
import { upstreamTarget } from "../../proxy/src/target.ts";
import { type AuditEvent, ensureServiceAccount, requestToken } from "../kit/control-plane.ts";
import { type PodTokens, type ProxiedPlane, startProxiedPlane } from "../kit/proxied-plane.ts";
import { createRandom, type Random } from "../kit/random.ts";
import type { RawClient } from "../kit/raw-client.ts";

// Our reading of a request is kube-apiserver's: thousands of requests, made by a seed, go through the proxy to a real one,
// whose audit log says how it read each. The stored token has no rights there, so nothing is changed and no object that was found
// fills in what the request did not say. What we refuse must not have arrived.

const host = "c-prod.team-a.svc.cluster.local";
const connections = 4;
let world: ProxiedPlane;
let pod: PodTokens;

beforeAll(async () => {
  world = await startProxiedPlane();
  const { admin, ca, url } = world.plane;
  await ensureServiceAccount(admin, "target-system", "nobody");
  const audience = "https://kubernetes.default.svc.cluster.local";
  const stored = await requestToken(admin, { namespace: "target-system", serviceAccount: "nobody", audience });
  // One caller asks thousands of times in a few seconds.
  const limits = { requestsPerSecond: 10_000, burst: 20_000, streams: 500 };
  await world.serve({ name: "prod", address: url, tls: { caBundle: ca }, token: stored.reveal(), more: { limits } });
  pod = await world.pod("team-a", "worker");
});
afterAll(() => world.stop());

interface Sent {
  id: string;
  method: string;
  target: string;
  /** How we read it; undefined when we refuse it. */
  info: RequestInfo | undefined;
}

function sentOf(method: string, target: string): Sent {
  const id = randomUUID();
  try {
    const { judged, query } = upstreamTarget(target, "reverse", "");
    return { id, method, target, info: requestInfo(method, judged, query) };
  } catch {
    return { id, method, target, info: undefined };
  }
}

/** Sends them one after the other on a few connections; answers with their statuses. */
async function sendAll(all: readonly Sent[]): Promise<Map<string, number>> {
  const statuses = new Map<string, number>();
  const waiting = [...all];
  const work = async () => {
    let client: RawClient | undefined;
    let count = 0;
    for (let one = waiting.shift(); one !== undefined; one = waiting.shift()) {
      if (client?.socket.readable !== true) client = await world.direct();
      const head = `${one.method} ${one.target} HTTP/1.1\r\nHost: ${host}\r\nAudit-ID: ${one.id}\r\n`;
      const answer = await client.ask(`${head}Authorization: Bearer ${pod.request.reveal()}\r\n\r\n`);
      statuses.set(one.id, answer.status);
      // A client keeps all that it has heard.
      if (++count % 200 === 0) client.socket.destroy();
    }
    client?.socket.destroy();
  };
  await Promise.all(Array.from({ length: connections }, work));
  return statuses;
}

/** The event as we would have written it. */
function expected({ target, info }: Sent) {
  if (info === undefined) return undefined;
  const { verb, resource, namespace, name, apiGroup, apiVersion, subresource } = info;
  const all = Object.entries({ resource, namespace, name, apiGroup, apiVersion, subresource });
  const objectRef = Object.fromEntries(all.filter(([, value]) => value !== ""));
  return { verb, requestURI: target, ...(info.isResource ? { objectRef } : {}) };
}

async function compare(all: readonly Sent[]): Promise<{ compared: number; refused: number }> {
  const statuses = await sendAll(all);
  const last = all.findLast(({ info }) => info !== undefined)?.id;
  const arrived = async () => {
    const events = await world.plane.audited();
    return new Map(events.map((event): [string, AuditEvent] => [event.auditID, event]));
  };
  await expect.poll(async () => (await arrived()).has(last ?? ""), { timeout: 10_000 }).toBe(true);
  const events = await arrived();
  let compared = 0;
  const wrong: unknown[] = [];
  for (const sent of all) {
    const event = events.get(sent.id);
    const { verb, requestURI, objectRef } = event ?? {};
    const theirs = event && { verb, requestURI, ...(objectRef === undefined ? {} : { objectRef }) };
    const ours = expected(sent);
    compared += ours === undefined ? 0 : 1;
    const isRefused = [400, 404].includes(statuses.get(sent.id) ?? 0);
    const agrees = JSON.stringify(sorted(ours)) === JSON.stringify(sorted(theirs));
    if (!agrees || (ours === undefined && !isRefused)) {
      wrong.push({ ...sent, status: statuses.get(sent.id), ours, theirs });
    }
  }
  expect(wrong.slice(0, 5)).toEqual([]);
  return { compared, refused: all.length - compared };
}

const sorted = (value: object | undefined): unknown =>
  value &&
  Object.entries(value)
    .map(([key, one]) => [key, typeof one === "object" ? sorted(one as object) : (one as string)])
    .sort(([a], [b]) => (String(a) < String(b) ? -1 : 1));

const methods = ["GET", "GET", "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "DELETE", "OPTIONS"];
const words = ["v1", "v1beta1", "apps", "batch", "namespaces", "pods", "secrets", "nodes", "watch", "proxy", "status"];
const more = ["finalize", "exec", "log", "token", "a", "team-a", "x.y", "system%3Anode", "a%20b", "a+b", "%C3%A4", "*"];
const odd = ["a:b", "@", "%3F", "%23", "%7Bx%7D", "~", "...", "a%26b", "%3D", "[x]", "(x)", "!", "$", "api", "apis"];
const bad = [".", "..", "%2e%2e", "%2F", "%25", "s%65crets", "a;b", "", "%", "%zz", "%c0%af", "%00", "a\\b", "{x}"];
const roots = ["api", "api", "api", "apis", "apis", "apis", "API", "apiS", "healthz", "version", "openapi", "x"];
const names = ["watch", "fieldSelector", "labelSelector", "limit", "timeoutSeconds", "dryRun", "w%61tch", "Watch", "x"];
const values = ["", "1", "0", "true", "FALSE", "no", "-1", "+5", "1e3", "99999999999999999999", "All", "a=b", "%61"];
const fields = ["metadata.name%3Dx", "metadata.name==x,spec.y!=z", "metadata.name=b,metadata.name=a", "metadata.name"];
const escaped = ["metadata.name=a%5C%2Cb", "metadata.name=a%5Cb", "metadata.name=.", "metadata.name=a%2Fb", "a+b=c"];
const labels = ["a%3Db", "a,!b", "a+in+(b,c)", "a%3D%3D%3Db", "%C3%A4", "x/y=z", "a+notin+()", "a>1", "a=b,"];
const oddQueries = ["a;b", "%zz", "&&", "=", "%", "watch&watch=0", "watch=0&watch=1", "a=%ff", "watch=fal%C5%BFe"];

function randomTarget(random: Random): string {
  const segment = () => {
    if (random.chance(0.02)) return random.pick(bad);
    return random.pick(random.chance(0.6) ? words : random.chance(0.7) ? more : odd);
  };
  const count = random.number(8);
  const parts = [random.pick(roots), ...Array.from({ length: count }, segment)];
  const path = `/${parts.join("/")}${random.chance(0.1) ? "/" : ""}`;
  const value = () => random.pick(random.chance(0.5) ? values : random.pick([fields, fields, escaped, labels]));
  const query = Array.from({ length: random.number(4) }, () =>
    random.chance(0.08) ? random.pick(oddQueries) : `${random.pick(names)}=${value()}`,
  );
  return query.length === 0 && random.chance(0.95) ? path : `${path}?${query.join("&")}`;
}

test("3,000 requests that a seed made are read alike, or refused", async () => {
  const random = createRandom(20_261_121);
  const all = Array.from({ length: 3_000 }, () => sentOf(random.pick(methods), randomTarget(random)));
  const { compared, refused } = await compare(all);
  expect(compared).toBeGreaterThan(2_000);
  expect(refused).toBeGreaterThan(100);
});

interface Discovered {
  groupVersion: string;
  resources: { name: string; namespaced: boolean }[];
}

test("every resource and subresource that discovery lists is read alike, with every method", async () => {
  const { admin } = world.plane;
  const groups = await admin.request<{ groups: { preferredVersion: { groupVersion: string } }[] }>("GET", "/apis");
  const roots = ["/api/v1", ...groups.groups.map(({ preferredVersion }) => `/apis/${preferredVersion.groupVersion}`)];
  const all: Sent[] = [];
  for (const root of roots) {
    const { resources } = await admin.request<Discovered>("GET", root);
    for (const { name, namespaced } of resources) {
      const [resource = "", subresource] = name.split("/");
      const where = namespaced ? `${root}/namespaces/team-a/${resource}` : `${root}/${resource}`;
      const object = `${where}/x${subresource === undefined ? "" : `/${subresource}`}`;
      for (const method of ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]) all.push(sentOf(method, object));
      if (subresource !== undefined) continue;
      for (const method of ["GET", "POST", "DELETE"]) all.push(sentOf(method, where));
      all.push(sentOf("GET", `${where}?watch=1`), sentOf("GET", `${where}?fieldSelector=metadata.name%3Dx`));
      all.push(sentOf("GET", `${root}/watch/${resource}`), sentOf("GET", `${root}/proxy/${resource}/x`));
      if (namespaced) all.push(sentOf("GET", `${root}/${resource}`));
    }
  }
  expect((await compare(all)).refused).toBe(0);
  expect(all.length).toBeGreaterThan(500);
});
