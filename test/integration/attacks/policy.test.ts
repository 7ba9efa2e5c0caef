import type { Policy } from "@kube-connector/core";
import { expect, test } from "vitest";
import { type Attempt, expectPasses, expectStatus, startAttackRoom, type Way, ways } from "../../kit/attacks.ts";
import { createTestAudit, own } from "../../kit/audit-log.ts";

// Ways past a policy: streams opened by a method that reads, requests that reach through the API server, and those that make more
// rights out of few. The presets against a real API server are in policy-presets.test.ts.

const ns = "/api/v1/namespaces/a";
const presets: Policy[] = [{ preset: "ReadOnly" }, { preset: "JobRunner" }];
const reader: Policy = { rules: [{ verbs: ["get", "list", "watch"], apiGroups: ["*"], resources: ["*"] }] };
const denied = { status: 403, says: /^The policy of connector team-a\/prod .* does not allow / };

/** With the headers of an upgrade too, where there are upgrades. */
const andUpgraded = (way: Way, attempt: Attempt): Attempt[] =>
  way.protocol === "HTTP/2"
    ? [attempt]
    : [
        attempt,
        ...["websocket", "SPDY/3.1"].map((to) => ({ ...attempt, lines: ["Connection: Upgrade", `Upgrade: ${to}`] })),
      ];

/** None of them passes a policy, and all of them pass Full: it is the policy that refuses them. */
async function refusedBy(policies: Policy[], way: Way, attempts: Attempt[]): Promise<void> {
  await using room = await startAttackRoom(way);
  for (const policy of policies) {
    room.source.put({ ...room.connector, policy });
    for (const attempt of attempts) {
      for (const one of andUpgraded(way, attempt)) expectStatus(await room.ask(one), denied, JSON.stringify(one));
    }
    expect(room.target.seen()).toBe("");
    await expectPasses(room, { path: "/version" });
    room.target.clear();
  }
  room.source.put({ ...room.connector, policy: { preset: "Full" } });
  for (const attempt of attempts) await expectPasses(room, attempt);
}

test.each(ways)(
  "attack 03: a GET that opens a stream is a create, under presets and under rules that allow get ($name)",
  async (way) => {
    // `rules` have no /version.
    const rules: Policy = { rules: [...(reader.rules ?? []), { verbs: ["get"], nonResourceURLs: ["/version"] }] };
    const streams = ["exec?command=sh&stdin=true", "attach?stdin=true", "portforward?ports=80"];
    await refusedBy(
      [...presets, rules],
      way,
      streams.map((what) => ({ path: `${ns}/pods/x/${what}` })),
    );
  },
);

test.each(ways)(
  "attack 04: no preset lets a GET reach through the API server to nodes, pods and services ($name)",
  async (way) => {
    await refusedBy(
      presets,
      way,
      [
        "/api/v1/nodes/n/proxy/runningpods/",
        "/api/v1/nodes/n:10250/proxy/exec/a/b/c?command=ls",
        "/api/v1/nodes/https:n:10250/proxy/logs/",
        "/api/v1/nodes/n/log",
        "/api/v1/nodes/n/metrics",
        "/api/v1/proxy/nodes/n/pods",
        "/api/v1/proxy/namespaces/a/pods/x/y",
        `${ns}/pods/x/proxy`,
        `${ns}/pods/x/proxy/`,
        `${ns}/pods/https:x:443/proxy/a`,
        `${ns}/services/x/proxy/admin`,
        `${ns}/services/https:x:443/proxy`,
        "/logs/kubelet.log",
      ].map((path) => ({ path })),
    );
  },
);

const rbac = "/apis/rbac.authorization.k8s.io/v1";
const escalations: [string, string][] = [
  ["POST", `${ns}/serviceaccounts/x/token`],
  ["GET", `${ns}/secrets/x-token`],
  ["GET", `${ns}/secrets`],
  ["POST", `${ns}/secrets`],
  ["POST", "/apis/certificates.k8s.io/v1/certificatesigningrequests"],
  ["PUT", "/apis/certificates.k8s.io/v1/certificatesigningrequests/x/approval"],
  ["PATCH", `${ns}/pods/x/ephemeralcontainers`],
  ["POST", `${ns}/pods`],
  ["POST", `${ns}/pods/x/exec`],
  ["POST", `${ns}/pods/x/eviction`],
  ["POST", `${ns}/pods/x/binding`],
  ["PUT", `${rbac}/clusterroles/admin`],
  ["POST", `${rbac}/clusterrolebindings`],
  ["POST", `${rbac}/namespaces/a/rolebindings`],
  ["POST", "/apis/authentication.k8s.io/v1/tokenreviews"],
  ["POST", "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations"],
];

test.each(ways)(
  "attack 30: what makes more rights is refused by both presets; Full passes it, and it is audited ($name)",
  async (way) => {
    await refusedBy(
      presets,
      way,
      escalations.map(([method, path]) => ({ method, path })),
    );
    const audit = createTestAudit();
    await using room = await startAttackRoom(way, { audit });
    for (const [method, path] of escalations) await expectPasses(room, { method, path });
    const events = (await audit.until(escalations.length)).filter((event) => own(event, "method") !== "CONNECT");
    expect(events.map((event) => [own(event, "method"), event.requestURI, own(event, "decision")])).toEqual(
      escalations.map(([method, path]) => [method, path, "allow"]),
    );
    expect(events.every(({ user }) => user.username === "system:serviceaccount:team-a:ci")).toBe(true);
  },
);

test.each(ways)(
  "attack 31: a policy that changes judges the next request of an open connection ($name)",
  async (way) => {
    await using room = await startAttackRoom(way);
    const attacker = await room.open();
    const ask = async () => (await attacker.ask({ path: `${ns}/secrets` })).status;
    for (const [preset, status] of [
      ["Full", 200],
      ["ReadOnly", 403],
      ["Full", 200],
      ["JobRunner", 403],
    ] as const) {
      room.source.put({ ...room.connector, policy: { preset } });
      expect(await ask(), preset).toBe(status);
    }
  },
);
