import { writeSync } from "node:fs";
import { setTimeout as wait } from "node:timers/promises";
import { Fault, Secret, silentLog } from "@kube-connector/core";
import { openStore, type RunRecord } from "@kube-connector/jobs";
import { testRun, testRunId } from "./runs.ts";

// Writes into the history HISTORY without end, eight runs at a time, and says on standard output what was acknowledged:
// `ack ID VERSION`, and `fault CODE MESSAGE`. It ends after its first fault, or with KEEP=1 goes on after it.

const store = await openStore(new Secret(process.env.HISTORY ?? ""), { log: silentLog });
const owner = `writer-${process.pid}`;
await store.renew(owner, 600);

function say(line: string): void {
  try {
    writeSync(1, `${line}\n`);
  } catch {
    // Nobody listens any more.
    process.exit(1);
  }
}

async function persist<T>(work: () => Promise<T>): Promise<T | undefined> {
  try {
    return await work();
  } catch (error) {
    const { code, message } = Fault.from(error);
    say(`fault ${code} ${message}`);
    if (process.env.KEEP !== "1") process.exit(0);
    await wait(20);
    return undefined;
  }
}

async function writeRuns(): Promise<never> {
  for (;;) {
    const run = testRun(1, {
      id: testRunId(Math.floor(Math.random() * 2 ** 40), Date.now()),
      message: "x".repeat(3000),
    });
    let record: RunRecord | undefined = (await persist(() => store.create(run, {}, owner)))?.record;
    for (let turn = 0; record !== undefined && turn < 20; turn += 1) {
      const { id, version } = record;
      say(`ack ${id} ${version}`);
      const event = { at: record.since, type: "state", message: `turn ${turn}`, data: {} } as const;
      const from: RunRecord = record;
      record = await persist(() => store.save(from, [event], owner));
    }
  }
}

await Promise.all(Array.from({ length: 8 }, writeRuns));
