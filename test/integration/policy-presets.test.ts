import { randomUUID } from "node:crypto";
import { request as httpRequest } from "node:http";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { createPod, requestAdminToken } from "../kit/control-plane.ts";
import { type PodTokens, type ProxiedPlane, startProxiedPlane } from "../kit/proxied-plane.ts";
import type { RawClient } from "../kit/raw-client.ts";

// The presets before a real kube-apiserver, with a stored token that may do everything: every resource and subresource that
// discovery lists, every verb, and every way to open a stream. What a preset lets pass changes nothing in etcd but the Jobs that
// JobRunner is for; what it refuses is told so, and never arrives.

const namespace = "table";
let world: ProxiedPlane;
let pod: PodTokens;

beforeAll(async () => {
  world = await startProxiedPlane();
  const { admin, ca, url } = world.plane;
  const stored = await requestAdminToken(admin);
  for (const preset of ["ReadOnly", "JobRunner"]) {
    const name = preset.toLowerCase();
    await world.serve({
      name,
      address: url,
      tls: { caBundle: ca },
      token: stored.reveal(),
      more: { policy: { preset } },
    });
  }
  pod = await world.pod("team-a", "worker");
  await createPod(admin, namespace, "pod");
  const core = `/api/v1/namespaces/${namespace}`;
  await admin.request("POST", `${core}/configmaps`, { body: { metadata: { name: "config" }, data: { a: "b" } } });
  await admin.request("POST", `${core}/secrets`, { body: { metadata: { name: "secret" }, stringData: { a: "b" } } });
  await admin.request("POST", `${core}/services`, {
    body: { metadata: { name: "service" }, spec: { ports: [{ port: 80 }] } },
  });
  await admin.request("POST", "/api/v1/nodes", { body: { metadata: { name: "node" } } });
  await admin.request("POST", `/apis/batch/v1/namespaces/${namespace}/jobs`, { body: job("job") });
  const selector = { matchLabels: { app: "x" } };
  const template = { metadata: { labels: { app: "x" } }, spec: { containers: [{ name: "main", image: "none" }] } };
  await admin.request("POST", `/apis/apps/v1/namespaces/${namespace}/deployments`, {
    body: { metadata: { name: "deployment" }, spec: { selector, template } },
  });
});
afterAll(() => world.stop());

const job = (name: string) => ({
  apiVersion: "batch/v1",
  kind: "Job",
  metadata: { name },
  spec: { template: { spec: { restartPolicy: "Never", containers: [{ name: "main", image: "none" }] } } },
});

interface Asked {
  method: string;
  path: string;
  /** group/resource/subresource, or the path of what is no resource. */
  what: string;
  verb: string;
  upgrade?: "websocket" | "SPDY/3.1";
  body?: unknown;
}

/** All that discovery offers, on objects that are there where there are any. */
async function table(): Promise<Asked[]> {
  const { admin } = world.plane;
  type Groups = { groups: { preferredVersion: { groupVersion: string } }[] };
  type Resources = { resources: { name: string; namespaced: boolean; verbs: string[] }[] };
  type List = { items: { metadata: { name: string } }[] };
  const { groups } = await admin.request<Groups>("GET", "/apis");
  const roots = ["/api/v1", ...groups.map(({ preferredVersion }) => `/apis/${preferredVersion.groupVersion}`)];
  const all: Asked[] = [];
  for (const root of roots) {
    const group = root === "/api/v1" ? "" : (root.split("/")[2] ?? "");
    const { resources } = await admin.request<Resources>("GET", root);
    const names = new Map<string, string>();
    for (const { name, namespaced, verbs } of resources) {
      const [resource = "", subresource] = name.split("/");
      const where = namespaced ? `${root}/namespaces/${namespace}/${resource}` : `${root}/${resource}`;
      if (subresource === undefined && verbs.includes("list")) {
        const { items } = await admin.request<List>("GET", where);
        names.set(resource, items[0]?.metadata.name ?? "x");
      }
      const object = `${where}/${names.get(resource) ?? "x"}${subresource === undefined ? "" : `/${subresource}`}`;
      const what = `${group}/${name}`;
      all.push(...onObject(object, what));
      if (subresource === undefined) all.push(...onAll(where, what, root, resource));
    }
  }
  return all;
}

const change = { metadata: { labels: { "table-was": "here" } } };

