import { createRandom } from "../kit/random.ts";
import { behaviourOf, type Case, hasGoneOn, outcomeOf, type Result, type Until, untilOver } from "./campaign.ts";
import type { Finding } from "./judge.ts";
import { createJudge } from "./judge.ts";
import type { Run } from "./memory-proxy.ts";
import { minimise } from "./minimise.ts";
import { mutate, randomSplit } from "./mutate.ts";
import type { Reader } from "./reading.ts";
import { seeds } from "./seeds.ts";
import { startSocketProxy } from "./socket-proxy.ts";

export interface SocketCampaignOptions {
  readers: readonly Reader[];
  seed: number;
  until: Until;
}

/** The running proxy; what becomes of an input must be the same there as in memory. */
export async function startSocketAttempts(readers: readonly Reader[]) {
  const proxy = await startSocketProxy();
  const judge = createJudge(readers, proxy.connector);
  return {
    async attempt({ input, split }: Case): Promise<{ finding: Finding | undefined; run: Run }> {
      const { expected, run } = await proxy.run(input, split);
      const finding = await judge.judge(input, run);
      const [wanted, outcome] = [outcomeOf(input, expected), outcomeOf(input, run)];
      if (finding !== undefined || wanted === outcome) return { finding, run };
      return { finding: { rule: "sockets change what becomes of an input", details: `${wanted}\n${outcome}` }, run };
    },
    [Symbol.asyncDispose]: () => proxy[Symbol.asyncDispose](),
  };
}

/** As a campaign in memory, through the running proxy at both doors. */
export async function runSocketCampaign({ readers, seed, until }: SocketCampaignOptions): Promise<Result> {
  await using sockets = await startSocketAttempts(readers);
  const random = createRandom(seed);
  const behaviours = new Set<string>();
  const goesOn = untilOver(until);
  const result: Result = { executions: 0, passed: 0, behaviours: 0, found: undefined };
  while (goesOn(result)) {
    const chosen = random.pick(seeds).input;
    const input = random.chance(0.3) ? chosen : mutate(chosen, random.pick(seeds).input, random);
    const one: Case = { input, split: randomSplit(input.bytes, random) };
    const { finding, run } = await sockets.attempt(one);
    result.executions += 1;
    if (hasGoneOn(input, run)) result.passed += 1;
    behaviours.add(behaviourOf(input, run));
    result.behaviours = behaviours.size;
    if (finding !== undefined)
      return { ...result, found: await minimise(one, finding, (smaller) => sockets.attempt(smaller)) };
  }
  return result;
}
