// The module dies before and after every single step, a write of the history, a call to the cluster or a write of the log, and
// another one goes on with its history: one Job for each attempt, every line once, the right end, and nothing left behind.
import { createHash } from "node:crypto";
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { Fault } from "@kube-connector/core";
import { type Jobs, readLog, type RunRecord, type Store, diskFiles, type LogFiles } from "@kube-connector/jobs";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { ApiRelay, Fate, RelayedRequest } from "../kit/api-relay.ts";
import { definition, left, linesByPod, numbered, untilCleaned } from "../kit/jobs-checks.ts";
import { type JobsRoom, startJobsRoom } from "../kit/jobs-room.ts";

const atOnce = 6;
let room: JobsRoom;

beforeAll(async () => {
  room = await startJobsRoom({ relays: atOnce });
});
afterAll(() => room?.stop());

/** What counts as a step: writes of the history and calls to the cluster, or writes of the log. */
type Steps = "calls" | "files";

/** Counts steps, each as two: before it and after it. At the one with that number nothing works any more. */
function createFatal(number: number, counted: Steps, relay: ApiRelay) {
  const dead = new AbortController();
  let count = 0;
  const fatal = (kind: Steps = "calls") => {
    if (kind !== counted) return false;
    count += 1;
    if (count === number) dead.abort();
    return count === number;
  };
  const alive = () => {
    if (dead.signal.aborted) throw new Fault("unavailable", "this process is dead");
  };
  const steps = new Set(["create", "save", "release", "saveSnapshot"]);
  /** A write of the log; of one that is cut in the middle, `begin` does the first half. */
  async function write(work: () => Promise<void>, begin?: () => Promise<void>): Promise<void> {
    fatal("files");
    alive();
    if (begin !== undefined) {
      await begin();
      fatal("files");
      alive();
    }
    await work();
    fatal("files");
    alive();
  }
  const files: LogFiles = {
    async open(path) {
      alive();
      const file = await diskFiles.open(path);
      return {
        ...file,
        write: (bytes, at) =>
          write(
            () => file.write(bytes, at),
            () => file.write(bytes.subarray(0, bytes.length >> 1), at),
          ),
        truncate: (size) => write(() => file.truncate(size)),
        sync: () => write(() => file.sync()),
      };
    },
    replace: (...given) => write(() => diskFiles.replace(...given)),
    rename: (...given) => write(() => diskFiles.rename(...given)),
  };
  return {
    files,
    signal: dead.signal,
    wrap: (store: Store): Store =>
      new Proxy(store, {
        get(target, name: keyof Store) {
          const value = target[name];
          if (typeof value !== "function") return value;
          return async (...given: never[]) => {
            const isStep = steps.has(name);
            if (isStep) fatal();
            alive();
            const answer: unknown = await (value as (...given: never[]) => unknown).apply(target, given);
            if (isStep) fatal();
            alive();
            return answer;
          };
        },
      }),
    fate({ method, path, query }: RelayedRequest): Fate {
      // Lists and watches are repeated by whoever comes.
      const isStep = method !== "GET" || /\/jobs\/[^/]+$|\/log$/.test(path);
      if (dead.signal.aborted || (isStep && !query.has("watch") && fatal())) {
        relay.cut();
        return "refuse";
      }
      return isStep && fatal() ? "lose" : undefined;
    },
  };
}

interface Story {
  definition: object;
  state: string;
  attempts: number;
  lines: number;
  /** calls unless told. */
  steps?: Steps;
  /** What somebody does meanwhile, again with the second process. */
  meanwhile?: (jobs: Jobs, id: string) => Promise<void>;
}

/** The log is whole and says so itself, and nothing is there that it was made of. */
async function expectComplete(folder: string, id: string, digest: string | undefined): Promise<void> {
  const pieces: Buffer[] = [];
  for await (const piece of readLog(join(folder, "logs"), id)) pieces.push(piece);
  const text = Buffer.concat(pieces).toString();
  const end = text.lastIndexOf("#end ");
  expect(createHash("sha256").update(text.slice(0, end)).digest("hex")).toBe(digest);
  expect(text.slice(end)).toContain(`sha256=${digest}`);
  expect(await readdir(join(folder, "logs", id))).not.toContain("parts");
}

