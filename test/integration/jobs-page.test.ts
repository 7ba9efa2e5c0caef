// The page of the jobs API in a real Chromium: what a person does there, from the token to a run that is run again, with no
// complaint in the console.
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { Page } from "../kit/chromium.ts";
import { definition } from "../kit/jobs-checks.ts";
import { type JobsPage, startJobsPage } from "../kit/jobs-page.ts";

let at: JobsPage;
let page: Page;

beforeAll(async () => {
  at = await startJobsPage();
  ({ page } = at);
});
afterAll(() => at?.stop());

test("a wrong token is refused in words, the right one shows the runs", async () => {
  const id = await at.submit(definition({ lines: 1 }, { name: "first" }));
  await at.served.ask("GET", `/v1/runs/${id}/wait`);
  await page.go(at.served.url);
  await at.enter("wrong");
  await at.shows("#notice", "That is not this server's token");
  // The browser itself notes each answer with 401.
  expect(page.complaints.splice(0)).toEqual([expect.stringContaining("401")]);
  await page.until("document.activeElement.id === 'token'");
  await at.picture("enter");
  await at.enter();
  await at.shows("#rows", "first");
  await at.shows("#rows", "Succeeded");
  expect(await at.isHidden("#enter")).toBe(true);
  expect(await page.evaluate("location.href")).toBe(`${at.served.url}/`);
  expect(await page.evaluate("document.cookie + JSON.stringify(localStorage)")).toBe("{}");
  expect(page.complaints).toEqual([]);
});

test("a run is opened by the keyboard; its log and what happens arrive as they come", async () => {
  await at.submit(definition({ lines: 2000, every: 2, stay: 1500, text: " \u001b[31m<b>red</b>" }, { name: "lively" }));
  await at.shows("#rows", "lively");
  await at.focus("#filter [name=name]");
  await page.press("Tab");
  expect(await page.evaluate("document.activeElement.innerText")).toBe("lively");
  await page.press("Enter");
  await at.shows("#run-state", "Running");
  await page.until("document.activeElement.id === 'run-name'");
  await at.shows("#log", "line 0 <b>red</b>");
  // Where things are does not move while more arrives.
  const place = () => page.evaluate<string>("JSON.stringify(document.querySelector('#log').getBoundingClientRect())");
  const before = await place();
  expect(await page.evaluate<number>("document.querySelectorAll('#log div').length")).toBeLessThan(2000);
  await page.until("document.querySelectorAll('#log div').length === 2000");
  expect(await place()).toBe(before);
  expect(await page.evaluate("log.scrollTop + log.clientHeight >= log.scrollHeight - 8")).toBe(true);
  await at.picture("running");
  await at.shows("#run-state", "Succeeded");
  await at.shows("#phases", "Succeeded; 2000 lines of log");
  await at.shows("#facts", "Done");
  expect(await at.lines()).toEqual(Array.from({ length: 2000 }, (_, at) => ` line ${at} <b>red</b>`));
  expect(page.complaints).toEqual([]);
});

test("the log is searched, and all of it comes back", async () => {
  await at.focus("#search input");
  await page.type("LINE 199");
  await page.press("Enter");
  await at.shows("#found", "11 lines");
  expect(await page.evaluate("document.querySelectorAll('#log div').length")).toBe(11);
  await at.picture("search");
  await page.evaluate("document.querySelector('#search input').select()");
  await page.type("nowhere");
  await page.press("Enter");
  await at.shows("#found", "No line has these words");
  await at.click("#search [type=reset]");
  await page.until("document.querySelectorAll('#log div').length === 2000");
  expect(page.complaints).toEqual([]);
});

test("a log of yesterday is read from its end, and backwards as far as one likes", async () => {
  const id = await at.submit(definition({ lines: 9000, text: ` ${"ü".repeat(80)}` }, { name: "yesterday" }));
  await at.served.ask("GET", `/v1/runs/${id}/wait`);
  // As it is an hour after the end.
  await rm(join(at.served.folder, "logs", id, "live.log"));
  await page.go(`${at.served.url}/#${id}`);
  await at.shows("#run-state", "Succeeded");
  await at.shows("#log", "line 8999 ");
  expect(await at.isHidden("#why")).toBe(true);
  expect(await at.countLines()).toBeLessThan(4000);
  for (let tries = 0; tries < 10 && !(await at.isHidden("#earlier")); tries++) {
    const before = await at.countLines();
    await at.click("#earlier");
    await page.until(`document.querySelectorAll('#log div').length > ${before}`);
  }
  expect(await at.lines()).toEqual(Array.from({ length: 9000 }, (_, at) => ` line ${at} ${"ü".repeat(80)}`));
  expect(page.complaints).toEqual([]);
});

test("a run that failed shows why, and is run again", async () => {
  const id = await at.submit(definition({ lines: 1, exit: 3, message: "out of paper" }, { name: "broken" }));
  await page.go(`${at.served.url}/#${id}`);
  await at.shows("#run-state", "Failed");
  await at.shows("#why", "exit code 3");
  await at.shows("#exit-rows", "out of paper");
  await at.picture("failed");
  await at.click("#retry");
  await page.until(`location.hash !== "#${id}"`);
  await at.shows("#facts", id);
  await at.shows("#run-state", "Failed");
  await at.shows("#log", "line 0");
  expect(page.complaints).toEqual([]);
});

test("a run that waits says why; it is cancelled by two presses", async () => {
  const waiting = { reason: "ImagePullBackOff", message: "Back-off pulling image images.example/report:1" };
  const id = await at.submit(definition({ waiting }, { name: "waiting" }));
  await page.go(`${at.served.url}/#${id}`);
  await at.shows("#run-state", "Pending");
  await at.shows("#why", "images.example/report:1");
  await at.focus("#cancel");
  await page.press("Enter");
  await at.shows("#cancel", "Cancel: sure?");
  expect((await at.get(id)).state).toBe("Pending");
  await page.press("Enter");
  await at.shows("#run-state", "Cancelled");
  expect(await at.isHidden("#cancel")).toBe(true);
  expect(page.complaints).toEqual([]);
});

test("a narrow screen and a dark one have everything, nothing sideways", async () => {
  await page.resize(360, 740, { dark: true });
  await page.until("getComputedStyle(document.querySelector('#why')).color !== ''");
  await at.picture("narrow");
  for (const hash of ["", null]) {
    if (hash !== null) await page.evaluate("location.hash = ''");
    await page.until("document.documentElement.scrollWidth <= innerWidth");
  }
  await at.shows("#rows", "waiting");
  await at.picture("narrow-list");
  expect(await page.evaluate("getComputedStyle(document.documentElement).colorScheme")).toBe("light dark");
  await page.resize(1280, 900, { dark: true });
  await at.picture("list");
  await at.click("#leave");
  await page.until("document.activeElement.id === 'token'");
  expect(await page.evaluate("sessionStorage.length")).toBe(0);
  expect(page.complaints).toEqual([]);
});
