// What an API server and the world beside it do to a run: answers that are lost, late or refused, foreign objects, watches that
// may not be had. Each run ends right, and nothing of somebody else's is touched.
import type { RunRecord } from "@kube-connector/jobs";
import { afterAll, beforeAll, describe, test } from "vitest";
import type { ApiRelay, Fate, RelayedRequest } from "../kit/api-relay.ts";
import { definition, left, linesByPod, numbered, untilCleaned, untilEnd } from "../kit/jobs-checks.ts";
import { type JobsRoom, namespace, type Started, startJobsRoom, type StartOptions } from "../kit/jobs-room.ts";

const atOnce = 8;
let room: JobsRoom;
const free: JobsRoom["relayed"][number][] = [];
const waiting: (() => void)[] = [];

beforeAll(async () => {
  room = await startJobsRoom({ relays: atOnce });
  free.push(...room.relayed);
});
afterAll(() => room?.stop());

interface Place extends Started {
  relay: ApiRelay;
  folder: string;
  submit: (script: Parameters<typeof definition>[0], more?: object) => Promise<string>;
  /** The run once that holds. */
  until: (id: string, holds: (run: RunRecord) => boolean, seconds?: number) => Promise<RunRecord>;
  /** The run, ended and cleaned up. */
  ended: (id: string) => Promise<RunRecord>;
}

/** A module with a history and a relay of its own. */
async function inPlace(work: (place: Place) => Promise<void>, options: StartOptions = {}): Promise<void> {
  while (free.length === 0) await new Promise<void>((resolve) => waiting.push(resolve));
  const relayed = free.pop() as (typeof free)[number];
  const { relay, config } = relayed;
  relay.fate = () => undefined;
  relay.requests.length = 0;
  const folder = await room.folder();
  const started = await room.start(folder, { config, ...options });
  const { jobs } = started;
  try {
    await work({
      ...started,
      relay,
      folder,
      submit: async (script, more = {}) =>
        (await jobs.submit(definition(script, { connector: config.name, ...more }))).run.id,
      async until(id, holds, seconds = 40) {
        for (const end = performance.now() + seconds * 1000; ; ) {
          const run = await jobs.get(id);
          if (holds(run)) return run;
          if (performance.now() > end)
            throw new Error(`run ${id} is still ${JSON.stringify({ ...run, definition: 0, attempts: 0 })}`);
          await new Promise((resolve) => setTimeout(resolve, 50));
        }
      },
      async ended(id) {
        await untilEnd(jobs, id);
        return untilCleaned(jobs, id);
      },
    });
  } finally {
    relay.fate = () => undefined;
    await started.stop();
    free.push(relayed);
    waiting.shift()?.();
  }
}

const isPost = ({ method, path }: RelayedRequest) => method === "POST" && path.endsWith("/jobs");
const posts = ({ requests }: ApiRelay) => requests.filter(isPost).length;
const jobsPath = `/apis/batch/v1/namespaces/${namespace}/jobs`;
const forbidden = (message = "not allowed here"): Fate => ({ status: 403, reason: "Forbidden", message });
const foreign = (name: string) => ({
  metadata: { name },
  spec: { template: { spec: { restartPolicy: "Never", containers: [{ name: "main", image: "someone-else" }] } } },
});
const imageOf = async (name: string) =>
  (
    await room.plane.admin.request<{ spec: { template: { spec: { containers: { image: string }[] } } } }>(
      "GET",
      `${jobsPath}/${name}`,
    )
  ).spec.template.spec.containers[0]?.image;

