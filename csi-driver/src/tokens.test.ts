// Tokens are taken only when they are the pod's own, and no error quotes one.

import { Secret } from "@kube-connector/core";
import { describe, expect, test } from "vitest";
import { testPod, testToken, testTokens } from "../../test/kit/csi-kubelet.ts";
import { parseTokens, readExpiry } from "./tokens.ts";

const key = "csi.storage.k8s.io/serviceAccount.tokens";
const pod = testPod({});
const parse = (text: string | undefined, secrets: Record<string, string> = {}) =>
  parseTokens({ secrets, volumeContext: text === undefined ? {} : { [key]: text } }, { podUid: pod.uid, pod });

describe("tokens", () => {
  test("come from the volume context, or from the secrets when they are there", () => {
    const tokens = parse(testTokens(pod));
    expect(tokens.request.reveal()).toBe(testToken(pod, "kube-connector"));
    expect(tokens.tunnel.reveal()).toBe(testToken(pod, "kube-connector-tunnel"));
    expect(tokens.expiresAt).toBe(pod.expires * 1000);
    const renewed = { ...pod, renewal: 7 };
    expect(parse("not read", { [key]: testTokens(renewed) }).expiresAt).toBe((pod.expires + 7) * 1000);
  });

  const bound = {
    namespace: pod.namespace,
    pod: { name: pod.name, uid: pod.uid },
    serviceaccount: { name: "default" },
  };
  test.each([
    ["another audience", { aud: ["https://kubernetes.default.svc"] }, "audience differ"],
    ["one audience more", { aud: ["kube-connector-tunnel", "more"] }, "audience differ"],
    ["another pod", { "kubernetes.io": { ...bound, pod: { name: pod.name, uid: "other" } } }, "pod uid differ"],
    ["another namespace", { "kubernetes.io": { ...bound, namespace: "kube-system" } }, "namespace differ"],
    [
      "another ServiceAccount",
      { "kubernetes.io": { ...bound, serviceaccount: { name: "admin" } } },
      "ServiceAccount differ",
    ],
    ["no pod at all", { "kubernetes.io": undefined }, "pod uid, pod name, namespace, ServiceAccount differ"],
  ])("are refused: %s", (_, claims, sentence) => {
    expect(() => parse(testTokens(pod, claims))).toThrow(expect.objectContaining({ code: "permission_denied" }));
    expect(() => parse(testTokens(pod, claims))).toThrow(sentence);
  });

  test("are refused when the path is another pod's", () => {
    const sent = { secrets: {}, volumeContext: { [key]: testTokens(pod) } };
    expect(() => parseTokens(sent, { podUid: "other", pod })).toThrow("another pod");
  });

  test("that are missing are the CSIDriver object's fault", () => {
    expect(() => parse(undefined)).toThrow("no token for the audience kube-connector-tunnel; spec.tokenRequests");
    expect(() => parse(undefined)).toThrow(expect.objectContaining({ code: "unavailable" }));
    const one = JSON.stringify({ "kube-connector-tunnel": { token: testToken(pod, "kube-connector-tunnel") } });
    expect(() => parse(one)).toThrow("no token for the audience kube-connector;");
  });

  test.each([
    ["no JSON", "eyJhbGciOi.secret"],
    ["a list", "[]"],
    ["no token", '{"kube-connector-tunnel": {}}'],
    ["no JWT", '{"kube-connector-tunnel": {"token": "eyJsecret"}}'],
    ["a header's end in it", JSON.stringify({ "kube-connector-tunnel": { token: "secret\r\nx: y" } })],
  ])("that cannot be read are not quoted: %s", (_, text) => {
    const caught = (() => {
      try {
        return parse(text);
      } catch (error) {
        return error;
      }
    })();
    expect(caught).toMatchObject({ code: "internal" });
    expect(String((caught as Error).stack)).not.toContain("secret");
    expect((caught as Error).cause).toBeUndefined();
  });

  test("say when they expire; what is no token says nothing", () => {
    expect(readExpiry(new Secret(testToken(pod, "x")))).toBe(pod.expires * 1000);
    expect(readExpiry(new Secret("nonsense"))).toBeUndefined();
  });
});
