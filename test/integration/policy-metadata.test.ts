import { execFile } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { ensureServiceAccount, requestAdminToken } from "../kit/control-plane.ts";
import { type PodTokens, type ProxiedPlane, startProxiedPlane } from "../kit/proxied-plane.ts";

// Secrets as metadata only, before a real kube-apiserver: values that are in data, in kubectl's last-applied annotation and
// (as names of fields) in managedFields leave in no byte, in whatever form they are asked for; names and labels do. That the
// search would find them is shown by the same requests under Full.

const namespace = "vault";
/** In lower case, as it is part of a field's name too. */
const canary = "canary-7f3a9b5e1d";
const forms = [canary, Buffer.from(canary).toString("base64").slice(0, 18), Buffer.from(canary).toString("hex")];
let world: ProxiedPlane;
let pod: PodTokens;
let folder: string;

const everything = [
  { verbs: ["*"], apiGroups: ["*"], resources: ["*"] },
  { verbs: ["*"], nonResourceURLs: ["*"] },
];
const masked = { verbs: ["get", "list", "watch"], apiGroups: [""], resources: ["secrets"], effect: "MetadataOnly" };

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "kubectl-"));
  world = await startProxiedPlane();
  const { admin, ca, url } = world.plane;
  const stored = await requestAdminToken(admin);
  const tls = { caBundle: ca };
  await world.serve({ name: "full", address: url, tls, token: stored.reveal() });
  const policy = { rules: [...everything, masked] };
  await world.serve({ name: "masked", address: url, tls, token: stored.reveal(), more: { policy } });
  pod = await world.pod("team-a", "worker");
  await ensureServiceAccount(admin, namespace, "any");
  for (const name of ["one", "two", "three"]) {
    // Large enough that the API server compresses a list of them.
    const filler = Buffer.alloc(60_000, `${name}${canary}`).toString("base64");
    const data = { [canary]: Buffer.from(canary).toString("base64"), filler };
    await admin.request("POST", `/api/v1/namespaces/${namespace}/secrets`, {
      body: {
        metadata: {
          name,
          labels: { "kept-label": "yes" },
          annotations: {
            "kubectl.kubernetes.io/last-applied-configuration": JSON.stringify({ data }),
            note: "kept-note",
          },
        },
        data,
        stringData: { text: canary },
      },
    });
  }
});
afterAll(async () => {
  await world.stop();
  await rm(folder, { recursive: true });
});

interface Form {
  method?: string;
  path: string;
  headers?: string[];
  body?: string;
  /** What to wait for; else the answer's end. */
  until?: string;
}

/** Everything that came back, compressed bodies also as what they hold. */
async function bytesOf(connector: string, form: Form): Promise<{ status: number; text: string }> {
  const client = await world.direct(`team-a/${connector}`);
  const { method = "GET", path, headers = [], body = "" } = form;
  const lines = [
    `${method} ${path} HTTP/1.1`,
    `Host: c-${connector}.team-a.svc.cluster.local`,
    `Authorization: Bearer ${pod.request.reveal()}`,
    ...headers,
    ...(body === "" ? [] : [`Content-Length: ${Buffer.byteLength(body)}`]),
  ];
  const request = `${lines.join("\r\n")}\r\n\r\n${body}`;
  const late = setTimeout(() => client.socket.destroy(), 5_000);
  if (form.until === undefined) await client.ask(request);
  else {
    client.send(request);
    // A refusal has no event to wait for, and leaves the connection open.
    await Promise.race([form.until, '"kind":"Status"'].map((text) => client.until(text).catch(() => undefined)));
  }
  clearTimeout(late);
  client.socket.destroy();
  const text = client.received();
  return { status: Number(text.slice(9, 12)), text: text + inflated(text) };
}

