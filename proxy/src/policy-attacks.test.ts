import type { Policy } from "@kube-connector/core";
import { expect, test } from "vitest";
import { requestText, startTestProxy, type TestProxy } from "../../test/kit/test-proxy.ts";

// Ways past a policy that others have fallen for, by both doors, with raw bytes against a target that answers anything: it must not
// see them.

const start = (policy: Policy, prefix = "") =>
  startTestProxy({ prefix, connector: (connector) => ({ ...connector, policy }) });

const service = "c-prod.team-a.svc.cluster.local";
const websocket = "Connection: Upgrade\r\nUpgrade: websocket\r\n";
const ns = "/api/v1/namespaces/a";

/** The statuses that both doors give. */
async function statuses(kit: TestProxy, method: string, path: string, more = ""): Promise<number[]> {
  const found: number[] = [];
  for (const [client, host] of [
    [await kit.forward(), kit.authority],
    [await kit.direct(), service],
  ] as const) {
    client.send(requestText(method, path, host, more));
    found.push(Number((await client.until("\r\n\r\n")).slice(9, 12)));
    client.socket.destroy();
  }
  return found;
}

const presets: Policy[] = [{ preset: "ReadOnly" }, { preset: "JobRunner" }];

test("attack 3: an exec by WebSocket GET is a create, under presets and under rules that allow get", async () => {
  const reader: Policy = { rules: [{ verbs: ["get", "list", "watch"], apiGroups: ["*"], resources: ["*"] }] };
  for (const policy of [...presets, reader]) {
    await using kit = await start(policy);
    for (const what of ["exec?command=sh&stdin=true", "attach?stdin=true", "portforward?ports=80"]) {
      expect(await statuses(kit, "GET", `${ns}/pods/x/${what}`, websocket)).toEqual([403, 403]);
      expect(await statuses(kit, "GET", `${ns}/pods/x/${what}`)).toEqual([403, 403]);
    }
    expect(kit.target.everything()).toBe("");
  }
});

test.each([
  "/api/v1/nodes/n/proxy/runningpods/",
  "/api/v1/nodes/n:10250/proxy/exec/a/b/c?command=ls",
  "/api/v1/nodes/n/log",
  "/api/v1/proxy/nodes/n/pods",
  `${ns}/pods/x/proxy/`,
  `${ns}/pods/https:x:443/proxy`,
  `${ns}/services/x/proxy/admin`,
  "/logs/kubelet.log",
])("attack 4: GET %s reaches through the API server, so no preset lets it pass", async (path) => {
  for (const policy of presets) {
    await using kit = await start(policy);
    expect(await statuses(kit, "GET", path)).toEqual([403, 403]);
    expect(await statuses(kit, "GET", path, websocket)).toEqual([403, 403]);
    expect(kit.target.everything()).toBe("");
  }
});

test.each<[string, string, number]>([
  ["GET", `${ns}/secrets`, 403],
  ["GET", `/x/..${ns}/secrets`, 400],
  ["GET", `${ns}/s%65crets`, 400],
  ["GET", `${ns}/configmaps/%2e%2e/secrets`, 400],
  ["GET", `${ns}/configmaps%2F..%2Fsecrets`, 400],
  ["GET", `${ns}//secrets`, 400],
  ["GET", `${ns}/secrets/`, 403],
  ["GET", `/api/v1/watch/namespaces/a/secrets`, 403],
  ["GET", `/api/v1/watch/secrets/`, 403],
  ["HEAD", `${ns}/secrets/x`, 403],
])("attack 20: %s %s is no way to Secrets under ReadOnly", async (method, path, status) => {
  await using kit = await start({ preset: "ReadOnly" }, "/p");
  expect(await statuses(kit, method, `/p${path}`)).toContain(status);
  expect(kit.target.everything()).not.toMatch(/s(%65|e)crets/);
});

test.each<[string, string, number]>([
  ["GET", `${ns}/pods?watch=1&watch=0`, 403],
  ["GET", `${ns}/pods?watch=0&watch=1`, 200],
  ["GET", `${ns}/pods?w%61tch=true`, 403],
  ["GET", `${ns}/pods?a=b;watch=1`, 400],
  ["GET", `${ns}/pods?watch=%zz`, 400],
  ["GET", `${ns}/pods?${"a&".repeat(1_001)}watch=1`, 400],
  ["GET", `${ns}/configmaps?fieldSelector=metadata.name%3Dmine`, 200],
  ["GET", `${ns}/configmaps?fieldSelector=metadata.name!%3Dmine`, 403],
  ["GET", `${ns}/configmaps?fieldSelector=metadata.name%3Dmine%5C,x`, 403],
  ["GET", `${ns}/configmaps?fieldSelector=a%3Db&fieldSelector=metadata.name%3Dmine`, 403],
  ["DELETE", `${ns}/pods/x?dryRun=All`, 403],
  ["POST", `${ns}/pods?dryRun=All`, 403],
])("attack 21: %s %s is read as the API server reads it: %i", async (method, path, status) => {
  const policy: Policy = {
    rules: [
      { verbs: ["list"], apiGroups: [""], resources: ["pods"] },
      { verbs: ["list"], apiGroups: [""], resources: ["configmaps"], resourceNames: ["mine"] },
    ],
  };
  await using kit = await start(policy);
  expect(await statuses(kit, method, path)).toEqual([status, status]);
});

test.each([
  ["POST", `${ns}/serviceaccounts/x/token`],
  ["GET", `${ns}/secrets/x-token`],
  ["POST", `${ns}/secrets`],
  ["POST", "/apis/certificates.k8s.io/v1/certificatesigningrequests"],
  ["PATCH", `${ns}/pods/x/ephemeralcontainers`],
  ["POST", `${ns}/pods/x/exec`],
  ["POST", `${ns}/pods/x/eviction`],
  ["POST", `${ns}/pods/x/binding`],
  ["PUT", "/apis/rbac.authorization.k8s.io/v1/clusterroles/admin"],
  ["POST", "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings"],
  ["POST", "/apis/authentication.k8s.io/v1/tokenreviews"],
])("attack 30: %s %s makes more rights: both presets refuse it, Full passes it", async (method, path) => {
  for (const policy of presets) {
    await using kit = await start(policy);
    expect(await statuses(kit, method, path)).toEqual([403, 403]);
    expect(kit.target.everything()).toBe("");
  }
  await using kit = await start({ preset: "Full" });
  expect(await statuses(kit, method, path)).toEqual([200, 200]);
});

test("attack 31: a policy that changes judges the next request on a connection that is open", async () => {
  await using kit = await start({ preset: "Full" });
  const client = await kit.forward();
  const ask = async () => (await client.ask(requestText("GET", `${ns}/secrets`, kit.authority))).status;
  expect(await ask()).toBe(200);
  kit.source.put({ ...kit.connector, policy: { preset: "ReadOnly" } });
  expect(await ask()).toBe(403);
  kit.source.put({ ...kit.connector, policy: { preset: "Full" } });
  expect(await ask()).toBe(200);
});
