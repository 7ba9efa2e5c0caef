import { Fault } from "@kube-connector/core";
import { isTerminal, type RunRecord, type RunState, runStates, type RunSummary } from "@kube-connector/jobs";
import type { Output, SessionFlags } from "./commands.ts";
import { compareRuns } from "./compare.ts";
import { waitFor } from "./follow.ts";
import { age, oneLine, printTable, printValue, writeTo } from "./print.ts";
import { describe, stateOf } from "./progress.ts";
import { type Env, openHistory, openSession } from "./session.ts";
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
  const odd = flags.state.filter((one) => !(runStates as readonly string[]).includes(one));
  if (odd.length > 0)
    throw new Fault("invalid_argument", `--state ${odd.join(", ")} should be one of ${runStates.join(", ")}`);
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
    sayNext(output, page.next);
    return 0;
  } finally {
    await session.stop();
  }
}

/** Where the next page begins; json and yaml hold it themselves. */
export function sayNext(output: Output, next: string | undefined): void {
  if (next !== undefined && (output === "table" || output === "ndjson"))
    process.stderr.write(`There are more: --cursor ${next}\n`);
}

function printRuns(runs: readonly RunSummary[]): void {
  if (runs.length === 0) {
    process.stderr.write("No runs found\n");
    return;
  }
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
