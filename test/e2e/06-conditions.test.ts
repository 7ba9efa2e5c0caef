// Each False reason that an admin can meet is made by a real cause, says what to mend, and is mended to Ready without a
// restart of anything.
import { beforeAll, describe, expect, test } from "vitest";
import { bearerSecret, connector, createToken, revokeToken, target, type Target, waitFor } from "./cluster.ts";
import { apply, eventually, kubectlOk } from "./kubectl.ts";

const namespace = "conditions";
let at: Target;
let token: string;

interface Case {
  title: string;
  name: string;
  type: string;
  reason: string;
  /** What the message must name. */
  says: RegExp;
  break: () => Promise<void>;
  mend: () => Promise<void>;
}

const secret = (name: string, text = token, more = {}) => apply([bearerSecret(namespace, `${name}-token`, text, more)]);
const connect = (name: string, more: object = {}, to: Pick<Target, "address" | "ca"> = at) =>
  apply([connector(namespace, name, to, more)]);
const remove = (name: string) => kubectlOk(["-n", namespace, "delete", "secret", `${name}-token`]);

const cases: Case[] = [
  {
    title: "a missing Secret",
    name: "no-secret",
    type: "SecretReady",
    reason: "SecretNotFound",
    says: /no-secret-token/,
    break: () => connect("no-secret"),
    mend: () => secret("no-secret"),
  },
  {
    title: "a Secret of the wrong type",
    name: "wrong-type",
    type: "SecretReady",
    reason: "WrongSecretType",
    says: /connectors\.cpaas\.io\/bearer-token/,
    break: async () => {
      await apply([{ ...bearerSecret(namespace, "wrong-type-token", token), type: "Opaque" }]);
      await connect("wrong-type");
    },
    mend: async () => {
      await remove("wrong-type");
      await secret("wrong-type");
    },
  },
  {
    title: "an empty token",
    name: "no-token",
    type: "SecretReady",
    reason: "TokenMissing",
    says: /token/,
    break: async () => {
      await secret("no-token", "");
      await connect("no-token");
    },
    mend: () => secret("no-token"),
  },
  {
    title: "a token with a line break inside",
    name: "bad-token",
    type: "SecretReady",
    reason: "TokenMalformed",
    says: /token/,
    break: async () => {
      await secret("bad-token", "two\nlines");
      await connect("bad-token");
    },
    mend: () => secret("bad-token"),
  },
  {
    title: "a CA that is no certificate",
    name: "bad-ca",
    type: "SecretReady",
    reason: "InvalidCA",
    says: /caBundle|CA/,
    break: async () => {
      await secret("bad-ca");
      await connect("bad-ca", {}, { address: at.address, ca: "not a certificate" });
    },
    mend: () => connect("bad-ca"),
  },
  {
    title: "an address that is not in the Secret's list",
    name: "address",
    type: "SecretReady",
    reason: "AddressNotAllowed",
    says: /addresses/,
    break: async () => {
      await secret("address", token, { addresses: "https://elsewhere.test:6443\n" });
      await connect("address");
    },
    mend: () => secret("address", token, { addresses: `https://elsewhere.test:6443\n${at.address}\n` }),
  },
  {
    title: "a revoked token",
    name: "revoked",
    type: "AuthReady",
    reason: "AuthenticationFailed",
    says: /401|token/,
    break: async () => {
      const old = await createToken(at, "revoked-old");
      await revokeToken(at, "revoked-old-token");
      await secret("revoked", old);
      await connect("revoked");
    },
    mend: () => secret("revoked"),
  },
  {
    title: "a CA that did not sign the target's certificate",
    name: "wrong-ca",
    type: "LivenessReady",
    reason: "CertificateRejected",
    says: /certificate/i,
    break: async () => {
      await secret("wrong-ca");
      await connect("wrong-ca", {}, { address: at.address, ca: target("host").ca });
    },
    mend: () => connect("wrong-ca"),
  },
  {
    title: "an address where nobody listens",
    name: "refused",
    type: "LivenessReady",
    reason: "ConnectionFailed",
    says: /refused/,
    break: async () => {
      await secret("refused");
      await connect("refused", {}, { address: `https://${new URL(at.address).hostname}:6444`, ca: at.ca });
    },
    mend: () => connect("refused"),
  },
  {
    title: "a path prefix behind which no API server is",
    name: "prefix",
    type: "LivenessReady",
    reason: "UnexpectedStatus",
    says: /404/,
    break: async () => {
      await secret("prefix");
      await connect("prefix", {}, { address: new URL("/elsewhere", at.address).href, ca: at.ca });
    },
    mend: () => connect("prefix"),
  },
  {
    title: "a class that does not exist",
    name: "class",
    type: "ConnectorClassReady",
    reason: "ConnectorClassNotFound",
    says: /later-class/,
    break: async () => {
      await secret("class");
      await connect("class", { connectorClassName: "later-class" });
    },
    mend: () =>
      apply([
        {
          apiVersion: "connectors.cpaas.io/v1alpha1",
          kind: "ConnectorClass",
          metadata: { name: "later-class" },
          spec: {
            type: "Kubernetes",
            auth: [{ name: "bearerTokenAuth", secretType: "connectors.cpaas.io/bearer-token" }],
            proxy: { placement: "Shared" },
          },
        },
      ]),
  },
];

beforeAll(async () => {
  at = target("global");
  token = await createToken(at, "conditions");
  await apply([{ apiVersion: "v1", kind: "Namespace", metadata: { name: namespace } }]);
});

describe("a Connector is not Ready, and says why, with", () => {
  test.concurrent.each(cases)(
    "$title: $type $reason, and Ready once it is mended",
    async (one) => {
      await one.break();
      const { message } = await waitFor(
        namespace,
        one.name,
        { type: one.type, status: "False", reason: one.reason },
        120_000,
      );
      expect(message).toMatch(one.says);
      expect(message).not.toContain(token);
      const ready = await waitFor(namespace, one.name, { status: "False", reason: one.reason }, 60_000);
      expect(ready.message).toBe(message);
      await eventually(async () => {
        const events = await kubectlOk([
          "-n",
          namespace,
          "get",
          "events",
          `--field-selector=involvedObject.name=${one.name}`,
        ]);
        expect(events).toContain(one.reason);
      }, 60_000);
      await one.mend();
      await waitFor(namespace, one.name, {}, 120_000);
    },
    400_000,
  );
});
