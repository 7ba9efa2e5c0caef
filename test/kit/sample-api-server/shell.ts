import { createHash } from "node:crypto";
import { hostname } from "node:os";
import type { Readable, Writable } from "node:stream";

/** What a command of the sample pod has. */
export interface Process {
  stdin: Readable;
  stdout: Writable;
  stderr: Writable;
  /** The pod's name, its host name. */
  host: string;
  tty: boolean;
}

type Command = (args: readonly string[], process: Process) => Promise<number>;

const files: Record<string, string> = {
  "/etc/os-release": 'NAME="Sample pod"\nPRETTY_NAME="A stand-in, not a container"\n',
  "/etc/motd": "This shell is a stand-in: try echo, cat, ls, env, date, hostname, sha256sum, exit.\n",
};

const write = (stream: Writable, text: string | Buffer): Promise<void> =>
  new Promise((resolve, reject) => stream.write(text, (error) => (error ? reject(error) : resolve())));

const commands: Record<string, Command> = {
  async echo(args, { stdout }) {
    await write(stdout, `${args.join(" ")}\n`);
    return 0;
  },
  async cat(args, { stdin, stdout, stderr, host }) {
    if (args.length === 0) {
      for await (const chunk of stdin as AsyncIterable<Buffer>) await write(stdout, chunk);
      return 0;
    }
    let status = 0;
    for (const file of args) {
      const text = file === "/etc/hostname" ? `${host}\n` : files[file];
      if (text !== undefined) await write(stdout, text);
      else {
        await write(stderr, `cat: ${file}: No such file or directory\n`);
        status = 1;
      }
    }
    return status;
  },
  async ls(_args, { stdout }) {
    await write(stdout, `/etc/hostname\n${Object.keys(files).join("\n")}\n`);
    return 0;
  },
  async env(_args, { stdout, host }) {
    await write(stdout, `HOSTNAME=${host}\nPATH=/bin\n`);
    return 0;
  },
  async hostname(_args, { stdout, host }) {
    await write(stdout, `${host === "" ? hostname() : host}\n`);
    return 0;
  },
  async date(_args, { stdout }) {
    await write(stdout, `${new Date().toISOString()}\n`);
    return 0;
  },
  async sha256sum(_args, { stdin, stdout }) {
    const hash = createHash("sha256");
    for await (const chunk of stdin as AsyncIterable<Buffer>) hash.update(chunk);
    await write(stdout, `${hash.digest("hex")}  -\n`);
    return 0;
  },
  async sleep(args) {
    await new Promise((resolve) => setTimeout(resolve, Math.min(60, Number(args[0]) || 0) * 1000).unref());
    return 0;
  },
  true: async () => 0,
  false: async () => 1,
  async sh(args, process) {
    if (args[0] === "-c") return (await runLines([args[1] ?? ""], process)).status;
    if (!process.tty) return (await runLines(linesOf(process.stdin), process)).status;
    return await interact(process);
  },
};

/** Runs a command line of the sample pod; answers with its exit status, 127 when it is not known. */
export async function runCommand(argv: readonly string[], process: Process): Promise<number> {
  const [name = "", ...args] = argv;
  const command = commands[name.replace(/^(\/usr)?\/bin\//, "").replace(/^(ba|a)sh$/, "sh")];
  if (command !== undefined) return await command(args, process);
  await write(
    process.stderr,
    `${name}: not found (this pod is a stand-in; it knows ${Object.keys(commands).join(", ")})\n`,
  );
  return 127;
}

/** Runs `a; b && c` line by line, until `exit`. */
async function runLines(
  lines: Iterable<string> | AsyncIterable<string>,
  process: Process,
): Promise<{ status: number; exited: boolean }> {
  let status = 0;
  for await (const line of lines) {
    for (const [, joint = "", text = ""] of line
      .replaceAll(/1?>&2/g, ">2")
      .matchAll(/(^|;|&&|\|\|)((?:"[^"]*"|'[^']*'|[^;&|"'])*)/g)) {
      const argv = wordsOf(text, process.host);
      if (argv.length === 0 || (joint === "&&" && status !== 0) || (joint === "||" && status === 0)) continue;
      if (argv[0] === "exit") return { status: Number(argv[1] ?? status) & 255, exited: true };
      // `>&2`, the one redirection that a try of stderr needs.
      const toError = argv.at(-1) === ">2";
      status = await runCommand(
        toError ? argv.slice(0, -1) : argv,
        toError ? { ...process, stdout: process.stderr } : process,
      );
    }
  }
  return { status, exited: false };
}

function wordsOf(text: string, host: string): string[] {
  return [...text.matchAll(/"([^"]*)"|'([^']*)'|([^\s"']+)/g)].map(([, double, single, plain]) =>
    single === undefined ? (double ?? plain ?? "").replaceAll("$HOSTNAME", host) : single,
  );
}

async function* linesOf(stdin: Readable): AsyncGenerator<string> {
  let rest = "";
  for await (const chunk of stdin as AsyncIterable<Buffer>) {
    const lines = (rest + chunk.toString("utf8")).split("\n");
    rest = lines.pop() ?? "";
    yield* lines;
  }
  if (rest !== "") yield rest;
}

/** A prompt on a terminal that is raw on the client's side: echoes keys, knows Enter, Backspace, Ctrl-C and Ctrl-D. */
async function interact(process: Process): Promise<number> {
  const { stdout } = process;
  const cooked: Process = { ...process, stdout: withReturns(process), stderr: withReturns(process) };
  const prompt = () => write(stdout, `${process.host} $ `);
  let line = "";
  let status = 0;
  await write(cooked.stdout, files["/etc/motd"] ?? "");
  await prompt();
  for await (const chunk of process.stdin as AsyncIterable<Buffer>) {
    for (const key of chunk.toString("utf8")) {
      if (key === "\u0004" && line === "") return status;
      if (key === "\u0003") {
        line = "";
        await write(stdout, "^C\r\n");
        await prompt();
      } else if (key === "\r" || key === "\n") {
        await write(stdout, "\r\n");
        const done = await runLines([line], cooked);
        status = done.status;
        line = "";
        if (done.exited) return status;
        await prompt();
      } else if (key === "\u007f" || key === "\b") {
        if (line !== "") await write(stdout, "\b \b");
        line = line.slice(0, -1);
      } else if (key >= " ") {
        line += key;
        await write(stdout, key);
      }
    }
  }
  return status;
}

/** A writer that turns line feeds into what a raw terminal needs. */
function withReturns({ stdout }: Process): Writable {
  const through = Object.create(stdout) as Writable;
  through.write = ((text: string | Buffer, done: (error?: Error | null) => void) =>
    stdout.write(text.toString().replaceAll("\n", "\r\n"), done)) as Writable["write"];
  return through;
}
