import type { Readable } from "node:stream";
import type { ApiServer } from "./api-server.ts";
import { backoff, type Clock, sleep } from "./clock.ts";
import { Fault } from "./fault.ts";
import type { Log } from "./log.ts";
import type { Running } from "./run.ts";

/** What every object of the API has. */
export interface KubeObject {
  metadata: { name: string; namespace?: string; uid?: string; resourceVersion?: string; [field: string]: unknown };
  [field: string]: unknown;
}

export interface ReflectorOptions<T> {
  api: ApiServer;
  clock: Clock;
  log: Log;
  /** For example `/api/v1/secrets` or `/apis/connectors.cpaas.io/v1alpha1/connectors`. */
  path: string;
  query?: { labelSelector?: string; fieldSelector?: string };
  /** Asks for another form of the objects, for example metadata only: that has one name in a list, another in a watch. */
  accept?: { list: string; watch: string };
  /** What is kept of an object; undefined keeps nothing. Called as the line is parsed. */
  keep: (object: KubeObject) => T | undefined;
  /** Called for each change after the cache has it. `after` is undefined when it is gone. */
  onChange?: (key: string, change: { before: T | undefined; after: T | undefined }) => void;
  /** Objects a page; 500 unless told. */
  pageSize?: number;
  /** Lists that often, in milliseconds, where watching is forbidden and listing is not; absent: tries to watch for ever. */
  pollWhenForbidden?: number;
  /** Told after each full list. */
  onList?: (isFirst: boolean) => void;
  /** Told when the API server cannot be followed, and with undefined when it can again. */
  onTrouble?: (fault: unknown) => void;
}

export interface Reflector<T> extends Running {
  /** Ends when the first full list is in the cache. */
  synced: Promise<void>;
  isSynced(): boolean;
  /** `namespace/name`, or `name` for cluster-scoped objects. */
  get(key: string): T | undefined;
  entries(): IterableIterator<[string, T]>;
  size(): number;
  /** Whether it lists again and again, as watching is forbidden. */
  isPolling(): boolean;
  /** Milliseconds (monotonic) since the API server last said anything to this watch. */
  silence(): number;
}

const longestLine = 8 * 1024 * 1024;
/** An API server sends a bookmark about once a minute, so a watch that says nothing for so many milliseconds is dead. */
const longestSilence = 150_000;

interface WatchEvent {
  type: string;
  object: KubeObject & { code?: number; message?: string };
}

function watchFault(path: string, { object }: WatchEvent): Fault {
  const expired = object.code === 410;
  return new Fault(expired ? "conflict" : "unavailable", `watch ${path}: ${object.message ?? "error"}`, undefined, {
    status: object.code ?? 500,
    reason: expired ? "Expired" : "",
    fields: [],
  });
}

/** `namespace/name` or `name`. */
export function keyOf(object: KubeObject): string {
  const { namespace, name } = object.metadata;
  return namespace === undefined || namespace === "" ? name : `${namespace}/${name}`;
}

/**
 * Keeps a copy of a kind of object: lists in pages, then watches with bookmarks. It never gives up: a watch that ends is
 * opened again where it stopped, 410 lists anew, other errors wait 0.8 to 30 s (5 s when the API server cannot be
 * reached, or as Retry-After says).
 */
