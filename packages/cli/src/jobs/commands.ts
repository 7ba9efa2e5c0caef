import { type Command, InvalidArgumentError, Option } from "commander";

// The subcommands of `kube-connector jobs`: what they take. What they do is imported once one of them is known.

/** What a subcommand works with, as it was typed. */
export interface SessionFlags {
  config?: string;
  kubeconfig: string[];
  connectors?: string;
  history?: string;
  logs?: string;
  server?: string;
  serverToken?: string;
  serverCa?: string;
  logLevel: "debug" | "info" | "warn" | "error";
}

export const outputs = ["table", "json", "yaml", "ndjson"] as const;
export type Output = (typeof outputs)[number];

/** Begins `work` once the command line is known to be right; its answer is the exit status. */
export type Begin = (
  work: (signal: AbortSignal, env: Readonly<Record<string, string | undefined>>) => Promise<number>,
) => void;

const outcomes = "Exit status: 0 Succeeded, or detached; 10 Failed, 11 TimedOut, 12 Cancelled, 13 Lost.";

const many = (value: string, before: string[] | undefined) => [...(before ?? []), value];

function whole(text: string): number {
  if (!/^\d{1,9}$/.test(text)) throw new InvalidArgumentError("It should be a whole number.");
  return Number(text);
}

const outputOption = (...allowed: readonly Output[]) =>
  new Option("-o, --output <format>", "how it is printed").choices(allowed).default(allowed[0]);

/** Where a subcommand finds runs; behind what is its own. */
function withSession(command: Command): void {
  const place = (flags: string, description: string) =>
    new Option(flags, description).helpGroup("Connectors, history and server:");
  command
    .addOption(
      place(
        "--config <file>",
        "connectors, profiles and places (YAML); else ~/.config/kube-connector/jobs.yaml if there",
      ),
    )
    .addOption(
      place("--kubeconfig <file>", "a connector's kubeconfig, in place of a configuration; may be repeated")
        .argParser(many)
        .default([]),
    )
    .addOption(
      place("--connectors <directory>", "Connector files to serve in this process, as kube-connector standalone does"),
    )
    .addOption(place("--history <where>", "a file for SQLite, or @ and a file that holds a postgres:// URL"))
    .addOption(place("--logs <directory>", "where the logs are kept"));
  if (command.name() !== "serve") {
    command
      .addOption(place("--server <url>", "ask this kube-connector jobs serve, in place of an engine in this process"))
      .addOption(place("--server-token <file>", "holds that server's bearer token"))
      .addOption(place("--server-ca <file>", "the CA (PEM) of that server's certificate, else those of the system"));
  }
  command.addOption(
    place("--log-level <level>", "what goes to standard error")
      .choices(["debug", "info", "warn", "error"])
      // Where a person looks on, the run's own line says what a warning would say.
      .default(command.name() === "serve" ? "warn" : "error"),
  );
}