describe.concurrent("submission", () => {
  test("the answer to the POST is lost: the Job is found and adopted, and sent once", ({ expect }) =>
    inPlace(async ({ relay, submit, ended, folder }) => {
      let lost = 0;
      relay.fate = (request) => (isPost(request) && (lost += 1) === 1 ? "lose" : undefined);
      const id = await submit({ lines: 5 });
      expect((await ended(id)).state).toBe("Succeeded");
      expect(posts(relay)).toBe(1);
      expect([...(await linesByPod(folder, id)).values()]).toEqual([numbered(5)]);
    }));

  test("a POST that was given up arrives after the next one was begun: one Job, adopted", ({ expect }) =>
    inPlace(async ({ relay, submit, ended }) => {
      let first: RelayedRequest | undefined;
      relay.fate = async (request) => {
        if (!isPost(request)) return undefined;
        if (first === undefined) {
          first = request;
          return "refuse";
        }
        await room.plane.admin.request("POST", jobsPath, { body: JSON.parse(first.body) }).catch(() => undefined);
        return undefined;
      };
      const run = await ended(await submit({ lines: 2 }));
      expect([run.state, run.attempts.length, posts(relay)]).toEqual(["Succeeded", 1, 2]);
    }));

  test("a foreign Job has our name: NameTaken, and it is left alone", ({ expect }) =>
    inPlace(async ({ relay, submit, ended }) => {
      let name = "";
      relay.fate = async (request) => {
        if (!isPost(request) || name !== "") return undefined;
        name = (JSON.parse(request.body) as { metadata: { name: string } }).metadata.name;
        await room.plane.admin.request("POST", jobsPath, { body: foreign(name) });
        return undefined;
      };
      const run = await ended(await submit({}));
      expect(run).toMatchObject({ state: "Failed", reason: "NameTaken", diagnosis: { category: "NameTaken" } });
      expect(await imageOf(name)).toBe("someone-else");
    }));

  test("429 is tried again after the time that it names", ({ expect }) =>
    inPlace(async ({ relay, submit, ended }) => {
      const times: number[] = [];
      relay.fate = (request) => {
        if (!isPost(request)) return undefined;
        times.push(performance.now());
        if (times.length > 2) return undefined;
        return { status: 429, reason: "TooManyRequests", message: "slowly", headers: { "retry-after": "1" } };
      };
      expect((await ended(await submit({}))).state).toBe("Succeeded");
      expect(times.length).toBe(3);
      expect((times[2] as number) - (times[0] as number)).toBeGreaterThan(1900);
    }));

  const quota = (status: 403 | 409): Fate =>
    status === 409
      ? {
          status,
          reason: "Conflict",
          message: "Operation cannot be fulfilled on resourcequotas: please apply your changes",
        }
      : forbidden("jobs.batch is forbidden: exceeded quota: team, requested: count/jobs.batch=1, used: 5, limited: 5");

  test("a quota, and the race for it, are waited for until there is room", ({ expect }) =>
    inPlace(async ({ relay, submit, ended, until }) => {
      let refused = 0;
      relay.fate = (request) => {
        if (!isPost(request)) return undefined;
        refused += 1;
        return refused > 3 ? undefined : quota(refused % 2 === 0 ? 409 : 403);
      };
      const id = await submit({});
      const waits = await until(id, ({ reason }) => reason === "Quota");
      expect(waits).toMatchObject({ state: "Queued", diagnosis: { category: "Quota" } });
      const run = await ended(id);
      expect([run.state, run.diagnosis]).toEqual(["Succeeded", undefined]);
    }));

  test("a quota that never has room ends the run with deadlines.queue", ({ expect }) =>
    inPlace(async ({ relay, submit, ended }) => {
      relay.fate = (request) => (isPost(request) ? quota(403) : undefined);
      const run = await ended(await submit({}, { deadlines: { queue: 2 } }));
      expect(run).toMatchObject({ state: "TimedOut", reason: "Queue" });
    }));

  test("a run that waits for a quota can be cancelled", ({ expect }) =>
    inPlace(async ({ relay, submit, ended, until, jobs }) => {
      relay.fate = (request) => (isPost(request) ? quota(403) : undefined);
      const id = await submit({});
      await until(id, ({ reason }) => reason === "Quota");
      await jobs.cancel(id);
      expect((await ended(id)).state).toBe("Cancelled");
    }));

  test("401 is tried once more, with the token as it is then", ({ expect }) =>
    inPlace(async ({ relay, submit, ended }) => {
      let asked = 0;
      relay.fate = (request) =>
        isPost(request) && (asked += 1) === 1
          ? { status: 401, reason: "Unauthorized", message: "Unauthorized" }
          : undefined;
      expect((await ended(await submit({}))).state).toBe("Succeeded");
    }));

  test("403 is final, and says what to change", ({ expect }) =>
    inPlace(async ({ relay, submit, ended }) => {
      relay.fate = (request) => (isPost(request) ? forbidden() : undefined);
      const run = await ended(await submit({}));
      expect(run).toMatchObject({
        state: "Failed",
        diagnosis: { hint: expect.stringContaining("allow it to create jobs") },
      });
      expect(posts(relay)).toBe(1);
    }));

  test("403 of an API server that was away, and begins without its rules, is waited out", ({ expect }) =>
    inPlace(async ({ relay, submit, ended }) => {
      let asked = 0;
      relay.fate = (request) => {
        if (!isPost(request) && !request.path.includes("/jobs/")) return undefined;
        asked += 1;
        return asked === 1 ? "refuse" : asked <= 4 ? forbidden() : undefined;
      };
      const run = await ended(await submit({ lines: 1 }));
      expect([run.state, run.stale, run.attempts.length, asked > 4]).toEqual(["Succeeded", false, 1, true]);
    }));

  test("without a right on Secrets a run with secretEnv is refused, and says which right it needs", ({ expect }) =>
    inPlace(async ({ relay, submit, ended, jobs }) => {
      relay.fate = ({ path }) => (path.includes("/secrets") ? forbidden() : undefined);
      await expect(submit({}, { secretEnv: { PASSWORD: "x" } })).rejects.toThrow(
        `secretEnv needs the right create on secrets in namespace ${namespace}`,
      );
      const [run] = (await jobs.list({ limit: 1 })).runs;
      expect(await ended(run?.id ?? "")).toMatchObject({ state: "Failed", reason: "Secret", log: { lines: 0 } });
    }));
});

