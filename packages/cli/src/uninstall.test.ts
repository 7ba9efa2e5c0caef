import { readFileSync } from "node:fs";
import { type ApiRequest, type ApiServer, type Clock, Fault, type KubeObject } from "@kube-connector/core";
import { expect, test } from "vitest";
import { parseAllDocuments } from "yaml";
import { holdsVolume, installed, uninstall } from "./uninstall.ts";

// Takes the product out of a cluster: never while a pod holds a volume; Connectors first, then all that install.yaml and
// crd/ make, and nothing of anybody else.

const quick: Clock = {
  now: () => Date.now(),
  monotonic: () => performance.now(),
  after(_milliseconds, then) {
    const timer = setImmediate(then);
    return () => clearImmediate(timer);
  },
};

const labelled = { "app.kubernetes.io/part-of": "kube-connector" };
const podWith = (name: string, phase: string, driver = "connectors-csi"): KubeObject => ({
  metadata: { name, namespace: "team-a" },
  spec: { volumes: [{ name: "access", csi: { driver } }] },
  status: { phase },
});

/** An API server that holds these objects by collection path; a DELETE takes one away. */
function createApi(objects: Record<string, KubeObject[]>): ApiServer & { deleted: string[] } {
  const deleted: string[] = [];
  return {
    deleted,
    async request<T>(method: string, path: string, options: ApiRequest = {}): Promise<T> {
      if (method === "DELETE") {
        deleted.push(path);
        const name = path.slice(path.lastIndexOf("/") + 1);
        const collection = path.slice(0, path.lastIndexOf("/")).replace(/namespaces\/[^/]+\/(?=[^/]+$)/, "");
        objects[collection] = (objects[collection] ?? []).filter((object) => object.metadata.name !== name);
        return undefined as T;
      }
      const found = objects[path];
      if (found === undefined) throw new Fault("not_found", `GET ${path}: not here`);
      const [key = "", value] = `${options.query?.labelSelector ?? ""}`.split("=");
      const items = found.filter(({ metadata }) => {
        const label = (metadata.labels as Record<string, string> | undefined)?.[key];
        return key === "" || (value === undefined ? label !== undefined : label === value);
      });
      return { items } as T;
    },
    open: () => Promise.reject(new Error("not used")),
    stop: async () => {},
  };
}

function run(api: ApiServer, more: Partial<Parameters<typeof uninstall>[0]> = {}) {
  const said: string[] = [];
  const signal = new AbortController().signal;
  const say = (line: string) => void said.push(line);
  const options = { api, clock: quick, say, dryRun: false, confirm: undefined, signal, patience: 50, ...more };
  return { said, done: uninstall(options) };
}

const cluster = () => ({
  "/api/v1/pods": [podWith("ended", "Succeeded"), podWith("other", "Running", "secrets.csi")],
  "/apis/connectors.cpaas.io/v1alpha1/connectors": [{ metadata: { name: "prod", namespace: "team-a" } }],
  "/apis/storage.k8s.io/v1/csidrivers": [
    { metadata: { name: "connectors-csi" } },
    { metadata: { name: "secrets.csi" } },
  ],
  "/apis/rbac.authorization.k8s.io/v1/clusterroles": [
    { metadata: { name: "kube-connector-view" } },
    { metadata: { name: "kube-connector-of-a-stranger" } },
  ],
  "/api/v1/namespaces": [
    { metadata: { name: "kube-connector", uid: "1", labels: labelled } },
    { metadata: { name: "team-a", uid: "2" } },
  ],
  "/api/v1/services": [
    {
      metadata: {
        name: "c-prod",
        namespace: "team-a",
        labels: { "connectors.cpaas.io/connector-uid": "1" },
      },
    },
  ],
});

test("names the pods that hold a volume and deletes nothing", async () => {
  const api = createApi({
    ...cluster(),
    "/api/v1/pods": [podWith("deploy-1", "Running"), podWith("deploy-2", "Pending")],
  });
  await expect(run(api).done).rejects.toThrow(
    /2 pods still hold .*Nothing was deleted.*team-a\/deploy-1.*team-a\/deploy-2/s,
  );
  expect(api.deleted).toEqual([]);
});

test("deletes Connectors, what the controller left behind, then what was installed, and nothing else", async () => {
  const api = createApi(cluster());
  const { said, done } = run(api);
  await done;
  expect(api.deleted).toEqual([
    "/apis/connectors.cpaas.io/v1alpha1/namespaces/team-a/connectors/prod",
    "/api/v1/namespaces/team-a/services/c-prod",
    "/apis/storage.k8s.io/v1/csidrivers/connectors-csi",
    "/apis/rbac.authorization.k8s.io/v1/clusterroles/kube-connector-view",
    "/api/v1/namespaces/kube-connector",
  ]);
  expect(said.at(-1)).toBe("kube-connector is uninstalled.");
});

test("a dry run says what would go and deletes nothing", async () => {
  const api = createApi(cluster());
  const { said, done } = run(api, { dryRun: true });
  await done;
  expect(said).toContain("would delete connector team-a/prod");
  expect(said).toContain("would delete namespace kube-connector");
  expect(api.deleted).toEqual([]);
});

test("an answer that is not yes deletes nothing and is an error", async () => {
  const api = createApi(cluster());
  await expect(run(api, { confirm: async () => false }).done).rejects.toThrow("Nothing was deleted");
  expect(api.deleted).toEqual([]);
});

test("a cluster without the product is said to be without it", async () => {
  const { said, done } = run(createApi({ "/api/v1/pods": [] }));
  await done;
  expect(said).toEqual(["Nothing of kube-connector is installed here."]);
});

test("a namespace that does not go is named", async () => {
  const api = createApi(cluster());
  const stuck: ApiServer = {
    ...api,
    request: <T>(method: string, path: string, options?: ApiRequest) =>
      method === "DELETE" ? Promise.resolve(undefined as T) : api.request<T>(method, path, options),
  };
  await expect(run(stuck).done).rejects.toThrow("namespace kube-connector is not gone yet");
});

test("a pod that has run to its end holds no volume", () => {
  expect([podWith("a", "Running"), podWith("b", "Failed")].map(holdsVolume)).toEqual([true, false]);
});

test("every object of install.yaml goes by its name, with its namespace or with its definition", () => {
  const text = readFileSync(new URL("../../../deploy/install.yaml", import.meta.url), "utf8");
  const documents = parseAllDocuments(text);
  const objects = (Array.isArray(documents) ? documents : []).map((document) => document.toJS() as KubeObject);
  const ours = objects.filter((object) => object.kind === "Namespace");
  for (const { metadata } of ours) expect(metadata.labels).toMatchObject(labelled);
  const names = new Set(ours.map(({ metadata }) => metadata.name));
  const left = objects.filter(({ kind, metadata }) => {
    if (kind === "Namespace" || kind === "ConnectorClass") return false;
    if (metadata.namespace !== undefined) return !names.has(metadata.namespace);
    const of = installed.find((one) => one.kind === String(kind).toLowerCase());
    return of?.names?.includes(metadata.name) !== true;
  });
  expect(left.map(({ kind, metadata }) => `${String(kind)} ${metadata.name}`)).toEqual([]);
});
