// The kubeconfig in a volume: what client-go, fabric8 and client-node each need of it, and nothing of the target's.
import { expect, test } from "vitest";
import { renderKubeconfig, tunnelUrl } from "./kubeconfig.ts";
import { Secret } from "./secret.ts";

test("user and password of proxy-url are escaped, and read back by a URL parser", () => {
  const url = new URL(
    tunnelUrl(
      "http://c-prod.team-a.svc.cluster.local",
      { namespace: "team-a", name: "prod" },
      new Secret("a.b/c="),
    ).reveal(),
  );
  expect(decodeURIComponent(url.username)).toBe("team-a/prod");
  expect(decodeURIComponent(url.password)).toBe("a.b/c=");
  expect(url.port).toBe("");
});

test("client-node reads it: server, CA, token and proxy-url", async () => {
  const text = renderKubeconfig({
    server: "https://10.0.0.1:6443/p",
    proxyUrl: new Secret("http://u:p@c-prod.team-a.svc.cluster.local"),
    ca: "-----BEGIN CERTIFICATE-----\n",
    token: new Secret("request-token"),
    tokenFile: "token",
  }).reveal();
  const { KubeConfig } = await import("@kubernetes/client-node");
  const config = new KubeConfig();
  config.loadFromString(text);
  expect(config.getCurrentCluster()).toMatchObject({
    name: "k8s",
    server: "https://10.0.0.1:6443/p",
    proxyUrl: "http://u:p@c-prod.team-a.svc.cluster.local",
    skipTLSVerify: false,
  });
  expect(config.getCurrentUser()?.token).toBe("request-token");
  expect(text).toContain('tokenFile: "token"');
});
