import type { RunRecord, RunState, RunSummary } from "@kube-connector/jobs";
import { isTerminal } from "@kube-connector/jobs";
import type { Output, SessionFlags } from "./commands.ts";
import { compareRuns } from "./compare.ts";
import { waitFor } from "./follow.ts";
import { age, oneLine, printTable, printValue, writeTo } from "./print.ts";
import { describe, stateOf } from "./progress.ts";
import { type Env, onlyConnector, openHistory, openSession } from "./session.ts";
import { exitStatus, statusOfRun } from "./status.ts";

const write = writeTo(process.stdout);

/** `jobs list`. */
export async function listCommand(
  flags: SessionFlags & {
    state: string[];
    connector?: string;
    namespace?: string;
    name?: string;
    limit: number;
    cursor?: string;
    output: Output;
  },
  _signal: AbortSignal,
  env: Env,
): Promise<number> {
  const session = await openHistory(flags, env);
  try {
    const { state, connector, namespace, name, limit, cursor, output } = flags;
    const page = await session.jobs.list({
      limit,
      ...(state.length === 0 ? {} : { states: state as RunState[] }),
      ...(connector === undefined ? {} : { connector }),
      ...(namespace === undefined ? {} : { namespace }),
      ...(name === undefined ? {} : { name }),
      ...(cursor === undefined ? {} : { cursor }),
    });
    if (output === "table") printRuns(page.runs);
    else if (output === "ndjson") for (const run of page.runs) printValue(write, output, run);
    else printValue(write, output, page);
    if (output === "table" && page.next !== undefined) process.stderr.write(`There are more: --cursor ${page.next}\n`);
    return 0;
  } finally {
    await session.stop();
  }
}

function printRuns(runs: readonly RunSummary[]): void {
  const now = Date.now();
  printTable(
    write,
    ["ID", "NAME", "CONNECTOR", "NAMESPACE", "STATE", "AGE"],
    runs.map((run) => [
      run.id,
      run.name,
      run.connector,
      run.namespace,
      stateOf(run),
      age(now - Date.parse(run.createdAt)),
    ]),
  );
}

/** `jobs show`. */
export async function showCommand(
  id: string,
  flags: SessionFlags & { diff?: string; wait: boolean; output: Output },
  signal: AbortSignal,
  env: Env,
): Promise<number> {
  const session = await (flags.wait ? openSession : openHistory)(flags, env);
  try {
    const { jobs } = session;
    const run =
      "wait" in jobs && flags.wait ? await waitFor(id, { jobs, signal, stderr: process.stderr }) : await jobs.get(id);
    if (flags.diff !== undefined) {
      const differences = compareRuns(run, await jobs.get(flags.diff));
      if (flags.output !== "table") printValue(write, flags.output, differences);
      else if (differences.length === 0) write("The two do not differ.\n");
      else {
        const rows = differences.map(({ path, before, after }) => [path, before, after]);
        printTable(write, ["WHAT", run.id, flags.diff], rows);
      }
    } else if (flags.output === "table") printRun(run, await jobs.monitorUrl(run));
    else printValue(write, flags.output, run);
    if (!flags.wait || run.state === "Suspended") return 0;
    return isTerminal(run.state) ? statusOfRun(run) : exitStatus.interrupted;
  } finally {
    await session.stop();
  }
}

function printRun(run: RunRecord, monitor: string | undefined): void {
  const line = (name: string, value: string | undefined) => {
    if (value !== undefined && value !== "") write(`${`${name}:`.padEnd(12)}${value}\n`);
  };
  line("Run", run.id);
  line("Name", run.name);
  line("Connector", run.connector);
  line("Namespace", run.namespace);
  line("State", describe(run));
  line("Created", run.createdAt);
  line("Started", run.startedAt);
  line("Ended", run.endedAt);
  line("Source", run.source && `${run.source.kind} ${run.source.namespace}/${run.source.name} (${run.source.used})`);
  line("Retry of", run.retryOf);
  line("Clean-up", [run.cleanup.state, run.cleanup.problem].filter((part) => part !== undefined).join(": "));
  line("Log", run.log && `${run.log.lines} lines, ${run.log.gaps} gaps`);
  line("Monitor", monitor);
  for (const [name, value] of Object.entries(run.outputs ?? {})) line("Output", `${name} = ${value}`);
  for (const attempt of run.attempts) {
    write(
      `\nAttempt ${attempt.number}: Job ${attempt.job}${attempt.outcome === undefined ? "" : `, ${attempt.outcome}`}\n`,
    );
    if (attempt.exits.length === 0) continue;
    printTable(
      (text) => write(`  ${text}`),
      ["POD", "CONTAINER", "EXIT", "REASON", "MESSAGE"],
      attempt.exits.map((exit) => [
        exit.pod,
        exit.restart === 0 ? exit.container : `${exit.container} (restart ${exit.restart})`,
        String(exit.exitCode),
        exit.reason ?? "",
        oneLine(exit.message ?? ""),
      ]),
    );
  }
}

/** `jobs discover`. */
export async function discoverCommand(
  flags: SessionFlags & {
    connector?: string;
    namespace?: string;
    kind?: "Job" | "CronJob";
    all: boolean;
    allContainers: boolean;
    output: Output;
  },
  _signal: AbortSignal,
  env: Env,
): Promise<number> {
  const session = await openSession(flags, env);
  try {
    const connector = await onlyConnector(session, flags.connector);
    const namespace =
      flags.namespace ??
      (await session.jobs.connectors()).find(({ name }) => name === connector)?.defaultNamespace ??
      "default";
    const items = [];
    for (const kind of flags.kind === undefined ? (["CronJob", "Job"] as const) : [flags.kind]) {
      let cursor: string | undefined;
      do {
        const { all, allContainers } = flags;
        const page = await session.jobs.discover({
          connector,
          namespace,
          kind,
          all,
          allContainers,
          ...(cursor === undefined ? {} : { cursor }),
        });
        items.push(...page.items);
        cursor = page.next;
      } while (cursor !== undefined);
    }
    const { output } = flags;
    if (output === "table") {
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
    } else if (output === "ndjson") for (const item of items) printValue(write, output, item);
    else printValue(write, output, items);
    return 0;
  } finally {
    await session.stop();
  }
}
