// Leader election: one holder at a time; a Lease has run out when we have seen it unchanged for its whole life, whatever
// its renewTime says; a leader that cannot renew stops writing before another may begin, and says that it has lost.
import { type ApiRequest, type ApiServer, Fault, silentLog } from "@kube-connector/core";
import { expect, test } from "vitest";
import { createTestClock, type TestClock } from "../../../test/kit/clock.ts";
import { guardWrites, type Leadership, startLeadership } from "./lease.ts";

interface StoredLease {
  metadata: { name: string; resourceVersion: string };
  spec: { holderIdentity: string; renewTime: string; [field: string]: unknown };
}

/** A Lease as the API server keeps it: a PUT with an old version is refused. */
function createLeaseApi() {
  let lease: StoredLease | undefined;
  let version = 0;
  const state = {
    down: false,
    lease: () => lease,
    remove: () => {
      lease = undefined;
    },
    as: (): ApiServer => ({
      request<T>(method: string, path: string, options: ApiRequest = {}): Promise<T> {
        const refuse = (status: number, reason: string) =>
          Promise.reject(new Fault("conflict", reason, undefined, { status, reason, fields: [] }));
        if (state.down) return Promise.reject(new Fault("unavailable", `${method} ${path}: connection refused`));
        const body = options.body as StoredLease;
        if (method === "GET") return lease === undefined ? refuse(404, "NotFound") : Promise.resolve(lease as T);
        if (method === "POST" && lease !== undefined) return refuse(409, "AlreadyExists");
        if (method === "PUT" && lease?.metadata.resourceVersion !== body.metadata.resourceVersion) {
          return refuse(409, "Conflict");
        }
        version += 1;
        lease = { ...body, metadata: { ...body.metadata, resourceVersion: String(version) } };
        return Promise.resolve(lease as T);
      },
      open: () => Promise.reject(new Fault("unavailable", "no streams")),
      stop: () => Promise.resolve(),
    }),
  };
  return state;
}

const settle = async () => {
  for (let turn = 0; turn < 20; turn += 1) await new Promise((resolve) => setImmediate(resolve));
};

function start(api: ApiServer, clock: TestClock, identity: string): Leadership {
  const leadership = startLeadership({ api, clock, log: silentLog, namespace: "ns", name: "lease", identity });
  leadership.done.catch(() => undefined);
  return leadership;
}

async function pass(clock: TestClock, milliseconds: number): Promise<void> {
  for (let passed = 0; passed < milliseconds; passed += 500) {
    clock.pass(500);
    await settle();
  }
}

test("the first one leads, the second waits; when the first one stops, the second leads at its next try", async () => {
  const api = createLeaseApi();
  const clock = createTestClock();
  const first = start(api.as(), clock, "first");
  await settle();
  await first.elected;
  const second = start(api.as(), clock, "second");
  await pass(clock, 60_000);
  expect([first.mayWrite(), second.mayWrite()]).toEqual([true, false]);
  await first.stop();
  expect(api.lease()?.spec.holderIdentity).toBe("");
  await pass(clock, 3000);
  expect([first.mayWrite(), second.mayWrite()]).toEqual([false, true]);
  await second.stop();
});

test("a silent leader is followed 15 s after it was last seen, and whatever its clock says does not matter", async () => {
  const api = createLeaseApi();
  const ahead = createTestClock(Date.UTC(2036, 0, 1));
  const first = start(api.as(), ahead, "first");
  await settle();
  expect(first.mayWrite()).toBe(true);
  // The first one's time stands still from here: it renews no more. Its renewTime is ten years ahead.
  const clock = createTestClock();
  const second = start(api.as(), clock, "second");
  await settle();
  await pass(clock, 14_500);
  expect(second.mayWrite()).toBe(false);
  await pass(clock, 4000);
  expect(second.mayWrite()).toBe(true);
  // When the first one wakes up, it sees that it has lost.
  await pass(ahead, 3000);
  await expect(first.done).rejects.toThrow("another replica's");
  expect(first.mayWrite()).toBe(false);
  await second.stop();
});

test("a leader that cannot reach the API server writes nothing after 10 s, and has lost", async () => {
  const api = createLeaseApi();
  const clock = createTestClock();
  const leader = start(api.as(), clock, "leader");
  await settle();
  const guarded = guardWrites(createLeaseApi().as(), () => leader.mayWrite());
  await guarded.request("POST", "/x", { body: { metadata: {} } });
  api.down = true;
  await pass(clock, 9500);
  expect(leader.mayWrite()).toBe(true);
  await pass(clock, 500);
  expect(leader.mayWrite()).toBe(false);
  await expect(guarded.request("POST", "/x")).rejects.toThrow("may no longer be the leader");
  await pass(clock, 2000);
  await expect(leader.done).rejects.toThrow("could not be renewed in time");
});

test("a short gap is no loss, and a Lease that somebody deleted is made anew", async () => {
  const api = createLeaseApi();
  const clock = createTestClock();
  const leader = start(api.as(), clock, "leader");
  await settle();
  api.down = true;
  await pass(clock, 7000);
  api.down = false;
  await pass(clock, 5000);
  api.remove();
  await pass(clock, 20_000);
  expect(leader.mayWrite()).toBe(true);
  expect(api.lease()?.spec.holderIdentity).toBe("leader");
  await leader.stop();
});

test("two that try at the same moment: only one leads", async () => {
  const api = createLeaseApi();
  const clock = createTestClock();
  const replicas = ["a", "b", "c"].map((name) => start(api.as(), clock, name));
  await settle();
  await pass(clock, 30_000);
  expect(replicas.filter((one) => one.mayWrite())).toHaveLength(1);
  await Promise.all(replicas.map((one) => one.stop()));
});
