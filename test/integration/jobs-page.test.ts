// The page of the jobs API in a real Chromium: what a person does there, from the token to a run that is run again, with no
// complaint in the console.
import { mkdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { RunRecord } from "@kube-connector/jobs";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type Browser, chromium, hasChromium, type Page, startChromium } from "../kit/chromium.ts";
import { apiToken, type ServedJobs, serveJobs } from "../kit/jobs-api.ts";
import { definition } from "../kit/jobs-checks.ts";
import { type JobsRoom, startJobsRoom } from "../kit/jobs-room.ts";

let room: JobsRoom;
let served: ServedJobs;
let browser: Browser;
let page: Page;

beforeAll(async () => {
  if (!hasChromium) throw new Error(`${chromium} is missing: test/cluster/install.sh installs it`);
  room = await startJobsRoom();
  served = await serveJobs(room);
  browser = await startChromium();
  page = await browser.page();
  await page.resize(1280, 900);
});
afterAll(async () => {
  await browser?.stop();
  await served?.stop();
  await room?.stop();
});

const submit = async (body: object) =>
  (await served.json<{ run: RunRecord }>(201, "POST", "/v1/runs", { body })).run.id;
const shows = (selector: string, text: string) =>
  page.until(`document.querySelector(${JSON.stringify(selector)})?.innerText.includes(${JSON.stringify(text)})`);
const click = (selector: string) => page.evaluate(`document.querySelector(${JSON.stringify(selector)}).click()`);
const isHidden = (selector: string) =>
  page.evaluate<boolean>(`!document.querySelector(${JSON.stringify(selector)}).checkVisibility()`);
/** For whoever wants to look: KUBE_CONNECTOR_SCREENSHOTS names a folder; it stands below the temporary one. */
const picture = async (name: string) => {
  const folder = process.env.KUBE_CONNECTOR_SCREENSHOTS;
  if (folder === undefined) return;
  const place = join(tmpdir(), folder);
  await mkdir(place, { recursive: true });
  await writeFile(join(place, `${name}.png`), await page.screenshot());
};

test("a wrong token is refused in words, the right one shows the runs", async () => {
  const id = await submit(definition({ lines: 1 }, { name: "first" }));
  await served.ask("GET", `/v1/runs/${id}/wait`);
  await page.go(served.url);
  await page.until("document.activeElement.id === 'token'");
  await page.type("wrong");
  await page.press("Enter");
  await shows("#notice", "That is not this server's token");
  // The browser itself notes each answer with 401.
  expect(page.complaints.splice(0)).toEqual([expect.stringContaining("401")]);
  await page.until("document.activeElement.id === 'token'");
  await picture("enter");
  await page.type(apiToken);
  await page.press("Enter");
  await shows("#rows", "first");
  await shows("#rows", "Succeeded");
  expect(await isHidden("#enter")).toBe(true);
  expect(await page.evaluate("location.href")).toBe(`${served.url}/`);
  expect(await page.evaluate("document.cookie + JSON.stringify(localStorage)")).toBe("{}");
  expect(page.complaints).toEqual([]);
});

test("a run is opened by the keyboard; its log and what happens arrive as they come", async () => {
  await submit(definition({ lines: 2000, every: 2, stay: 1500, text: " \u001b[31m<b>red</b>" }, { name: "lively" }));
  await shows("#rows", "lively");
  await page.evaluate("document.querySelector('#filter [name=name]').focus()");
  await page.press("Tab");
  expect(await page.evaluate("document.activeElement.innerText")).toBe("lively");
  await page.press("Enter");
  await shows("#run-state", "Running");
  await page.until("document.activeElement.id === 'run-name'");
  await shows("#log", "line 0 <b>red</b>");
  // Where things are does not move while more arrives.
  const place = () => page.evaluate<string>("JSON.stringify(document.querySelector('#log').getBoundingClientRect())");
  const before = await place();
  expect(await page.evaluate<number>("document.querySelectorAll('#log div').length")).toBeLessThan(2000);
  await page.until("document.querySelectorAll('#log div').length === 2000");
  expect(await place()).toBe(before);
  expect(await page.evaluate("log.scrollTop + log.clientHeight >= log.scrollHeight - 8")).toBe(true);
  await picture("running");
  await shows("#run-state", "Succeeded");
  await shows("#phases", "Succeeded; 2000 lines of log");
  await shows("#facts", "Done");
  const lines = await page.evaluate<string[]>(
    "[...document.querySelectorAll('#log div')].map((row) => row.lastChild.data)",
  );
  expect(lines).toEqual(Array.from({ length: 2000 }, (_, at) => ` line ${at} <b>red</b>`));
  expect(page.complaints).toEqual([]);
});

