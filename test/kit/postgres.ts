import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, readdirSync } from "node:fs";
import { chmod, chown, mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { type AddressInfo, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import { promisify } from "node:util";
import { Secret } from "@kube-connector/core";
import { Client } from "pg";

// A real PostgreSQL of Debian's package (test/cluster/install.sh), of its own in a temporary folder: it listens on a unix
// socket there and on 127.0.0.2, and ends with the test process.

const run = promisify(execFile);

/** In each password, so that tests can look for it where none may be; it needs escapes in a URL. */
export const passwordMark = "p@ss/w:rd%mark";

export interface Postgres {
  /** A new, empty database of a user without special rights; its URL. */
  createDatabase(): Promise<Secret>;
  /** At 127.0.0.2, for whoever wants no socket. It has no certificate. */
  port: number;
  /** As the superuser, in the database `postgres` or another. */
  sql(statement: string, database?: string): Promise<Record<string, unknown>[]>;
  /** The URL with another password, database or user. */
  urlOf(parts: { user?: string; password?: string; database?: string }): Secret;
  /** fast: sessions are cut; immediate: as when the machine dies. */
  halt(mode: "fast" | "immediate"): Promise<void>;
  /** Ends once it takes connections, at once when it does already. */
  start(): Promise<void>;
  /** What the server wrote to its log. */
  log(): string;
  /** Ends it, and nothing of it is left. */
  stop(): Promise<void>;
}

/** The newest server's programs, or undefined when none is installed. */
export function postgresPrograms(): string | undefined {
  const home = "/usr/lib/postgresql";
  const versions = existsSync(home) ? readdirSync(home).map(Number) : [];
  const found = versions.sort((a, b) => b - a).map((version) => `${home}/${version}/bin`);
  return found.find((bin) => existsSync(`${bin}/initdb`));
}

/** `folder`: where it keeps its data, owned by us; a temporary one unless told. */
export async function startPostgres(options: { folder?: string; settings?: string[] } = {}): Promise<Postgres> {
  const bin = postgresPrograms();
  if (bin === undefined) throw new Error("PostgreSQL is not installed; run test/cluster/install.sh as root");
  const folder = options.folder ?? (await mkdtemp(join(tmpdir(), "pg-")));
  const data = join(folder, "data");
  await mkdir(folder, { recursive: true });
  const port = await freePort();
  // The server refuses to run as root.
  const as = process.getuid?.() === 0 ? ["--reuid=postgres", "--regid=postgres", "--clear-groups"] : [];
  const passwords = join(folder, "password");
  await writeFile(passwords, passwordMark);
  if (as.length > 0) {
    const ids = await Promise.all(
      ["-u", "-g"].map(async (flag) => Number((await run("id", [flag, "postgres"])).stdout)),
    );
    for (const path of [folder, passwords]) await chown(path, ids[0] ?? 0, ids[1] ?? 0);
  }
  await chmod(folder, 0o755);
  const flags = ["--username=admin", "--auth=scram-sha-256", `--pwfile=${passwords}`, "--no-locale", "--encoding=UTF8"];
  await run("setpriv", [...as, `${bin}/initdb`, "-D", data, ...flags, "--no-sync", "--wal-segsize=1"], { cwd: "/" });
  const settings = [
    "listen_addresses=127.0.0.2",
    `port=${port}`,
    `unix_socket_directories=${folder}`,
    "max_wal_size=32MB",
    ...(options.settings ?? []),
  ];
  const said: Buffer[] = [];
  let child: ReturnType<typeof spawn> | undefined;
  let databases = 0;

  const urlOf: Postgres["urlOf"] = ({ user = "admin", password = passwordMark, database = "postgres" }) =>
    new Secret(`postgres://${user}:${encodeURIComponent(password)}@${encodeURIComponent(folder)}:${port}/${database}`);

  async function sql(statement: string, database?: string): Promise<Record<string, unknown>[]> {
    const client = new Client({ connectionString: urlOf(database === undefined ? {} : { database }).reveal() });
    client.on("error", () => undefined);
    try {
      await client.connect();
      return (await client.query<Record<string, unknown>>(statement)).rows;
    } finally {
      await client.end();
    }
  }

  async function start(): Promise<void> {
    if (child?.exitCode === null && child.signalCode === null) return await ready(child);
    const args = [...as, "--pdeathsig=INT", `${bin}/postgres`, "-D", data, ...settings.flatMap((one) => ["-c", one])];
    child = spawn("setpriv", args, { stdio: ["ignore", "ignore", "pipe"], cwd: "/" });
    child.stderr?.on("data", (chunk: Buffer) => said.push(chunk));
    await ready(child);
  }

  async function ready(server: ReturnType<typeof spawn>): Promise<void> {
    for (let attempt = 0; ; attempt += 1) {
      const error = await sql("SELECT 1").then(
        () => undefined,
        (thrown: unknown) => thrown,
      );
      if (error === undefined) return;
      if (attempt > 300 || server.exitCode !== null) throw new Error(Buffer.concat(said).toString(), { cause: error });
      await wait(100);
    }
  }

  async function halt(mode: "fast" | "immediate"): Promise<void> {
    const ending = child;
    child = undefined;
    if (ending === undefined || ending.exitCode !== null) return;
    const ended = once(ending, "exit");
    ending.kill(mode === "fast" ? "SIGINT" : "SIGQUIT");
    await ended;
  }

  await start();
  await sql(`CREATE ROLE plain LOGIN PASSWORD '${passwordMark}'`);
  return {
    async createDatabase() {
      const database = `history${(databases += 1)}`;
      await sql(`CREATE DATABASE ${database} OWNER plain`);
      return urlOf({ user: "plain", database });
    },
    port,
    sql,
    urlOf,
    halt,
    start,
    log: () => Buffer.concat(said).toString(),
    async stop() {
      await halt("immediate");
      await rm(folder, { recursive: true, force: true });
    },
  };
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.2");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, "close");
  return port;
}
