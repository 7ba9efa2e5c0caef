#!/usr/bin/env node
import { Command, CommanderError, Help, InvalidArgumentError } from "commander";
import type { Running } from "@kube-connector/core";
import { addJobsCommands } from "./jobs/commands.ts";

// The command a person types. What a subcommand needs is imported only when that subcommand is known, so that help and
// mistyped flags answer at once.

/** What was asked for, to be started once the command line is known to be right. */
type Start = (env: NodeJS.ProcessEnv) => Promise<Running>;
let start: Start | undefined;
/** SIGTERM has come, and no Ctrl-C. */
let isTerminated = false;

const logLevels = ["debug", "info", "warn", "error"] as const;
type Level = (typeof logLevels)[number];

function readPort(text: string): number {
  const port = /^\d{1,5}$/.test(text) ? Number(text) : Number.NaN;
  if (!(port >= 0 && port <= 65_535)) throw new InvalidArgumentError("It should be a whole number from 0 to 65535.");
  return port;
}

function readLevel(text: string): Level {
  const level = logLevels.find((one) => one === text);
  if (level === undefined) throw new InvalidArgumentError(`It should be one of ${logLevels.join(", ")}.`);
  return level;
}

const say = (line: string) => void process.stdout.write(`${line}\n`);

/** A thing to do that ends by itself. */
function doOnce(work: (signal: AbortSignal) => Promise<void>): Running {
  const stopping = new AbortController();
  // The timers that work waits with keep no process alive, nor do idle connections; this does.
  const alive = setInterval(() => {}, 60_000);
  const done = work(stopping.signal).finally(() => clearInterval(alive));
  return {
    done,
    async stop() {
      stopping.abort();
      await done.catch(() => undefined);
    },
  };
}

const program = new Command("kube-connector")
  .description("Access to any Kubernetes cluster, without a credential for it")
  .showHelpAfterError("Try kube-connector --help.")
  .exitOverride()
  .configureHelp({
    // Nothing given is no default that a reader needs to be told.
    optionDescription: (option) =>
      Help.prototype.optionDescription.call(new Help(), option).replace(/ \(default: (?:\[\]|false)\)$/, ""),
  })
  .addHelpText(
    "after",
    "\nExit status: 0 done, 2 wrong input (nothing was done), 3 not logged in, 4 not allowed, 6 something is in the way,\n7 unreachable or in use, 8 not done in time, 1 anything else.",
  );

program
  .command("standalone")
  .description("serve the connectors of a directory on this machine, without a cluster")
  .argument("<directory>", "holds Connector and Secret files (.yaml, .yml, .json)")
  .option("--forward-port <port>", "port of the forward proxy on 127.0.0.1; 0 takes a free one", readPort, 0)
  .option("--reverse-port <port>", "port of the reverse proxy on 127.0.0.1; 0 takes a free one", readPort, 0)
  .option("--output <directory>", "write the kubeconfigs there, not into a new private folder")
  .option("--audit <file>", "append one JSON line for each request and tunnel to that file")
  .option("--log-level <level>", `what goes to standard error: ${logLevels.join(", ")}`, readLevel, "warn")
  .addHelpText(
    "after",
    `
Writes one kubeconfig per connector (and one, kubeconfig-direct, for clients that ignore proxy-url), says where, and
serves until Ctrl-C. The stored tokens stay in this process. Changed files are taken over at once.

Example:
  kube-connector standalone ./connectors
  export KUBECONFIG=<the path it prints>
  kubectl get pods`,
  )
  .action(
    (
      directory: string,
      flags: { forwardPort: number; reversePort: number; output?: string; audit?: string; logLevel: Level },
    ) => {
      start = async (env) => {
        const [{ describeError, systemClock }, { startStandalone }, { createTextLog }, { tmpdir }] = await Promise.all([
          import("@kube-connector/core"),
          import("./standalone.ts"),
          import("./terminal.ts"),
          import("node:os"),
        ]);
        const isAlive = (id: number) => {
          try {
            return process.kill(id, 0);
          } catch (error) {
            return (error as NodeJS.ErrnoException).code === "EPERM";
          }
        };
        const standalone = await startStandalone({
          directory,
          forwardPort: flags.forwardPort,
          reversePort: flags.reversePort,
          kubeconfigs: {
            output: flags.output,
            temporary: env.XDG_RUNTIME_DIR || tmpdir(),
            process: { id: process.pid, isAlive },
          },
          audit: flags.audit,
          clock: systemClock,
          log: createTextLog(flags.logLevel, (line) => void process.stderr.write(`${line}\n`), describeError),
          say,
        });
        say("\nCtrl-C ends it and removes the files.");
        return standalone;
      };
    },
  );

