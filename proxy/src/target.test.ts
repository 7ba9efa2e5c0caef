import { parseAddress } from "@kube-connector/core";
import { describe, expect, test } from "vitest";
import { resolvedConnector } from "../../test/kit/resolved.ts";
import { Refusal } from "./answers.ts";
import { checkConnectTarget, checkHost, upstreamTarget } from "./target.ts";

// A request's path goes upstream as it came or not at all: what could be read in two ways is refused, and so is what is
// not below the connector's prefix or not for its target.

function statusOf(check: () => unknown): number | undefined {
  try {
    check();
    return undefined;
  } catch (error) {
    if (error instanceof Refusal) return error.http;
    throw error;
  }
}

describe("the path", () => {
  test.each([
    "/",
    "/api/v1/namespaces/default/pods",
    "/api/v1/namespaces/default/pods/",
    "/apis/rbac.authorization.k8s.io/v1/clusterroles/system%3Anode",
    "/api/v1/namespaces/a%20b",
    "/x/%C3%A9",
    "/x/...",
    "/x/.hidden",
    "/api/v1/namespaces/a/services/https:web:443/proxy/",
  ])("%s passes as it is", (path) => {
    expect(upstreamTarget(`${path}?a=b`, "forward", "")).toEqual({ path, judged: path, query: "?a=b" });
  });

  test.each([
    "/a/../b",
    "/..",
    "/a/.",
    "/./a",
    "//a",
    "/a//b",
    "/a;b",
    "/a\\b",
    "/a#b",
    '/a"b',
    "/a<b",
    "/a{b}",
    "/a|b",
    "/a^b",
    "/a`b",
    "/a\xe9",
    "/a%",
    "/a%2",
    "/a%zz",
    "/%2e%2e/b",
    "/a%2Fb",
    "/a%2fb",
    "/a%5Cb",
    "/a%25b",
    "/a%252e",
    "/a%3Bb",
    "/a%00",
    "/a%0a",
    "/a%7F",
    "/s%65crets",
    "/a%2Db",
    "/a%C3",
    "/a%C0%AF",
    "/a%ED%A0%80",
    "/a%C2%85",
  ])("%s is refused", (path) => {
    expect(statusOf(() => upstreamTarget(path, "forward", ""))).toBe(400);
    expect(statusOf(() => upstreamTarget(path, "reverse", "/p"))).toBe(400);
  });
});

describe("the prefix", () => {
  const prefix = "/kubernetes/global";

  test.each([
    ["/kubernetes/global/api", "/api"],
    ["/kubernetes/global/", "/"],
    ["/kubernetes/global", "/"],
  ])("the forward door takes %s and judges %s", (path, judged) => {
    expect(upstreamTarget(path, "forward", prefix)).toEqual({ path, judged, query: "" });
  });

  test.each(["/api", "/kubernetes/globalapi", "/kubernetes", "/kubernetes/globa%6C/x", "/KUBERNETES/global/x"])(
    "the forward door refuses %s",
    (path) => {
      expect(statusOf(() => upstreamTarget(path, "forward", prefix))).toBe(path.includes("%") ? 400 : 404);
    },
  );

  test("the reverse door adds it, also to a path that looks as if it had it", () => {
    expect(upstreamTarget("/api", "reverse", prefix).path).toBe("/kubernetes/global/api");
    expect(upstreamTarget("/kubernetes/global/api", "reverse", prefix)).toMatchObject({
      path: "/kubernetes/global/kubernetes/global/api",
      judged: "/kubernetes/global/api",
    });
  });
});

describe("the query", () => {
  test("it goes on byte for byte", () => {
    const query = "?labelSelector=a%3Db%2Cc+d&watch=1&watch=0&x&=&?";
    expect(upstreamTarget(`/a${query}`, "forward", "").query).toBe(query);
  });

  test.each(["?a;b", "?a=%", "?a=%g0", "?a=\xe9", "?a#b", `?${"a&".repeat(1000)}`])("%s is refused", (query) => {
    expect(statusOf(() => upstreamTarget(`/a${query}`, "forward", ""))).toBe(400);
  });
});

describe("for whom", async () => {
  const connector = await resolvedConnector({ name: "prod", address: "https://10.0.0.1:6443" });
  const onDefaultPort = { ...connector, target: parseAddress("https://api.example") };

  test("Host on the forward door is the target, its port left out only where it is 443", () => {
    expect(statusOf(() => checkHost("10.0.0.1:6443", "forward", connector))).toBeUndefined();
    expect(statusOf(() => checkHost("API.example", "forward", onDefaultPort))).toBeUndefined();
    expect(statusOf(() => checkHost("api.example:443", "forward", onDefaultPort))).toBeUndefined();
  });

  test.each([
    "10.0.0.1",
    "10.0.0.1:443",
    "10.0.0.2:6443",
    "",
    "10.0.0.1:6443.",
    "x@10.0.0.1:6443",
    "c-prod.team-a.svc",
  ])("Host %j on the forward door is misdirected", (host) => {
    expect(statusOf(() => checkHost(host, "forward", connector))).toBe(421);
  });

  test("Host on the reverse door is one of the service's names", () => {
    expect(statusOf(() => checkHost("c-prod.team-a.svc.cluster.local", "reverse", connector))).toBeUndefined();
    expect(statusOf(() => checkHost("c-prod.team-a.svc.cluster.local:8443", "reverse", connector))).toBeUndefined();
    expect(statusOf(() => checkHost("10.0.0.1:6443", "reverse", connector))).toBe(421);
  });

  test.each(["10.0.0.1:443", "10.0.0.1", "010.0.0.1:6443", "10.1:6443", "10.0.0.2:6443", "[::ffff:10.0.0.1]:6443"])(
    "CONNECT %s is refused, and the refusal names the target",
    (authority) => {
      expect(() => checkConnectTarget(authority, connector)).toThrow(
        "connector team-a/prod reaches only 10.0.0.1:6443",
      );
    },
  );
});
