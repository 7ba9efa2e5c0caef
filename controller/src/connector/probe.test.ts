// One round of questions: one verified TLS connection, the prefix on every path, the token only after the certificate was
// verified, never to a redirect's target, and a sentence for each way to fail. And when rounds are made: at once, then at
// the interval, again in 5 s after a first failure, believed after the second.
import { createServer } from "node:net";
import { Secret, parseAddress, silentLog } from "@kube-connector/core";
import { onTestFinished, expect, test } from "vitest";
import { createTestCa } from "../../../test/kit/certificates.ts";
import { createTestClock } from "../../../test/kit/clock.ts";
import { type ProbedTarget, startProbedTarget } from "../../../test/kit/controller-room.ts";
import { type ProbeInput, type ProbeOutcome, probeTarget } from "./probe.ts";
import { startProber } from "./prober.ts";
import type { Verdict } from "./resolve.ts";

const options = { allowLoopback: true, now: () => Date.now() };

async function startTarget(given: Parameters<typeof startProbedTarget>[0] = {}): Promise<ProbedTarget> {
  const target = await startProbedTarget(given);
  onTestFinished(() => target.stop());
  target.tokens.add("good");
  return target;
}

function inputFor(
  target: { address: string; ca: { certificate: string } },
  more: Partial<ProbeInput> = {},
): ProbeInput {
  return {
    target: parseAddress(target.address),
    tls: { caBundle: target.ca.certificate, insecureSkipVerify: false },
    token: new Secret("good"),
    expiresAt: undefined,
    paths: { liveness: "/livez", auth: "/api" },
    timeout: 1000,
    className: "k8s",
    ...more,
  };
}

test("a round is one connection with three questions below the prefix", async () => {
  const target = await startTarget({ prefix: "/kubernetes/global" });
  const outcome = await probeTarget(inputFor(target), options);
  expect(outcome).toMatchObject({ liveness: { status: "True" }, auth: { status: "True" }, version: "v1.35.4" });
  expect(target.connections).toBe(1);
  expect(target.requests.map(({ path }) => path)).toEqual([
    "/kubernetes/global/livez",
    "/kubernetes/global/api",
    "/kubernetes/global/version",
  ]);
});

test("a target with an untrusted, expired or misnamed certificate gets no byte of a request", async () => {
  const ca = await createTestCa();
  const stranger = await createTestCa();
  const expired = await startTarget({ ca, notAfter: Date.now() - 60_000 });
  const misnamed = await startTarget({ ca, hosts: ["other.example"] });
  const untrusted = await startTarget({ ca: stranger });
  for (const [target, sentence] of [
    [expired, "has expired"],
    [misnamed, "spec.tls.serverName"],
    [untrusted, "not in the CA bundle"],
  ] as const) {
    const { liveness } = await probeTarget(inputFor({ address: target.address, ca }), options);
    expect(liveness).toMatchObject({ status: "False", reason: "CertificateRejected" });
    expect(liveness.message).toContain(sentence);
    expect(target.requests).toEqual([]);
  }
});

test("insecureSkipVerify asks anyway, and says what that means", async () => {
  const target = await startTarget();
  const { liveness } = await probeTarget(inputFor(target, { tls: { insecureSkipVerify: true } }), options);
  expect(liveness).toMatchObject({ status: "True", reason: "InsecureSkipVerify" });
});

test("a redirect is not followed, and a version that is no version is left out", async () => {
  const elsewhere = await startTarget();
  const target = await startTarget();
  target.answers.set("/version", { status: 200, body: '{"gitVersion":"<script>"}' });
  expect((await probeTarget(inputFor(target), options)).version).toBeUndefined();
  target.answers.set("/livez", { status: 307, headers: { location: `${elsewhere.address}/livez` } });
  const { liveness } = await probeTarget(inputFor(target), options);
  expect(liveness).toMatchObject({ reason: "UnexpectedStatus" });
  expect(elsewhere.requests).toEqual([]);
});