function onObject(path: string, what: string): Asked[] {
  return [
    { method: "GET", path, what, verb: "get" },
    { method: "HEAD", path, what, verb: "get" },
    { method: "POST", path, what, verb: "create", body: {} },
    { method: "PUT", path, what, verb: "update", body: change },
    { method: "PATCH", path, what, verb: "patch", body: change },
    { method: "DELETE", path: `${path}?dryRun=All`, what, verb: "delete" },
    { method: "DELETE", path, what, verb: "delete" },
    { method: "OPTIONS", path, what, verb: "options" },
    { method: "GET", path, what, verb: "get", upgrade: "websocket" },
    { method: "POST", path, what, verb: "create", upgrade: "SPDY/3.1" },
    { method: "GET", path, what, verb: "get", upgrade: "SPDY/3.1" },
  ];
}

function onAll(path: string, what: string, root: string, resource: string): Asked[] {
  const body = what === "batch/jobs" ? job(`job-${randomUUID()}`) : {};
  return [
    { method: "GET", path, what, verb: "list" },
    { method: "GET", path: `${root}/${resource}`, what, verb: "list" },
    { method: "GET", path: `${path}?watch=1`, what, verb: "watch" },
    { method: "GET", path: `${path}?watch=1`, what, verb: "watch", upgrade: "websocket" },
    { method: "GET", path: `${root}/watch/${resource}`, what, verb: "watch" },
    { method: "POST", path, what, verb: "create", body },
    { method: "POST", path: `${path}?dryRun=All`, what, verb: "create", body },
    { method: "DELETE", path, what, verb: "deletecollection" },
    { method: "GET", path: `${root}/proxy/${resource}/x/y`, what: `${what}/proxy`, verb: "proxy" },
    // namespaces/x/proxy/y is an object y of a resource proxy in that namespace.
    ...(resource === "namespaces" ? [] : proxied(path, what)),
  ];
}

const proxied = (path: string, what: string): Asked[] =>
  ["GET", "POST"].map((method) => ({ method, path: `${path}/x/proxy/y`, what: `${what}/proxy`, verb: "proxy" }));

interface Answered extends Asked {
  id: string;
  status: number;
  /** Whether our policy refused it. */
  refused: boolean;
}

async function askAll(connector: string, all: readonly Asked[]): Promise<Answered[]> {
  const waiting = [...all];
  const answers: Answered[] = [];
  const work = async () => {
    let client: RawClient | undefined;
    let count = 0;
    for (let one = waiting.shift(); one !== undefined; one = waiting.shift()) {
      if (client?.socket.readable !== true) client = await world.direct(`team-a/${connector}`);
      answers.push(await ask(client, one, connector));
      // A client keeps all that it has heard, and a stream goes on.
      const isLast = /\r\nconnection: close/i.test(client.received().slice(-2_000));
      if (++count % 50 === 0 || isLast || one.verb === "watch" || one.upgrade !== undefined) client.socket.destroy();
    }
    client?.socket.destroy();
  };
  await Promise.all([work(), work(), work(), work()]);
  return answers;
}

async function ask(client: RawClient, one: Asked, connector: string): Promise<Answered> {
  const id = randomUUID();
  const body = one.body === undefined ? "" : JSON.stringify(one.body);
  const type = one.method === "PATCH" ? "application/merge-patch+json" : "application/json";
  const lines = [
    `${one.method} ${one.path} HTTP/1.1`,
    `Host: c-${connector}.team-a.svc.cluster.local`,
    `Audit-ID: ${id}`,
    `Authorization: Bearer ${pod.request.reveal()}`,
    ...(one.upgrade === undefined ? [] : ["Connection: Upgrade", `Upgrade: ${one.upgrade}`]),
    ...(body === "" ? [] : [`Content-Type: ${type}`, `Content-Length: ${Buffer.byteLength(body)}`]),
  ];
  const text = `${lines.join("\r\n")}\r\n\r\n${one.upgrade === undefined ? body : ""}`;
  if (one.verb !== "watch" && one.upgrade === undefined) {
    const answer = await client.ask(text);
    const refused = answer.head.includes("The policy of connector");
    return { ...one, id, status: answer.status, refused };
  }
  const from = client.received().length;
  client.send(text);
  const head = (await client.until("\r\n\r\n", from)).slice(from);
  return { ...one, id, status: Number(head.slice(9, 12)), refused: head.includes("The policy of connector") };
}

