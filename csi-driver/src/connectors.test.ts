// Of a Connector only what is rendered is kept, and what is missing is a sentence.

import { expect, test } from "vitest";
import { testConnector } from "../../test/kit/csi-api.ts";
import { keepConnector } from "./connectors.ts";

const keep = (more: Parameters<typeof testConnector>[2] = {}) =>
  keepConnector(testConnector("team-a", "prod", more) as never);

test("a Connector with a proxy is usable, its address normalised", () => {
  expect(keep()).toMatchObject({
    openToOwnNamespace: true,
    usable: {
      server: "https://api.prod.example:6443/kubernetes/global",
      httpUrl: "http://c-prod.team-a.svc.cluster.local",
      httpsUrl: "https://c-prod.team-a.svc.cluster.local",
    },
  });
});

test("the digest changes with what is rendered, and with nothing else", () => {
  const digest = keep()?.digest;
  expect(keep({ status: { conditions: [{ type: "Ready", status: "False", message: "probe failed" }] } })?.digest).toBe(
    digest,
  );
  expect(keep({ spec: { limits: {} } })?.digest).toBe(digest);
  expect(keep({ uid: "another" })?.digest).not.toBe(digest);
  expect(keep({ spec: { address: "https://other" } })?.digest).not.toBe(digest);
  expect(keep({ ca: "-----BEGIN CERTIFICATE-----\nx" })?.digest).not.toBe(digest);
});

test.each([
  ["no status", { status: { proxy: undefined } }, "has no proxy yet; is the controller running?"],
  ["a CA that is none", { ca: "nonsense" }, "has no proxy yet"],
  ["a proxy URL with a password", { status: { proxy: { httpAddress: { url: "http://a:b@c" } } } }, "has no proxy yet"],
  ["an address that is none", { spec: { address: "https://user@host" } }, "should have no user or password"],
])("is not usable: %s", (_, more, sentence) => {
  const known = keep(more);
  expect(known?.usable).toBeUndefined();
  expect(known !== undefined && "problem" in known ? known.problem : "").toContain(sentence);
});

test("one that is being deleted is gone", () => {
  const connector = testConnector("team-a", "prod");
  const metadata = { ...connector.metadata, deletionTimestamp: "2030-01-01T00:00:00Z" };
  expect(keepConnector({ ...connector, metadata })).toBeUndefined();
});
