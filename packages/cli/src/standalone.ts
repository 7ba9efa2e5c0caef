import { type Clock, type Log, problems, type Running, stopAll } from "@kube-connector/core";
import { createAudit, createLocalAccess, noAudit, noMetrics, startAuditSink } from "@kube-connector/proxy";
import { followDirectory } from "./standalone/directory.ts";
import { startDoors } from "./standalone/doors.ts";
import { type KubeconfigFolder, type KubeconfigFolderOptions, openKubeconfigFolder } from "./standalone/kubeconfigs.ts";
import { onlyConnectors, type Reading, readConnectors } from "./standalone/reading.ts";
import { createResolver, type Resolver } from "./standalone/resolver.ts";
import { startGivenSource } from "./standalone/source.ts";
import { takeOver } from "./standalone/take-over.ts";
import { sayTargets } from "./standalone/targets.ts";
import { createWriter, type Writer } from "./standalone/writer.ts";
import { quoted, type Say } from "./terminal.ts";

export interface StandaloneOptions {
  /** Holds the Connector and Secret files. */
  directory: string;
  /** 0: a free one. */
  forwardPort: number;
  reversePort: number;
  kubeconfigs: KubeconfigFolderOptions;
  /** A file that one JSON line for each request and tunnel is appended to; undefined: none is kept. */
  audit: string | undefined;
  clock: Clock;
  log: Log;
  say: Say;
}

export interface Standalone extends Running {
  forwardPort: number;
  reversePort: number;
  /** What was there at the start: the connector as `namespace/name`, its files as whole paths. */
  kubeconfigs: { connector: string; kubeconfig: string; direct: string }[];
}

/**
 * Serves the connectors of a directory on loopback and writes their kubeconfigs, until it is stopped. Throws a Fault with
 * every problem of the directory; then nothing was written and nothing listens.
 */
export async function startStandalone(options: StandaloneOptions): Promise<Standalone> {
  const { directory, clock, log } = options;
  const resolver = createResolver(clock);
  const first = await readFirst(directory, resolver);
  const access = createLocalAccess();
  const source = startGivenSource(log);
  source.give(onlyConnectors(first));
  const started: Running[] = [source];
  let folder: KubeconfigFolder | undefined;
  const openAudit = async (file: string) => {
    const sink = await startAuditSink({ to: { file }, clock, log, metrics: noMetrics });
    started.push(sink);
    return sink;
  };
  const closeAll = async () => {
    try {
      await stopAll(started);
    } finally {
      await folder?.removeAll();
    }
  };
  try {
    const audit = options.audit === undefined ? noAudit : createAudit(await openAudit(options.audit), clock);
    const doors = await startDoors({ ...options, source, access, audit });
    started.push(doors);
    folder = await openKubeconfigFolder(options.kubeconfigs);
    const writer = createWriter({ folder, access, doors });
    await writer.write(first);
    announce(first, writer, options);
    await sayTargets([...first.connectors], options);
    let last = first;
    const onChange = async () => {
      last = await takeOver(last, { ...options, resolver, source, writer });
    };
    started.push(followDirectory(directory, { clock, log, onChange }));
    let stopping: Promise<void> | undefined;
    const stop = () => (stopping ??= closeAll());
    return {
      forwardPort: doors.forwardPort,
      reversePort: doors.reversePort,
      kubeconfigs: [...first.connectors.keys()].map((connector) => ({ connector, ...writer.pathsOf(connector) })),
      done: doors.done.then(stop),
      stop,
    };
  } catch (error) {
    await closeAll();
    throw error;
  }
}

async function readFirst(directory: string, resolver: Resolver): Promise<Reading> {
  const first = await readConnectors(directory, resolver);
  const wrong = [...first.problems];
  if (wrong.length === 0 && first.connectors.size === 0) {
    wrong.push("there is no Connector in it; put a Connector and its Secret there, as .yaml, .yml or .json");
  }
  const fault = problems(`Cannot serve ${directory}`, wrong);
  if (fault !== undefined) throw fault;
  return first;
}

function announce(reading: Reading, writer: Writer, { say, directory }: StandaloneOptions): void {
  const count = reading.connectors.size;
  say(`Serving ${count === 1 ? "one connector" : `${count} connectors`} from ${directory}`);
  for (const [key, { connector }] of reading.connectors) {
    say(`\n  ${key} -> ${connector.target.url}`);
    say(`    export KUBECONFIG=${quoted(writer.pathsOf(key).kubeconfig)}`);
    say("    kubectl get pods");
  }
  say("");
  const { ignored } = reading;
  if (ignored.length > 0) say(`Left aside, being no Connector, ConnectorClass or Secret: ${ignored.join(", ")}`);
}