program
  .command("uninstall")
  .description("take kube-connector out of a cluster: its Connectors, then everything that install.yaml made")
  .option("--kubeconfig <file>", "the kubeconfig to use, else KUBECONFIG, else ~/.kube/config")
  .option("--context <name>", "the context in it, else its current one")
  .option("--dry-run", "say what would be deleted, and delete nothing", false)
  .option("--yes", "do not ask", false)
  .addHelpText(
    "after",
    "\nStops, with an exit status that is not 0, and names them, while pods still hold a volume of connectors-csi.",
  )
  .action((flags: { kubeconfig?: string; context?: string; dryRun: boolean; yes: boolean }) => {
    start = async (env) => {
      const [{ openApiServer, readKubeconfig, systemClock }, { uninstall }, { kubeconfigFile }, { homedir }] =
        await Promise.all([
          import("@kube-connector/core"),
          import("./uninstall.ts"),
          import("./kubeconfig-file.ts"),
          import("node:os"),
        ]);
      const { askYes } = await import("./question.ts");
      const file = kubeconfigFile({ flag: flags.kubeconfig, env: env.KUBECONFIG, home: homedir() });
      const api = openApiServer(await readKubeconfig(file, flags.context));
      return doOnce(async (signal) => {
        try {
          const confirm = flags.yes ? undefined : askYes(process.stdin, process.stderr, signal);
          await uninstall({ api, clock: systemClock, say, dryRun: flags.dryRun, confirm, signal });
        } finally {
          await api.stop();
        }
      });
    };
  });

program
  .command("policy")
  .description("what a connector's policy should allow")
  .command("suggest")
  .description("print the least rules that would have let pass what a proxy's audit log tells of")
  .argument("<file...>", "audit logs, one audit.k8s.io/v1 Event in each line; - is standard input")
  .option("--connector <name>", "only this connector, as namespace/name")
  .option("--denied", "take in what the proxy has refused", false)
  .option("--names", "name the objects that were asked for", false)
  .action((files: string[], flags: { connector?: string; denied: boolean; names: boolean }) => {
    start = async () => {
      const { suggestPolicy } = await import("./policy-suggest.ts");
      return doOnce(() => suggestPolicy(files, { connector: undefined, ...flags, say }));
    };
  });

addJobsCommands(program, process.argv, (work) => {
  start = async (env) =>
    doOnce(async (signal) => {
      try {
        const status = await work(signal, env);
        process.exitCode = status === 130 && isTerminated ? 143 : status;
      } catch (error) {
        const [{ Fault }, { statusOfFault }] = await Promise.all([
          import("@kube-connector/core"),
          import("./jobs/status.ts"),
        ]);
        const fault = Fault.from(error, "The command failed");
        if (fault.code === "internal") throw error;
        process.stderr.write(`${fault.message}\n`);
        process.exitCode = statusOfFault(fault);
      }
    });
});

program
  .command("version")
  .description("print the version")
  .action(() => {
    start = async () => {
      const { describeVersion } = await import("./version.ts");
      say(describeVersion(process.version));
      return doOnce(async () => {});
    };
  });

// A pipe whose reader is gone is no reason to fail.
process.stdout.on("error", () => undefined);
process.stderr.on("error", () => undefined);
try {
  await program.parseAsync();
  if (start !== undefined) {
    const begin: Start = start;
    // A terminal that is closed asks to end as Ctrl-C does, so that no kubeconfig stays behind.
    process.once("SIGTERM", () => {
      isTerminated = true;
    });
    process.once("SIGHUP", () => process.kill(process.pid, "SIGTERM"));
    const { runMain } = await import("@kube-connector/core");
    await runMain((_argv, env) => begin(env));
  }
} catch (error) {
  if (!(error instanceof CommanderError)) throw error;
  process.exitCode = error.exitCode === 0 ? 0 : 2;
}