/** Adds them to the program; `words` is the command line as it was typed. */
export function addJobsCommands(program: Command, words: readonly string[], begin: Begin): void {
  const jobs = program
    .command("jobs")
    .description("run Kubernetes Jobs through connectors, follow them, keep their logs")
    .addHelpText(
      "after",
      `
Exit status of run, retry, logs --follow and show --wait: 0 Succeeded (or detached by flag), 10 Failed, 11 TimedOut,
12 Cancelled, 13 Lost. Of all: 1 error, 2 wrong input (nothing was done), 3 refused, 130 Ctrl-C, 143 SIGTERM.`,
    );
  const command = (name: string, description: string) => jobs.command(name).description(description);

  command("run", "run what a file, a source or flags describe, and follow it to its end")
    .argument("[file]", "a run definition (YAML or JSON); - is standard input")
    .option("--connector <name>", "the connector, as namespace/name; may be left out when there is one only")
    .option("-n, --namespace <name>", "where the Job runs")
    .option("--name <name>", "the base of the Job's name")
    .option("--image <image>", "an image to run; what follows -- is its command")
    .option("--from <source>", "clone job/NAME or cronjob/NAME")
    .option("--container <name>", "the container that --env and what follows -- are for; the first unless told")
    .option("--env <name=value>", "a variable; may be repeated", many, [])
    .option(
      "--secret-env <name=file>",
      "a variable whose value is the file's text; kept in a Secret, masked in the log; may be repeated",
      many,
      [],
    )
    .option("--set <name=value>", "the value of [[name]] in the definition; may be repeated", many, [])
    .option("--set-file <name=file>", "the same, from a file; may be repeated", many, [])
    .option("--requests <list>", "what a node must have free for each pod, such as cpu=250m,memory=512Mi")
    .option("--limits <list>", "what each pod may use at most, such as cpu=1,memory=1Gi")
    .option("--completions <n>", "pods to succeed", whole)
    .option("--parallelism <n>", "pods at once", whole)
    .option("--timeout <seconds>", "the Job's active deadline; 0: none", whole)
    .option("--run-key <key>", "run once: the same key gives the same run")
    .addOption(
      new Option("--dry-run <where>", "show what would be sent and what it changes of the source").choices([
        "client",
        "server",
      ]),
    )
    .option(
      "--detach",
      "print the run's id once its Job is sent, and leave; it is looked after by whoever follows it, or by jobs serve",
      false,
    )
    .option("--wait", "wait for its end without printing its log", false)
    .option("--cancel-on-interrupt", "Ctrl-C cancels the run and waits", false)
    .option("--exit-from <container>", "end with that container's exit status")
    .addOption(outputOption("table", "json", "yaml", "ndjson"))
    .argument("[command...]", "after --: the command, or what a clone's command is given as arguments")
    .addHelpText(
      "after",
      `
Flags override the file. Ctrl-C leaves the run going and says how to come back; a second one quits at once.
${outcomes}

Examples:
  kube-connector jobs run report.yaml --set day=2026-03-01
  kube-connector jobs run --name hello --image busybox:1.37 --requests cpu=100m,memory=64Mi -- echo hello
  kube-connector jobs run --from cronjob/tidy --env REGION=eu --dry-run server`,
    )
    .action((_file: string | undefined, _command: string[], flags: object, self: Command) => {
      // What follows -- is the command, also where no file is named.
      const rest = words.includes("--") ? words.slice(words.indexOf("--") + 1) : [];
      const [file, ...excess] = self.args.slice(0, self.args.length - rest.length);
      if (excess.length > 0) self.error(`error: put -- before the command: -- ${excess.join(" ")}`);
      begin(async (signal, env) =>
        (await import("./run.ts")).runCommand({ file, rest, flags: flags as never, signal, env }),
      );
    });

  command("list", "list runs, newest first")
    .option("--state <state>", "only those in that state; may be repeated", many, [])
    .option("--connector <name>", "only of that connector")
    .option("-n, --namespace <name>", "only in that namespace")
    .option("--name <name>", "only of that name")
    .option("--limit <n>", "how many, 1 to 1000", whole, 50)
    .option("--cursor <text>", "go on from a page before")
    .addOption(outputOption("table", "json", "yaml", "ndjson"))
    .action((flags: object) => begin(async (...at) => (await import("./show.ts")).listCommand(flags as never, ...at)));

  command("show", "show a run: its state, why, its attempts and exit codes")
    .argument("<run>", "its id")
    .option("--diff <other>", "compare with another run")
    .option("--wait", "wait until it is complete, failed, deleted or suspended", false)
    .addOption(outputOption("table", "json", "yaml"))
    .action((run: string, flags: object) =>
      begin(async (...at) => (await import("./show.ts")).showCommand(run, flags as never, ...at)),
    );

  command("logs", "print a run's log")
    .argument("<run>", "its id")
    .option("-f, --follow", "go on until it is complete", false)
    .option("--pod <name>", "only of that pod")
    .option("--container <name>", "only of that container")
    .option("--search <words>", "only lines with these words")
    .addOption(
      new Option("--view <view>", "all lines in the order of time, or pod after pod")
        .choices(["merged", "pod"])
        .default("merged"),
    )
    .option("--plain", "the program's words alone, without time and pod", false)
    .action((run: string, flags: object) =>
      begin(async (...at) => (await import("./logs.ts")).logsCommand(run, flags as never, ...at)),
    );

  command("cancel", "cancel a run")
    .argument("<run>", "its id")
    .option("--foreground", "the Job goes after its pods", false)
    .option("--force", "delete its pods without grace", false)
    .option("--no-wait", "do not wait until its pods are gone")
    .action((run: string, flags: object) =>
      begin(async (...at) => (await import("./act.ts")).cancelCommand(run, flags as never, ...at)),
    );

  for (const verb of ["suspend", "resume"] as const) {
    command(verb, verb === "suspend" ? "stop a run's pods until it is resumed" : "go on with a run that is suspended")
      .argument("<run>", "its id")
      .action((run: string, flags: object) =>
        begin(async (...at) =>
          (await import("./act.ts")).suspendCommand(run, verb === "suspend", flags as never, ...at),
        ),
      );
  }

  command("retry", "run the same again, as a new run")
    .argument("<run>", "its id")
    .option("--failed-indexes", "only the indexes that failed", false)
    .option("--detach", "print the new run's id once its Job is sent, and leave", false)
    .option("--wait", "wait for its end without printing its log", false)
    .option("--cancel-on-interrupt", "Ctrl-C cancels the run and waits", false)
    .option("--exit-from <container>", "end with that container's exit status")
    .addOption(outputOption("table", "json", "yaml", "ndjson"))
    .addHelpText("after", `\n${outcomes}`)
    .action((run: string, flags: object) =>
      begin(async (...at) => (await import("./run.ts")).retryCommand(run, flags as never, ...at)),
    );

  command("discover", "list Jobs and CronJobs that can be cloned, with their variables")
    .option("--connector <name>", "the connector; may be left out when there is one only")
    .option("-n, --namespace <name>", "where they are")
    .addOption(new Option("--kind <kind>", "which; both unless told").choices(["Job", "CronJob"]))
    .option("--all", "also runs of ours, and Jobs that a CronJob made", false)
    .option("--all-containers", "variables of all containers, not of the first alone", false)
    .option("--limit <n>", "how many at most, 1 to 1000; all unless told", whole)
    .option("--cursor <text>", "go on from a page before")
    .addOption(outputOption("table", "json", "yaml", "ndjson"))
    .action((flags: object) =>
      begin(async (...at) => (await import("./discover.ts")).discoverCommand(flags as never, ...at)),
    );

  command("clean", "delete what ended runs have left in the clusters")
    .option("--orphans", "also Jobs of this history that run and are not known to it", false)
    .option("--older-than <days>", "also forget runs that ended so long ago, with their logs", whole)
    .action((flags: object) => begin(async (...at) => (await import("./act.ts")).cleanCommand(flags as never, ...at)));

  command("serve", "serve the HTTP API and the page, and look after the runs of this history")
    .option("--listen <address>", "host:port; other than loopback only with --tls-cert", "127.0.0.1:8088")
    .option("--token-file <file>", "holds the bearer token that callers show; read again as it changes")
    .option("--tls-cert <file>", "certificate, PEM")
    .option("--tls-key <file>", "its key, PEM")
    .action((flags: object) =>
      begin(async (...at) => (await import("./serve.ts")).serveCommand(flags as never, ...at)),
    );
  for (const one of jobs.commands) {
    withSession(one);
    one.showHelpAfterError(`Try kube-connector jobs ${one.name()} --help.`);
  }
}
