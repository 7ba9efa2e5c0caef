import { type ChildProcess, spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

// A real Chromium without a window, by its DevTools protocol: https://chromedevtools.github.io/devtools-protocol/.

/** Debian's; test/cluster/install.sh installs it. */
export const chromium = "/usr/bin/chromium";
export const hasChromium = existsSync(chromium);

export interface Page {
  go(url: string): Promise<void>;
  /** The value of an expression in the page, awaited. */
  evaluate<T>(expression: string): Promise<T>;
  /** Once the expression is true; rejects with what the page shows after 30 s. */
  until(expression: string): Promise<void>;
  /** Types into what has the focus, as a keyboard does. */
  type(text: string): Promise<void>;
  /** Presses a key: Tab, Enter. */
  press(key: "Tab" | "Enter"): Promise<void>;
  resize(width: number, height: number, options?: { dark?: boolean }): Promise<void>;
  /** What is saved goes there, without a question. */
  saveTo(folder: string): Promise<void>;
  /** PNG. */
  screenshot(): Promise<Buffer>;
  /** What the console was told at level error or warning, exceptions that nobody caught, and violations of the policy. */
  complaints: string[];
}

export interface Browser {
  page(): Promise<Page>;
  stop(): Promise<void>;
}

interface Answer {
  id?: number;
  sessionId?: string;
  method?: string;
  params?: Record<string, unknown>;
  result?: Record<string, unknown>;
  error?: { message: string };
}

/** Starts it with a profile of its own, which is gone afterwards. */
export async function startChromium(): Promise<Browser> {
  const profile = await mkdtemp(join(tmpdir(), "chromium-test-"));
  const child = spawn(
    chromium,
    [
      "--headless=new",
      "--no-sandbox",
      "--disable-gpu",
      "--disable-dev-shm-usage",
      "--no-first-run",
      "--remote-debugging-port=0",
      `--user-data-dir=${profile}`,
      "about:blank",
    ],
    { stdio: ["ignore", "ignore", "pipe"], env: { PATH: process.env.PATH, HOME: profile, TMPDIR: profile } },
  );
  const socket = new WebSocket(await addressOf(child));
  await new Promise((resolve, reject) => {
    socket.addEventListener("open", resolve);
    socket.addEventListener("error", () => reject(new Error("cannot speak to Chromium")));
  });
  const waiting = new Map<number, (answer: Answer) => void>();
  const listeners = new Map<string, (answer: Answer) => void>();
  let count = 0;
  socket.addEventListener("message", ({ data }) => {
    const answer = JSON.parse(String(data)) as Answer;
    if (answer.id !== undefined) waiting.get(answer.id)?.(answer);
    else if (answer.sessionId !== undefined) listeners.get(answer.sessionId)?.(answer);
  });
  const send = <T>(method: string, params: object = {}, sessionId?: string) =>
    new Promise<T>((resolve, reject) => {
      const id = ++count;
      waiting.set(id, ({ result, error }) => {
        waiting.delete(id);
        if (error === undefined) resolve(result as T);
        else reject(new Error(`${method}: ${error.message}`));
      });
      socket.send(JSON.stringify({ id, method, params, sessionId }));
    });
  return {
    async page() {
      const { targetId } = await send<{ targetId: string }>("Target.createTarget", { url: "about:blank" });
      const { sessionId } = await send<{ sessionId: string }>("Target.attachToTarget", { targetId, flatten: true });
      const call = <T>(method: string, params?: object) => send<T>(method, params, sessionId);
      const complaints: string[] = [];
      listeners.set(sessionId, ({ method, params }) => {
        const complaint = complaintOf(method, params);
        if (complaint !== undefined) complaints.push(complaint);
      });
      for (const domain of ["Page", "Runtime", "Log"]) await call(`${domain}.enable`);
      return createPage(call, complaints);
    },
    async stop() {
      const gone = new Promise((resolve) => child.once("exit", resolve));
      socket.close();
      child.kill("SIGKILL");
      await gone;
      // Its helpers write for a moment longer.
      await rm(profile, { recursive: true, force: true, maxRetries: 10, retryDelay: 100 });
    },
  };
}

async function addressOf(child: ChildProcess): Promise<string> {
  let said = "";
  for await (const part of child.stderr ?? []) {
    said += String(part);
    const address = /DevTools listening on (ws:\S+)/.exec(said)?.[1];
    if (address !== undefined) {
      // What it says afterwards is not read, and must not fill the pipe.
      child.stderr?.resume();
      return address;
    }
  }
  throw new Error(`Chromium did not start: ${said}`);
}

function complaintOf(method: string | undefined, params: Record<string, unknown> = {}): string | undefined {
  if (method === "Runtime.exceptionThrown") return JSON.stringify(params.exceptionDetails);
  if (method === "Runtime.consoleAPICalled" && ["error", "warning", "assert"].includes(String(params.type)))
    return JSON.stringify(params.args);
  const { level, text, url } = (params.entry ?? {}) as { level?: string; text?: string; url?: string };
  if (method === "Log.entryAdded" && (level === "error" || level === "warning")) return `${text} ${url}`;
  return undefined;
}

function createPage(call: <T>(method: string, params?: object) => Promise<T>, complaints: string[]): Page {
  async function evaluate<T>(expression: string): Promise<T> {
    const { result, exceptionDetails } = await call<{ result: { value: T }; exceptionDetails?: object }>(
      "Runtime.evaluate",
      { expression, awaitPromise: true, returnByValue: true },
    );
    if (exceptionDetails !== undefined) throw new Error(`${expression}: ${JSON.stringify(exceptionDetails)}`);
    return result.value;
  }
  const keys = {
    Tab: { code: "Tab", windowsVirtualKeyCode: 9 },
    Enter: { code: "Enter", windowsVirtualKeyCode: 13, text: "\r" },
  };
  return {
    complaints,
    evaluate,
    async go(url) {
      await call("Page.navigate", { url });
      await this.until("document.readyState === 'complete'");
    },
    async until(expression) {
      for (const end = performance.now() + 30_000; ; ) {
        // A page that is just being left has no world to ask in.
        if ((await evaluate<unknown>(`Boolean(${expression})`).catch(() => false)) === true) return;
        if (performance.now() > end)
          throw new Error(`not so within 30 s: ${expression}\n${await evaluate<string>("document.body.innerText")}`);
        await new Promise((resolve) => setTimeout(resolve, 50));
      }
    },
    type: (text) => call("Input.insertText", { text }),
    async press(key) {
      for (const type of ["keyDown", "keyUp"]) await call("Input.dispatchKeyEvent", { type, key, ...keys[key] });
    },
    async resize(width, height, { dark = false } = {}) {
      await call("Emulation.setDeviceMetricsOverride", { width, height, deviceScaleFactor: 1, mobile: false });
      await call("Emulation.setEmulatedMedia", {
        features: [{ name: "prefers-color-scheme", value: dark ? "dark" : "light" }],
      });
    },
    saveTo: (downloadPath) => call("Browser.setDownloadBehavior", { behavior: "allow", downloadPath }),
    async screenshot() {
      const { data } = await call<{ data: string }>("Page.captureScreenshot", { format: "png" });
      return Buffer.from(data, "base64");
    },
  };
}
