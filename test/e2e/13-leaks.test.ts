// After everything that the tests before have done, at debug level: no stored token, and none of the tokens that a pod
// was given, stands in any log, event, status or object of the hosting cluster, Secrets apart.
import { expect, test } from "vitest";
import { connect, startWorkbench, target } from "./cluster.ts";
import { findLeaks, logs, storedTokens } from "./leaks.ts";

test("no stored token is anywhere", async () => {
  const tokens = await storedTokens();
  expect(tokens.length).toBeGreaterThan(2);
  expect(await findLeaks(tokens)).toEqual([]);
});

test("no token of a pod is anywhere, and no log holds anything that looks like a token", async () => {
  await connect("team-a", target("global"));
  const pod = await startWorkbench({
    namespace: "team-a",
    name: "leaks",
    volumes: { global: { connector: "global", configurations: "kubeconfig" } },
  });
  const use = "export KUBECONFIG=/access/global/kubeconfig;";
  await pod.ok(`${use} kubectl get namespaces`);
  const request = await pod.ok("cat /access/global/token");
  const tunnel = /:(eyJ[^@]+)@/.exec(await pod.ok("cat /access/global/kubeconfig"))?.[1] ?? "";
  expect(tunnel).not.toBe("");
  expect(await findLeaks([request, decodeURIComponent(tunnel)])).toEqual([]);
  for (const [place, text] of await logs()) expect(text.match(/eyJ[\w-]{20,}/g) ?? [], place).toEqual([]);
  await pod.delete();
});
