// Following a run to its end, while whoever answers is away for a moment, or refuses.
import { Fault } from "@kube-connector/core";
import type { RunRecord } from "@kube-connector/jobs";
import { expect, test } from "vitest";
import { followRun } from "./follow.ts";
import type { JobsCalls } from "./session.ts";

const progress = { active: 0, ready: 0, succeeded: 1, failed: 0, completions: 1 };
const ended = { id: "01", state: "Succeeded", reason: "", progress, cleanup: { state: "Done" }, attempts: [] };
const run = ended as unknown as RunRecord;

/** A terminal's end of a command, that keeps what was written. */
function output() {
  let text = "";
  const stream = {
    write: (piece: string) => ((text += piece), true),
    on: () => stream,
    off: () => stream,
  };
  return { stream: stream as unknown as NodeJS.WriteStream, text: () => text };
}

function follow(get: () => Promise<RunRecord>) {
  const out = output();
  const left = { aborted: false };
  const calls: Partial<JobsCalls> = {
    get,
    async *follow() {
      yield { type: "state" } as never;
      yield { type: "end" } as never;
    },
    async *followLog(_id, { signal }) {
      yield { lines: ["2026-03-01T10:00:00.000000000Z [p/main#0] hello"], next: 1, ended: false };
      // As one does that waits for its server.
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, 1500);
        signal.addEventListener("abort", () => {
          clearTimeout(timer);
          left.aborted = true;
          resolve();
        });
      });
    },
  };
  const status = followRun(run, {
    jobs: calls as JobsCalls,
    output: "table",
    cancelOnInterrupt: false,
    exitFrom: undefined,
    withLog: true,
    back: "",
    signal: new AbortController().signal,
    stdout: out.stream,
    stderr: output().stream,
  });
  return { status, out, left };
}

test("a server that is away for a moment is asked again", async () => {
  let asked = 0;
  const away = [new Fault("unavailable", "connection refused"), new Fault("deadline_exceeded", "timed out")];
  const { status, out } = follow(async () => {
    const fault = away[asked++];
    if (fault !== undefined) throw fault;
    return run;
  });
  expect(await status).toBe(0);
  expect(out.text()).toContain("[p/main#0] hello");
  expect(asked).toBeGreaterThan(away.length);
});

test("what is refused ends all of it, so that the command ends", async () => {
  let asked = 0;
  const { status, left } = follow(async () => {
    asked += 1;
    if (asked > 1) throw new Fault("unauthenticated", "another token");
    return run;
  });
  await expect(status).rejects.toThrow("another token");
  await expect.poll(() => left.aborted).toBe(true);
});
