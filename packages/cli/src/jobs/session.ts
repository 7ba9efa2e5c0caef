import { mkdir, readFile, stat } from "node:fs/promises";
import { homedir, tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { describeError, Fault, type Log, parseKubeconfig, problems, Secret, systemClock } from "@kube-connector/core";
import {
  connectJobs,
  type ConnectorConfig,
  type JobsOptions,
  jobsConfigSchema,
  fillMonitorUrl,
  noSuchRun,
  openStore,
  type Profile,
  readLog,
  type RemoteJobs,
  searchLog,
  startJobs,
  type Store,
} from "@kube-connector/jobs";
import { parse } from "yaml";
import { createTextLog, quoted } from "../terminal.ts";
import type { SessionFlags } from "./commands.ts";

// What a subcommand works with: an engine in this process, with the connectors, the history and the log folder that flags,
// configuration and defaults name; or a server.

/** What subcommands call: the same in this process and at a server. */
export type JobsCalls = RemoteJobs;

export interface Session {
  jobs: JobsCalls;
  stop(): Promise<void>;
}

interface Config {
  connectors: ConnectorConfig[];
  profiles: Record<string, Profile>;
  history?: string | undefined;
  logs?: string | undefined;
}

export type Env = Readonly<Record<string, string | undefined>>;

const say = (line: string) => void process.stderr.write(`${line}\n`);

export function textLog({ logLevel }: SessionFlags): Log {
  return createTextLog(logLevel, say, describeError);
}

/** Opens it; closed by who opened it. */
export async function openSession(flags: SessionFlags, env: Env): Promise<Session> {
  if (flags.server !== undefined) return openServer(flags.server, flags);
  const { parts, close } = await openParts(flags, env);
  try {
    const jobs = await startJobs(parts);
    return {
      jobs,
      async stop() {
        await jobs.stop();
        await close();
      },
    };
  } catch (error) {
    await close();
    throw error;
  }
}

/** What can be asked without an engine. */
export type HistoryCalls = Pick<JobsCalls, "get" | "list" | "readLog" | "searchLog" | "monitorUrl">;

/** For commands that only look: no connector is needed, and no run changes hands. */
export async function openHistory(
  flags: SessionFlags,
  env: Env,
): Promise<{ jobs: HistoryCalls | JobsCalls; stop(): Promise<void> }> {
  if (flags.server !== undefined) return openServer(flags.server, flags);
  const config = await readConfig(flags, env);
  const { store, logs } = await openPlaces(flags, config, env);
  return {
    jobs: {
      async get(id) {
        const run = await store.read(id);
        if (run === undefined) throw noSuchRun(id);
        return run;
      },
      list: (query) => store.list(query),
      readLog: (id, query) => readLog(logs, id, query),
      searchLog: (id, words, query) => searchLog(logs, id, words, query),
      monitorUrl: async (run) =>
        fillMonitorUrl(
          config.connectors.find(({ name }) => name === run.connector),
          run,
        ),
    },
    stop: () => store.stop(),
  };
}

/** The history and the folder of the logs. */
async function openPlaces(flags: SessionFlags, config: Config, env: Env): Promise<{ store: Store; logs: string }> {
  const state = join(env.XDG_STATE_HOME || join(homedir(), ".local/state"), "kube-connector/jobs");
  const logs = resolve(flags.logs ?? config.logs ?? join(state, "logs"));
  await mkdir(logs, { recursive: true, mode: 0o700 }).catch((error: unknown) => {
    throw Fault.from(error, `Cannot make the folder ${logs}`);
  });
  const where = await historyOf(flags.history ?? config.history ?? join(state, "history.db"));
  return { store: await openStore(where, { log: textLog(flags) }), logs };
}

/** What an engine in this process works with. */
export async function openParts(
  flags: SessionFlags,
  env: Env,
): Promise<{ parts: Omit<JobsOptions, "counts">; close: () => Promise<void> }> {
  const log = textLog(flags);
  const config = await readConfig(flags, env);
  const served = flags.connectors === undefined ? undefined : await serveConnectors(flags.connectors, env, log);
  try {
    const connectors = [...config.connectors, ...(served?.connectors ?? [])];
    for (const file of flags.kubeconfig) connectors.push(await connectorOf(resolve(file)));
    if (connectors.length === 0) {
      throw new Fault(
        "invalid_argument",
        "No connector is known: give --kubeconfig with a file that kube-connector made, --connectors with a directory of Connector files, or --config",
      );
    }
    const { store, logs } = await openPlaces(flags, config, env);
    return {
      parts: { connectors, profiles: config.profiles, store, logs, log },
      async close() {
        await store.stop();
        await served?.stop();
      },
    };
  } catch (error) {
    await served?.stop();
    throw error;
  }
}

/** `@file` holds the URL, so that no password is an argument. */
async function historyOf(where: string): Promise<Secret> {
  if (/^postgres(ql)?:/.test(where)) {
    throw new Fault(
      "invalid_argument",
      "--history: put the postgres:// URL into a file and give @file, as arguments are seen by others",
    );
  }
  if (!where.startsWith("@")) return new Secret(resolve(where));
  const file = where.slice(1);
  return new Secret((await readText(file)).trim());
}

/** A file that was named and cannot be read is wrong input. */
function wrongFile(error: unknown, doing: string): Fault {
  return new Fault("invalid_argument", Fault.from(error, doing).message, error);
}

export async function readText(file: string): Promise<string> {
  return readFile(file, "utf8").catch((error: unknown) => {
    throw wrongFile(error, `Cannot read ${file}`);
  });
}

async function readConfig(flags: SessionFlags, env: Env): Promise<Config> {
  const usual = join(env.XDG_CONFIG_HOME || join(homedir(), ".config"), "kube-connector/jobs.yaml");
  const none: Config = { connectors: [], profiles: {} };
  const isSaidElsewhere = flags.kubeconfig.length > 0 || flags.connectors !== undefined;
  if (flags.config === undefined && (isSaidElsewhere || !(await isThere(usual)))) return none;
  const file = flags.config ?? usual;
  const text = await readFile(file, "utf8").catch((error: unknown) => {
    throw wrongFile(error, `Cannot read the configuration ${file}`);
  });
  let value: unknown;
  try {
    value = parse(text);
  } catch (error) {
    throw new Fault("invalid_argument", `${file} is no YAML: ${error instanceof Error ? error.message : ""}`, error);
  }
  const parsed = jobsConfigSchema.safeParse(value);
  if (parsed.success) return parsed.data;
  const sentences = parsed.error.issues.map(({ path, message }) => `/${path.map(String).join("/")}: ${message}`);
  throw problems(`The configuration ${file} cannot be used`, sentences) ?? parsed.error;
}

async function isThere(file: string): Promise<boolean> {
  return stat(file).then(
    () => true,
    () => false,
  );
}

/** A connector that is known by its kubeconfig alone. */
async function connectorOf(file: string): Promise<ConnectorConfig> {
  const text = await readFile(file, "utf8").catch((error: unknown) => {
    throw wrongFile(error, `Cannot read the kubeconfig ${file}`);
  });
  const { proxyUrl, namespace } = parseKubeconfig(text, file);
  if (proxyUrl === undefined) {
    throw new Fault(
      "invalid_argument",
      `${file} does not name its connector; take the file kubeconfig, not kubeconfig-direct`,
    );
  }
  return {
    name: decodeURIComponent(new URL(proxyUrl.reveal()).username),
    kubeconfig: file,
    ...(namespace === undefined ? {} : { defaultNamespace: namespace }),
  };
}

async function serveConnectors(directory: string, env: Env, log: Log) {
  const { startStandalone } = await import("../standalone.ts");
  const standalone = await startStandalone({
    directory,
    forwardPort: 0,
    reversePort: 0,
    kubeconfigs: {
      output: undefined,
      temporary: env.XDG_RUNTIME_DIR || tmpdir(),
      process: { id: process.pid, isAlive: () => true },
    },
    audit: undefined,
    clock: systemClock,
    log,
    say: () => undefined,
  });
  return {
    connectors: standalone.kubeconfigs.map(({ connector, kubeconfig }) => ({ name: connector, kubeconfig })),
    stop: () => standalone.stop(),
  };
}

async function openServer(url: string, { serverToken, serverCa }: SessionFlags): Promise<Session> {
  if (serverToken === undefined) {
    throw new Fault("invalid_argument", "--server needs --server-token with the file that holds its bearer token");
  }
  const ca = serverCa === undefined ? undefined : await readText(serverCa);
  const jobs = connectJobs({ url, tokenFile: resolve(serverToken), ...(ca === undefined ? {} : { ca }) });
  await readText(serverToken).catch(async (error: unknown) => {
    await jobs.stop();
    throw error;
  });
  return { jobs, stop: () => jobs.stop() };
}

/** The command that goes on with a run, from where this one was started. */
export function comeBack(flags: SessionFlags, id: string): string {
  const { config, kubeconfig, connectors, history, logs, server, serverToken, serverCa } = flags;
  const given = Object.entries({ config, connectors, history, logs, server, serverToken, serverCa })
    .map(([name, text]): [string, string | undefined] => [name, text])
    .concat(kubeconfig.map((file) => ["kubeconfig", file]))
    .flatMap(([name, text]) =>
      text === undefined ? [] : [`--${name.replaceAll(/[A-Z]/g, (big) => `-${big.toLowerCase()}`)} ${quoted(text)}`],
    );
  return ["kube-connector jobs logs --follow", id, ...given].join(" ");
}

/** The connector that was named, or the only one. */
export async function onlyConnector({ jobs }: Session, named: string | undefined): Promise<string> {
  if (named !== undefined) return named;
  const connectors = await jobs.connectors();
  if (connectors.length === 1 && connectors[0] !== undefined) return connectors[0].name;
  throw new Fault(
    "invalid_argument",
    `Say which connector: --connector with one of ${connectors.map(({ name }) => name).join(", ")}`,
  );
}