/** Answers whether it died at all. */
async function tell(story: Story, number: number, { relay, config }: JobsRoom["relayed"][number]): Promise<boolean> {
  const folder = await room.folder();
  const fatal = createFatal(number, story.steps ?? "calls", relay);
  relay.fate = (request) => fatal.fate(request);
  const first = await room.start(folder, { config, leaseSeconds: 1, wrap: fatal.wrap, files: fatal.files });
  const asked = { ...story.definition, connector: config.name };
  const submitted = await first.jobs.submit(asked).catch(() => undefined);
  let id = submitted?.run.id;
  const ended = async () => {
    if (id === undefined) return;
    await story.meanwhile?.(first.jobs, id);
    await untilCleaned(first.jobs, id, 60);
  };
  const deceased = new Promise((resolve) => fatal.signal.addEventListener("abort", resolve, { once: true }));
  const living = ended();
  living.catch(() => undefined);
  await (fatal.signal.aborted ? undefined : Promise.race([deceased, living]));
  relay.cut();
  await first.stop();
  relay.fate = () => undefined;
  const second = await room.start(folder, { config, leaseSeconds: 1 });
  const engine = second.store.engine;
  const run: RunRecord | undefined = id === undefined ? undefined : await second.jobs.get(id);
  id ??= (await second.jobs.list({ limit: 10 })).runs[0]?.id;
  if (id !== undefined) {
    await story.meanwhile?.(second.jobs, id);
    const { state, attempts, reason, log } = await untilCleaned(second.jobs, id, 60);
    // What was never acknowledged may have lost its secret values.
    if (run !== undefined || reason !== "Secret") {
      expect([number, state, attempts.length]).toEqual([number, story.state, story.attempts]);
      const all = [...(await linesByPod(folder, id)).values()];
      // Of pods that were deleted while nobody read them the log says so.
      if (!["Cancelled", "TimedOut"].includes(story.state) || log?.gaps === 0) {
        expect([number, log?.gaps, all]).toEqual([number, 0, attempts.map(() => numbered(story.lines))]);
      }
      await expectComplete(folder, id, log?.sha256);
      const posts = attempts.map(({ uid }) => uid);
      expect(new Set(posts).size).toBe(posts.length);
    }
  }
  expect([number, await left(room, `connectors.cpaas.io/engine=${engine}`)]).toEqual([number, []]);
  await second.stop();
  return fatal.signal.aborted;
}

/** Every number, or only each so-many-th, until a run gets through alive. */
async function tellAll(story: Story, every = 1): Promise<void> {
  const created = async () =>
    (await room.plane.audited()).filter(
      ({ verb, objectRef, responseStatus }) =>
        verb === "create" && objectRef?.resource === "jobs" && responseStatus?.code === 201,
    ).length;
  const before = await created();
  let number = 1 - every;
  let told = 0;
  let unborn = 0;
  let isThrough = false;
  await Promise.all(
    room.relayed.map(async (relayed) => {
      while (!isThrough) {
        number += every;
        told += 1;
        const at = number;
        if (!(await tell(story, at, relayed))) isThrough = true;
      }
    }),
  );
  // Those that died before their run was kept have made nothing.
  unborn = told * story.attempts - ((await created()) - before);
  expect(told).toBeGreaterThan(atOnce);
  expect(unborn).toBeLessThanOrEqual(Math.ceil(6 / every) * story.attempts);
  expect(unborn).toBeGreaterThanOrEqual(0);
}

test("a run that succeeds", async () => {
  await tellAll({ definition: definition({ lines: 20, every: 5 }), state: "Succeeded", attempts: 1, lines: 20 });
}, 300_000);

test("the log of a run that succeeds, write by write", async () => {
  const story = { definition: definition({ lines: 6, every: 100 }), state: "Succeeded", attempts: 1, lines: 6 };
  await tellAll({ ...story, steps: "files" });
}, 300_000);

test("the log of a run whose first attempt fails, and its second, write by write", async () => {
  const retry = { retry: { maxAttempts: 2, initialDelay: 1, on: ["Any"] } };
  const story = { definition: definition({ lines: 3, exit: 1 }, retry), state: "Failed", attempts: 2, lines: 3 };
  await tellAll({ ...story, steps: "files" }, 2);
}, 300_000);

test("a run with secret values, whose first attempt fails, and its second", async () => {
  const more = {
    secretEnv: { PASSWORD: "canary" },
    retry: { maxAttempts: 2, initialDelay: 1, on: ["Any"] },
  };
  await tellAll({ definition: definition({ lines: 3, exit: 1 }, more), state: "Failed", attempts: 2, lines: 3 }, 3);
}, 300_000);

test("a run that a deadline of ours ends, and that is not tried again", async () => {
  const script = { lines: 3, stay: -1 };
  const story = { definition: definition(script, { deadlines: { silence: 2 } }), state: "TimedOut", attempts: 1 };
  await tellAll({ ...story, lines: 3 }, 3);
}, 300_000);

test("a run that is cancelled", async () => {
  async function cancel(jobs: Jobs, id: string): Promise<void> {
    for (;;) {
      const { state, endedAt, cancel: asked } = await jobs.get(id);
      if (endedAt !== undefined || asked !== undefined) return;
      if (state === "Running") {
        await jobs.cancel(id);
        return;
      }
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }
  const story = { definition: definition({ lines: 3, stay: -1 }), state: "Cancelled", attempts: 1, lines: 3 };
  await tellAll({ ...story, meanwhile: cancel }, 2);
}, 300_000);