test("what is longer than 64 KiB is not read to its end", async () => {
  const target = await startTarget();
  target.answers.set("/livez", { status: 200, body: "x".repeat(5_000_000) });
  expect((await probeTarget(inputFor(target), options)).liveness.status).toBe("True");
});

test("no TLS, no HTTP, no answer, no host, no listener: each has its sentence", async () => {
  const plain = createServer((socket) => socket.on("error", () => undefined).end("SSH-2.0-OpenSSH\r\n"));
  const silent = createServer((socket) => socket.on("error", () => undefined));
  const ports = await Promise.all(
    [plain, silent].map(async (server) => {
      await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
      onTestFinished(() => void server.close());
      return (server.address() as { port: number }).port;
    }),
  );
  const { ca } = await startTarget();
  const ask = async (address: string) =>
    (await probeTarget(inputFor({ address, ca }, { timeout: 300 }), options)).liveness;
  const closed = await startProbedTarget();
  await closed.stop();
  for (const [address, sentence] of [
    [`https://127.0.0.1:${ports[0]}`, "TLS"],
    [`https://127.0.0.1:${ports[1]}`, "no answer in time"],
    ["https://nowhere.invalid", "no such host"],
    [closed.address, "connection refused"],
  ] as const) {
    const verdict = await ask(address);
    expect(verdict).toMatchObject({ status: "False", reason: "ConnectionFailed" });
    expect(verdict.message).toContain(sentence);
  }
});

const good: Verdict = { status: "True", reason: "Ready", message: "" };
const bad: Verdict = { status: "False", reason: "ConnectionFailed", message: "" };

function startTestProber() {
  const clock = createTestClock();
  const told: string[] = [];
  const state = { outcome: { liveness: good, auth: good, version: "v1" } as ProbeOutcome, rounds: 0 };
  const prober = startProber({
    clock,
    log: silentLog,
    onSettled: (key) => told.push(key),
    probe: () => {
      state.rounds += 1;
      return Promise.resolve(state.outcome);
    },
  });
  const input = inputFor({ address: "https://a.example", ca: { certificate: "" } });
  const want = (basis: string) => prober.want("a/b", basis, 60_000, () => Promise.resolve(input));
  const settle = () => new Promise((resolve) => setImmediate(resolve));
  const pass = async (milliseconds: number) => {
    clock.pass(milliseconds);
    await settle();
    await settle();
  };
  return { clock, prober, told, state, want, pass };
}

test("a target is asked at once, then every interval; what does not change is not told again", async () => {
  const { prober, told, state, want, pass } = startTestProber();
  want("1");
  await pass(0);
  expect(state.rounds).toBe(1);
  expect(prober.settled("a/b", "1")?.liveness.status).toBe("True");
  for (let rounds = 2; rounds < 6; rounds += 1) {
    await pass(66_000);
    expect(state.rounds).toBe(rounds);
  }
  expect(told).toEqual(["a/b"]);
  want("2");
  expect(prober.settled("a/b", "2")).toBeUndefined();
  await pass(0);
  expect(told).toEqual(["a/b", "a/b"]);
  await prober.stop();
});

test("one failure is doubted and asked again in 5 s, a second one is believed; one success is enough", async () => {
  const { clock, prober, told, state, want, pass } = startTestProber();
  want("1");
  await pass(0);
  state.outcome = { liveness: bad, auth: undefined, version: undefined };
  await pass(66_000);
  expect(prober.settled("a/b", "1")?.liveness.status).toBe("True");
  await pass(4999);
  expect(state.rounds).toBe(2);
  await pass(1);
  expect(prober.settled("a/b", "1")?.liveness.status).toBe("False");
  state.outcome = { liveness: good, auth: good, version: "v1" };
  await pass(66_000);
  expect(prober.settled("a/b", "1")?.liveness.status).toBe("True");
  expect(told).toHaveLength(3);
  prober.forget("a/b");
  expect(clock.waiting()).toBe(0);
  await prober.stop();
});
