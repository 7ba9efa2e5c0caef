// The page of the jobs API over a day: a history with nothing in it and one with ten thousand runs, a run that is suspended and
// resumed by the keyboard, a server that goes away and comes back, a token that is changed, a log of a hundred thousand lines.
import { readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { Secret, silentLog } from "@kube-connector/core";
import { openStore } from "@kube-connector/jobs";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { Page } from "../kit/chromium.ts";
import { apiToken, serveJobs } from "../kit/jobs-api.ts";
import { definition, numbered } from "../kit/jobs-checks.ts";
import { type JobsPage, startJobsPage } from "../kit/jobs-page.ts";
import { testRun, testRunId } from "../kit/runs.ts";

let at: JobsPage;
let page: Page;

beforeAll(async () => {
  at = await startJobsPage();
  ({ page } = at);
});
afterAll(() => at?.stop());

const open = (id: string) => page.evaluate(`location.hash = ${JSON.stringify(id)}`);
const isAtName = () => page.until("document.activeElement.id === 'run-name'");

test("where nothing has run yet the page says how to begin, and a filter that nothing fits says that", async () => {
  await page.go(at.served.url);
  await at.enter();
  await at.shows("#none", "There is no run yet. kube-connector jobs run, or POST /v1/runs, makes one.");
  expect(await at.isHidden("#pages")).toBe(true);
  await at.picture("empty");
  await at.focus("#filter [name=name]");
  await page.type("nobody");
  await at.shows("#none", "There is no such run.");
  await page.evaluate("document.querySelector('#filter').reset()");
  expect(page.complaints).toEqual([]);
});

test("a run is suspended, resumed and cancelled by the keyboard alone, and the place is not lost", async () => {
  const id = await at.submit(definition({ lines: 1, stay: -1 }, { name: "held" }));
  await open(id);
  await at.shows("#run-state", "Running");
  await isAtName();
  const pressed = async () => {
    await page.press("Tab");
    const words = await page.evaluate<string>("document.activeElement.innerText");
    await page.press("Enter");
    return words;
  };
  expect(await pressed()).toBe("Suspend");
  await at.shows("#suspend", "Suspend: sure?");
  expect((await at.get(id)).suspend).toBeUndefined();
  await page.press("Enter");
  await at.shows("#run-state", "Suspended");
  await at.picture("suspended");
  await isAtName();
  expect([await at.isHidden("#suspend"), await at.isHidden("#resume")]).toEqual([true, false]);
  expect(await pressed()).toBe("Resume");
  await at.shows("#run-state", "Running");
  await isAtName();
  await page.press("Tab");
  expect(await pressed()).toBe("Cancel");
  await page.press("Enter");
  await at.shows("#run-state", "Cancelled");
  await isAtName();
  expect(await at.isHidden("#cancel")).toBe(true);
  expect(await pressed()).toBe("Run again");
  await page.until(`location.hash !== "#${id}"`);
  await at.shows("#run-state", "Running");
  await at.shows("#facts", id);
  await at.served.json(202, "POST", `/v1/runs/${await page.evaluate<string>("location.hash.slice(1)")}/cancel`, {
    body: {},
  });
  await at.shows("#run-state", "Cancelled");
  expect(page.complaints).toEqual([]);
});

test("failed indexes are run again, alone", async () => {
  const indexed = { completions: 3, parallelism: 3, completionMode: "Indexed", backoffLimitPerIndex: 0 };
  const id = await at.submit(definition({ lines: 1, exit: [0, 0, 5] }, { name: "indexed", ...indexed }));
  await open(id);
  await at.shows("#run-state", "Failed");
  await at.picture("indexed");
  await at.click("#retry-failed");
  await page.until(`location.hash !== "#${id}"`);
  await at.shows("#run-state", "Succeeded");
  expect((await at.get(await page.evaluate<string>("location.hash.slice(1)"))).indexes).toEqual([2]);
  expect(await at.isHidden("#retry-failed")).toBe(true);
  expect(page.complaints).toEqual([]);
});

test("a server that goes away and comes back: the page says so, goes on by itself, and has every line once", async () => {
  const id = await at.submit(definition({ lines: 300, every: 20, stay: 1000 }, { name: "long" }));
  await open(id);
  await at.shows("#log", "line 50");
  const { port } = at.served.service;
  const { folder } = at.served;
  await at.served.stop();
  await at.shows("#notice", "The server cannot be reached; it is tried again.");
  await at.picture("away");
  at.served = await serveJobs(at.room, { folder, listen: { host: "127.0.0.1", port } });
  await at.shows("#run-state", "Succeeded");
  await page.until("document.querySelectorAll('#log div').length >= 300");
  expect(await at.lines()).toEqual(numbered(300).map((line) => ` ${line}`));
  expect(await page.evaluate("document.querySelector('#notice').innerText")).toBe("");
  const phases = await page.evaluate<string[]>(
    "[...document.querySelectorAll('#phases span')].map((one) => one.innerText)",
  );
  expect(new Set(phases).size).toBe(phases.length);
  // The browser itself notes each call that it could not make.
  for (const complaint of page.complaints.splice(0)) expect(complaint).toMatch(/net::ERR_/);
});

test("a token that was changed is asked for anew, and then the page is where it was", async () => {
  const id = await at.submit(definition({ lines: 1, stay: -1 }, { name: "tokens" }));
  await open(id);
  await at.shows("#run-state", "Running");
  const change = async (token: string) => {
    await writeFile(at.served.tokenFile, token);
    const headers = { authorization: `Bearer ${token}` };
    const takes = async () => (await at.served.ask("GET", "/v1/connectors", { headers })).status;
    await expect.poll(takes, { timeout: 5000 }).toBe(200);
  };
  await change("another-one");
  // What is open goes on; the next call is refused.
  await at.click("#save");
  await at.shows("#notice", "That is not this server's token");
  await at.enter("another-one");
  await at.shows("#run-name", "tokens");
  expect(await page.evaluate("location.hash")).toBe(`#${id}`);
  await change(apiToken);
  await at.click("#resume");
  await at.shows("#notice", "That is not this server's token");
  await at.enter();
  await at.shows("#run-state", "Running");
  await at.served.json(202, "POST", `/v1/runs/${id}/cancel`, { body: {} });
  await at.shows("#run-state", "Cancelled");
  for (const complaint of page.complaints.splice(0)) expect(complaint).toContain("401");
});

test("of a log of a hundred thousand lines the last are shown as it comes; all are searched, and saved", async () => {
  const count = 100_000;
  const id = await at.submit(definition({ lines: count, text: " of many", stay: 1000 }, { name: "many" }));
  await open(id);
  await at.shows("#run-state", "Succeeded");
  await at.shows("#log", `line ${count - 1} of many`);
  await at.shows("#dropped", "The last 10,000 lines are shown");
  expect(await at.lines()).toEqual(Array.from({ length: 10_000 }, (_, n) => ` line ${count - 10_000 + n} of many`));
  await at.picture("many");
  await at.focus("#search input");
  await page.type("line 4242");
  await page.press("Enter");
  await at.shows("#found", "11 lines");
  expect((await at.lines())[0]).toBe(" line 4242 of many");
  await at.click("#search [type=reset]");
  // By now the log is complete, and is read from its end.
  await at.shows("#log", `line ${count - 1} of many`);
  expect([await at.isHidden("#dropped"), await at.isHidden("#earlier")]).toEqual([true, false]);
  const folder = await at.room.folder();
  await page.saveTo(folder);
  await at.click("#save");
  await expect.poll(() => readdir(folder), { timeout: 20_000 }).toEqual([`many-${id}.log`]);
  const saved = (await readFile(join(folder, `many-${id}.log`), "utf8")).trimEnd().split("\n");
  expect(saved.length).toBe(count + 2);
  expect(page.complaints).toEqual([]);
});

test("when more lines come at once than are kept, none of before is left among them", async () => {
  const line = "`2026-03-01T10:00:00.000000000Z [a/b#0] ${word} ${n}`";
  const add = (word: string, count: number, end = "") =>
    page.evaluate(`import("/draw.js").then(({ addLines, clearLog }) => {
      const word = ${JSON.stringify(word)};
      if (word === "old") clearLog();
      addLines([...Array.from({ length: ${count} }, (_, n) => ${line}), ...${JSON.stringify(end === "" ? [] : [end])}]);
    })`);
  await add("old", 5);
  await page.until("document.querySelectorAll('#log div').length === 5");
  await add("new", 10_001, "#end state=Succeeded");
  await at.shows("#log", "new 10000");
  const lines = await at.lines();
  expect([lines.length, lines[0], lines.at(-1)]).toEqual([10_000, " new 1", " new 10000"]);
  expect(page.complaints).toEqual([]);
});

test("ten thousand runs are turned over by page, and no answer grows with them", async () => {
  const { port } = at.served.service;
  const { folder } = at.served;
  await at.served.stop();
  const store = await openStore(new Secret(join(folder, "jobs.db")), { log: silentLog });
  await store.renew("filler", 600);
  const runs = Array.from({ length: 10_000 }, (_, n) =>
    testRun(n, { name: `old-${n}`, state: "Succeeded", cleanup: { state: "Done" } }),
  );
  await Promise.all(runs.map((run) => store.create(run, {}, "filler")));
  await store.release("filler");
  await store.stop();
  at.served = await serveJobs(at.room, { folder, listen: { host: "127.0.0.1", port } });
  await open("");
  await at.shows("#rows", "many");
  const names = () =>
    page.evaluate<string[]>("[...document.querySelectorAll('#rows a')].map((link) => link.innerText)");
  const first = await names();
  expect(first.length).toBe(50);
  expect(await page.evaluate("[newer.disabled, older.disabled]")).toEqual([true, false]);
  await at.picture("runs");
  await at.click("#older");
  await page.until(`!document.querySelector('#rows').innerText.includes("many")`);
  const second = await names();
  expect([second.length, second.filter((name) => first.includes(name))]).toEqual([50, []]);
  expect(await page.evaluate("[scrollY, newer.disabled]")).toEqual([0, false]);
  // The refresh keeps the page.
  await new Promise((resolve) => setTimeout(resolve, 3500));
  expect(await names()).toEqual(second);
  const sizes = await page.evaluate<number[]>(
    `performance.getEntriesByType("resource").filter(({ name }) => name.includes("/v1/runs?")).map((one) => one.decodedBodySize)`,
  );
  expect(Math.max(...sizes)).toBeLessThan(65_536);
  await at.click("#newer");
  await at.shows("#rows", "many");
  expect(await names()).toEqual(first);
  await at.focus("#filter [name=name]");
  await page.type("old-4321");
  await page.until("document.querySelectorAll('#rows tr').length === 1");
  expect(await page.evaluate("document.querySelector('#rows tr').dataset.run")).toBe(
    testRunId(4321, Date.UTC(2026, 2, 1) + 4_321_000),
  );
  await page.evaluate("document.querySelector('#filter').reset()");
  for (const complaint of page.complaints.splice(0)) expect(complaint).toMatch(/net::ERR_/);
});

test("names as long as they may be break in their place, and nothing goes sideways", async () => {
  const long = "a".repeat(30) + "-".repeat(2) + "b".repeat(31);
  const message = `no-blank-${"x".repeat(300)}`;
  const id = await at.submit(definition({ lines: 1, text: ` ${"y".repeat(500)}`, exit: 9, message }, { name: long }));
  await at.served.ask("GET", `/v1/runs/${id}/wait`);
  for (const [width, dark] of [
    [1280, false],
    [700, true],
    [360, true],
  ] as const) {
    await page.resize(width, 800, { dark });
    for (const hash of ["", id]) {
      await open(hash);
      await at.shows(hash === "" ? "#rows" : "#exit-rows", hash === "" ? long : message);
      expect([width, hash, await page.evaluate("document.documentElement.scrollWidth - innerWidth <= 0")]).toEqual([
        width,
        hash,
        true,
      ]);
      await at.picture(`long-${width}-${hash === "" ? "list" : "run"}`);
    }
  }
  expect(page.complaints).toEqual([]);
});
