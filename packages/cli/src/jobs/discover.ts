import { Fault } from "@kube-connector/core";
import type { SourceItem } from "@kube-connector/jobs";
import type { Output, SessionFlags } from "./commands.ts";
import { printTable, printValue, writeTo } from "./print.ts";
import { type Env, type JobsCalls, onlyConnector, openSession } from "./session.ts";
import { sayNext } from "./show.ts";

const write = writeTo(process.stdout);
const kinds = ["CronJob", "Job"] as const;
type Kind = (typeof kinds)[number];

interface DiscoverFlags {
  connector?: string;
  namespace?: string;
  kind?: Kind;
  all: boolean;
  allContainers: boolean;
  limit?: number;
  cursor?: string;
  output: Output;
}

/** `jobs discover`. */
export async function discoverCommand(flags: SessionFlags & DiscoverFlags, _signal: AbortSignal, env: Env) {
  const { limit, output } = flags;
  if (limit !== undefined && (limit < 1 || limit > 1000))
    throw new Fault("invalid_argument", "--limit should be from 1 to 1000");
  const from = readCursor(flags.cursor);
  const session = await openSession(flags, env);
  try {
    const connector = await onlyConnector(session, flags.connector);
    const namespace =
      flags.namespace ??
      (await session.jobs.connectors()).find(({ name }) => name === connector)?.defaultNamespace ??
      "default";
    const { items, next } = await findSources(session.jobs, { ...flags, connector, namespace, from });
    if (output === "table") printSources(items, namespace);
    else if (output === "ndjson") for (const item of items) printValue(write, output, item);
    else printValue(write, output, { items, ...(next === undefined ? {} : { next }) });
    sayNext(output, next);
    return 0;
  } finally {
    await session.stop();
  }
}

/** Where a page before has ended: in which kind, and the API server's own words for where. */
interface Position {
  kind: Kind;
  cursor?: string;
}

function readCursor(text: string | undefined): Position | undefined {
  if (text === undefined) return undefined;
  const [, word = "", cursor = ""] = /^(\w+):(.*)$/.exec(text) ?? [];
  const kind = kinds.find((one) => one === word);
  if (kind === undefined)
    throw new Fault("invalid_argument", "--cursor should be one that an earlier page has printed");
  return { kind, ...(cursor === "" ? {} : { cursor }) };
}

/** CronJobs first; up to `limit` in all, each page as long as is still wanted, so that the next one begins right behind. */
async function findSources(
  jobs: JobsCalls,
  asked: DiscoverFlags & { connector: string; namespace: string; from: Position | undefined },
): Promise<{ items: SourceItem[]; next?: string }> {
  const { connector, namespace, all, allContainers, limit = Number.POSITIVE_INFINITY, from } = asked;
  const wanted =
    asked.kind === undefined ? kinds.slice(from === undefined ? 0 : kinds.indexOf(from.kind)) : [asked.kind];
  if (from !== undefined && !wanted.includes(from.kind))
    throw new Fault("invalid_argument", `--cursor is of a page of ${from.kind}s, and --kind is ${asked.kind}`);
  const items: SourceItem[] = [];
  for (const kind of wanted) {
    let cursor = kind === from?.kind ? from.cursor : undefined;
    do {
      if (items.length >= limit) return { items, next: `${kind}:${cursor ?? ""}` };
      const page = await jobs.discover({
        connector,
        namespace,
        kind,
        all,
        allContainers,
        ...(limit === Number.POSITIVE_INFINITY ? {} : { limit: limit - items.length }),
        ...(cursor === undefined ? {} : { cursor }),
      });
      if (page.restarted === true) {
        process.stderr.write(`The cluster has forgotten that page: ${kind}s are listed from the first on\n`);
        items.splice(0, items.length, ...items.filter((item) => item.kind !== kind));
      }
      items.push(...page.items);
      cursor = page.next;
    } while (cursor !== undefined);
  }
  return { items };
}

function printSources(items: readonly SourceItem[], namespace: string): void {
  if (items.length === 0) {
    process.stderr.write(`Nothing to clone found in namespace ${namespace}\n`);
    return;
  }
  printTable(
    write,
    ["SOURCE", "SCHEDULE", "IMAGE", "PARAMETERS"],
    items.map((item) => [
      `${item.kind.toLowerCase()}/${item.name}`,
      item.schedule ?? "",
      item.containers[0]?.image ?? "",
      item.parameters.map(({ name, default: value, from }) => `${name}=${value ?? `<${from ?? ""}>`}`).join(" "),
    ]),
  );
}
