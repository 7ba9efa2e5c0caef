import { createRandom } from "../kit/random.ts";
import { hasPassed, type Finding, type Judge } from "./judge.ts";
import type { Input, Split } from "./input.ts";
import { minimise } from "./minimise.ts";
import { mutate, randomSplit } from "./mutate.ts";
import type { Run, Subject } from "./memory-proxy.ts";
import { seeds } from "./seeds.ts";

/** An input, and the pieces it is sent in. */
export interface Case {
  input: Input;
  split: Split;
}

export interface CampaignOptions {
  subject: Subject;
  judge: Judge;
  /** The same seed gives the same inputs in the same order. */
  seed: number;
  until: Until;
}

/** How long a campaign goes on: for that time, and at least for so many inputs, however long they take. */
export interface Until {
  milliseconds: number;
  least?: number;
}

/** Whether a campaign that began now goes on. */
export function untilOver({ milliseconds, least = 0 }: Until) {
  const end = performance.now() + milliseconds;
  return ({ executions }: Result): boolean => executions < least || performance.now() < end;
}

export interface Result {
  executions: number;
  /** Of these, how many had something that went on to the other side. */
  passed: number;
  /** Ways in which the proxy behaved. */
  behaviours: number;
  /** The first that was found, in its smallest form. */
  found: { case: Case; finding: Finding } | undefined;
}

/** Inputs that are tried together. */
const together = 64;

/** Tries seeds, then what comes of them, and goes on from what made the proxy behave in a new way. */
export async function runCampaign({ subject, judge, seed, until }: CampaignOptions): Promise<Result> {
  const random = createRandom(seed);
  const corpus: Input[] = seeds.map(({ input }) => input);
  const behaviours = new Set<string>();
  const result: Result = { executions: 0, passed: 0, behaviours: 0, found: undefined };
  const goesOn = untilOver(until);
  const attempt = (one: Case) => tryCase(one, subject, judge);
  let next = 0;
  /** The shorter of two, mostly: it costs less and says as much. */
  const pick = () => {
    const [one, other] = [random.pick(corpus), random.pick(corpus)];
    return one.bytes.length > other.bytes.length && random.chance(0.9) ? other : one;
  };
  /** Some are made while others are tried; what is made depends on those that have ended in order, never on time. */
  const begin = () => {
    const cases = Array.from({ length: together }, () => {
      const input = seeds[next++]?.input ?? mutate(pick(), random.pick(corpus), random);
      return { input, split: randomSplit(input.bytes, random) };
    });
    return { cases, tried: Promise.all(cases.map(attempt)) };
  };
  const begun = [begin(), begin()];
  while (goesOn(result)) {
    begun.push(begin());
    const { cases, tried } = begun.shift() ?? begin();
    for (const [i, { finding, run }] of (await tried).entries()) {
      const one = cases[i];
      if (one === undefined) continue;
      result.executions += 1;
      if (hasGoneOn(one.input, run)) result.passed += 1;
      if (finding !== undefined) {
        await Promise.all(begun.map(({ tried }) => tried));
        return { ...result, behaviours: behaviours.size, found: await minimise(one, finding, attempt) };
      }
      const behaviour = behaviourOf(one.input, run);
      if (behaviours.has(behaviour)) continue;
      behaviours.add(behaviour);
      if (corpus.length < 3000) corpus.push(one.input);
    }
  }
  await Promise.all(begun.map(({ tried }) => tried));
  return { ...result, behaviours: behaviours.size };
}

/** Sends a case in one piece and in its pieces, and judges both. */
export async function tryCase(
  { input, split }: Case,
  subject: Subject,
  judge: Judge,
): Promise<{ finding: Finding | undefined; run: Run }> {
  const [run, inPieces] = await Promise.all([subject.run(input, []), subject.run(input, split)]);
  let finding = await judge.judge(input, run);
  const [outcome, outcomeInPieces] = [outcomeOf(input, run), outcomeOf(input, inPieces)];
  if (finding === undefined && outcome !== outcomeInPieces) {
    const details = `in one piece: ${outcome}\nin pieces: ${outcomeInPieces}`;
    finding = { rule: "what becomes of an input depends on how it is split", details };
  }
  if (JSON.stringify(sentBy(inPieces)) !== JSON.stringify(sentBy(run))) finding ??= await judge.judge(input, inPieces);
  return { finding, run };
}

/** All that the proxy sent. */
const sentBy = ({ upstream, client, second }: Run) => [upstream, client, second];

/**
 * What may not depend on how the bytes come. Of a head that cannot be read only that it is refused: which of its faults is
 * found first does depend on it, and so does how much of half a message has gone on.
 */
export function outcomeOf(input: Input, run: Run): string {
  const records = run.records.map(({ decision, method, path, code, bytesIn }) =>
    method === "-" ? "refused" : `${decision} ${method} ${path} ${code} ${bytesIn}`,
  );
  const state = run.client.cut ? "cut" : "not cut";
  if (input.kind === "requests") return JSON.stringify([records, state]);
  const passes = run.records.every(hasPassed);
  return JSON.stringify([records, state, passes ? run.client.bytes : "", run.second]);
}

/** Whether something of an input went on to the other side. */
export function hasGoneOn(input: Input, { records, upstream }: Run): boolean {
  return input.kind === "requests" ? upstream.length > 0 : records.some(hasPassed);
}

/** In what way the proxy behaved: what it said, without what it quotes, and how what passed was framed. */
export function behaviourOf(input: Input, { records, upstream, client, second }: Run): string {
  const said = records.map(({ decision, code, reason, message = "", bytesIn }) => {
    const words = message.split(" ").filter((word) => /^[a-z]+[,:]?$/.test(word));
    return `${decision} ${code} ${reason} ${bytesIn > 0} ${words.join(" ")}`;
  });
  const passed = input.kind === "requests" ? upstream.map(({ bytes }) => bytes) : [client.bytes];
  const framing = passed.flatMap(
    (bytes) => bytes.match(/^(?:content-length|transfer-encoding|upgrade|expect|HTTP.* \d+)/gim) ?? [],
  );
  return JSON.stringify([
    input.kind,
    said,
    new Set(framing).size,
    framing.length,
    upstream.length,
    client.cut,
    second?.cut,
  ]);
}
