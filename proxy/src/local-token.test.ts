import { Secret } from "@kube-connector/core";
import { expect, test } from "vitest";
import { resolvedConnector } from "../../test/kit/resolved.ts";
import { createLocalAccess } from "./local-token.ts";

// In standalone each connector has a tunnel token and a request token of its own. Neither serves for the other, for
// another connector, or for another run of the process.

const prod = await resolvedConnector({ name: "prod" });
const other = await resolvedConnector({ name: "other" });
const refused = expect.objectContaining({ code: "unauthenticated" });

test("a tunnel token opens its connector and no other", async () => {
  const { authenticator, tunnelToken } = createLocalAccess();
  await authenticator.tunnel(tunnelToken(prod), prod);
  await expect(authenticator.tunnel(tunnelToken(prod), other)).rejects.toThrow(refused);
});

test("a request token is its connector's caller, who may use that connector and no other", async () => {
  const { authenticator, authorizer, requestToken } = createLocalAccess();
  const caller = await authenticator.request(requestToken(prod));
  expect(caller).toMatchObject({ user: "local:team-a/prod", namespace: "team-a", pod: undefined });
  await authorizer.may(caller, prod);
  await expect(authorizer.may(caller, other)).rejects.toThrow(expect.objectContaining({ code: "permission_denied" }));
});

test("the two kinds are not interchangeable, and another run's tokens are worth nothing", async () => {
  const { authenticator, tunnelToken, requestToken } = createLocalAccess();
  await expect(authenticator.request(tunnelToken(prod))).rejects.toThrow(refused);
  await expect(authenticator.tunnel(requestToken(prod), prod)).rejects.toThrow(refused);
  await expect(authenticator.request(createLocalAccess().requestToken(prod))).rejects.toThrow(refused);
});

test("anything else is refused", async () => {
  const { authenticator, requestToken } = createLocalAccess();
  const [, , mac] = requestToken(prod).reveal().split(".");
  const named = (text: string) => `local.${Buffer.from(text).toString("base64url")}.${mac}`;
  const forged = [
    "",
    "local",
    "local..",
    named('["team-a","other"]'),
    named("{"),
    named("[1,2]"),
    named("x".repeat(2000)),
  ];
  for (const text of forged) await expect(authenticator.request(new Secret(text)), text).rejects.toThrow(refused);
});
