import { mkdir, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { RunRecord } from "@kube-connector/jobs";
import { chromium, hasChromium, type Page, startChromium } from "./chromium.ts";
import { apiToken, type ServedJobs, serveJobs } from "./jobs-api.ts";
import { type JobsRoom, startJobsRoom } from "./jobs-room.ts";

// The page of the jobs API in a browser, as tests look at it.

export interface JobsPage {
  room: JobsRoom;
  /** What serves the page; who stops it starts the next one in its place. */
  served: ServedJobs;
  page: Page;
  /** Submits a run by the API. Answers with its id. */
  submit(definition: object): Promise<string>;
  /** The run, by the API. */
  get(id: string): Promise<RunRecord>;
  /** Once that text is to be seen there. */
  shows(selector: string, text: string): Promise<void>;
  click(selector: string): Promise<void>;
  focus(selector: string): Promise<void>;
  isHidden(selector: string): Promise<boolean>;
  /** Lines of the log on the page. */
  lines(): Promise<string[]>;
  countLines(): Promise<number>;
  /** Types the token where it is asked for. */
  enter(token?: string): Promise<void>;
  /** For whoever wants to look: KUBE_CONNECTOR_SCREENSHOTS names a folder; it stands below the temporary one. */
  picture(name: string): Promise<void>;
  stop(): Promise<void>;
}

/** A room whose jobs are served, and its page in a Chromium of its own, 1280 by 900. */
export async function startJobsPage(): Promise<JobsPage> {
  if (!hasChromium) throw new Error(`${chromium} is missing: test/cluster/install.sh installs it`);
  await using stack = new AsyncDisposableStack();
  const room = stack.adopt(await startJobsRoom(), (one) => one.stop());
  const served = await serveJobs(room);
  stack.defer(() => at.served.stop());
  const browser = stack.adopt(await startChromium(), (one) => one.stop());
  const page = await browser.page();
  await page.resize(1280, 900);
  const of = (selector: string) => `document.querySelector(${JSON.stringify(selector)})`;
  const at: JobsPage = {
    room,
    served,
    page,
    submit: async (body) => (await at.served.json<{ run: RunRecord }>(201, "POST", "/v1/runs", { body })).run.id,
    get: async (id) => (await at.served.json<{ run: RunRecord }>(200, "GET", `/v1/runs/${id}`)).run,
    shows: (selector, text) => page.until(`${of(selector)}?.innerText.includes(${JSON.stringify(text)})`),
    click: (selector) => page.evaluate(`${of(selector)}.click()`),
    focus: (selector) => page.evaluate(`${of(selector)}.focus()`),
    isHidden: (selector) => page.evaluate(`!${of(selector)}.checkVisibility()`),
    lines: () => page.evaluate("[...document.querySelectorAll('#log div')].map((row) => row.lastChild.data)"),
    countLines: () => page.evaluate("document.querySelectorAll('#log div').length"),
    async enter(token = apiToken) {
      await page.until("document.activeElement.id === 'token'");
      await page.type(token);
      await page.press("Enter");
    },
    async picture(name) {
      const folder = process.env.KUBE_CONNECTOR_SCREENSHOTS;
      if (folder === undefined) return;
      const place = join(tmpdir(), folder);
      await mkdir(place, { recursive: true });
      await writeFile(join(place, `${name}.png`), await page.screenshot());
    },
    stop: () => owned.disposeAsync(),
  };
  const owned = stack.move();
  return at;
}
