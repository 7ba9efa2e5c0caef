import { afterAll, beforeAll, expect, test } from "vitest";
import { runCampaign } from "../fuzz/campaign.ts";
import { createJudge } from "../fuzz/judge.ts";
import { losingBytes, readWithoutRule, rules, withoutRule } from "../fuzz/lenient-proxy.ts";
import { createMemoryProxy, memoryConnector } from "../fuzz/memory-proxy.ts";
import { type Readers, startReaders } from "../fuzz/readers.ts";
import { reportOf, summaryOf } from "../fuzz/report.ts";
import { runSocketCampaign } from "../fuzz/socket-campaign.ts";

// Whatever passes the HTTP/1.1 framer is read by node:http and by Go's net/http as the proxy reads it: the same requests
// with the same bodies, the same answers, in whatever pieces they came; and a framer that is less strict would be found
// out. FUZZ_SECONDS and FUZZ_SEED take more, or other inputs; `make fuzz` is for long runs.

const seconds = Number(process.env.FUZZ_SECONDS ?? 20);
const seed = Number(process.env.FUZZ_SEED ?? 1);
const subject = createMemoryProxy();
const traceLimit = Error.stackTraceLimit;
let readers: Readers;

beforeAll(async () => {
  readers = await startReaders();
  // Most inputs end in a refusal; nobody looks at where it was made.
  Error.stackTraceLimit = 0;
});

afterAll(async () => {
  Error.stackTraceLimit = traceLimit;
  await readers[Symbol.asyncDispose]();
});

test("what passes is read by node:http and Go's net/http as by the proxy", {
  timeout: seconds * 3000 + 60_000,
}, async () => {
  const judge = createJudge(readers.all, memoryConnector);
  const until = { milliseconds: seconds * 1000, least: 2000 };
  const result = await runCampaign({ subject, judge, seed, until });
  console.log(summaryOf("in memory", seed, result));
  expect(result.found && (await reportOf(result.found))).toBeUndefined();
  expect(result.passed).toBeGreaterThan(result.executions / 10);
});

test("the running proxy does over sockets, at both doors, what it does in memory", {
  timeout: seconds * 1000 + 60_000,
}, async () => {
  const until = { milliseconds: seconds * 250, least: 50 };
  const result = await runSocketCampaign({ readers: readers.all, seed, until });
  console.log(summaryOf("over sockets", seed, result));
  expect(result.found && (await reportOf(result.found))).toBeUndefined();
  expect(result.passed).toBeGreaterThan(5);
});

test("the same seed gives the same inputs and the same behaviour", async () => {
  const judge = createJudge(readers.all, memoryConnector);
  const until = { milliseconds: 0, least: 1500 };
  const once = await runCampaign({ subject, judge, seed: 7, until });
  expect(await runCampaign({ subject, judge, seed: 7, until })).toEqual(once);
});

const until = { milliseconds: 0, least: 20_000 };

test.each(Object.entries(rules))(
  "a proxy without the rule %j is found out",
  { timeout: 120_000 },
  async (_rule, what) => {
    const judge = createJudge(readers.all, memoryConnector, readWithoutRule(what));
    const { found } = await runCampaign({ subject: withoutRule(subject, what), judge, seed: 1, until });
    expect(found?.finding.rule).toMatch(/are not read by|reads otherwise/);
  },
);

test("a proxy that loses a byte between two pieces is found out", { timeout: 120_000 }, async () => {
  const judge = createJudge(readers.all, memoryConnector);
  const { found } = await runCampaign({ subject: losingBytes(subject), judge, seed: 1, until });
  expect(found?.finding.rule).toMatch(/split/);
});