export function startReflector<T>(options: ReflectorOptions<T>): Reflector<T> {
  const { api, clock, path, query = {} } = options;
  const log = options.log.with({ path });
  const stopping = new AbortController();
  const cache = new Map<string, T>();
  let synced = false;
  let polling = false;
  let heard = clock.monotonic();
  let announce: () => void = () => undefined;
  const firstSync = new Promise<void>((resolve) => {
    announce = resolve;
  });

  const put = (key: string, after: T | undefined) => {
    const before = cache.get(key);
    if (after === undefined) cache.delete(key);
    else cache.set(key, after);
    if (before === undefined && after === undefined) return;
    try {
      options.onChange?.(key, { before, after });
    } catch (error) {
      log.error("A change handler failed", { key, error });
    }
  };

  async function list(): Promise<string> {
    const seen = new Set<string>();
    let next = "";
    let version = "";
    do {
      const page = await api.request<{
        items?: KubeObject[];
        metadata?: { continue?: string; resourceVersion?: string };
      }>("GET", path, {
        query: { ...query, limit: options.pageSize ?? 500, continue: next === "" ? undefined : next },
        ...(options.accept === undefined ? {} : { accept: options.accept.list }),
        timeout: 60_000,
        signal: stopping.signal,
      });
      heard = clock.monotonic();
      for (const object of page.items ?? []) {
        const key = keyOf(object);
        seen.add(key);
        put(key, options.keep(object));
      }
      next = page.metadata?.continue ?? "";
      version = page.metadata?.resourceVersion ?? "";
    } while (next !== "");
    for (const key of cache.keys()) if (!seen.has(key)) put(key, undefined);
    options.onList?.(!synced);
    synced = true;
    announce();
    log.debug("Listed", { count: cache.size, resourceVersion: version });
    return version;
  }

  /** Watches until the stream ends; answers with the version to go on from. */
  async function watch(from: string): Promise<string> {
    const seconds = 300 + Math.floor(Math.random() * 300);
    let version = from;
    let deadMan: () => void = () => undefined;
    let unheard: () => void = () => undefined;
    const body = await api.open(path, {
      query: { ...query, watch: true, allowWatchBookmarks: true, resourceVersion: version, timeoutSeconds: seconds },
      ...(options.accept === undefined ? {} : { accept: options.accept.watch }),
      signal: stopping.signal,
    });
    setTrouble(undefined);
    polling = false;
    heard = clock.monotonic();
    const listenAgain = (milliseconds: number) => {
      unheard = clock.after(milliseconds, () => {
        const left = heard + longestSilence - clock.monotonic();
        if (left > 0) listenAgain(left);
        else body.destroy(new Error("the watch said nothing for too long"));
      });
    };
    // Plain calls and no loop over the lines: a suspended loop would hold the last object, and with it what `keep` drops.
    const take = (line: string) => {
      heard = clock.monotonic();
      const event = JSON.parse(line) as WatchEvent;
      if (event.type === "ERROR") throw watchFault(path, event);
      version = event.object.metadata.resourceVersion ?? version;
      if (event.type === "BOOKMARK") return;
      put(keyOf(event.object), event.type === "DELETED" ? undefined : options.keep(event.object));
    };
    try {
      deadMan = clock.after((seconds + 30) * 1000, () => body.destroy(new Error("the watch outlived its time")));
      listenAgain(longestSilence);
      await eachLine(body, take);
    } finally {
      deadMan();
      unheard();
      body.destroy();
    }
    return version;
  }

  let trouble: unknown;
  const setTrouble = (fault: unknown) => {
    if (fault === undefined && trouble === undefined) return;
    trouble = fault;
    options.onTrouble?.(fault);
  };

  async function run(): Promise<void> {
    let version = "";
    let failures = 0;
    let answered = false;
    while (!stopping.signal.aborted) {
      try {
        if (version === "") version = await list();
        const started = clock.monotonic();
        version = await watch(version);
        failures = clock.monotonic() - started > 1000 ? 0 : failures + 1;
      } catch (error) {
        if (stopping.signal.aborted) return;
        const fault = error instanceof Fault ? error : undefined;
        if (options.pollWhenForbidden !== undefined && version !== "" && fault?.answer?.status === 403) {
          setTrouble(undefined);
          polling = true;
          version = "";
          await sleep(clock, options.pollWhenForbidden, stopping.signal);
          continue;
        }
        setTrouble(error);
        // An API server that has just started refuses a few requests; the wait before it came does not count for those.
        const answers = fault === undefined || fault.answer !== undefined;
        failures = answers === answered ? failures + 1 : 1;
        answered = answers;
        if (fault?.answer?.status === 410) {
          version = "";
          if (failures < 3) continue;
        } else if (fault === undefined) {
          // Bad JSON, a line without end, a broken stream: what was missed is not known, so list again.
          version = "";
        }
        log.warn("A watch broke and is tried again", { error, attempt: failures });
        // An API server that does not answer at all costs nothing to ask; one that answers with errors may be overloaded.
        const most = answers ? 30_000 : 5_000;
        const wait = fault?.answer?.retryAfterSeconds;
        await sleep(clock, wait === undefined ? backoff(failures - 1, 800, most) : wait * 1000, stopping.signal);
        continue;
      }
      // An API server that ends every watch at once must not be asked in a tight loop.
      if (failures > 0) await sleep(clock, backoff(failures - 1, 800, 30_000), stopping.signal);
    }
  }

  const done = run();
  return {
    done,
    synced: firstSync,
    isSynced: () => synced,
    get: (key) => cache.get(key),
    entries: () => cache.entries(),
    size: () => cache.size,
    isPolling: () => polling,
    silence: () => clock.monotonic() - heard,
    async stop() {
      stopping.abort();
      await done;
    },
  };
}

/** The lines of a stream; throws when one is longer than 8 MiB. */
export async function* readLines(body: Readable): AsyncGenerator<string> {
  const lines: string[] = [];
  const split = createLineSplitter((line) => lines.push(line));
  for await (const piece of body) {
    split(piece as Buffer);
    yield* lines.splice(0);
  }
}

/** Calls for each line of a stream; ends with the stream, rejects when it breaks, or when a call throws. */
function eachLine(body: Readable, take: (line: string) => void): Promise<void> {
  return new Promise((resolve, reject) => {
    const split = createLineSplitter(take);
    body.on("error", reject);
    body.once("end", resolve);
    body.once("close", () => reject(new Error("the stream was closed")));
    body.on("data", (chunk: Buffer) => {
      try {
        split(chunk);
      } catch (error) {
        reject(error instanceof Error ? error : new Error("a line could not be taken"));
        body.destroy();
      }
    });
  });
}

function createLineSplitter(take: (line: string) => void): (chunk: Buffer) => void {
  let parts: Buffer[] = [];
  let length = 0;
  return (piece) => {
    let chunk = piece;
    for (let end = chunk.indexOf(10); end >= 0; end = chunk.indexOf(10)) {
      parts.push(chunk.subarray(0, end));
      const line = Buffer.concat(parts).toString("utf8");
      parts = [];
      length = 0;
      chunk = chunk.subarray(end + 1);
      if (line.trim() !== "") take(line);
    }
    length += chunk.length;
    if (length > longestLine) throw new Error("a line of the watch is longer than 8 MiB");
    if (chunk.length > 0) parts.push(chunk);
  };
}
