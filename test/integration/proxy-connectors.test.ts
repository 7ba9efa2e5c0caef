import { resolvedSecretType, type Secret, silentLog, systemClock } from "@kube-connector/core";
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from "vitest";
// oxlint-disable-next-line import/no-relative-packages -- the source is no part of the proxy's index
import { startSecretsSource } from "../../proxy/src/connectors/secrets.ts";
import { connectorSourceContract } from "../kit/contracts/connector-source.ts";
import {
  type ControlPlane,
  ensureNamespace,
  ensureServiceAccount,
  requestAdminToken,
  requestToken,
  startControlPlane,
} from "../kit/control-plane.ts";
import { resolvedParts } from "../kit/resolved.ts";

// Resolved connectors from Secrets that a real API server hands out: the contract of all sources; the rights that a
// Dedicated proxy has (one Secret by name) are enough; an API server that is away takes nothing away.

const namespace = "kube-connector-proxy";
let plane: ControlPlane;
beforeAll(async () => {
  plane = await startControlPlane();
  await ensureNamespace(plane.admin, namespace);
});
afterAll(() => plane.stop());

let count = 0;
const path = (name = "") => `/api/v1/namespaces/${namespace}/secrets${name === "" ? "" : `/${name}`}`;

async function write(name: string, entries: Readonly<Record<string, Secret>>, labels: Record<string, string> = {}) {
  const data = Object.entries(entries).map(([key, one]) => [key, Buffer.from(one.reveal()).toString("base64")]);
  const body = {
    apiVersion: "v1",
    kind: "Secret",
    metadata: { name, labels },
    type: resolvedSecretType,
    data: Object.fromEntries(data) as Record<string, string>,
  };
  await plane.admin.request("PATCH", path(name), {
    body,
    contentType: "application/apply-patch+yaml",
    query: { fieldManager: "test", force: true },
  });
}

describe("Secrets with a label", () => {
  connectorSourceContract(async (before) => {
    const label = `test-${(count += 1)}`;
    const put = (place: string, entries: Readonly<Record<string, Secret>>) =>
      write(`${label}-${place}`, entries, { test: label });
    for (const [place, entries] of Object.entries(before)) await put(place, entries);
    const source = startSecretsSource({
      api: plane.admin,
      clock: systemClock,
      log: silentLog,
      namespace,
      select: { labelSelector: `test=${label}` },
    });
    onTestFinished(() => source.stop());
    return {
      source,
      put,
      remove: async (place) => {
        await plane.admin.request("DELETE", path(`${label}-${place}`));
      },
    };
  });
});

test("a proxy that may see one Secret by name sees that one, through its changes, and no other", async () => {
  await ensureServiceAccount(plane.admin, namespace, "proxy-one");
  const rules = [{ apiGroups: [""], resources: ["secrets"], resourceNames: ["one"], verbs: ["get", "list", "watch"] }];
  const rbac = `/apis/rbac.authorization.k8s.io/v1/namespaces/${namespace}`;
  await plane.admin.request("POST", `${rbac}/roles`, { body: { metadata: { name: "one" }, rules } });
  await plane.admin.request("POST", `${rbac}/rolebindings`, {
    body: {
      metadata: { name: "one" },
      roleRef: { apiGroup: "rbac.authorization.k8s.io", kind: "Role", name: "one" },
      subjects: [{ kind: "ServiceAccount", name: "proxy-one", namespace }],
    },
  });
  await write("one", await resolvedParts({ name: "one", token: "first" }));
  await write("other", await resolvedParts({ name: "other" }));
  const audience = "https://kubernetes.default.svc.cluster.local";
  const token = await requestToken(plane.admin, { namespace, serviceAccount: "proxy-one", audience });
  const source = startSecretsSource({
    api: plane.as(token),
    clock: systemClock,
    log: silentLog,
    namespace,
    select: { name: "one" },
  });
  onTestFinished(() => source.stop());
  await source.synced;
  expect(source.all().map((connector) => connector.name)).toEqual(["one"]);
  await write("one", await resolvedParts({ name: "one", token: "second" }));
  const started = performance.now();
  await expect.poll(() => source.get("team-a/one")?.token?.reveal(), { timeout: 3_000, interval: 5 }).toBe("second");
  expect(performance.now() - started).toBeLessThan(1_000);
});

test("while the API server is away what is known stays served, and what was missed is seen when it is back", async () => {
  const label = { test: "outage" };
  await write("outage-a", await resolvedParts({ name: "a", token: "first" }), label);
  await write("outage-b", await resolvedParts({ name: "b" }), label);
  const source = startSecretsSource({
    api: plane.as(await adminToken()),
    clock: systemClock,
    log: silentLog,
    namespace,
    select: { labelSelector: "test=outage" },
  });
  onTestFinished(() => source.stop());
  await source.synced;
  await plane.control("stop", "apiserver");
  await new Promise((resolve) => setTimeout(resolve, 2_000));
  expect(source.get("team-a/a")?.token?.reveal()).toBe("first");
  await plane.control("start", "apiserver");
  await write("outage-a", await resolvedParts({ name: "a", token: "second" }), label);
  await plane.admin.request("DELETE", path("outage-b"));
  await expect.poll(() => source.get("team-a/a")?.token?.reveal(), { timeout: 40_000 }).toBe("second");
  await expect.poll(() => source.get("team-a/b"), { timeout: 40_000 }).toBeUndefined();
});

test("a Secret of another type is not served, whatever it holds", async () => {
  const data = Object.entries(await resolvedParts({ name: "typed" }));
  await plane.admin.request("POST", path(), {
    body: {
      metadata: { name: "typed", labels: { test: "typed" } },
      type: "Opaque",
      stringData: Object.fromEntries(data.map(([key, one]) => [key, one.reveal()])) as Record<string, string>,
    },
  });
  const source = startSecretsSource({
    api: plane.admin,
    clock: systemClock,
    log: silentLog,
    namespace,
    select: { labelSelector: "test=typed" },
  });
  onTestFinished(() => source.stop());
  await source.synced;
  expect(source.all()).toEqual([]);
});

/** A ServiceAccount that may do everything. */
async function adminToken(): Promise<Secret> {
  return await requestAdminToken(plane.admin, namespace, "everything");
}