describe.concurrent("somebody else's hand", () => {
  test("a Job that somebody deletes: Lost, Deleted", ({ expect }) =>
    inPlace(async ({ submit, ended, until, folder }) => {
      const id = await submit({ lines: 5, stay: -1 });
      const { attempts } = await until(id, ({ state }) => state === "Running");
      await room.plane.admin.request("DELETE", `${jobsPath}/${attempts[0]?.job}`, {
        body: { apiVersion: "v1", kind: "DeleteOptions", propagationPolicy: "Background" },
      });
      expect(await ended(id)).toMatchObject({ state: "Lost", reason: "Deleted", status: "Unknown" });
      expect([...(await linesByPod(folder, id)).values()]).toEqual([numbered(5)]);
    }));

  test("another Job takes its name while nobody watches: Lost, Replaced, and that one is left alone", ({ expect }) =>
    inPlace(async ({ relay, submit, ended, until }) => {
      const id = await submit({ lines: 1, stay: -1 });
      const job = (await until(id, ({ state }) => state === "Running")).attempts[0]?.job ?? "";
      relay.fate = () => "refuse";
      relay.cut();
      await room.plane.admin.request("DELETE", `${jobsPath}/${job}`, {
        body: { apiVersion: "v1", kind: "DeleteOptions", propagationPolicy: "Background" },
      });
      for (let isThere = true; isThere; ) {
        isThere = await room.plane.admin.request("GET", `${jobsPath}/${job}`).then(
          () => true,
          () => false,
        );
      }
      await room.plane.admin.request("POST", jobsPath, { body: foreign(job) });
      // How that one ends is not how the run has ended.
      const succeeded = async () =>
        (await room.plane.admin.request<{ status?: { succeeded?: number } }>("GET", `${jobsPath}/${job}`)).status
          ?.succeeded;
      await expect.poll(succeeded, { timeout: 20_000 }).toBe(1);
      relay.fate = () => undefined;
      expect(await ended(id)).toMatchObject({ state: "Lost", reason: "Replaced" });
      expect(await imageOf(job)).toBe("someone-else");
    }));

  test("the cluster's TTL deletes it first: the result stays, and the clean-up is done", ({ expect }) =>
    inPlace(async ({ relay, submit, ended, folder }) => {
      relay.fate = ({ method }) => (method === "DELETE" ? { status: 500, reason: "", message: "not now" } : undefined);
      const id = await submit({ lines: 3 }, { ttl: 10, deadlines: { collect: 5 } });
      expect(await ended(id)).toMatchObject({ state: "Succeeded", cleanup: { state: "Done" } });
      expect([...(await linesByPod(folder, id)).values()]).toEqual([numbered(3)]);
      expect(await left(room, `connectors.cpaas.io/run-id=${id}`)).toEqual([]);
    }));
});