test("the log is searched, and all of it comes back", async () => {
  await page.evaluate("document.querySelector('#search input').focus()");
  await page.type("LINE 199");
  await page.press("Enter");
  await shows("#found", "11 lines");
  expect(await page.evaluate("document.querySelectorAll('#log div').length")).toBe(11);
  await picture("search");
  await page.evaluate("document.querySelector('#search input').select()");
  await page.type("nowhere");
  await page.press("Enter");
  await shows("#found", "No line has these words");
  await click("#search [type=reset]");
  await page.until("document.querySelectorAll('#log div').length === 2000");
  expect(page.complaints).toEqual([]);
});

test("a log of yesterday is read from its end, and backwards as far as one likes", async () => {
  const id = await submit(definition({ lines: 9000, text: ` ${"ü".repeat(80)}` }, { name: "yesterday" }));
  await served.ask("GET", `/v1/runs/${id}/wait`);
  // As it is an hour after the end.
  await rm(join(served.folder, "logs", id, "live.log"));
  await page.go(`${served.url}/#${id}`);
  await shows("#run-state", "Succeeded");
  await shows("#log", "line 8999 ");
  expect(await isHidden("#why")).toBe(true);
  const count = () => page.evaluate<number>("document.querySelectorAll('#log div').length");
  expect(await count()).toBeLessThan(4000);
  for (let tries = 0; tries < 10 && !(await isHidden("#earlier")); tries++) {
    const before = await count();
    await click("#earlier");
    await page.until(`document.querySelectorAll('#log div').length > ${before}`);
  }
  const lines = await page.evaluate<string[]>(
    "[...document.querySelectorAll('#log div')].map((row) => row.lastChild.data)",
  );
  expect(lines).toEqual(Array.from({ length: 9000 }, (_, at) => ` line ${at} ${"ü".repeat(80)}`));
  expect(page.complaints).toEqual([]);
});

test("a run that failed shows why, and is run again", async () => {
  const id = await submit(definition({ lines: 1, exit: 3, message: "out of paper" }, { name: "broken" }));
  await page.go(`${served.url}/#${id}`);
  await shows("#run-state", "Failed");
  await shows("#why", "exit code 3");
  await shows("#exit-rows", "out of paper");
  await picture("failed");
  await click("#retry");
  await page.until(`location.hash !== "#${id}"`);
  await shows("#facts", id);
  await shows("#run-state", "Failed");
  await shows("#log", "line 0");
  expect(page.complaints).toEqual([]);
});

test("a run that waits says why; it is cancelled by two presses", async () => {
  const waiting = { reason: "ImagePullBackOff", message: "Back-off pulling image images.example/report:1" };
  const id = await submit(definition({ waiting }, { name: "waiting" }));
  await page.go(`${served.url}/#${id}`);
  await shows("#run-state", "Pending");
  await shows("#why", "images.example/report:1");
  await page.evaluate("document.querySelector('#cancel').focus()");
  await page.press("Enter");
  await shows("#cancel", "Cancel: sure?");
  expect((await served.json<{ run: RunRecord }>(200, "GET", `/v1/runs/${id}`)).run.state).toBe("Pending");
  await page.press("Enter");
  await shows("#run-state", "Cancelled");
  expect(await isHidden("#cancel")).toBe(true);
  expect(page.complaints).toEqual([]);
});

test("a narrow screen and a dark one have everything, nothing sideways", async () => {
  await page.resize(360, 740, { dark: true });
  await page.until("getComputedStyle(document.querySelector('#why')).color !== ''");
  await picture("narrow");
  for (const hash of ["", null]) {
    if (hash !== null) await page.evaluate("location.hash = ''");
    await page.until("document.documentElement.scrollWidth <= innerWidth");
  }
  await shows("#rows", "waiting");
  await picture("narrow-list");
  expect(await page.evaluate("getComputedStyle(document.documentElement).colorScheme")).toBe("light dark");
  await page.resize(1280, 900, { dark: true });
  await picture("list");
  await click("#leave");
  await page.until("document.activeElement.id === 'token'");
  expect(await page.evaluate("sessionStorage.length")).toBe(0);
  expect(page.complaints).toEqual([]);
});
