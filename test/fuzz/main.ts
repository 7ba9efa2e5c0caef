// `make fuzz`: the framer against node:http and Go's net/http, for as long as it is told to. Ends with status 1 at the
// first finding. The same seed gives the same inputs; a saved case can be tried again alone.
import { parseArgs } from "node:util";
import { type Result, runCampaign, tryCase } from "./campaign.ts";
import { readCase } from "./case-file.ts";
import { createJudge } from "./judge.ts";
import { createMemoryProxy, memoryConnector } from "./memory-proxy.ts";
import { startReaders } from "./readers.ts";
import { reportOf, summaryOf } from "./report.ts";
import { runSocketCampaign, startSocketAttempts } from "./socket-campaign.ts";

const { values } = parseArgs({
  options: {
    seconds: { type: "string", default: "300" },
    seed: { type: "string", default: String(Date.now() % 1_000_000_000) },
    case: { type: "string" },
  },
});
const [seconds, seed] = [Number(values.seconds), Number(values.seed)];
if (!(seconds > 0) || !Number.isSafeInteger(seed)) {
  console.error('make fuzz ARGS="[--seconds N] [--seed N] [--case FILE]"');
  process.exit(2);
}
// Most inputs end in a refusal; nobody looks at where it was made.
Error.stackTraceLimit = 0;

await using readers = await startReaders();
const subject = createMemoryProxy();
const judge = createJudge(readers.all, memoryConnector);

async function tell(where: string, result: Result): Promise<void> {
  console.log(summaryOf(where, seed, result));
  if (result.found === undefined) return;
  console.log(await reportOf(result.found));
  process.exitCode = 1;
}

if (values.case === undefined) {
  const until = (share: number) => ({ milliseconds: seconds * share * 1000 });
  await tell("in memory", await runCampaign({ subject, judge, seed, until: until(0.8) }));
  await tell("over sockets", await runSocketCampaign({ readers: readers.all, seed, until: until(0.2) }));
} else {
  const one = await readCase(values.case);
  await using sockets = await startSocketAttempts(readers.all);
  const finding = (await tryCase(one, subject, judge)).finding ?? (await sockets.attempt(one)).finding;
  console.log(finding === undefined ? "no finding" : await reportOf({ case: one, finding }, values.case));
  if (finding !== undefined) process.exitCode = 1;
}