/** The content of a gzipped answer in chunks or not. */
function inflated(text: string): string {
  const [head = "", ...rest] = text.split("\r\n\r\n");
  if (!/^content-encoding: gzip/im.test(head)) return "";
  let body = rest.join("\r\n\r\n");
  if (/^transfer-encoding: chunked/im.test(head)) {
    let plain = "";
    for (let size = Number.parseInt(body, 16); size > 0; size = Number.parseInt(body, 16)) {
      const start = body.indexOf("\r\n") + 2;
      plain += body.slice(start, start + size);
      body = body.slice(start + size + 2);
    }
    body = plain;
  }
  return gunzipSync(Buffer.from(body, "latin1")).toString("latin1");
}

const found = (text: string) => forms.filter((one) => text.includes(one));

const one = `/api/v1/namespaces/${namespace}/secrets/one`;
const list = `/api/v1/namespaces/${namespace}/secrets`;
const meta = "g=meta.k8s.io;v=v1";
const accepts = {
  nothing: [],
  anything: ["Accept: */*"],
  JSON: ["Accept: application/json"],
  YAML: ["Accept: application/yaml"],
  protobuf: ["Accept: application/vnd.kubernetes.protobuf"],
  "protobuf or JSON": ["Accept: application/vnd.kubernetes.protobuf,application/json"],
  CBOR: ["Accept: application/cbor"],
  "CBOR or JSON": ["Accept: application/cbor, application/json;q=0.9"],
  "a table of objects": [`Accept: application/json;as=Table;${meta}`],
  "what kubectl takes": [`Accept: application/json;as=Table;${meta},application/json`],
  "metadata in protobuf": [`Accept: application/vnd.kubernetes.protobuf;as=PartialObjectMetadata;${meta}`],
  "metadata in JSON": [`Accept: application/json;as=PartialObjectMetadataList;${meta}`],
  "JSON with gzip": ["Accept: application/json", "Accept-Encoding: gzip"],
  "JSON, twice": ["Accept: application/json", "accept: application/json;as=Secret"],
};
const reads: Record<string, string> = {
  "one object": one,
  "one object, indented": `${one}?pretty=true`,
  "one object as a table with objects": `${one}?includeObject=Object`,
  "a list": list,
  "a list over all namespaces": "/api/v1/secrets",
  "a list of one name": `${list}?fieldSelector=metadata.name%3Done`,
  "a list with objects": `${list}?includeObject=Object&pretty=1`,
  "a page": `${list}?limit=1`,
};

describe.each(Object.entries(accepts))("asked for %s", (_, headers) => {
  test.each(Object.entries(reads))("%s holds no value", async (__, path) => {
    const { status, text } = await bytesOf("masked", { path, headers });
    expect(found(text)).toEqual([]);
    expect([200, 406]).toContain(status);
    const kept = ['"name":"one"', '"kept-label":"yes"', '"note":"kept-note"'].filter((part) => text.includes(part));
    expect(kept.length).toBe(status === 200 ? 3 : 0);
    expect(text).not.toContain("managedFields");
  });

  test("a watch holds no value", async () => {
    for (const path of [
      `${list}?watch=1`,
      one.replace("/v1/", "/v1/watch/"),
      list.replace("/v1/", "/v1/watch/"),
      `${list}?watch=1&sendInitialEvents=true&allowWatchBookmarks=true&resourceVersionMatch=NotOlderThan`,
    ]) {
      const { status, text } = await bytesOf("masked", { path, headers, until: '"name":"one"' });
      expect(found(text)).toEqual([]);
      expect([200, 406]).toContain(status);
      expect(text.includes('"type":"ADDED"')).toBe(status === 200);
    }
  });
});

test("the same requests under Full do show the values, so the search would find them", async () => {
  for (const form of ["nothing", "JSON", "YAML", "protobuf", "JSON with gzip"] as const) {
    const { status, text } = await bytesOf("full", { path: list, headers: accepts[form] });
    expect([form, status, found(text).length > 0]).toEqual([form, 200, true]);
    expect(/content-encoding: gzip/i.test(text)).toBe(form === "JSON with gzip");
  }
});

