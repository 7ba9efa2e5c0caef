import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import type { Readable } from "node:stream";
import { residentOf } from "../../bench/machine.ts";
import { type Replica, type ReplicaOptions, startReplica } from "../../kit/replica.ts";

// The proxy under load: what it holds, what it says, and whether a token is in that.

/** What the proxy holds when nothing is going on. */
export interface Held {
  /** Bytes that are in use after a collection: objects, and what they keep outside of the heap. */
  live: number;
  /** Bytes of resident memory after it. */
  resident: number;
  descriptors: number;
}

export interface WatchedProxy {
  replica: Replica;
  resident(): number;
  /** Without its connections to the API server, which come and go with reviews. */
  descriptors(): number;
  /** Entries of /debug/streams. */
  open(): Promise<number>;
  /** Connections of clients, and to targets. */
  connections(): Promise<{ clients: number; targets: number }>;
  held(snapshot?: string): Promise<Held>;
  /** Lines of its audit log. */
  audited(): number;
  /** What it logged as an error, with how often. */
  errors(): ReadonlyMap<string, number>;
  /** How often one of the texts that must not be there was in what it said. */
  revealed(): number;
}

export interface WatchedProxyOptions {
  replica: ReplicaOptions;
  /** Texts that belong in no log. */
  secrets: readonly string[];
  /** Where the API server listens. */
  apiPort: number;
}

export async function startWatchedProxy(options: WatchedProxyOptions): Promise<WatchedProxy> {
  const { secrets, apiPort } = options;
  const replica = await startReplica(options.replica);
  const errors = new Map<string, number>();
  const counts = { audited: 0, revealed: 0 };
  const look = (line: string) => {
    if (secrets.some((secret) => line.includes(secret))) counts.revealed += 1;
  };
  eachLine(replica.audit, (line) => {
    counts.audited += 1;
    look(line);
  });
  eachLine(replica.log, (line) => {
    look(line);
    const what = errorOf(line);
    if (what !== undefined) errors.set(what, (errors.get(what) ?? 0) + 1);
  });
  const { pid } = replica;
  const metric = (text: string, name: string) =>
    [...text.matchAll(new RegExp(`^kube_connector_proxy_${name}(?:\\{.*\\})? (\\d+)$`, "gm"))].reduce(
      (sum, [, value]) => sum + Number(value),
      0,
    );
  const descriptors = () => descriptorsOf(pid, apiPort);
  return {
    replica,
    resident: () => residentOf(pid) * 1024,
    descriptors,
    async open() {
      const { open } = JSON.parse(await replica.read("/debug/streams")) as { open: number };
      return open;
    },
    async connections() {
      const text = await replica.read("/metrics");
      return { clients: metric(text, "connections_open"), targets: metric(text, "upstream_connections") };
    },
    async held(snapshot) {
      const { heapUsed, external, rss } = await replica.memory(snapshot);
      return { live: heapUsed + external, resident: rss, descriptors: descriptors() };
    },
    audited: () => counts.audited,
    errors: () => errors,
    revealed: () => counts.revealed,
  };
}

function descriptorsOf(pid: number, apiPort: number): number {
  const tables = ["tcp", "tcp6"].map((name) => readFileSync(`/proc/${pid}/net/${name}`, "utf8"));
  const lines = tables.flatMap((table) => table.split("\n")).map((line) => line.trim().split(/\s+/));
  const toApi = lines
    .filter(([, , remote]) => Number.parseInt(remote?.split(":")[1] ?? "", 16) === apiPort)
    .map((parts) => `socket:[${parts[9]}]`);
  const open = readdirSync(`/proc/${pid}/fd`).map((fd) => {
    try {
      return readlinkSync(`/proc/${pid}/fd/${fd}`);
    } catch {
      return ""; // closed meanwhile
    }
  });
  return open.filter((what) => what !== "" && !toApi.includes(what)).length;
}

function eachLine(from: Readable, act: (line: string) => void): void {
  let rest = "";
  from.setEncoding("utf8").on("data", (text: string) => {
    const lines = (rest + text).split("\n");
    rest = lines.pop() ?? "";
    for (const line of lines) act(line);
  });
}

/** The sentence of a log line at level error; a line that is none of ours is one too. */
function errorOf(line: string): string | undefined {
  try {
    const { level, msg, error } = JSON.parse(line) as { level: unknown; msg?: string; error?: unknown };
    return level === "error" || level === 50 ? `${msg} ${JSON.stringify(error)}`.slice(0, 300) : undefined;
  } catch {
    return line;
  }
}
