// The kubeconfig in a volume: what client-go, fabric8 and client-node each need of it, and nothing of the target's.
import { expect, test } from "vitest";
import { type KubeconfigParts, parseKubeconfig, renderKubeconfig, tunnelUrl } from "./kubeconfig.ts";
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

test("what was rendered is read back the same", () => {
  const parts: KubeconfigParts = {
    server: "https://10.0.0.1:6443/p",
    proxyUrl: new Secret("http://team-a%2Fprod:p@c-prod.team-a.svc.cluster.local"),
    ca: "-----BEGIN CERTIFICATE-----\nabc\n-----END CERTIFICATE-----\n",
    token: new Secret("request-token"),
    tokenFile: "token",
    namespace: "batch",
  };
  const read = parseKubeconfig(renderKubeconfig(parts).reveal(), "f");
  expect({ ...read, proxyUrl: read.proxyUrl?.reveal(), token: read.token.reveal() }).toEqual({
    ...parts,
    proxyUrl: parts.proxyUrl?.reveal(),
    token: parts.token.reveal(),
  });
});

test("a kubeconfig of somebody else is refused with where to find the right one", () => {
  const admin = "clusters:\n- cluster:\n    server: https://10.0.0.1:6443\nusers:\n- user:\n    token: abc\n";
  expect(() => parseKubeconfig(admin, "/etc/admin.conf")).toThrow(
    /^\/etc\/admin.conf is no kubeconfig that kube-connector made .*standalone/,
  );
  const two = renderKubeconfig({ server: "https://a", ca: "c", token: new Secret("t") }).reveal();
  expect(() => parseKubeconfig(two + two, "f")).toThrow("more than one server");
});