test("pages lead to each other, and hold no value", async () => {
  const names: string[] = [];
  let more = "";
  do {
    const { text } = await bytesOf("masked", { path: `${list}?limit=1${more}` });
    expect(found(text)).toEqual([]);
    names.push(/"metadata":\{"name":"(\w+)"/.exec(text)?.[1] ?? "");
    const token = /"continue":"([^"]+)"/.exec(text)?.[1];
    more = token === undefined ? "" : `&continue=${encodeURIComponent(token)}`;
  } while (more !== "");
  expect(names).toEqual(["one", "three", "two"]);
});

test.each<[string, Form]>([
  [
    "an empty patch",
    { method: "PATCH", path: one, headers: ["Content-Type: application/merge-patch+json"], body: "{}" },
  ],
  [
    "a patch that copies a value into an annotation",
    {
      method: "PATCH",
      path: one,
      headers: ["Content-Type: application/json-patch+json"],
      body: `[{"op":"copy","from":"/data/${canary}","path":"/metadata/annotations/x"}]`,
    },
  ],
  [
    "an apply",
    {
      method: "PATCH",
      path: `${one}?fieldManager=x`,
      headers: ["Content-Type: application/apply-patch+yaml"],
      body: "{}",
    },
  ],
  ["an update", { method: "PUT", path: one, body: "{}" }],
  ["a dry run of a delete", { method: "DELETE", path: `${one}?dryRun=All` }],
  ["a dry run of a delete of all", { method: "DELETE", path: `${list}?dryRun=All` }],
  ["a create", { method: "POST", path: list, body: "{}" }],
  ["a subresource", { path: `${one}/status` }],
  [
    "a watch over WebSocket",
    { path: `${list}?watch=1`, headers: ["Connection: Upgrade", "Upgrade: websocket"], until: "\r\n\r\n" },
  ],
])("%s is refused by the policy", async (_, form) => {
  const { status, text } = await bytesOf("masked", form);
  expect(status).toBe(403);
  expect(text).toContain("The policy of connector team-a/masked");
});

async function kubectl(...args: string[]) {
  const connector = { namespace: "team-a", name: "masked", address: world.plane.url };
  const file = join(folder, "config");
  await writeFile(file, world.kubeconfig(pod, connector).reveal(), { mode: 0o600 });
  const all = [`--kubeconfig=${file}`, `--cache-dir=${join(folder, "cache")}`, ...args];
  return await new Promise<{ code: number; all: string }>((resolve) => {
    execFile(join(world.plane.bin, "kubectl"), all, { maxBuffer: 64e6 }, (error, out, err) =>
      resolve({ code: error === null ? 0 : 1, all: out + err }),
    );
  });
}

test("kubectl get lists names, --raw shows metadata, and whatever else it prints holds no value either", async () => {
  const raw = await kubectl("get", "--raw", list);
  expect(raw).toMatchObject({ code: 0 });
  expect(raw.all).toContain("kept-label");
  const listed = await kubectl("get", "secrets", "-n", namespace, "--show-labels");
  expect(listed).toMatchObject({ code: 0 });
  expect(listed.all).toMatch(/^NAME +CREATED AT +LABELS\none +\S+Z +kept-label=yes\nthree /);
  const shown = await kubectl("get", "secret", "one", "-n", namespace);
  expect(shown.all).toMatch(/^NAME +CREATED AT\none /);
  const all = [raw.all, listed.all, shown.all];
  for (const output of [[], ["-o", "yaml"], ["-o", "json"], ["-o", "wide"]]) {
    all.push((await kubectl("get", "secrets", "-n", namespace, ...output)).all);
    all.push((await kubectl("get", "secret", "one", "-n", namespace, ...output)).all);
  }
  all.push((await kubectl("describe", "secret", "one", "-n", namespace)).all);
  expect(found(all.join("\n"))).toEqual([]);
});
