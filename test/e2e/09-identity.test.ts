// Who comes in, on a real cluster: the two tokens of a live pod, each for its own purpose, and nothing else. What is
// refused says why and never reaches the target; what is not genuine costs no review. And who may point a Connector at a
// Secret: only who may read it.
import { randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { RawClient } from "../kit/raw-client.ts";
import { connector, startWorkbench } from "./cluster.ts";
import { bearer, type EchoConnector, type Mounted, readMounted, requestText, startEchoConnector } from "./doors.ts";
import { apply, eventually, kubectl, kubectlOk } from "./kubectl.ts";
import { claimsOf, headerOf, remint, remintFor } from "./tokens.ts";

const doors = ["forward", "reverse"] as const;
const hour = 3600;
const sleep = (milliseconds: number) => new Promise((resolve) => setTimeout(resolve, milliseconds));
let echo: EchoConnector;
const proxyUser = '"system:serviceaccount:kube-connector-proxy:p-team-a--echo"';
let mounted: Mounted;

beforeAll(async () => {
  echo = await startEchoConnector("team-a", "echo");
  mounted = await bench("caller");
});
afterAll(async () => {
  await echo?.[Symbol.asyncDispose]();
  await kubectlOk(["-n", "team-a", "delete", "pod", "caller", "--now", "--ignore-not-found"]);
});

async function bench(name: string): Promise<Mounted> {
  await kubectlOk(["-n", "team-a", "delete", "pod", name, "--now", "--ignore-not-found"]);
  const pod = await startWorkbench({ namespace: "team-a", name, volumes: { echo: { connector: "echo" } } });
  return readMounted(pod, "echo");
}

/** A genuine token that the hosting cluster's API server makes. */
const created = (...flags: string[]) => kubectlOk(["-n", "team-a", "create", "token", "default", ...flags]);

/** Another payload over the old signature. */
function tampered(token: string, claims: object): string {
  const [head, , signature] = token.split(".");
  const payload = Buffer.from(JSON.stringify({ ...claimsOf(token), ...claims })).toString("base64url");
  return `${head}.${payload}.${signature}`;
}

/** As if one needed no signature. */
function unsigned(token: string): string {
  const head = Buffer.from(JSON.stringify({ ...headerOf(token), alg: "none" })).toString("base64url");
  return `${head}.${token.split(".")[1]}.`;
}

test("the mounted tokens open both doors, and the target sees the stored token only", async () => {
  for (const door of doors) {
    const { status, body } = await echo.get(door, mounted);
    expect(status).toBe(200);
    expect(body).toContain(bearer(echo.stored));
    expect(body).not.toContain(mounted.request);
  }
});

test("request tokens that are forged, tampered with, unsigned, for another audience, swapped, unbound or long expired get 401 and why, at both doors", async () => {
  const { request, tunnel } = mounted;
  const ofThePod = ["--bound-object-kind=Pod", "--bound-object-name=caller"];
  const cases: [string, string][] = [
    [remint(request, {}, process.env.TARGET_SA_KEY), "not signed by this cluster"],
    [tampered(request, { sub: "system:serviceaccount:kube-system:default" }), "not signed by this cluster"],
    [unsigned(request), "not"],
    [await created("--audience=vault", ...ofThePod), "has the audience vault, not kube-connector"],
    [await created(...ofThePod), "not kube-connector"],
    [await created("--audience=kube-connector"), "is bound to no pod"],
    [tunnel, "has the audience kube-connector-tunnel, not kube-connector"],
    [remintFor(request, -hour, 2 * hour), "expired"],
    [echo.stored, "is not a service account token"],
  ];
  const before = echo.target.requests().length;
  for (const door of doors) {
    for (const [token, why] of cases) {
      const { status, head, body } = await echo.get(door, { ...mounted, request: token.trim() }, "/refused");
      expect([status, body], why).toEqual([401, expect.stringContaining(why)]);
      expect(head, why).toContain("Warning: 299 - ");
    }
  }
  const reached = echo.target.requests().slice(before);
  expect(reached.filter(({ head }) => head.includes("/refused"))).toEqual([]);
});

test("tunnel tokens that are forged, for another audience, swapped or none at all get 407, with the reason in its first line", async () => {
  const { request, tunnel } = mounted;
  for (const [password, why] of [
    [remint(tunnel, {}, process.env.TARGET_SA_KEY), "not signed by this cluster"],
    [tampered(tunnel, { exp: claimsOf(tunnel).exp + hour }), "not signed by this cluster"],
    [unsigned(tunnel), "not"],
    [(await created("--audience=vault")).trim(), "has the audience vault, not kube-connector-tunnel"],
    [request, "has the audience kube-connector, not kube-connector-tunnel"],
    ["nonsense", "is not a service account token"],
    ["", "proxy-url"],
  ] as const) {
    const [line = ""] = (await echo.connect({ password })).split("\r\n");
    expect(line).toMatch(/^HTTP\/1\.1 407 /);
    expect(line).toContain(why);
  }
});

test("a tunnel token that expired an hour ago still opens a tunnel, in which nothing passes without a request token", async () => {
  const old = { ...mounted, tunnel: remintFor(mounted.tunnel, -hour, 2 * hour) };
  expect((await echo.get("forward", old)).status).toBe(200);
  const client = await echo.open("forward", old);
  const host = echo.host("forward");
  for (const lines of ["", bearer(old.tunnel), bearer(remintFor(mounted.request, -hour, 2 * hour))]) {
    expect((await client.ask(requestText("GET", "/no-identity", host, lines))).status).toBe(401);
  }
  expect(echo.target.everything()).not.toContain("/no-identity");
});

test("a pod that was deleted is refused with 401 within 20 s, though it never stops calling", async () => {
  const doomed = await bench("doomed");
  expect((await echo.get("reverse", doomed)).status).toBe(200);
  await kubectlOk(["-n", "team-a", "delete", "pod", "doomed", "--now", "--wait=true"]);
  const deleted = performance.now();
  await eventually(async () => expect((await echo.get("reverse", doomed)).status).toBe(401), 20_000, 500);
  console.log(`a deleted pod was refused after ${((performance.now() - deleted) / 1000).toFixed(1)} s`);
  expect(performance.now() - deleted).toBeLessThan(20_500);
  for (const door of doors) {
    const { status, body } = await echo.get(door, doomed, "/deleted");
    expect([status, body]).toEqual([401, expect.stringContaining("no longer accepted")]);
  }
  expect(echo.target.everything()).not.toContain("/deleted");
});

/** How many TokenReviews the API server has answered to the connector's proxy, by its audit log. */
function reviews(): number {
  const lines = readFileSync(process.env.CLUSTER_AUDIT_LOG ?? "", "utf8").split("\n");
  return lines.filter((line) => line.includes('/tokenreviews"') && line.includes(proxyUser)).length;
}

test("ten thousand random tokens cost no TokenReview and fail no call of another client", async () => {
  const [head = ""] = mounted.request.split(".");
  const random = (kind: number) => {
    if (kind === 0) return randomBytes(30).toString("base64url");
    if (kind === 1) return tampered(mounted.request, { jti: randomBytes(8).toString("hex") });
    return `${head}.${randomBytes(60).toString("base64url")}.${randomBytes(256).toString("base64url")}`;
  };
  const host = echo.host("reverse");
  let refused = 0;
  const flood = async (kind: number) => {
    let client: RawClient | undefined;
    for (let count = 0; count < 1000; count += 1) {
      if (client === undefined || client.socket.destroyed) client = await echo.open("reverse", mounted);
      const answer = await client.ask(requestText("GET", "/random", host, bearer(random((kind + count) % 3))));
      if (answer.status === 401) refused += 1;
      if (/connection: close/i.test(answer.head)) client.socket.destroy();
    }
    client?.socket.destroy();
  };
  // A yes that is in use is asked about again every 8 to 10 s: that much is the friend's own.
  const before = reviews();
  const started = performance.now();
  const flooded = new AbortController();
  const calls: number[] = [];
  const friend = async () => {
    const client = await echo.open("reverse", mounted);
    while (!flooded.signal.aborted) {
      const asked = performance.now();
      const answer = await client.ask(requestText("GET", "/friend", host, bearer(mounted.request)));
      expect(answer.status).toBe(200);
      calls.push(performance.now() - asked);
      await sleep(20);
    }
    client.socket.destroy();
  };
  const friends = friend();
  await Promise.all(Array.from({ length: 10 }, (_, kind) => flood(kind))).finally(() => flooded.abort());
  await friends;
  const seconds = (performance.now() - started) / 1000;
  calls.sort((a, b) => a - b);
  console.log(
    `10,000 random tokens in ${seconds.toFixed(1)} s; ${calls.length} calls beside them, ` +
      `median ${calls[calls.length >> 1]?.toFixed(0)} ms, slowest ${calls.at(-1)?.toFixed(0)} ms`,
  );
  expect(refused).toBe(10_000);
  expect(calls.length).toBeGreaterThan(10);
  expect(reviews() - before).toBeLessThanOrEqual(1 + Math.ceil(seconds / 8));
  expect(echo.target.everything()).not.toContain("/random");
  // The count sees reviews where there are some: a genuine token that is new costs one.
  const counted = reviews();
  const fresh = remint(mounted.request, { jti: crypto.randomUUID() });
  expect((await echo.get("reverse", { ...mounted, request: fresh })).status).toBe(200);
  await eventually(() => expect(reviews()).toBeGreaterThan(counted), 5000);
});

test("who may edit Connectors but not read the Secret can neither name it nor change the address, and is told so; labels are free", async () => {
  await kubectlOk(["-n", "team-a", "delete", "role,rolebinding", "jane", "jane-secret", "--ignore-not-found"]);
  const role = (name: string, rules: object[]) => [
    { apiVersion: "rbac.authorization.k8s.io/v1", kind: "Role", metadata: { name, namespace: "team-a" }, rules },
    {
      apiVersion: "rbac.authorization.k8s.io/v1",
      kind: "RoleBinding",
      metadata: { name, namespace: "team-a" },
      roleRef: { apiGroup: "rbac.authorization.k8s.io", kind: "Role", name },
      subjects: [{ apiGroup: "rbac.authorization.k8s.io", kind: "User", name: "jane" }],
    },
  ];
  await apply(role("jane", [{ apiGroups: ["connectors.cpaas.io"], resources: ["connectors"], verbs: ["*"] }]));
  const asJane = (args: string[], input = "") => kubectl(["--as=jane", "-n", "team-a", ...args], { input });
  const stolen = JSON.stringify(
    connector("team-a", "stolen", echo.target, {
      auth: { name: "bearerTokenAuth", secretRef: { name: "echo-token" } },
    }),
  );
  const elsewhere = '{"spec":{"address":"https://192.0.2.1:6443"}}';
  const otherSecret = '{"spec":{"auth":{"secretRef":{"name":"global-token"}}}}';
  const sentence = (secret: string) => `you may not get the Secret ${secret} in namespace team-a, so you may not let`;
  const attempts: [string[], string, string][] = [
    [["create", "-f", "-"], stolen, "echo-token"],
    [["apply", "--server-side", "-f", "-"], stolen, "echo-token"],
    [["patch", "connector", "echo", "--type=merge", "-p", elsewhere], "", "echo-token"],
    [["patch", "connector", "echo", "--type=merge", "-p", otherSecret], "", "global-token"],
  ];
  await eventually(async () => expect((await asJane(["get", "connector", "echo"])).code).toBe(0), 10_000);
  for (const [args, input, secret] of attempts) {
    const { code, stderr } = await asJane(args, input);
    expect(code, args.join(" ")).toBe(1);
    expect(stderr).toContain(sentence(secret));
    expect(stderr).toContain("ask for the verb get on that Secret, or let someone who has it make this change");
  }
  expect((await asJane(["label", "connector", "echo", "kept-by=jane"])).code).toBe(0);
  // With the one verb on the one Secret it works.
  await apply(
    role("jane-secret", [{ apiGroups: [""], resources: ["secrets"], resourceNames: ["echo-token"], verbs: ["get"] }]),
  );
  await eventually(async () => expect((await asJane(["create", "-f", "-"], stolen)).code).toBe(0), 10_000);
  await kubectlOk(["-n", "team-a", "delete", "connector", "stolen"]);
  expect((await asJane(["patch", "connector", "echo", "--type=merge", "-p", otherSecret])).code).toBe(1);
  await kubectlOk(["-n", "team-a", "delete", "role,rolebinding", "jane", "jane-secret"]);
});
