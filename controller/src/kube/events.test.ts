import { type ApiServer, type Clock, type Connector, Fault, type FaultCode, silentLog } from "@kube-connector/core";
import { expect, test } from "vitest";
import { writeEvent } from "./events.ts";

// One Event, however often its request has to be sent, and no try that cannot help.

const connector = { metadata: { name: "prod", namespace: "team-a", uid: "u" } } as Connector;

async function write(...answers: (FaultCode | { code: FaultCode; retryAfterSeconds: number } | undefined)[]) {
  const names: string[] = [];
  const waited: number[] = [];
  const clock: Clock = {
    now: () => 0,
    monotonic: () => 0,
    after(milliseconds, work) {
      waited.push(milliseconds);
      queueMicrotask(work);
      return () => undefined;
    },
  };
  const api = {
    async request(_method: string, _path: string, { body }: { body: { metadata: { name: string } } }) {
      names.push(body.metadata.name);
      const answer = answers[names.length - 1];
      if (answer === undefined) return;
      const { code, ...more } = typeof answer === "string" ? { code: answer } : answer;
      throw new Fault(code, "refused", undefined, { status: 429, reason: "", fields: [], ...more });
    },
  } as unknown as ApiServer;
  const event = { type: "Warning", reason: "ConnectionFailed", message: "refused" } as const;
  await writeEvent({ api, clock, log: silentLog, identity: "one" }, connector, event);
  return { tries: names.length, names: new Set(names).size, waited };
}

test.each([
  ["accepted", [undefined], 1, []],
  ["refused by a server under load, then accepted", ["unavailable", undefined], 2, [1000]],
  ["refused with a time to wait", [{ code: "unavailable", retryAfterSeconds: 3 }, undefined], 2, [3000]],
  ["refused for a long time", [{ code: "unavailable", retryAfterSeconds: 60 }, undefined], 2, [5000]],
  ["heard though no answer came", ["deadline_exceeded", "conflict"], 2, [1000]],
  ["refused for ever", ["unavailable", "unavailable", "unavailable", undefined], 3, [1000, 1000]],
  ["forbidden", ["permission_denied", undefined], 1, []],
] as const)("an Event that is %s", async (_what, answers, tries, waited) => {
  expect(await write(...answers)).toEqual({ tries, names: 1, waited });
});
