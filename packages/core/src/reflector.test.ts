// The reflector keeps a copy of a kind of object and never gives up: it lists in pages, watches where the list ended,
// lists anew when the API server has forgotten (410), and waits between failures.
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { afterEach, expect, test } from "vitest";
import { createTestClock } from "../../../test/kit/clock.ts";
import { openApiServer } from "./api-server.ts";
import { systemClock } from "./clock.ts";
import { silentLog } from "./log.ts";
import { type Reflector, type ReflectorOptions, startReflector } from "./reflector.ts";

type Answer = (request: URL, response: ServerResponse) => void;
const open: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const close of open.splice(0).toReversed()) await close();
});

async function startWith(
  answer: Answer,
  told: { after?: (milliseconds: number) => void } = {},
  more: Partial<ReflectorOptions<string>> = {},
) {
  const requests: URL[] = [];
  const server = createServer((request: IncomingMessage, response) => {
    const url = new URL(request.url ?? "", "http://x");
    requests.push(url);
    answer(url, response);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const api = openApiServer({ url: `http://127.0.0.1:${(server.address() as AddressInfo).port}` });
  const changes: string[] = [];
  const reflector: Reflector<string> = startReflector({
    api,
    clock: {
      ...systemClock,
      after(ms, then) {
        told.after?.(ms);
        return systemClock.after(Math.min(ms, 50), then);
      },
    },
    log: silentLog,
    path: "/api/v1/configmaps",
    pageSize: 2,
    keep: (object) => object.metadata.resourceVersion,
    onChange: (key, { before, after }) => changes.push(`${key} ${before ?? "-"}→${after ?? "-"}`),
    ...more,
  });
  open.push(
    async () => {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
    () => api.stop(),
    () => reflector.stop(),
  );
  return { requests, changes, reflector };
}

const item = (name: string, resourceVersion: string) => ({ metadata: { namespace: "n", name, resourceVersion } });
const list = (items: object[], resourceVersion: string, next = "") =>
  JSON.stringify({ items, metadata: { resourceVersion, continue: next } });
const event = (type: string, object: object) => `${JSON.stringify({ type, object })}\n`;

async function eventually(check: () => void): Promise<void> {
  for (let tries = 0; ; tries++) {
    try {
      check();
      return;
    } catch (error) {
      if (tries > 100) throw error;
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }
}

test("pages are put together, and the watch goes on from the list's version, with bookmarks", async () => {
  const { requests, changes, reflector } = await startWith((url, response) => {
    if (url.searchParams.has("watch")) {
      response.write(event("MODIFIED", item("a", "7")));
      response.write(event("BOOKMARK", { metadata: { resourceVersion: "9" } }));
      response.write(event("DELETED", item("b", "10")));
    } else if (url.searchParams.get("continue") === "p2") response.end(list([item("c", "3")], "5"));
    else response.end(list([item("a", "1"), item("b", "2")], "5", "p2"));
  });
  await reflector.synced;
  await eventually(() => expect(changes).toEqual(["n/a -→1", "n/b -→2", "n/c -→3", "n/a 1→7", "n/b 2→-"]));
  expect(requests[0]?.searchParams.get("limit")).toBe("2");
  const watch = requests.find((url) => url.searchParams.has("watch"));
  expect(watch?.searchParams.get("resourceVersion")).toBe("5");
  expect(watch?.searchParams.get("allowWatchBookmarks")).toBe("true");
  expect(Number(watch?.searchParams.get("timeoutSeconds"))).toBeGreaterThanOrEqual(300);
  expect([...reflector.entries()]).toEqual([
    ["n/a", "7"],
    ["n/c", "3"],
  ]);
});

test("410 lists anew, and what has gone meanwhile is reported as gone", async () => {
  let lists = 0;
  const { changes } = await startWith((url, response) => {
    if (!url.searchParams.has("watch"))
      response.end(lists++ === 0 ? list([item("a", "1")], "1") : list([item("b", "8")], "8"));
    else if (url.searchParams.get("resourceVersion") === "1") {
      response.end(event("ERROR", { kind: "Status", code: 410, message: "too old", metadata: {} }));
    } else response.write(event("BOOKMARK", { metadata: { resourceVersion: "8" } }));
  });
  await eventually(() => expect(changes).toEqual(["n/a -→1", "n/b -→8", "n/a 1→-"]));
});

test("a first list that fails is tried again, and nothing is synced before it succeeded", async () => {
  let tries = 0;
  const { reflector } = await startWith((url, response) => {
    if (url.searchParams.has("watch")) response.write(event("BOOKMARK", { metadata: { resourceVersion: "1" } }));
    else if (++tries < 3) response.writeHead(500).end("broken");
    else response.end(list([item("a", "1")], "1"));
  });
  expect(reflector.isSynced()).toBe(false);
  await reflector.synced;
  expect(tries).toBe(3);
  expect(reflector.get("n/a")).toBe("1");
});

test("after an outage the first refusals are waited for as if they were the first failures", async () => {
  const waits: number[] = [];
  let tries = 0;
  const { reflector } = await startWith(
    (url, response) => {
      if (url.searchParams.has("watch")) response.write(event("BOOKMARK", { metadata: { resourceVersion: "1" } }));
      else if (++tries <= 6) response.destroy();
      else if (tries === 7) response.writeHead(503).end("starting");
      else response.end(list([item("a", "1")], "1"));
    },
    { after: (ms) => waits.push(ms) },
  );
  await reflector.synced;
  expect(waits.length).toBeGreaterThanOrEqual(7);
  expect(Math.max(...waits.slice(0, 6))).toBeLessThanOrEqual(5_000);
  expect(waits[6]).toBeLessThanOrEqual(800);
});

test("half a line at a watch's end is not applied; the watch goes on from the last whole event", async () => {
  let watches = 0;
  const { requests, reflector } = await startWith((url, response) => {
    if (!url.searchParams.has("watch")) response.end(list([item("a", "1")], "1"));
    else if (++watches === 1)
      response.end(event("MODIFIED", item("a", "2")) + event("MODIFIED", item("a", "3")).slice(0, 40));
    else response.write(event("MODIFIED", item("a", "3")));
  });
  await eventually(() => expect(reflector.get("n/a")).toBe("3"));
  expect(requests.filter((url) => url.searchParams.has("watch"))[1]?.searchParams.get("resourceVersion")).toBe("2");
});

test("a line that is no JSON is followed by a list, so that nothing is missed", async () => {
  let lists = 0;
  const { reflector } = await startWith((url, response) => {
    if (!url.searchParams.has("watch")) response.end(list([item("a", String(++lists))], String(lists)));
    else if (url.searchParams.get("resourceVersion") === "1") response.write('{"type":"MODIFIED","obj\n');
    else response.write(event("BOOKMARK", { metadata: { resourceVersion: "2" } }));
  });
  await eventually(() => expect(reflector.get("n/a")).toBe("2"));
});

test("stop ends it at once, also in the middle of a watch", async () => {
  const { reflector } = await startWith((url, response) => {
    if (url.searchParams.has("watch")) response.write(event("BOOKMARK", { metadata: { resourceVersion: "1" } }));
    else response.end(list([], "1"));
  });
  await reflector.synced;
  const before = performance.now();
  await reflector.stop();
  expect(performance.now() - before).toBeLessThan(2000);
});

test("where only watching is forbidden it lists again and again, and says of no trouble", async () => {
  let version = 1;
  const troubles: unknown[] = [];
  const { requests, changes } = await startWith(
    (url, response) => {
      if (url.searchParams.has("watch")) {
        response.writeHead(403, { "content-type": "application/json" }).end('{"kind":"Status","reason":"Forbidden"}');
        return;
      }
      version += 1;
      response.end(list([item("a", String(version))], String(version)));
    },
    {},
    { pollWhenForbidden: 5000, onTrouble: (fault) => troubles.push(fault) },
  );
  await eventually(() => expect(changes.length).toBeGreaterThan(2));
  expect(requests.filter((url) => !url.searchParams.has("watch")).length).toBeGreaterThan(2);
  expect(troubles).toEqual([]);
});

test("a watch that says nothing for two and a half minutes is opened again", async () => {
  const clock = createTestClock();
  const { requests } = await startWith(
    (url, response) => {
      if (url.searchParams.has("watch")) response.writeHead(200).flushHeaders();
      else response.end(list([], "7"));
    },
    {},
    { clock },
  );
  const watches = () => requests.filter((url) => url.searchParams.has("watch")).length;
  // Its end and its silence are timed from the answer on.
  await eventually(() => expect([watches(), clock.waiting()]).toEqual([1, 2]));
  clock.pass(149_000);
  await new Promise((resolve) => setTimeout(resolve, 50));
  expect(watches()).toBe(1);
  await eventually(() => {
    clock.pass(2000);
    expect(watches()).toBe(2);
  });
});
