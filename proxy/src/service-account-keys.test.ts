import { Fault, Secret, silentLog } from "@kube-connector/core";
import { expect, onTestFinished, test } from "vitest";
import { createTestClock } from "../../test/kit/clock.ts";
import { createScriptedApi } from "../../test/kit/scripted-api.ts";
import { createTokenSigner, serviceAccountClaims, tamper, type TokenSigner } from "../../test/kit/tokens.ts";
import { startServiceAccountKeys } from "./service-account-keys.ts";

// The cluster's keys are read from its API server, issuer included, and again every 5 minutes and for an unknown key, but
// never more often than every 3 s. Until they are known, and when an unknown key cannot be looked up, the answer is
// unavailable; a forged token is unauthenticated. While the API server is away, known keys stay good.

const jwks = "GET /openid/v1/jwks";
const discovery = "GET /.well-known/openid-configuration";
const wanted = { word: "tunnel token", audience: "kube-connector-tunnel" };
const issuer = "https://issuer";
const first = await createTokenSigner("first");
const second = await createTokenSigner("second", "RS256");
const claims = serviceAccountClaims({ audience: wanted.audience, issuer });
const unauthenticated = (text: string) =>
  expect.objectContaining({ code: "unauthenticated", message: expect.stringContaining(text) }) as Error;
const unavailable = expect.objectContaining({ code: "unavailable" }) as Error;

function start(listed: { signers: TokenSigner[] }, fixedIssuer?: string) {
  const clock = createTestClock();
  const api = createScriptedApi();
  api.on(discovery, () => ({ issuer }));
  api.on(jwks, () => ({ keys: listed.signers.map(({ jwk }) => jwk) }));
  const keys = startServiceAccountKeys({ api, clock, log: silentLog, issuer: fixedIssuer });
  onTestFinished(() => keys.stop());
  return { keys, clock, api };
}

test("tokens of all listed keys are good, whatever their times", async () => {
  const { keys } = start({ signers: [first, second] });
  await keys.loaded;
  for (const signer of [first, second]) {
    const token = await signer.sign({ ...claims, exp: 1, nbf: 1 });
    expect(await keys.verify(token, wanted)).toMatchObject({ user: "system:serviceaccount:team-a:default" });
  }
});

test("before the keys are known nothing is judged", async () => {
  const token = await first.sign(claims);
  const { keys } = start({ signers: [first] });
  expect(keys.isLoaded()).toBe(false);
  await expect(keys.verify(token, wanted)).rejects.toThrow(unavailable);
});

test("forged, tampered and malformed tokens are refused without asking the API server", async () => {
  const { keys, clock, api } = start({ signers: [first] });
  await keys.loaded;
  clock.pass(10_000);
  const forger = await createTokenSigner("first");
  await expect(keys.verify(await forger.sign(claims), wanted)).rejects.toThrow(unauthenticated("not signed by this"));
  const tampered = tamper(await first.sign(claims), { sub: "system:serviceaccount:team-b:default" });
  await expect(keys.verify(tampered, wanted)).rejects.toThrow(unauthenticated("not signed by this"));
  const none = `${Buffer.from('{"alg":"none"}').toString("base64url")}.${Buffer.from("{}").toString("base64url")}.`;
  for (const text of ["", "x", "a.b.c", none, "..", "x".repeat(20_000)]) {
    await expect(keys.verify(new Secret(text), wanted)).rejects.toThrow(
      unauthenticated("is not a service account token"),
    );
  }
  expect(api.count(jwks)).toBe(1);
});

test("the public key is no HMAC key, and an algorithm outside the list is refused", async () => {
  const { keys } = start({ signers: [first, await createTokenSigner("pss", "PS256")] });
  await keys.loaded;
  const pss = await (await createTokenSigner("pss", "PS256")).sign(claims);
  await expect(keys.verify(pss, wanted)).rejects.toThrow(unauthenticated("is not a service account token"));
  const [, payload] = pss.reveal().split(".");
  const header = Buffer.from(JSON.stringify({ alg: "HS256", kid: "first" })).toString("base64url");
  const hmac = new Secret(`${header}.${payload}.${Buffer.alloc(32).toString("base64url")}`);
  await expect(keys.verify(hmac, wanted)).rejects.toThrow(unauthenticated("is not a service account token"));
});

test("a new key is found when the first token of it comes, and once for many", async () => {
  const listed = { signers: [first] };
  const { keys, clock, api } = start(listed);
  await keys.loaded;
  clock.pass(10_000);
  listed.signers = [first, second];
  const token = await second.sign(claims);
  await Promise.all(Array.from({ length: 50 }, () => keys.verify(token, wanted)));
  expect(api.count(jwks)).toBe(2);
});

test("tokens with made-up keys cause a reading every 3 s at most", async () => {
  const { keys, clock, api } = start({ signers: [first] });
  await keys.loaded;
  clock.pass(10_000);
  const foreign = await second.sign(claims);
  const refused = unauthenticated("key that this cluster does not know");
  for (let count = 0; count < 20; count += 1) await expect(keys.verify(foreign, wanted)).rejects.toThrow(refused);
  expect(api.count(jwks)).toBe(2);
  clock.pass(3_000);
  await expect(keys.verify(foreign, wanted)).rejects.toThrow(refused);
  expect(api.count(jwks)).toBe(3);
});

test("a key is good until it is no longer listed", async () => {
  const listed = { signers: [first, second] };
  const { keys, clock } = start(listed);
  await keys.loaded;
  const old = await first.sign(claims);
  listed.signers = [second];
  await keys.verify(old, wanted);
  clock.pass(300_000);
  await expect.poll(() => keys.verify(old, wanted).catch((error: Error) => error.message)).toContain("does not know");
});

test("while the API server is away known keys stay good and unknown ones cannot be judged", async () => {
  const { keys, clock, api } = start({ signers: [first] });
  await keys.loaded;
  api.on(jwks, () => {
    throw new Fault("unavailable", "connection refused");
  });
  clock.pass(300_000);
  await keys.verify(await first.sign(claims), wanted);
  await expect(keys.verify(await second.sign(claims), wanted)).rejects.toThrow(unavailable);
  await expect(keys.verify(await second.sign(claims), wanted)).rejects.toThrow(unavailable);
});

test("an API server that comes late is asked until it answers", async () => {
  const clock = createTestClock();
  const api = createScriptedApi();
  const keys = startServiceAccountKeys({ api, clock, log: silentLog });
  onTestFinished(() => keys.stop());
  await expect.poll(() => clock.waiting()).toBe(1);
  api.on(discovery, () => ({ issuer }));
  for (const wrong of [{}, { keys: [] }, undefined]) {
    api.on(jwks, () => wrong);
    clock.pass(30_000);
    await expect.poll(() => clock.waiting()).toBe(1);
    expect(keys.isLoaded()).toBe(false);
  }
  api.on(jwks, () => ({ keys: [first.jwk] }));
  clock.pass(30_000);
  await keys.loaded;
  await keys.verify(await first.sign(claims), wanted);
});

test("an issuer that is given replaces the discovered one", async () => {
  const { keys, api } = start({ signers: [first] }, "https://given");
  await keys.loaded;
  expect(api.count(discovery)).toBe(0);
  await expect(keys.verify(await first.sign(claims), wanted)).rejects.toThrow(unauthenticated("another issuer"));
  await keys.verify(await first.sign({ ...claims, iss: "https://given" }), wanted);
});