/** Every key in etcd with the revision at which it was last written, but for what the API server renews by itself. */
async function stored(): Promise<Map<string, string>> {
  const body = JSON.stringify({ key: "AA==", range_end: "AA==", keys_only: true });
  const text = await new Promise<string>((resolve, reject) => {
    const socketPath = join(world.plane.folder, "etcd.sock:0");
    const request = httpRequest({ socketPath, method: "POST", path: "/v3/kv/range" }, (response) => {
      let all = "";
      response.on("data", (chunk: Buffer) => (all += chunk.toString()));
      response.on("end", () => resolve(all));
    });
    request.on("error", reject).end(body);
  });
  const { kvs } = JSON.parse(text) as { kvs: { key: string; mod_revision: string }[] };
  const keys = kvs.map(({ key, mod_revision }): [string, string] => [
    Buffer.from(key, "base64").toString(),
    mod_revision,
  ]);
  return new Map(
    keys.filter(([key]) => !/^(compact_rev_key|\/registry\/(leases|masterleases|peerserverlease)\/)/.test(key)),
  );
}

function changed(before: Map<string, string>, after: Map<string, string>): string[] {
  const keys = new Set([...before.keys(), ...after.keys()]);
  return [...keys].filter((key) => before.get(key) !== after.get(key));
}

const brief = ({ method, path, verb, status, upgrade }: Answered) =>
  `${status} ${verb} ${method} ${path} ${upgrade ?? ""}`;

/** None of what was refused is in the target's audit log. */
async function arrived(answers: readonly Answered[]): Promise<string[]> {
  const events = new Set((await world.plane.audited()).map(({ auditID }) => auditID));
  return answers.filter(({ refused, id }) => refused && events.has(id)).map(brief);
}

/** Must be refused by both, whatever the verb or the protocol. */
const never = /^\/secrets$|\/(exec|attach|portforward|proxy|token|eviction|binding)$/;
const selfReview = /^(authorization|authentication)\.k8s\.io\/selfsubject(access|rules)?reviews$/;

test("attack 30: ReadOnly: what passes reads, and changes nothing", async () => {
  const all = await table();
  expect(all.length).toBeGreaterThan(1_000);
  const before = await stored();
  const answers = await askAll("readonly", all);
  expect(changed(before, await stored())).toEqual([]);
  const passed = answers.filter(({ refused }) => !refused);
  const reads = new Set(["get", "list", "watch"]);
  const wrong = passed.filter(({ verb, what, upgrade }) => {
    if (upgrade !== undefined) return true;
    if (selfReview.test(what) && verb === "create") return false;
    return !reads.has(verb) || never.test(what);
  });
  expect(wrong.map(brief)).toEqual([]);
  expect(answers.filter(({ refused, status }) => refused && status !== 403).map(brief)).toEqual([]);
  expect(await arrived(answers)).toEqual([]);
  // And it is of use: every list but that of Secrets is there.
  const lists = answers.filter(({ verb, what }) => verb === "list" && what !== "/secrets");
  expect(lists.filter(({ status }) => ![200, 404, 405].includes(status)).map(brief)).toEqual([]);
  expect(passed.length).toBeGreaterThan(200);
});

test("attack 30: JobRunner: what passes is Jobs and what one needs to follow them, and only Jobs change", async () => {
  const all = await table();
  const before = await stored();
  const answers = await askAll("jobrunner", all);
  const keys = changed(before, await stored());
  expect(keys.length).toBeGreaterThan(0);
  expect(keys.filter((key) => !key.startsWith("/registry/jobs/"))).toEqual([]);
  const passed = answers.filter(({ refused }) => !refused);
  expect(passed.filter(({ upgrade, what }) => upgrade !== undefined || never.test(what)).map(brief)).toEqual([]);
  const kinds = passed.filter(({ what }) => !selfReview.test(what)).map(({ what, verb }) => `${what} ${verb}`);
  expect([...new Set(kinds)].sort()).toEqual([
    "/events list",
    "/events watch",
    "/pods get",
    "/pods list",
    "/pods watch",
    "/pods/log get",
    "batch/cronjobs get",
    "batch/cronjobs list",
    "batch/jobs create",
    "batch/jobs delete",
    "batch/jobs get",
    "batch/jobs list",
    "batch/jobs patch",
    "batch/jobs watch",
    "batch/jobs/status get",
    "events.k8s.io/events list",
    "events.k8s.io/events watch",
  ]);
  expect(await arrived(answers)).toEqual([]);
});
