import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, onTestFinished, test } from "vitest";
import { parseAllDocuments } from "yaml";
import { policySchema } from "@kube-connector/core";
import { type AuditEvent, suggestRules } from "./policy.ts";
import { suggestPolicy } from "./policy-suggest.ts";

// Observed traffic → the least rules that would have let it pass: exactly the verbs, resources and namespaces that were seen,
// in the form that a Connector takes. Only what passed counts, and only what is told of a request.

const own = "proxy.connectors.cpaas.io/";

interface Parts {
  decision?: string;
  connector?: string;
  upgrade?: string;
  code?: number;
}

/** `verb group/resource[/subresource] namespace name`, - for none, the core group as core; or `verb /path`. */
function event(text: string, { decision = "allow", connector = "prod", upgrade, code = 200 }: Parts = {}): AuditEvent {
  const [verb = "", what = "", namespace = "-", name = "-"] = text.split(" ");
  const annotations: Record<string, string> = {
    [`${own}connector.namespace`]: "team-a",
    [`${own}connector.name`]: connector,
    [`${own}decision`]: decision,
    ...(upgrade === undefined ? {} : { [`${own}upgrade`]: upgrade }),
  };
  const more = { kind: "Event", responseStatus: { code }, annotations };
  if (what.startsWith("/")) return { verb, requestURI: what, ...more };
  const [group = "", resource = "", subresource] = what.split("/");
  const apiGroup = group === "core" ? "" : group;
  const parts = Object.entries({ apiGroup, resource, subresource, namespace, name });
  const objectRef = Object.fromEntries(
    parts.filter(([, value]) => value !== undefined && value !== "-" && value !== ""),
  );
  return { verb, requestURI: "/somewhere", objectRef, ...more };
}

function rulesOf(events: AuditEvent[], options: { denied?: boolean; names?: boolean } = {}) {
  const [suggestion] = suggestRules(events, { denied: false, names: false, ...options });
  expect(policySchema.safeParse({ rules: suggestion?.rules }).success).toBe(true);
  return suggestion?.rules;
}

test("each resource gets the verbs and namespaces that were seen, and what is alike stands in one rule", () => {
  expect(
    rulesOf([
      event("get core/pods a x"),
      event("list core/pods a"),
      event("list core/pods b"),
      event("get core/pods/log a x"),
      event("create batch/jobs a x"),
      event("list batch/jobs -"),
      event("list batch/jobs a"),
      event("get core/nodes - n"),
    ]),
  ).toEqual([
    { apiGroups: [""], resources: ["nodes"], verbs: ["get"] },
    { apiGroups: [""], resources: ["pods"], namespaces: ["a", "b"], verbs: ["list"] },
    { apiGroups: [""], resources: ["pods", "pods/log"], namespaces: ["a"], verbs: ["get"] },
    { apiGroups: ["batch"], resources: ["jobs"], namespaces: ["a"], verbs: ["create"] },
    { apiGroups: ["batch"], resources: ["jobs"], verbs: ["list"] },
  ]);
});

test("exec needs create by whatever method it came, and so does another upgrade, but a watch or a log does not", () => {
  expect(
    rulesOf([
      event("get core/pods/exec a x", { upgrade: "websocket" }),
      event("get core/nodes/proxy - n", { code: 101 }),
      event("watch core/pods a", { upgrade: "websocket" }),
    ]),
  ).toEqual([
    { apiGroups: [""], resources: ["nodes/proxy"], verbs: ["create", "get"] },
    { apiGroups: [""], resources: ["pods"], namespaces: ["a"], verbs: ["watch"] },
    { apiGroups: [""], resources: ["pods/exec"], namespaces: ["a"], verbs: ["create"] },
  ]);
});

test("names are named when asked for, where every request had one", () => {
  const events = [
    event("get apps/deployments a x"),
    event("get apps/deployments a y"),
    event("list apps/deployments a"),
  ];
  expect(rulesOf(events, { names: true })).toEqual([
    { apiGroups: ["apps"], resources: ["deployments"], resourceNames: ["x", "y"], namespaces: ["a"], verbs: ["get"] },
    { apiGroups: ["apps"], resources: ["deployments"], namespaces: ["a"], verbs: ["list"] },
  ]);
});

test("paths are named as they are, those of discovery by their families", () => {
  expect(
    rulesOf([event("get /apis/apps/v1"), event("get /version"), event("get /metrics"), event("head /version")]),
  ).toEqual([
    { nonResourceURLs: ["/apis", "/apis/*", "/metrics", "/version"], verbs: ["get"] },
    { nonResourceURLs: ["/version"], verbs: ["head"] },
  ]);
});

test("what was refused counts only when asked for, and a tunnel is no request", () => {
  const refused = event("delete apps/deployments a x", { decision: "deny" });
  const tunnel = { verb: "connect", requestURI: "10.0.0.1:6443", annotations: { [`${own}method`]: "CONNECT" } };
  const [suggestion] = suggestRules([refused, tunnel], { denied: false, names: false });
  expect(suggestion).toEqual({ connector: "team-a/prod", rules: [], used: 0, refused: 1 });
  expect(rulesOf([refused, tunnel], { denied: true })).toHaveLength(1);
});

async function printed(text: string, options: { connector?: string } = {}) {
  const folder = mkdtempSync(join(tmpdir(), "audit-"));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  const file = join(folder, "audit.log");
  writeFileSync(file, text);
  const said: string[] = [];
  await suggestPolicy([file], { denied: false, names: false, ...options, say: (line) => void said.push(line) });
  return said.join("\n");
}

test("a file's lines become one YAML document for each connector, other lines are left aside", async () => {
  const lines = [event("get apps/deployments a x"), event("get /version", { connector: "test" })];
  const log = ["{}", "not JSON", ...lines, ...lines].map((one) =>
    typeof one === "string" ? one : JSON.stringify(one),
  );
  const text = await printed(`${log.join("\n")}\n`);
  expect(parseAllDocuments(text).map((document) => document.toJS() as unknown)).toEqual([
    { policy: { rules: [{ apiGroups: ["apps"], resources: ["deployments"], namespaces: ["a"], verbs: ["get"] }] } },
    { policy: { rules: [{ nonResourceURLs: ["/version"], verbs: ["get"] }] } },
  ]);
  expect(text).toContain("team-a/prod, from 1 different requests");
  expect(await printed(log.join("\n"), { connector: "team-a/test" })).not.toContain("deployments");
});

test("a file that is not there, is no log, or tells nothing of the connector is a sentence", async () => {
  const options = { denied: false, names: false, say: () => undefined };
  await expect(suggestPolicy(["/nowhere"], options)).rejects.toThrow("Cannot read /nowhere: no such file");
  await expect(printed("hello\n")).rejects.toThrow("holds no audit.k8s.io/v1 Events");
  await expect(printed(JSON.stringify(event("get /x")), { connector: "a/b" })).rejects.toThrow("of the connector a/b");
});