describe.concurrent("what may not be done", () => {
  test("watch forbidden: it is listed again and again, and the run ends right", ({ expect }) =>
    inPlace(async ({ relay, submit, ended, folder }) => {
      relay.fate = ({ query }) => (query.has("watch") ? forbidden() : undefined);
      const id = await submit({ lines: 5, stay: 1000 });
      expect(await ended(id)).toMatchObject({ state: "Succeeded", stale: false });
      expect([...(await linesByPod(folder, id)).values()]).toEqual([numbered(5)]);
    }));

  test("list forbidden: the run is stale and says so; it can be cancelled, and ends once it can be read", ({
    expect,
  }) =>
    inPlace(async ({ relay, submit, ended, until, jobs }) => {
      relay.fate = ({ method, path, query }) =>
        method === "GET" && (query.has("watch") || /\/(jobs|pods)$/.test(path)) ? forbidden() : undefined;
      const id = await submit({ stay: -1 });
      const run = await until(id, ({ stale, attempts }) => stale && attempts[0]?.uid !== undefined);
      expect(run.message).toContain("not allowed here");
      await jobs.cancel(id);
      while (!relay.requests.some(({ method }) => method === "DELETE"))
        await new Promise((resolve) => setTimeout(resolve, 50));
      relay.fate = () => undefined;
      expect(await ended(id)).toMatchObject({ state: "Cancelled", stale: false });
    }));

  test("suspend and cancel that are refused name the missing right; the run is followed all the same", ({ expect }) =>
    inPlace(async ({ relay, submit, ended, until, jobs }) => {
      relay.fate = ({ method }) => (method === "PATCH" || method === "DELETE" ? forbidden() : undefined);
      const id = await submit({ lines: 3, every: 1500 });
      await until(id, ({ state }) => state === "Running");
      await jobs.suspend(id, true);
      await until(id, ({ message = "" }) => message.includes("needs the right patch on jobs"));
      await jobs.cancel(id);
      await until(id, ({ message = "" }) => message.includes("needs the right delete on jobs"));
      await until(id, ({ state }) => state === "Succeeded");
      relay.fate = () => undefined;
      expect(await ended(id)).toMatchObject({ state: "Succeeded", cleanup: { state: "Done" } });
    }));
});

describe.concurrent("connections", () => {
  test("cut every second: the log is exact, and the run ends right", ({ expect }) =>
    inPlace(async ({ relay, submit, ended, folder }) => {
      const timer = setInterval(() => relay.cut(), 1000);
      try {
        const id = await submit({ lines: 800, every: 8 });
        expect(await ended(id)).toMatchObject({ state: "Succeeded", log: { lines: 800, gaps: 0 } });
        expect([...(await linesByPod(folder, id)).values()]).toEqual([numbered(800)]);
      } finally {
        clearInterval(timer);
      }
    }));

  test("the token is revoked and replaced in the middle of a log: the run goes on with the new one", ({ expect }) =>
    inPlace(async ({ relay, submit, ended, until, folder }) => {
      const id = await submit({ lines: 300, every: 20 });
      await until(id, ({ state }) => state === "Running");
      const old = relay.requests.at(-1)?.authorization;
      relay.fate = ({ authorization }) =>
        authorization === old ? { status: 401, reason: "Unauthorized", message: "Unauthorized" } : undefined;
      relay.cut();
      await room.setToken();
      expect(await ended(id)).toMatchObject({ state: "Succeeded", stale: false, log: { lines: 300, gaps: 0 } });
      expect([...(await linesByPod(folder, id)).values()]).toEqual([numbered(300)]);
      expect(relay.requests.at(-1)?.authorization).not.toBe(old);
    }));

  test("watches whose version is gone (410) list anew, and nothing is missed", ({ expect }) => {
    let relists = 0;
    const counts = { submitted() {}, asked() {}, saw() {}, gap() {}, relisted: () => void (relists += 1) };
    return inPlace(
      async ({ relay, submit, ended }) => {
        let gone = 0;
        const watchGone: Fate = { status: 410, reason: "Expired", message: "too old resource version" };
        relay.fate = ({ query }) => (query.has("watch") && (gone += 1) <= 4 ? watchGone : undefined);
        expect((await ended(await submit({ lines: 2, stay: 1500 }))).state).toBe("Succeeded");
        expect(relists).toBeGreaterThanOrEqual(2);
      },
      { counts },
    );
  });

  test("a watch that never answers is not waited for", ({ expect }) =>
    inPlace(async ({ relay, submit, ended }) => {
      let watches = 0;
      relay.fate = ({ query }) => (query.has("watch") && (watches += 1) <= 2 ? "hang" : undefined);
      expect((await ended(await submit({ lines: 2 }))).state).toBe("Succeeded");
    }));
});
